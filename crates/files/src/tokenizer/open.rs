//! Which tokenizer file a path is, told by its content, and which file of a folder is the tokenizer.

use std::path::Path;

use super::added::Added;
use super::error::{Error, Result, invalid};
use super::settings::Settings;
use super::{Inner, Tokenizer, gguf, json, ranks, sentencepiece};
use crate::error::file_name;
use crate::folder::{self, Folder};
use crate::gguf::Gguf;
use crate::mmap::Bytes;
use crate::size::Size;

/// The longest tokenizer file: published ones end at 35 MB.
const BYTES_MAX: usize = 256 << 20;

pub(super) fn open(path: &Path) -> Result<Tokenizer> {
    if path.is_dir() {
        let folder = Folder::open(path)?;
        let missing = || folder.missing("tokenizer (tokenizer.json, tokenizer.model, …)");
        return in_folder(&folder)?.ok_or_else(|| missing().into());
    }
    let name = file_name(path);
    let bytes = folder::map_file(path)?;
    let inner = read(&bytes, &name, &[]).map_err(|error| error.within(&name))?;
    Tokenizer::build(inner, &name).map_err(|error| error.within(&name))
}

/// Reads a file of any format; `more` are added tokens for a tokenizer.json.
fn read(bytes: &Bytes, name: &str, more: &[Added]) -> Result<Inner> {
    if crate::gguf::recognizes(bytes) {
        let gguf = Gguf::parse(bytes, name)?;
        let none = || Error::Json("it holds no vocabulary (tokenizer.ggml.model)".into());
        return gguf::read(&gguf.metadata)?.ok_or_else(none);
    }
    if bytes.len() > BYTES_MAX {
        return Err(invalid("the file", format!("{} bytes long", bytes.len()), format!("at most {BYTES_MAX}")));
    }
    match bytes.iter().find(|byte| !byte.is_ascii_whitespace()) {
        Some(b'{') if ranks::recognizes_tekken(bytes) => ranks::read_tekken(bytes),
        Some(b'{') => json::read(bytes, more),
        _ if sentencepiece::recognizes(bytes) => sentencepiece::read(bytes),
        Some(_) if ranks::recognizes(bytes) => ranks::read(bytes),
        _ => Err(ranks::unknown_format()),
    }
}

/// The names of tokenizer files in a model's folder; the first found is it.
const NAMES: [&str; 4] = ["tokenizer.json", "tokenizer.model", "tekken.json", "spiece.model"];
/// Endings of tokenizer files whose names differ.
const ENDINGS: [&str; 3] = [".tiktoken", ".model", ".gguf"];
const WORDS_MAX: Size = Size::new(64 << 20);

pub(super) fn in_folder(folder: &Folder) -> Result<Option<Tokenizer>> {
    let settings = Settings::read(folder)?;
    for name in NAMES {
        if let Some(bytes) = folder.map(name)? {
            return from_file(&bytes, name, &settings).map(Some);
        }
    }
    if let Some(inner) = from_lists(folder, &settings)? {
        return Tokenizer::build(inner, "vocab").map(Some);
    }
    let names = folder.names()?;
    for name in ENDINGS.iter().flat_map(|ending| names.iter().filter(move |name| name.ends_with(ending))) {
        let Some(bytes) = folder.map(name)? else { continue };
        if crate::gguf::recognizes(&bytes) {
            let gguf = Gguf::parse(&bytes, name)?;
            return gguf::read(&gguf.metadata)?.map(|inner| Tokenizer::build(inner, name)).transpose();
        }
        return from_file(&bytes, name, &settings).map(Some);
    }
    Ok(None)
}

fn from_file(bytes: &Bytes, name: &str, settings: &Settings) -> Result<Tokenizer> {
    let build = || {
        let mut inner = read(bytes, name, &settings.added)?;
        let is_json = name == "tokenizer.json";
        if sentencepiece::recognizes(bytes) {
            settings.check_ids()?;
        }
        settings.apply(&mut inner, !is_json)?;
        Tokenizer::build(inner, name)
    };
    build().map_err(|error| error.within(name))
}

/// `vocab.json` with `merges.txt`, or `vocab.txt`.
fn from_lists(folder: &Folder, settings: &Settings) -> Result<Option<Inner>> {
    let mut inner = if let (Some(vocab), Some(merges)) =
        (folder.read("vocab.json", WORDS_MAX)?, folder.read("merges.txt", WORDS_MAX)?)
    {
        let read = json::from_merges(&vocab, &merges, &settings.class, &settings.added);
        read.map_err(|error| error.within("vocab.json"))?
    } else if let Some(vocab) = folder.read("vocab.txt", WORDS_MAX)? {
        let read = json::from_words(&vocab, settings.lowercase, &settings.added);
        read.map_err(|error| error.within("vocab.txt"))?
    } else {
        return Ok(None);
    };
    settings.apply(&mut inner, false)?;
    Ok(Some(inner))
}
