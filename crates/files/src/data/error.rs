//! What can be wrong with a file of rows: which file, which line, what is wrong.
#![forbid(unsafe_code)]

use serde_json::Value;

use crate::json;

/// Why rows cannot be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The file as a whole.
    #[error(transparent)]
    File(#[from] crate::Error),
    /// One row.
    #[error("{file:?}, line {line}: {what}")]
    Row {
        /// Name of the file, without its folder.
        file: String,
        /// The line at which the row begins, from 1.
        line: usize,
        /// What was found and what is expected.
        what: String,
    },
    /// One row of a file without lines.
    #[error("{file:?}, row {row}: {what}")]
    Record {
        /// Name of the file, without its folder.
        file: String,
        /// Its number, from 1.
        row: usize,
        /// What was found and what is expected.
        what: String,
    },
}

/// The result of reading rows.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// The JSON value of one row.
pub(super) fn parsed(text: &[u8], file: &str, line: usize) -> Result<Value> {
    json::parse(text, file).map_err(|fault| {
        let what = match fault {
            crate::Error::Invalid { what, .. } => what.replace(" at line 1 column", " at column"),
            other => other.to_string(),
        };
        Error::Row { file: file.into(), line, what }
    })
}
