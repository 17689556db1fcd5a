//! Passing a model on: which files it has, and bringing them to a hub (`hub.rs`) or into a folder that any static server
//! can be a hub with (`folder.rs`). What is there already, by digest, is not sent again.

mod error;
mod folder;
mod hub;
mod wire;

use std::path::{Path, PathBuf};

use crate::assistant::{Assistant, FILE, Packed, tree};
use crate::content::is_of_training;
use crate::error::Result as StoreResult;
use crate::licence::{Licence, naming_rule};
use crate::name::Name;
use crate::{Content, Digest};

pub use error::{Error, Result};
pub use folder::into_folder;
pub use hub::{Pushed, to_hub};

/// A file that is pushed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct File {
    /// Its path in the repository.
    pub path: String,
    /// Its length.
    pub bytes: u64,
    /// Where its bytes are.
    pub content: Content,
}

/// Who sees the repository.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Visibility {
    /// Its owner.
    Private,
    /// Everybody.
    Public,
}

/// What is pushed where.
#[derive(Clone, Debug)]
pub struct Push {
    /// `owner/name`.
    pub repo: String,
    /// Who sees a repository that is made for it; one that is there stays as it is.
    pub visibility: Visibility,
    /// The commit's message.
    pub message: String,
    /// The files.
    pub files: Vec<File>,
    /// Licences of whatever it was made from: some have a rule for its name.
    pub licences: Vec<&'static Licence>,
}

impl Push {
    /// Refuses a name that a licence does not allow for what is made from a work under it.
    pub fn check_name(&self) -> Result<()> {
        Ok(self.licences.iter().try_for_each(|licence| naming_rule(licence, &self.repo))?)
    }
}

/// What is told while it goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step<'a> {
    /// A file is read, for its digest.
    Reads(&'a str),
    /// So many more bytes of it are sent.
    Sent(&'a str, u64),
    /// It is there already.
    There(&'a str),
}

/// Names of files that say on which terms a model may be used, or what it is.
const BESIDE: [&str; 5] = ["LICENSE", "LICENCE", "NOTICE", "USE_POLICY", "README.MD"];

impl File {
    /// A file of this machine, as others get it.
    pub fn at(path: impl Into<String>, file: PathBuf) -> StoreResult<File> {
        let content = Content::passed_on(file)?;
        Ok(File { path: path.into(), bytes: content.bytes(), content })
    }

    /// A file that is made here.
    pub fn of(path: impl Into<String>, bytes: impl Into<Vec<u8>>) -> File {
        let bytes = bytes.into();
        File { path: path.into(), bytes: bytes.len() as u64, content: Content::Bytes(bytes) }
    }

    /// Its SHA-256.
    pub(crate) fn digest(&self) -> StoreResult<Digest> {
        match &self.content {
            Content::File(path) => Ok(crate::assistant::part_of(path)?.digest),
            Content::Bytes(bytes) => Ok(Digest::of(bytes)),
        }
    }

    /// Bytes from `from`, at most so many.
    pub(crate) fn read(&self, from: u64, most: u64) -> StoreResult<Box<dyn std::io::Read>> {
        use std::io::{Read, Seek, SeekFrom};
        match &self.content {
            Content::File(path) => {
                let fault = |fault| pasture_files::Error::read(path, fault);
                let mut file = std::fs::File::open(path).map_err(fault)?;
                file.seek(SeekFrom::Start(from)).map_err(fault)?;
                Ok(Box::new(file.take(most)))
            }
            Content::Bytes(bytes) => {
                let part: Vec<u8> = bytes.iter().copied().skip(from as usize).take(most as usize).collect();
                Ok(Box::new(std::io::Cursor::new(part)))
            }
        }
    }

    /// All bytes of a small file.
    pub(crate) fn whole(&self) -> StoreResult<Vec<u8>> {
        let mut bytes = Vec::new();
        let fault = |fault| pasture_files::Error::read(Path::new(&self.path), fault);
        std::io::Read::read_to_end(&mut self.read(0, self.bytes)?, &mut bytes).map_err(fault)?;
        Ok(bytes)
    }
}

/// The files of a model: all of a folder, or a file with what stands beside it about its terms. Folders of other tools'
/// notes, files of a training, and names that begin with a dot stay here.
pub fn files_of(path: &Path) -> StoreResult<Vec<File>> {
    if path.is_dir() {
        let rows = tree(path)?.into_iter().filter(|(name, ..)| !is_of_training(name));
        return rows.map(|(name, _, file)| File::at(name, file)).collect();
    }
    let mut files =
        tree(path)?.into_iter().map(|(name, _, file)| File::at(name, file)).collect::<StoreResult<Vec<_>>>()?;
    let beside = |name: &str| BESIDE.iter().any(|known| name.to_uppercase().starts_with(known));
    // What lies beside a file of a cache belongs to it; beside another file anything may lie.
    let snapshot = path.parent().filter(|folder| folder.parent().is_some_and(|above| above.ends_with("snapshots")));
    if let Some(folder) = snapshot {
        for (name, _, file) in tree(folder)?.into_iter().filter(|(name, ..)| beside(name)) {
            files.push(File::at(name, file)?);
        }
    }
    Ok(files)
}

/// The files of an assistant: its base's, `adapters/…`, and its own file, whose paths lead to these. A base of one file
/// is named; a folder is `.`.
pub fn files_of_assistant(assistant: &Assistant, base: Vec<File>, single: Option<&str>) -> StoreResult<Vec<File>> {
    let mut files = base;
    let Packed { text, adapters } = assistant.packed(single);
    for (folder, path) in adapters {
        for (name, _, file) in tree(&path)?.into_iter().filter(|(name, ..)| !is_of_training(name)) {
            files.push(File::at(format!("{folder}/{name}"), file)?);
        }
    }
    files.retain(|file| file.path != FILE);
    files.push(File::of(FILE, text));
    Ok(files)
}

/// Where a push goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// A repository of a hub.
    Hub(String),
    /// A folder.
    Folder(PathBuf),
}

/// Reads a target: `hf:owner/name`, or a folder.
pub fn target(text: &str) -> Result<Target> {
    let Some(name) = text.strip_prefix("hf:") else { return Ok(Target::Folder(PathBuf::from(text))) };
    repository(name).map(Target::Hub)
}

/// Checks that a text is `owner/name`.
pub fn repository(name: &str) -> Result<String> {
    let parsed = Name::parse(name).ok().filter(|name| name.revision.is_none() && name.part.is_none());
    match parsed.filter(|_| name.split('/').count() == 2) {
        Some(_) => Ok(name.to_owned()),
        None => Err(Error::Target { text: name.to_owned() }),
    }
}
