//! What belongs to a model when it is passed on: its weights, tokenizer and prompt, card, licence and notice files,
//! receipts and lineage. Checkpoints of a training, hidden files and copies in other containers stay.

use std::path::{Path, PathBuf};

use pasture_files::error::file_name;
use pasture_files::folder::{Folder, is_plain};
use serde_json::{Value, json};

use super::{Kind, Work, is_safe};
use crate::content::{Content, is_of_training};
use crate::error::{Error, Result};
use crate::licence::Terms;
use crate::lineage::{self, Lineage, Texts};
use crate::name::is_name;

/// A work with its files, by their paths in its folder.
#[derive(Clone, Debug, PartialEq)]
pub struct Gathered {
    /// The work.
    pub work: Work,
    /// Its files in alphabetical order.
    pub files: Vec<(String, Content)>,
}

/// Weights in containers that are left where safetensors are there too.
const OTHER_WEIGHTS: [&str; 7] = [".bin", ".pth", ".pt", ".onnx", ".h5", ".msgpack", ".ot"];
/// Folders in a model's folder that are part of it.
const INNER: [&str; 2] = ["1_Pooling", "2_Dense"];
const RECEIPT: &str = ".receipt.json";

/// Gathers a model's file, a model's folder, or an adapter's. `name` is what it will be called.
///
/// # Errors
/// When a file cannot be read, or there is no model.
pub fn gather(path: &Path, name: &str) -> Result<Gathered> {
    is_works_name(name)?;
    Ok(finished(name, of_path(path)?, lineage::of_path(path)?, Texts::of_path(path)?))
}

/// Whether a work in a bundle may be called so.
pub(super) fn is_works_name(name: &str) -> Result<()> {
    match is_name(name) && is_safe(name) {
        true => Ok(()),
        false => {
            let what = "a work in a bundle has a name of letters, digits and \"._-\", without an owner";
            Err(Error::BadName { name: name.to_owned(), what: what.to_owned() })
        }
    }
}

/// The files of a model or adapter.
pub(super) fn of_path(path: &Path) -> Result<Files> {
    if path.is_dir() { of_folder(path) } else { of_file(path) }
}

/// A work of these files: with its texts, its lineage, a card where it has none, and what holds for it.
pub(super) fn finished(name: &str, files: Files, mut lineage: Lineage, mut texts: Texts) -> Gathered {
    let (kind, file, mut files) = files;
    lineage.work_mut().name = name.to_owned();
    let is_there = |files: &[(String, Content)], name: &str| files.iter().any(|(there, _)| there == name);
    texts.add_notices(&lineage.terms());
    for (name, text) in texts.0 {
        files.retain(|(there, _)| *there != name);
        files.push((name, Content::Bytes(text.into_bytes())));
    }
    if !is_there(&files, lineage::FILE) {
        files.push((lineage::FILE.to_owned(), Content::Bytes(format!("{}\n", lineage.to_json()).into_bytes())));
    }
    if !is_there(&files, "README.md") {
        files.push(("README.md".to_owned(), Content::Bytes(lineage::card("", &lineage).into_bytes())));
    }
    files.sort_by(|one, next| one.0.cmp(&next.0));
    let terms = terms(&lineage);
    Gathered { work: Work { name: name.to_owned(), kind, file, lineage, terms }, files }
}

/// What holds for a work, as a manifest has it.
pub(super) fn terms(lineage: &Lineage) -> Value {
    let terms: Terms = lineage.terms();
    let licences: Vec<_> = terms.licences.iter().map(|licence| licence.id.as_str()).collect();
    let asks: Vec<_> = terms.obligations().into_iter().map(|row| row.text).collect();
    json!({"licences": licences, "unknown": terms.unknown, "asks": asks, "warnings": terms.warnings()})
}

/// What a work is, the file that is opened, and its files by their paths in its folder.
pub(super) type Files = (Kind, Option<String>, Vec<(String, Content)>);

/// A GGUF file with the other parts of it and its receipt.
fn of_file(path: &Path) -> Result<Files> {
    let name = file_name(path);
    if !is_plain(&name) || !is_safe(&name) {
        let what = "files in a bundle have names of letters, digits and \"._-\": give it another name".to_owned();
        return Err(Error::BadName { name, what });
    }
    let parts = pasture_files::Tensors::open(path)?;
    let mut files = Vec::new();
    for part in parts.files() {
        files.push((file_name(part), Content::File(part.clone())));
    }
    let mut receipt = path.as_os_str().to_owned();
    receipt.push(RECEIPT);
    let receipt = PathBuf::from(receipt);
    if receipt.is_file() {
        files.push(("receipt.json".to_owned(), Content::File(receipt)));
    }
    let first = files.first().map_or(name, |(name, _)| name.clone());
    Ok((Kind::Model, Some(first), files))
}

/// The files of a folder that belong to its model or adapter.
fn of_folder(path: &Path) -> Result<Files> {
    let folder = Folder::open(path)?;
    let mut names = folder.names()?;
    names.retain(|name| is_plain(name) && is_safe(name) && !is_of_training(name));
    if names.iter().any(|name| name.ends_with(".safetensors")) {
        names.retain(|name| !OTHER_WEIGHTS.iter().any(|ending| name.ends_with(ending)));
    }
    let mut files = Vec::new();
    for name in &names {
        if INNER.contains(&name.as_str())
            && let Some(inner) = folder.inner(name)?
        {
            let own = inner.names()?.into_iter().filter(|file| is_plain(file) && is_safe(file));
            let own = own.filter(|file| inner.path().join(file).is_file());
            files.extend(own.map(|file| (format!("{name}/{file}"), Content::File(inner.path().join(&file)))));
        } else if folder.open_file(name).is_ok_and(|file| file.is_some()) {
            files.push((name.clone(), Content::passed_on(path.join(name))?));
        }
    }
    let has = |name: &str| files.iter().any(|(there, _)| there == name);
    let is_weight = |name: &str| [".safetensors", ".gguf", ".bin", ".pth"].iter().any(|ending| name.ends_with(ending));
    if has("assistant.toml") {
        return Ok((Kind::Assistant, None, files));
    }
    if has("adapter_config.json") && !has("config.json") {
        return Ok((Kind::Adapter, None, files));
    }
    if !files.iter().any(|(name, _)| is_weight(name)) {
        let what = "a folder without weights: no safetensors, GGUF or PyTorch file is in it".to_owned();
        return Err(Error::BadName { name: file_name(path), what });
    }
    // A folder with nothing but a GGUF file is opened by that file.
    let gguf: Vec<&String> = files.iter().map(|(name, _)| name).filter(|name| name.ends_with(".gguf")).collect();
    let file = (!has("config.json") && !gguf.is_empty()).then(|| gguf[0].clone());
    Ok((Kind::Model, file, files))
}
