//! The readers, each as one function from a file to a word about what came of it. Errors are fine, panics are not.

use std::path::Path;

use anyhow::{Context as _, Result};
use pasture_files::Tensors;

use crate::{archive, models, prompts, tokenizers};

/// One reader and where its inputs come from.
#[derive(Clone, Copy)]
pub struct Target {
    /// What the command line calls it.
    pub name: &'static str,
    /// The name of the input file; readers look at its ending.
    pub file: &'static str,
    /// Files or folders of the kit.
    pub seeds: &'static [&'static str],
    /// Files or folders of this repository.
    pub own_seeds: &'static [&'static str],
    /// Endings of the files that are taken from folders; none: all.
    pub takes: &'static [&'static str],
    /// Inputs that need no file.
    pub literals: &'static [&'static str],
    /// Reads the file (the bytes are the same) and says what came of it.
    pub feed: fn(&Path, &[u8]) -> String,
}

const TARGETS: [Target; 14] = [
    Target {
        name: "gguf",
        file: "input.gguf",
        seeds: &["hostile/gguf", "golden/gguf"],
        own_seeds: &[],
        takes: &[".gguf"],
        literals: &["GGUF\u{3}\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0"],
        feed: |path, _| tensors(path),
    },
    Target {
        name: "safetensors",
        file: "input.safetensors",
        seeds: &["hostile/safetensors", "golden/samplers"],
        own_seeds: &[],
        takes: &[".safetensors"],
        literals: &["\u{2}\0\0\0\0\0\0\0{}"],
        feed: |path, _| tensors(path),
    },
    Target {
        name: "pth",
        file: "input.pth",
        seeds: &["hostile/pth", "golden/pth"],
        own_seeds: &[],
        takes: &[".pth", ".bin", ".pt"],
        literals: &[],
        feed: |path, _| tensors(path),
    },
    Target {
        name: "pickle",
        file: "input.pth",
        seeds: &[],
        own_seeds: &[],
        takes: &[],
        literals: &["}.", "](NJ\u{3}\0\0\0e.", PICKLE],
        feed: |path, bytes| match std::fs::write(path, archive::checkpoint(bytes)) {
            Ok(()) => tensors(path),
            Err(error) => error.to_string(),
        },
    },
    Target {
        name: "template",
        file: "input.jinja",
        seeds: &[
            "hostile/template",
            "assets/chat-templates/chujiezheng",
            "assets/chat-templates/llama.cpp",
            "assets/chat-templates/mistral-common",
        ],
        own_seeds: &[],
        takes: &[".jinja"],
        literals: &["{% for m in messages %}{{ m.content | trim }}{% endfor %}"],
        feed: |_, bytes| prompts::template(bytes),
    },
    Target {
        name: "conversation",
        file: "input.json",
        seeds: &[],
        own_seeds: &[],
        takes: &[],
        literals: &prompts::CONVERSATIONS,
        feed: |_, bytes| prompts::conversation(bytes),
    },
    Target {
        name: "prompt",
        file: "tokenizer_config.json",
        seeds: &[],
        own_seeds: &[],
        takes: &[],
        literals: &[prompts::CONFIG],
        feed: |path, _| prompts::prompt(path),
    },
    Target {
        name: "data",
        file: "input.jsonl",
        seeds: &["hostile/data"],
        own_seeds: &[],
        takes: &[".jsonl", ".gz"],
        literals: &[
            "text,weight\r\n\"a\nb\",1\r\n",
            "[{\"prompt\": \"a\", \"completion\": \"b\"},\n{\"prompt\": \"a\", \"completion\": \"c\"}]",
            "{\"input_ids\": [1, 2], \"labels\": [-100, 2]}\n",
            "{\"conversations\": [{\"from\": \"human\", \"value\": \"a\"}, {\"from\": \"gpt\", \"value\": \"b\"}]}\n",
        ],
        feed: |_, bytes| prompts::rows(bytes),
    },
    Target {
        name: "config",
        file: "config.json",
        seeds: &["hostile/model", "golden/text", "golden/arctic", "golden/embed"],
        own_seeds: &[],
        takes: &["config.json", "config.v5.json"],
        literals: &[models::CONFIG],
        feed: |_, bytes| models::config(bytes),
    },
    Target {
        name: "gguf-config",
        file: "input.gguf",
        seeds: &["hostile/gguf", "golden/gguf"],
        own_seeds: &[],
        takes: &[".gguf"],
        literals: &["GGUF\u{3}\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0"],
        feed: |path, _| models::gguf(path),
    },
    Target {
        name: "tokenizer",
        file: "input.json",
        seeds: &["hostile/tokenizer", "assets/tokenizers/hf/tiny-bpe/tiny_bpe_tokenizer.json", "hostile/gguf"],
        own_seeds: &["starter/starter.gguf"],
        takes: &[".json", ".gguf"],
        literals: &["{\"model\":{\"type\":\"WordLevel\",\"vocab\":{\"a\":0}}}"],
        feed: tokenizers::feed,
    },
    Target {
        name: "sentencepiece",
        file: "input.model",
        seeds: &["assets/tokenizers/spm/sentencepiece-test"],
        own_seeds: &[],
        takes: &[".model"],
        literals: &[PIECES, BYTE_PAIRS],
        feed: tokenizers::feed,
    },
    Target {
        name: "tiktoken",
        file: "input.tiktoken",
        seeds: &["assets/tokenizers/tiktoken"],
        own_seeds: &[],
        takes: &[".model"],
        literals: &["YQ== 0\nYg== 1\nYWI= 2\n"],
        feed: tokenizers::feed,
    },
    Target {
        name: "tekken",
        file: "tekken.json",
        seeds: &[],
        own_seeds: &[],
        takes: &[],
        literals: &[TEKKEN],
        feed: tokenizers::feed_tekken,
    },
];

