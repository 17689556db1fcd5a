//! A tokenizer that moves to another container gives the same ids there, or is refused.
#[path = "../../../tests/kit.rs"]
mod kit;

use std::path::Path;

use pasture_files::folder::Folder;
use pasture_files::gguf::{Metadata, Value};
use pasture_files::tokenizer::{Tokenizer, first_difference};

/// The metadata of a GGUF file with this tokenizer.
fn moved(name: &str, tokenizer: &Tokenizer) -> Result<Metadata, String> {
    let mut metadata = Metadata::new("vocabulary.gguf");
    if name.contains("phi-3") {
        // There tokens that swallow spaces are those of an architecture.
        metadata.insert("general.architecture", Value::text("phi3")).map_err(|error| error.to_string())?;
    }
    for (key, value) in tokenizer.to_gguf(tokenizer.len() + 3).map_err(|error| error.to_string())? {
        metadata.insert(key, value).map_err(|error| error.to_string())?;
    }
    Ok(metadata)
}

fn check(name: &str, one: &Tokenizer, other: &Tokenizer) -> Option<String> {
    let found = first_difference(one, other).expect("texts can be encoded")?;
    Some(format!("{name}: {found:?}"))
}

/// Through GGUF metadata, and from there to the files of a folder.
fn both_ways(name: &str, tokenizer: &Tokenizer) -> Option<String> {
    let metadata = match moved(name, tokenizer) {
        Ok(metadata) => metadata,
        Err(error) => return Some(format!("{name}: {error}")),
    };
    let again = Tokenizer::from_gguf(&metadata).expect("its own metadata").expect("a vocabulary");
    check(name, tokenizer, &again).or_else(|| to_files(name, &again, &metadata))
}

fn to_files(name: &str, tokenizer: &Tokenizer, metadata: &Metadata) -> Option<String> {
    let folder = tempfile::tempdir().expect("a folder for the test");
    let files = match tokenizer.to_files(metadata) {
        Ok(files) => files,
        Err(error) => return Some(format!("{name} as files: {error}")),
    };
    for (file, bytes) in files {
        std::fs::write(folder.path().join(file), bytes).expect("it can be written");
    }
    let open = Folder::open(folder.path()).expect("it was just made");
    let third = match Tokenizer::in_folder(&open) {
        Ok(third) => third.expect("a tokenizer"),
        Err(error) => return Some(format!("{name} as files: {error}")),
    };
    check(&format!("{name} as files"), tokenizer, &third)
}

#[test]
fn published_tokenizers_give_the_same_ids_in_every_container() {
    let Some(root) = kit::folder("assets/tokenizers") else { return };
    let mut wrong = Vec::new();
    for name in ["hf/phi-2", "hf/phi-3-mini", "hf/bert-base-uncased"] {
        let tokenizer = Tokenizer::open(root.join(name)).expect(name);
        wrong.extend(both_ways(name, &tokenizer));
    }
    for name in ["spm/mistral-v1", "spm/mistral-v3", "spm/torchtune-m", "spm/sentencepiece-test", "tiktoken"] {
        for entry in std::fs::read_dir(root.join(name)).expect(name).filter_map(Result::ok) {
            let shown = format!("{name}/{}", entry.file_name().display());
            if let Ok(tokenizer) = Tokenizer::open(entry.path()) {
                wrong.extend(both_ways(&shown, &tokenizer));
            }
        }
    }
    for (name, tokenizer) in gguf_vocabularies(&root.join("gguf-vocab")) {
        wrong.extend(to_files(&name, &tokenizer.0, &tokenizer.1));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn gguf_vocabularies(root: &Path) -> Vec<(String, (Tokenizer, Metadata))> {
    let names = ["bert-bge", "gpt-2", "mpt", "phi-3"];
    let open = |name: &str| {
        let path = root.join(format!("ggml-vocab-{name}.gguf"));
        let tensors = pasture_files::Tensors::open(&path).expect(name);
        let metadata = tensors.gguf().expect("it is a GGUF file").clone();
        let tokenizer = Tokenizer::from_gguf(&metadata).expect(name).expect("a vocabulary");
        (name.to_owned(), (tokenizer, metadata))
    };
    names.into_iter().map(open).collect()
}
