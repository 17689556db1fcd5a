//! Assistants: a model made one's own without changing a weight, as a plain TOML file. What one holds, where those of the
//! user are kept, and how one is found. Reading is in `read.rs` and `modelfile.rs`, writing in `written.rs`.
//! Invariant: a name becomes a path only if it is a plain model's name.

mod mentioned;
mod modelfile;
mod packed;
mod parts;
mod read;
mod written;

use std::fs;
use std::path::{Path, PathBuf};

use pasture_files::{durable, folder};
use serde_json::{Map, Value};

use crate::environment::Environment;
use crate::error::{Error, Result};
use crate::name::is_name;
use crate::{Digest, Found, Origin};

pub(crate) use mentioned::Mentioned;
pub(crate) use packed::Packed;
pub(crate) use parts::digest_of;
pub use parts::{Part, part_of, tree};

/// The file that makes an assistant of a model's folder.
pub const FILE: &str = "assistant.toml";

/// A model with what stands beside and before it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Assistant {
    /// The model: a path, or a name that [`crate::resolve`] finds.
    pub base: String,
    /// Adapters beside its weights; of several, the sum.
    pub adapters: Vec<Beside>,
    /// The system prompt.
    pub system: Option<String>,
    /// Texts that stand before the system prompt.
    pub documents: Vec<Document>,
    /// Settings of sampling and of the context, by name.
    pub settings: Map<String, Value>,
    /// Texts that end an answer.
    pub stop: Vec<String>,
    /// Tools as the OpenAI API writes them: `{"type": "function", "function": {"name", "description", "parameters"}}`.
    pub tools: Vec<Value>,
    /// Turns that show how to answer.
    pub messages: Vec<Example>,
    /// The licence's name or text.
    pub license: Option<String>,
    /// What it was made of, by digest.
    pub parts: Vec<Part>,
}

/// An adapter beside the weights.
#[derive(Clone, Debug, PartialEq)]
pub struct Beside {
    /// Its folder.
    pub path: String,
    /// How much it counts.
    pub weight: f64,
}

/// A text to answer from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Document {
    /// What it is called.
    pub name: String,
    /// The text itself.
    pub text: String,
}

/// One turn of an example.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Example {
    /// `user` or `assistant`.
    pub role: String,
    /// What is said.
    pub content: String,
}

/// Whether a setting of that name takes that value; the error says what is wrong, and which name is near.
pub type Check<'a> = &'a dyn Fn(&str, &Value) -> Result<(), String>;

/// Whose file it is, and so where its paths may lead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trust {
    /// The user's own: paths lead anywhere.
    Own,
    /// One that came with a model: paths stay in its folder.
    Foreign,
}

impl Assistant {
    /// Reads a file that a person wrote: TOML, or an Ollama Modelfile. Paths count from the file's folder.
    /// `same_template` says of a base and a text whether that is the base's own template.
    pub fn read(path: &Path, check: Check<'_>, same_template: &dyn Fn(&str, &str) -> bool) -> Result<Assistant> {
        let text = text_of(path)?;
        let file = pasture_files::error::file_name(path);
        let folder = path.parent().unwrap_or(Path::new(""));
        match modelfile::is_one(path, &text) {
            true => modelfile::parse(&file, &text, folder, check, same_template),
            false => read::parse(&file, &text, folder, Trust::Own, check),
        }
    }

    /// Reads the assistant that a model's folder holds; none where it has no [`FILE`].
    pub fn in_folder(folder: &Path, check: Check<'_>) -> Result<Option<Assistant>> {
        let path = folder.join(FILE);
        if !path.is_file() {
            return Ok(None);
        }
        read::parse(FILE, &text_of(&path)?, folder, Trust::Foreign, check).map(Some)
    }

    /// The file's text.
    pub fn to_toml(&self) -> String {
        written::toml(self)
    }

    /// The same as an Ollama Modelfile. What that format has no word for stands in comments.
    pub fn to_modelfile(&self) -> String {
        modelfile::written(self)
    }

