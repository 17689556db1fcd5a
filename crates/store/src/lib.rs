//! Where models are: the path that the user gave, works of one's own, an existing Hugging Face cache, the folders of
//! Ollama and LM Studio. What a folder says of itself is checked before a path is made of it; what is written, linked or
//! removed goes through `durable`, so that neither a kill nor a loss of power leaves half of it.
//! Getting a model from elsewhere is in [`pull`].

#![forbid(unsafe_code)]

mod alias;
pub mod assistant;
pub mod bundle;
mod content;
mod digest;
pub mod durable;
mod environment;
mod error;
mod folders;
pub mod gc;
mod git;
mod hub;
pub mod ledger;
pub mod licence;
pub mod lineage;
pub mod lock;
mod name;
mod nearest;
mod ollama;
pub mod own;
pub mod packed;
pub mod pull;
pub mod push;
pub mod registry;
pub mod remove;
mod repository;
mod sums;
pub mod trust;
pub mod usage;
pub mod verify;

use std::fmt;
use std::path::{Path, PathBuf};

pub use alias::aliases;
pub use assistant::Assistant;
pub use content::Content;
pub use digest::Digest;
pub use environment::Environment;
pub use error::{Error, Result};
pub use ledger::Ledger;
use name::Name;
pub use sums::{Quick, Sums};

/// A model on this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// What [`resolve`] finds it by.
    pub name: String,
    /// Who put it there.
    pub origin: Origin,
    /// The file or folder to open.
    pub path: PathBuf,
    /// Bytes of its weights.
    pub bytes: u64,
    /// `GGUF`, `safetensors` or `PyTorch`; `file` or `folder` where a path holds something else.
    pub format: &'static str,
    /// What Ollama keeps beside the weights.
    pub layers: Vec<Layer>,
}

/// A small file that Ollama keeps beside the weights.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layer {
    /// The last word of its type, such as `template`, `params`, `license`, `system`, `projector`.
    pub kind: String,
    /// Where it is.
    pub path: PathBuf,
    /// Its length.
    pub bytes: u64,
}

/// Who put a model where it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Origin {
    /// The user gave its path.
    Path,
    /// A name of one's own, in the ledger.
    Own,
    /// A Hugging Face cache.
    HuggingFace,
    /// Ollama's folder.
    Ollama,
    /// A bundle that was unpacked.
    Bundle,
    /// The user, by `pasture create`.
    Assistant,
    /// LM Studio's folder.
    LmStudio,
    /// A folder of `PASTURE_MODELS`.
    Folder,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Origin::Path => "path",
            Origin::Own => "own",
            Origin::HuggingFace => "Hugging Face cache",
            Origin::Ollama => "Ollama",
            Origin::Bundle => "bundle",
            Origin::Assistant => "assistant",
            Origin::LmStudio => "LM Studio",
            Origin::Folder => "folder",
        })
    }
}

/// A folder that is searched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Whose it is.
    pub origin: Origin,
    /// Where it is, or would be.
    pub path: PathBuf,
}

/// Finds a model by what the user calls it. The first of these that is there:
///
/// 1. a path to a file or folder;
/// 2. a work of a bundle that was unpacked;
/// 3. an assistant of that name, or a name of one's own;
/// 4. `[owner/]name[@revision][:file-or-quant]` in the Hugging Face cache;
/// 5. `[[host/]owner/]name[:tag]` in Ollama's folder;
/// 6. `[owner/]name[:file-or-quant]` in LM Studio's folder and those of `PASTURE_MODELS`;
/// 7. a `name` without owner that one model in the Hugging Face cache has, in whatever case;
/// 8. what an alias stands for, in the same places.
///
/// With `hf:` before it a name is one of the Hugging Face cache only.
pub fn resolve(name: &str) -> Result<Found> {
    resolve_in(&Environment::current(), name)
}

/// All models of all places, by name. Repositories without weights and entries that
/// are damaged are left out; [`resolve`] says what is wrong with one.
pub fn list() -> Result<Vec<Found>> {
    list_in(&Environment::current())
}

/// The folders that are searched, whether they are there or not.
pub fn places() -> Vec<Place> {
    Environment::current().places()
}

