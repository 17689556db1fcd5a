//! Every tokenizer of the kit against every expectation that comes with it: ids, ids with what stands around a text,
//! and the text that comes back. Streaming is held against decoding on the same ids.

#![allow(clippy::unwrap_used)]
#[path = "../../../tests/kit.rs"]
mod kit;

use std::fs;
use std::io::Read as _;
use std::path::Path;

use pasture_files::tokenizer::{Shown, Specials, Tokenizer};
use serde_json::Value;

/// Opens a tokenizer of the kit, unpacking it if need be.
fn open(kit: &Path, name: &str) -> Tokenizer {
    let path = kit.join(name);
    let path = if path.exists() { path } else { kit.join(format!("{name}.gz")) };
    if path.extension().is_none_or(|ending| ending != "gz") {
        return Tokenizer::open(&path).unwrap_or_else(|error| panic!("{name}: {error}"));
    }
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join(Path::new(name).file_name().unwrap());
    fs::write(&file, unpacked(kit, name)).unwrap();
    Tokenizer::open(&file).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// The bytes of a file that the kit may hold packed.
fn unpacked(kit: &Path, name: &str) -> Vec<u8> {
    if let Ok(bytes) = fs::read(kit.join(name)) {
        return bytes;
    }
    let mut bytes = Vec::new();
    let file = fs::File::open(kit.join(format!("{name}.gz"))).unwrap();
    flate2::read::GzDecoder::new(file).read_to_end(&mut bytes).unwrap();
    bytes
}

/// What went wrong, all of it, so that one run shows every difference.
#[derive(Default)]
struct Tally {
    passed: usize,
    failed: Vec<String>,
}

impl Tally {
    fn check<T: PartialEq + std::fmt::Debug>(&mut self, what: &str, text: &str, found: T, wanted: T) {
        if found == wanted {
            self.passed += 1;
        } else {
            let text: String = text.chars().take(60).collect();
            self.failed.push(format!("{what} of {text:?}:\n  found  {found:?}\n  wanted {wanted:?}"));
        }
    }

    fn end(self, name: &str) {
        println!("{name}: {} passed, {} failed", self.passed, self.failed.len());
        let shown: Vec<&str> = self.failed.iter().map(String::as_str).take(12).collect();
        assert!(
            self.failed.is_empty(),
            "{name}: {} of {} failed\n{}",
            self.failed.len(),
            self.passed + self.failed.len(),
            shown.join("\n")
        );
        assert!(self.passed > 0, "{name}: nothing was checked");
    }
}

fn ids(value: &Value) -> Vec<u32> {
    value.as_array().unwrap().iter().map(|id| id.as_u64().unwrap() as u32).collect()
}

fn streamed(tokenizer: &Tokenizer, ids: &[u32]) -> String {
    let mut stream = tokenizer.stream_with(Shown::Show);
    let mut text: String = ids.iter().map(|&id| stream.push(id)).collect();
    text.push_str(&stream.finish());
    text
}

fn check_reference(name: &str, golden: &str, specials: Specials) {
    let Some(kit) = kit::folder("assets/tokenizers") else { return };
    let tokenizer = open(&kit, name);
    let mut tally = Tally::default();
    for line in fs::read_to_string(kit.join("goldens/reference").join(golden)).unwrap().lines() {
        let case: Value = serde_json::from_str(line).unwrap();
        let text = case["text"].as_str().unwrap();
        let wanted = ids(&case["ids"]);
        tally.check("ids", text, tokenizer.encode(text, specials).unwrap(), wanted.clone());
        tally.check(
            "decoded",
            text,
            tokenizer.decode(&wanted, Shown::Show).unwrap().as_str(),
            case["decoded"].as_str().unwrap(),
        );
        tally.check("streamed", text, streamed(&tokenizer, &wanted).as_str(), case["decoded"].as_str().unwrap());
        if let Some(wanted) = case.get("ids_with_special") {
            tally.check("ids with special", text, tokenizer.encode_with_special(text, specials).unwrap(), ids(wanted));
        }
        let marked = tokenizer.encode_marked(text, &[]).unwrap();
        tally.check("marked", text, &marked.ids, &tokenizer.encode(text, Specials::Parse).unwrap());
        tally.check("order of ends", text, marked.ends.is_sorted(), true);
        tally.check("last end", text, marked.ends.iter().all(|&end| end <= text.len()), true);
    }
    tally.end(name);
}

fn check_gguf(name: &str) {
    let Some(kit) = kit::folder("assets/tokenizers") else { return };
    let name = format!("gguf-vocab/ggml-vocab-{name}.gguf");
    let tokenizer = open(&kit, &name);
    let mut tally = Tally::default();
    let texts = fs::read_to_string(kit.join(format!("{name}.inp"))).unwrap();
    let wanted = fs::read_to_string(kit.join(format!("{name}.out"))).unwrap();
    let texts: Vec<&str> = texts.split("\n__ggml_vocab_test__\n").collect();
    let wanted: Vec<Vec<u32>> =
        wanted.lines().map(|line| line.split_whitespace().map(|id| id.parse().unwrap()).collect()).collect();
    assert!(texts.len() >= wanted.len());
    for (text, wanted) in texts.iter().zip(wanted) {
        let found = tokenizer.encode(text, Specials::Parse).unwrap();
        tally.check("streamed", text, streamed(&tokenizer, &found), tokenizer.decode(&found, Shown::Show).unwrap());
        tally.check("ids", text, found, wanted);
    }
    tally.end(&name);
}

fn check_transformers_js(name: &str, golden: &str) {
    let Some(kit) = kit::folder("assets/tokenizers") else { return };
    let tokenizer = open(&kit, name);
    let golden = fs::read_to_string(kit.join("goldens/transformers-js").join(golden)).unwrap();
    let golden: Value = serde_json::from_str(&golden).unwrap();
    let mut tally = Tally::default();
    for case in golden.as_object().unwrap().values() {
        let text = case["text"].as_str().unwrap();
        let found = match case.get("text_pair") {
            Some(pair) => tokenizer.encode_pair(text, pair.as_str().unwrap(), Specials::Parse).unwrap(),
            None => tokenizer.encode_with_special(text, Specials::Parse).unwrap(),
        };
        tally.check("ids", text, found, ids(&case["ids"]));
        if case.get("text_pair").is_none() {
            let found = tokenizer.encode(text, Specials::Parse).unwrap();
            let tokens: Vec<String> = found.iter().map(|&id| tokenizer.token(id).unwrap()).collect();
            let wanted: Vec<&str> = case["tokens"].as_array().unwrap().iter().map(|t| t.as_str().unwrap()).collect();
            tally.check("tokens", text, tokens, wanted.into_iter().map(str::to_owned).collect());
        }
    }
    tally.end(name);
}

/// One long text with the spelled tokens, or the ids, of all of it.
fn check_swift(name: &str, golden: &str) {
    let Some(kit) = kit::folder("assets/tokenizers") else { return };
    let tokenizer = open(&kit, name);
    let golden = fs::read_to_string(kit.join("goldens/swift-transformers").join(golden)).unwrap();
    let case: Value = serde_json::from_str(&golden).unwrap();
    let text = case["text"].as_str().unwrap();
    let mut tally = Tally::default();
    let list = |key: &str| case.get(key).and_then(Value::as_array);
    if let Some(wanted) = list("token_ids").or(list("ids")).or(list("bpe_tokens").filter(|list| list[0].is_u64())) {
        tally.check(
            "ids",
            text,
            tokenizer.encode_with_special(text, Specials::Parse).unwrap(),
            ids(&wanted.clone().into()),
        );
    }
    if let Some(wanted) =
        list("encoded_tokens").or(list("tokens")).or(list("bpe_tokens").filter(|list| list[0].is_string()))
    {
        let found = tokenizer.encode(text, Specials::Parse).unwrap();
        let found: Vec<String> = found.iter().map(|&id| tokenizer.token(id).unwrap()).collect();
        tally.check("tokens", text, found, wanted.iter().map(|token| token.as_str().unwrap().to_owned()).collect());
    }
    tally.end(name);
}

#[test]
fn byte_level_files_give_the_reference_ids() {
    check_reference("hf/phi-2/tokenizer.json", "hf__phi-2.jsonl", Specials::Parse);
    check_reference("hf/tiny-bpe/tiny_bpe_tokenizer.json", "hf__tiny-bpe.jsonl", Specials::Parse);
}

#[test]
fn a_marked_file_with_byte_fallback_gives_the_reference_ids() {
    check_reference("hf/phi-3-mini/tokenizer.json", "hf__phi-3-mini.jsonl", Specials::Parse);
}

#[test]
fn word_pieces_give_the_reference_ids() {
    check_reference("hf/bert-base-uncased/tokenizer.json", "hf__bert-base-uncased.jsonl", Specials::Parse);
}

#[test]
fn clip_gives_the_reference_ids() {
    check_reference("hf/clip/tokenizer.json", "hf__clip.jsonl", Specials::Parse);
}

#[test]
fn vocabularies_in_gguf_give_the_ids_of_the_original_tokenizers() {
    for name in ["bert-bge", "gemma-4", "gpt-2", "mpt", "phi-3", "qwen2"] {
        check_gguf(name);
    }
}

#[test]
fn browsers_goldens_hold() {
    check_transformers_js("hf/bert-base-uncased/tokenizer.json", "Xenova__bert-base-uncased.json");
    check_transformers_js("hf/clip/tokenizer.json", "Xenova__clip-vit-base-patch16.json");
    check_transformers_js("gguf-vocab/ggml-vocab-gpt-2.gguf", "Xenova__gpt2.json");
}

#[test]
fn swift_goldens_hold() {
    check_swift("hf/bert-base-uncased/tokenizer.json", "bert_uncased_encoded.json");
    check_swift("gguf-vocab/ggml-vocab-gpt-2.gguf", "gpt2_encoded_tokens.json");
}

#[test]
fn sentence_piece_models_give_the_reference_ids() {
    check_reference("spm/mistral-v1/tokenizer.model", "spm__mistral-v1.jsonl", Specials::AsText);
    check_reference("spm/mistral-v3/tokenizer.model", "spm__mistral-v3.jsonl", Specials::AsText);
    check_reference("spm/torchtune-m/m.model", "spm__torchtune-m.jsonl", Specials::AsText);
    let (model, golden) = ("spm/sentencepiece-test/test_model.model", "spm__sentencepiece-test__test_model.jsonl");
    check_reference(model, golden, Specials::AsText);
}

#[test]
fn rank_files_give_the_reference_ids() {
    check_reference("tiktoken/cl100k_base.tiktoken", "tiktoken__cl100k_base.jsonl", Specials::AsText);
    check_reference("tiktoken/o200k_base.tiktoken", "tiktoken__o200k_base.jsonl", Specials::AsText);
    check_reference("tiktoken/tiktoken_small.model", "tiktoken__tiktoken_small.model.jsonl", Specials::AsText);
    check_reference("tekken/tekken_240718.json", "tekken__tekken_240718.jsonl", Specials::AsText);
}

#[test]
fn broken_rank_files_are_errors() {
    let Some(kit) = kit::folder("assets/tokenizers") else { return };
    for name in ["invalid_base64", "invalid_rank", "no_space"] {
        let path = kit.join(format!("tiktoken/bad/test_tiktoken_{name}.model"));
        let error = Tokenizer::open(&path).unwrap_err().to_string();
        assert!(error.contains(name) && error.contains("line 1"), "{error}");
    }
}

#[test]
fn a_long_source_file_has_its_published_ids() {
    let Some(kit) = kit::folder("assets/tokenizers") else { return };
    let tokenizer = open(&kit, "tiktoken/cl100k_base.tiktoken");
    let folder = kit.join("goldens/microsoft-tokenizer");
    let text = fs::read_to_string(folder.join("lib.rs.txt")).unwrap();
    let wanted: Value = serde_json::from_slice(&fs::read(folder.join("tokens_gpt_3.5_turbo.json")).unwrap()).unwrap();
    let mut tally = Tally::default();
    let found = tokenizer.encode(&text, Specials::AsText).unwrap();
    tally.check("decoded", &text, tokenizer.decode(&found, Shown::Show).unwrap(), text.clone());
    tally.check("ids", &text, found, ids(&wanted));
    tally.end("goldens/microsoft-tokenizer");
}

/// Rendered chats, in which `▁` stands for a space, `<0x0A>` for a line break, and each stretch between marks begins with the space that the
/// model puts there by itself.
#[test]
fn rendered_chats_have_their_published_ids() {
    let Some(kit) = kit::folder("assets/tokenizers") else { return };
    let mut tally = Tally::default();
    for (version, model, marks) in [
        ("v1", "spm/mistral-v1/tokenizer.model", &["<s>", "</s>"][..]),
        ("v2", "spm/mistral-v3/tokenizer.model", V3_MARKS),
        ("v3", "spm/mistral-v3/tokenizer.model", V3_MARKS),
    ] {
        let tokenizer = open(&kit, model);
        for sample in ["get_weather_no_history", "no_tools", "parallel_calls"] {
            let folder = kit.join("goldens/mistral-common-samples").join(sample);
            let Ok(text) = fs::read_to_string(folder.join(format!("text_{version}.txt"))) else { continue };
            let wanted = fs::read(folder.join(format!("tokens_{version}.json"))).unwrap();
            let wanted: Value = serde_json::from_slice(&wanted).unwrap();
            let mut text = text.replace('▁', " ").replace("<0x0A>", "\n");
            for mark in marks {
                text = text.replace(&format!("{mark} "), mark);
            }
            let found = tokenizer.encode_marked(&text, &[]).unwrap();
            tally.check(&format!("{sample} {version}"), &text, found.ids, ids(&wanted["tokens"]));
        }
    }
    tally.end("goldens/mistral-common-samples");
}

const V3_MARKS: &[&str] = &[
    "<s>",
    "</s>",
    "[INST]",
    "[/INST]",
    "[TOOL_CALLS]",
    "[AVAILABLE_TOOLS]",
    "[/AVAILABLE_TOOLS]",
    "[TOOL_RESULTS]",
    "[/TOOL_RESULTS]",
];

/// Copies files of the kit into a folder, under the names that models give them.
fn folder_of(kit: &Path, files: &[(&str, &str)]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (from, to) in files {
        fs::copy(kit.join(from), folder.path().join(to)).unwrap();
    }
    folder
}

#[test]
fn folders_of_older_kinds_give_the_same_ids() {
    let Some(kit) = kit::folder("assets/tokenizers") else { return };
    let mut tally = Tally::default();
    let words = folder_of(&kit, &[("hf/bert-base-uncased/vocab.txt", "vocab.txt")]);
    let words = Tokenizer::open(words.path()).unwrap();
    let golden = fs::read_to_string(kit.join("goldens/reference/hf__bert-base-uncased.jsonl")).unwrap();
    for line in golden.lines() {
        let case: Value = serde_json::from_str(line).unwrap();
        let text = case["text"].as_str().unwrap();
        tally.check(
            "ids",
            text,
            words.encode_with_special(text, Specials::Parse).unwrap(),
            ids(&case["ids_with_special"]),
        );
    }
    let lists = folder_of(
        &kit,
        &[("hf/tiny-bpe/tiny_bpe_vocab.json", "vocab.json"), ("hf/tiny-bpe/tiny_bpe_merges.txt", "merges.txt")],
    );
    let config = r#"{"tokenizer_class": "Qwen2Tokenizer", "add_bos_token": false, "added_tokens_decoder":
        {"2000": {"content": "<|endoftext|>", "special": true}, "2001": {"content": "<|im_start|>", "special": true},
         "2002": {"content": "<|im_end|>", "special": true}}}"#;
    fs::write(lists.path().join("tokenizer_config.json"), config).unwrap();
    let lists = Tokenizer::open(lists.path()).unwrap();
    for line in fs::read_to_string(kit.join("goldens/reference/hf__tiny-bpe.jsonl")).unwrap().lines() {
        let case: Value = serde_json::from_str(line).unwrap();
        let text = case["text"].as_str().unwrap();
        tally.check("ids", text, lists.encode(text, Specials::Parse).unwrap(), ids(&case["ids"]));
    }
    tally.end("folders of lists");
}

