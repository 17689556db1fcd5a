//! Which tokenizer file a path is, told by its content, and which file of a folder is the tokenizer.

use std::path::Path;

use super::error::{Error, Result};
use super::{Tokenizer, gguf, json};
use crate::folder::{self, Folder};
use crate::gguf::Gguf;
use crate::mmap::Bytes;
use crate::size::Size;

/// The longest tokenizer file: published ones end at 35 MB.
const BYTES_MAX: Size = Size::new(256 << 20);

pub(super) fn open(path: &Path) -> Result<Tokenizer> {
    if path.is_dir() {
        let folder = Folder::open(path)?;
        return in_folder(&folder)?
            .ok_or_else(|| folder.missing("tokenizer (tokenizer.json, tokenizer.model, …)").into());
    }
    let bytes = folder::map_file(path)?;
    let named = |error: Error| match error {
        Error::Format(_) | Error::File { .. } => error,
        other => Error::File { path: path.file_name().unwrap_or_default().into(), source: Box::new(other) },
    };
    read(&bytes, &crate::error::file_name(path)).map_err(named)
}

fn read(bytes: &Bytes, name: &str) -> Result<Tokenizer> {
    if crate::gguf::recognizes(bytes) {
        let gguf = Gguf::parse(bytes, name)?;
        let none = || Error::Json("it holds no vocabulary (tokenizer.ggml.model)".into());
        return gguf::read(&gguf.metadata)?.ok_or_else(none);
    }
    if Size::of(bytes.len()) > BYTES_MAX {
        return Err(Error::TextTooLong { place: "long as a tokenizer file", found: bytes.len(), limit: 256 << 20 });
    }
    json::read(bytes)
}

/// The file names of tokenizers in a model's folder, the first found is it.
const NAMES: [&str; 1] = ["tokenizer.json"];

pub(super) fn in_folder(folder: &Folder) -> Result<Option<Tokenizer>> {
    for name in NAMES {
        if let Some(bytes) = folder.map(name)? {
            let named = |error: Error| Error::File { path: name.into(), source: Box::new(error) };
            return read(&bytes, name).map(Some).map_err(named);
        }
    }
    for name in folder.names()?.iter().filter(|name| name.ends_with(".gguf")) {
        if let Some(bytes) = folder.map(name)? {
            return gguf::read(&Gguf::parse(&bytes, name)?.metadata);
        }
    }
    Ok(None)
}