/// [`resolve`] with another environment.
pub fn resolve_in(environment: &Environment, text: &str) -> Result<Found> {
    let found = resolve_named(environment, text);
    let target = if matches!(found, Err(Error::NotFound { .. })) { alias::find(environment, text)? } else { None };
    match target {
        Some(target) => resolve_named(environment, target.strip_prefix("oci:").unwrap_or(&target)),
        None => found,
    }
}

/// The same for a name that is no alias.
fn resolve_named(environment: &Environment, text: &str) -> Result<Found> {
    let path = Path::new(text);
    if !text.is_empty() && !text.contains('\0') && path.exists() {
        return Ok(at_path(text, path));
    }
    if let Some(rest) = text.strip_prefix("hf:") {
        let name = Name::parse(rest)?;
        return hub::find(environment, &name)?.ok_or_else(|| not_found(environment, &name));
    }
    let name = Name::parse(text)?;
    if let Some(path) = bundle::find(environment, text) {
        return Ok(unpacked(text.to_owned(), path));
    }
    if let Some(found) = of_assistant(environment, text) {
        return Ok(found);
    }
    // What is wrong with an entry of that name is told only where no other place has a good one.
    let mut fault = None;
    for attempt in [own::find, hub::find, ollama::find, folders::find, hub::find_without_owner] {
        match attempt(environment, &name) {
            Ok(Some(found)) => return Ok(found),
            Ok(None) => {}
            Err(found) => fault = fault.or(Some(found)),
        }
    }
    Err(fault.unwrap_or_else(|| not_found(environment, &name)))
}

/// [`list`] with another environment.
pub fn list_in(environment: &Environment) -> Result<Vec<Found>> {
    let mut found = own::list(environment)?;
    found.extend(hub::list(environment)?);
    found.extend(ollama::list(environment)?);
    let names = bundle::names(environment).into_iter();
    found.extend(names.filter_map(|name| bundle::find(environment, &name).map(|path| unpacked(name, path))));
    found.extend(assistant::names(environment).iter().filter_map(|name| of_assistant(environment, name)));
    found.extend(folders::list(environment)?);
    found.sort_by(|one, next| (&one.name, one.origin).cmp(&(&next.name, next.origin)));
    Ok(found)
}

/// A work of a bundle.
fn unpacked(name: String, path: PathBuf) -> Found {
    Found { name, origin: Origin::Bundle, ..at_path(&path.to_string_lossy(), &path) }
}

/// The file of an assistant; what it holds is read by [`assistant::find`].
fn of_assistant(environment: &Environment, name: &str) -> Option<Found> {
    let path = assistant::path(environment, name).ok().filter(|path| path.is_file())?;
    let bytes = path.metadata().map_or(0, |metadata| metadata.len());
    let (name, origin) = (name.to_owned(), Origin::Assistant);
    Some(Found { name, origin, path, bytes, format: "assistant", layers: Vec::new() })
}

fn at_path(name: &str, path: &Path) -> Found {
    let (format, bytes) = match path.is_dir() {
        true => hub::weights(path).unwrap_or(("folder", 0)),
        false => {
            let bytes = path.metadata().map_or(0, |metadata| metadata.len());
            (hub::format_of(name).unwrap_or("file"), bytes)
        }
    };
    Found { name: name.to_owned(), origin: Origin::Path, path: path.to_owned(), bytes, format, layers: Vec::new() }
}

fn not_found(environment: &Environment, name: &Name) -> Error {
    let mut looked = vec!["no file or folder is at that path".to_owned()];
    for place in environment.places() {
        let wanted = match place.origin {
            Origin::HuggingFace => name.hub_folder(),
            Origin::LmStudio | Origin::Folder if !place.path.is_dir() => None,
            Origin::LmStudio | Origin::Folder => Some(name.path().join("/")),
            _ => name.ollama_path().map(|path| path.join("/")),
        };
        if let Some(wanted) = wanted {
            let there = if place.path.is_dir() { "" } else { ", which is not there" };
            looked.push(format!("no {wanted:?} in {} ({}{there})", place.origin, place.path.display()));
        }
    }
    let mut known = hub::names(environment);
    known.extend(ollama::names(environment));
    known.extend(assistant::names(environment));
    known.extend(folders::names(environment));
    known.extend(own::names(environment));
    let nearest = nearest::nearest(name.text(), &known);
    Error::NotFound { name: name.text().to_owned(), looked: looked.join("; "), nearest }
}