/// An unknown token, a space, `a` and `▁ab` by score.
const PIECES: &str = "\u{a}\u{9}\u{a}\u{5}<unk>\u{18}\u{2}\u{a}\u{5}\u{a}\u{3}▁\u{a}\u{8}\u{a}\u{1}a\u{15}\0\0\0@\
    \u{a}\u{c}\u{a}\u{5}▁ab\u{15}\0\0\0@\u{12}\u{2}\u{18}\u{1}";

/// The same as byte-pair encoding, `ab` a user's piece.
const BYTE_PAIRS: &str = "\u{a}\u{9}\u{a}\u{5}<unk>\u{18}\u{2}\u{a}\u{5}\u{a}\u{3}▁\u{a}\u{8}\u{a}\u{1}a\u{15}\0\0\0@\
    \u{a}\u{6}\u{a}\u{2}ab\u{18}\u{4}\u{12}\u{2}\u{18}\u{2}";

const TEKKEN: &str = r#"{"config":{"pattern":"\\p{L}+| ?\\s+","default_vocab_size":300,"default_num_special_tokens":20},
    "special_tokens":[{"rank":0,"token_str":"<unk>"},{"rank":1,"token_str":"<s>","is_control":true}],
    "vocab":[{"rank":256,"token_bytes":"YWI="},{"rank":257,"token_bytes":"IGE=","token_str":" a"}]}"#;

/// A dictionary of a transposed tensor `w`, the same under `p`, and a number.
const PICKLE: &str = "ccollections\nOrderedDict\n)R(X\u{1}\0\0\0wctorch._utils\n_rebuild_tensor\n(\
    (X\u{7}\0\0\0storagectorch\nFloatStorage\nX\u{1}\0\0\x000X\u{3}\0\0\0cpuJ\u{4}\0\0\0tQ\
    K\u{0}(K\u{2}K\u{2}t(K\u{1}K\u{2}ttRq\u{0}X\u{1}\0\0\0ph\u{0}X\u{1}\0\0\0nM\u{1}\u{1}u.";

/// The names of all targets.
pub fn names() -> impl Iterator<Item = &'static str> {
    TARGETS.into_iter().map(|target| target.name)
}

/// The target of a name.
pub fn find(name: &str) -> Result<Target> {
    let known = || TARGETS.map(|target| target.name).join(", ");
    TARGETS
        .into_iter()
        .find(|target| target.name == name)
        .with_context(|| format!("unknown target {name:?}: {}", known()))
}

/// Opens a file of tensors and touches every one of them.
fn tensors(path: &Path) -> String {
    let tensors = match Tensors::open(path) {
        Ok(tensors) => tensors,
        Err(error) => return error.to_string(),
    };
    let mut sum = 0u64;
    for name in tensors.names() {
        match tensors.bytes(name) {
            Ok(bytes) => sum += bytes.as_slice().iter().step_by(997).map(|b| u64::from(*b)).sum::<u64>(),
            Err(error) => return error.to_string(),
        }
    }
    format!("ok {} tensors, sum {sum}", tensors.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_literal_pickle_reads_as_tensors() {
        let path = std::env::temp_dir().join(format!("pasture-pickle-{}.pth", std::process::id()));
        std::fs::write(&path, archive::checkpoint(PICKLE.as_bytes())).unwrap();
        let outcome = tensors(&path);
        std::fs::remove_file(&path).unwrap();
        assert_eq!(outcome, "ok 2 tensors, sum 0");
    }
}
