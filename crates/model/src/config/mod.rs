//! A checkpoint's configuration under Hugging Face's key names, read from `config.json`, from GGUF metadata or from
//! Meta's `params.json`. Every key that a page reads is noted, so that [`Config::finish`] can refuse what would
//! otherwise be ignored. Which keys a model needs is its page's business.

mod activation;
mod bookkeeping;
mod finish;
mod gguf;
mod huggingface;
mod keys;
mod layers;
mod meta;
mod quantization;
mod read;
mod rope;
mod sizes;

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use pasture_files::Tensors;
use pasture_files::folder::Folder;
use pasture_files::json;
use serde_json::{Map, Value};

use crate::error::{Error, Result};
use crate::families::pictured::Pictured;

pub(crate) use activation::activation_name;
pub use finish::{Ignored, Report};
pub(crate) use gguf::gguf_key;
pub(crate) use huggingface::nested_key;
pub use quantization::{Quantization, Scheme};
pub use read::FromValue;
pub use rope::RopeDefaults;
pub(crate) use rope::{BY_WAVELENGTH, GROWTH};
pub use sizes::Heads;

/// Characters of a key that messages show.
const KEY_MAX: usize = 100;

/// What a checkpoint's files say of its model.
#[derive(Debug)]
pub struct Config {
    file: String,
    container: Container,
    architecture: Option<String>,
    /// What it is besides, where the keys are those of its text part.
    pictured: Option<&'static Pictured>,
    values: Map<String, Value>,
    /// Where a key had another name in the file: that name.
    origins: BTreeMap<String, String>,
    /// Keys that were concluded from the tensors; a page that has no use for one need not say so.
    derived: BTreeSet<String>,
    used: RefCell<BTreeSet<String>>,
    ignored: RefCell<Vec<Ignored>>,
}

/// The kind of file that a configuration came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Container {
    /// `config.json`.
    HuggingFace,
    /// The metadata of a GGUF file.
    Gguf,
    /// Meta's `params.json`.
    Meta,
}

impl Config {
    /// The configuration that belongs to a checkpoint: a GGUF file's own metadata; `params.json` where the tensors
    /// have Meta's names; else the folder's `config.json`.
    pub fn open(tensors: &Tensors, folder: &Folder) -> Result<Config> {
        if let Some(metadata) = tensors.gguf() {
            return Config::from_gguf(metadata, tensors);
        }
        let is_meta = tensors.get(meta::EMBEDDING).is_some();
        let name = if is_meta { "params.json" } else { "config.json" };
        let missing = || Error::Missing { folder: PathBuf::from(folder.name()), wanted: format!("{name:?}") };
        let value = json::read_in(folder, name)?.ok_or_else(missing)?;
        if is_meta { Config::from_meta(name, value, tensors) } else { Config::from_json(name, value) }
    }

    /// The configuration in the content of a `config.json`; `file` is named in errors.
    pub fn from_json(file: &str, value: Value) -> Result<Config> {
        huggingface::read(Config::over(file, Container::HuggingFace, value)?)
    }

    fn over(file: &str, container: Container, value: Value) -> Result<Config> {
        let Value::Object(values) = value else {
            let what = format!("the configuration is {}, it should be an object", read::kind(&value));
            return Err(pasture_files::Error::invalid(file, what).into());
        };
        Ok(Config {
            file: file.to_owned(),
            container,
            architecture: None,
            pictured: None,
            values,
            origins: BTreeMap::new(),
            derived: BTreeSet::new(),
            used: RefCell::default(),
            ignored: RefCell::default(),
        })
    }

    /// The file's own name, as messages show it.
    pub fn file(&self) -> &str {
        &self.file
    }

    /// The kind of file.
    pub fn container(&self) -> Container {
        self.container
    }

    /// The architecture's name: a class of Hugging Face's, or GGUF's word. None in Meta's files.
    pub fn architecture(&self) -> Option<&str> {
        self.architecture.as_deref()
    }

    /// The class with a part for pictures whose text part these keys are.
    pub(crate) fn pictured(&self) -> Option<&'static Pictured> {
        self.pictured
    }

    /// The error for a key; `what` ends the sentence that begins with the key and the file.
    pub fn fault(&self, key: &str, what: impl Into<String>) -> Error {
        Error::Key {
            key: read::shortened(&self.origin(key), KEY_MAX),
            file: PathBuf::from(&self.file),
            what: what.into(),
        }
    }

    /// The name that a key has in the file.
    fn origin(&self, key: &str) -> String {
        let mut prefix = key;
        loop {
            if let Some(origin) = self.origins.get(prefix) {
                return format!("{origin}{}", &key[prefix.len()..]);
            }
            match prefix.rfind('.') {
                Some(dot) => prefix = &prefix[..dot],
                None => return key.to_owned(),
            }
        }
    }

    /// Whether a page has read a key, or one inside it.
    pub(crate) fn is_used(&self, path: &str) -> bool {
        let inner = format!("{path}.");
        let used = self.used.borrow();
        used.contains(path) || used.iter().any(|used| used.starts_with(&inner))
    }

    /// Sets what the tensors show.
    fn derive(&mut self, key: &str, value: impl Into<Value>) {
        self.values.insert(key.to_owned(), value.into());
        self.derived.insert(key.to_owned());
    }
}
