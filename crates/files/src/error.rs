//! The crate's error: which file, what is wrong with it, what to do. Files are named by their last component only, so
//! that no message carries a path of the machine, and values from files are quoted and shortened.
#![forbid(unsafe_code)]

use std::io;
use std::path::Path;

use crate::size::Overflow;

/// Why a file could not be read or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The system refused to read.
    #[error("cannot read {file:?}: {source}")]
    Read {
        /// Name of the file, without its folder.
        file: String,
        /// What the system said.
        source: io::Error,
    },
    /// The system refused to write.
    #[error("cannot write {file:?}: {source}")]
    Write {
        /// Name of the file, without its folder.
        file: String,
        /// What the system said.
        source: io::Error,
    },
    /// The file's content breaks the rules of its format.
    #[error("{file:?} is invalid: {what}")]
    Invalid {
        /// Name of the file, without its folder.
        file: String,
        /// What was found and what the format allows.
        what: String,
    },
    /// The file is well formed, but uses something that is not read here.
    #[error("{file:?} cannot be used: {what}")]
    Unsupported {
        /// Name of the file, without its folder.
        file: String,
        /// What is not supported, and what to do.
        what: String,
    },
    /// A file that should stand in a folder does not.
    #[error("there is no {what} in {folder:?}")]
    Missing {
        /// Name of the folder, without its parents.
        folder: String,
        /// What was looked for.
        what: String,
    },
    /// A tensor was asked for that the checkpoint does not hold.
    #[error("there is no tensor {name} in {file:?}")]
    NoTensor {
        /// The tensor, already quoted.
        name: String,
        /// Name of the file or folder.
        file: String,
    },
}

/// The result of every reader and writer.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// [`Error::Invalid`] from anything that prints.
    pub fn invalid(file: impl Into<String>, what: impl Into<String>) -> Error {
        Error::Invalid { file: file.into(), what: what.into() }
    }

    /// [`Error::Unsupported`] from anything that prints.
    pub fn unsupported(file: impl Into<String>, what: impl Into<String>) -> Error {
        Error::Unsupported { file: file.into(), what: what.into() }
    }

    /// [`Error::Read`] for a path.
    pub fn read(path: &Path, source: io::Error) -> Error {
        Error::Read { file: file_name(path), source }
    }

    /// [`Error::Write`] for a path.
    pub fn write(path: &Path, source: io::Error) -> Error {
        Error::Write { file: file_name(path), source }
    }

    /// A size in `file` that does not fit 64 bits; `what` says which.
    pub fn overflow(file: &str, what: &str) -> impl FnOnce(Overflow) -> Error {
        move |overflow| Error::invalid(file, format!("{what} {overflow}"))
    }
}

/// The last component of a path: all that a message shows of it.
pub fn file_name(path: &Path) -> String {
    let name = path.file_name().unwrap_or(path.as_os_str());
    shortened(&name.to_string_lossy(), NAME_SHOWN)
}

/// A value from a file as messages show it: quoted, escaped, at most 80 characters of it.
pub fn quoted(value: &str) -> String {
    format!("{:?}", shortened(value, NAME_SHOWN))
}

/// Characters of a value that a message shows.
const NAME_SHOWN: usize = 80;

fn shortened(value: &str, limit: usize) -> String {
    match value.char_indices().nth(limit) {
        Some((end, _)) => format!("{}…", &value[..end]),
        None => value.to_owned(),
    }
}