#[test]
fn a_folder_names_special_tokens_that_its_rank_file_lacks() {
    let Some(kit) = kit::folder("assets/tokenizers") else { return };
    let cases = [
        ("phi-3-small", "cl100k_base.tiktoken", "<|assistant|>", 100_263, Some(100_257)),
        ("phi-4-base", "cl100k_base.tiktoken", "<|im_end|>", 100_265, Some(100_265)),
        ("phi-4-mini", "o200k_base.tiktoken", "<|end|>", 200_020, Some(199_999)),
        ("phi-4-mini-reasoning", "o200k_base.tiktoken", "<|end|>", 200_020, Some(199_999)),
    ];
    for (config, ranks, mark, id, eos) in cases {
        let folder = folder_of(&kit, &[(&format!("hf/{config}/tokenizer_config.json"), "tokenizer_config.json")]);
        let unpacked = unpacked(&kit, &format!("tiktoken/{ranks}"));
        fs::write(folder.path().join("tokenizer.model"), unpacked).unwrap();
        let tokenizer = Tokenizer::open(folder.path()).unwrap();
        assert_eq!((tokenizer.id(mark), tokenizer.eos(), tokenizer.adds_bos()), (Some(id), eos, false), "{config}");
        assert_eq!(tokenizer.encode(mark, Specials::Parse).unwrap(), [id]);
        let text = tokenizer.encode(mark, Specials::AsText).unwrap();
        assert!(text.len() > 1 && text.iter().all(|&id| !tokenizer.is_special(id)), "{config}: {text:?}");
        assert_eq!(tokenizer.decode(&text, Shown::Hide).unwrap(), mark);
    }
}