    /// What differs from what it was made of: parts that are gone, or whose length is another. Reads no weights.
    pub fn changed(&self) -> Vec<String> {
        self.parts.iter().filter_map(Part::changed).collect()
    }

    /// Bytes of its adapters' files, as far as they can be seen.
    pub fn adapter_bytes(&self) -> u64 {
        let files = self.adapters.iter().filter_map(|beside| tree(Path::new(&beside.path)).ok()).flatten();
        files.map(|(_, bytes, _)| bytes).fold(0, u64::saturating_add)
    }

    /// The digest of its file.
    pub fn digest(&self) -> Digest {
        Digest::of(self.to_toml().as_bytes())
    }
}

/// Longest file with its documents.
const FILE_BYTES_MAX: pasture_files::size::Size = pasture_files::size::Size::new(16 << 20);

fn text_of(path: &Path) -> Result<String> {
    let bytes = folder::read_file(path, FILE_BYTES_MAX)?;
    String::from_utf8(bytes).map_err(|fault| {
        let file = pasture_files::error::file_name(path);
        Error::File(pasture_files::Error::invalid(
            file,
            format!("it is not UTF-8 at byte {}", fault.utf8_error().valid_up_to()),
        ))
    })
}

/// The folder of the user's assistants; none without a home.
pub fn folder(environment: &Environment) -> Option<PathBuf> {
    environment.data().map(|data| data.join("assistants"))
}

/// Where an assistant of that name is kept; the error says why none can be.
pub fn path(environment: &Environment, name: &str) -> Result<PathBuf> {
    let bad = |what: &str| Error::BadName { name: name.to_owned(), what: what.to_owned() };
    if !is_name(name) {
        return Err(bad("an assistant's name is of letters, digits and \"._-\", without an owner"));
    }
    let folder = folder(environment).ok_or_else(|| bad("there is no home folder; PASTURE_HOME names one"))?;
    Ok(folder.join(format!("{name}.toml")))
}

/// The user's assistant of that name; none where there is none, or the text is no assistant's name.
pub fn find(environment: &Environment, name: &str, check: Check<'_>) -> Result<Option<Assistant>> {
    let Some(path) = path(environment, name).ok().filter(|path| path.is_file()) else { return Ok(None) };
    let file = pasture_files::error::file_name(&path);
    let folder = path.parent().unwrap_or(Path::new(""));
    read::parse(&file, &text_of(&path)?, folder, Trust::Own, check).map(Some)
}

/// The folder of an assistant that came with a model that was found: from a hub, or in a bundle.
pub fn folder_of(found: &Found) -> Option<PathBuf> {
    let came = matches!(found.origin, Origin::HuggingFace | Origin::Bundle);
    let folder = if found.path.is_dir() { Some(found.path.as_path()) } else { found.path.parent() };
    folder.filter(|folder| came && folder.join(FILE).is_file()).map(Path::to_owned)
}

/// Names of the user's assistants, in alphabetical order.
pub fn names(environment: &Environment) -> Vec<String> {
    let Some(entries) = folder(environment).and_then(|folder| fs::read_dir(folder).ok()) else { return Vec::new() };
    let stem = |entry: fs::DirEntry| entry.file_name().to_str()?.strip_suffix(".toml").map(str::to_owned);
    let mut names: Vec<String> = entries.flatten().filter_map(stem).filter(|name| is_name(name)).collect();
    names.sort();
    names
}

/// Keeps an assistant under a name, in place of one that was there, and gives its path.
pub fn save(environment: &Environment, name: &str, assistant: &Assistant) -> Result<PathBuf> {
    let path = path(environment, name)?;
    if let Some(folder) = path.parent() {
        crate::durable::folder(folder)?;
    }
    let text = assistant.to_toml();
    durable::write_file(&path, |sink| sink.put(text.as_bytes()))?;
    Ok(path)
}