#[test]
fn a_folder_renames_pieces_to_marks() {
    let Some(kit) = kit::folder("assets/tokenizers") else { return };
    let folder = folder_of(&kit, &[("spm/mistral-v1/tokenizer.model", "tokenizer.model")]);
    let config = r#"{"tokenizer_class": "LlamaTokenizer", "bos_token": "<s>", "eos_token": "<|im_end|>",
        "added_tokens_decoder": {"31998": {"content": "<|im_start|>", "special": true},
        "31999": {"content": "<|im_end|>", "special": true}, "32000": {"content": "<pad>", "special": true}}}"#;
    fs::write(folder.path().join("tokenizer_config.json"), config).unwrap();
    let tokenizer = Tokenizer::open(folder.path()).unwrap();
    assert_eq!(tokenizer.encode_with_special("<|im_end|>", Specials::Parse).unwrap(), [1, 31999]);
    assert_eq!((tokenizer.len(), tokenizer.eos(), tokenizer.adds_bos()), (32001, Some(31999), true));
    assert_eq!(tokenizer.token(31998).unwrap(), "<|im_start|>");
}

#[test]
fn the_starter_model_tokenizes() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../starter");
    let tokenizer = Tokenizer::open(folder.join("starter.gguf")).unwrap();
    let expected: Value = serde_json::from_slice(&fs::read(folder.join("expected.json")).unwrap()).unwrap();
    for case in expected["cases"].as_array().unwrap() {
        let mut prompt = String::new();
        for message in case["messages"].as_array().unwrap() {
            let part = |key: &str| message[key].as_str().unwrap();
            prompt += &format!("<|im_start|>{}\n{}<|im_end|>\n", part("role"), part("content"));
        }
        prompt += "<|im_start|>assistant\n";
        assert_eq!(tokenizer.encode(&prompt, Specials::Parse).unwrap(), ids(&case["prompt_ids"]), "{prompt:?}");
        assert_eq!(tokenizer.decode(&ids(&case["ids"]), Shown::Hide).unwrap(), case["text"].as_str().unwrap());
    }
}
