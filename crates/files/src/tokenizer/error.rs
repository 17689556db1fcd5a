//! What can be wrong with a tokenizer file or a text, in words.
//! Invariant: a message names the place in the file and quotes at most 80 characters of it.

use std::path::PathBuf;

/// Why a tokenizer cannot be built or a text cannot be encoded.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file was read, and its content refused.
    #[error("tokenizer file {path:?}: {source}")]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong inside it.
        source: Box<Error>,
    },
    /// JSON that does not parse or lacks a key.
    #[error("not the expected JSON: {0}")]
    Json(String),
    /// A value outside what the format allows.
    #[error("{what} is {found}, expected {wanted}")]
    Invalid {
        /// The place, for example `merge 17`.
        what: String,
        /// What stands there, quoted where it is text.
        found: String,
        /// What may stand there.
        wanted: String,
    },
    /// A stage, model or option that this reader does not know.
    #[error("{what} {name:?} is not supported")]
    Unsupported {
        /// The kind of thing: `normalizer`, `split pattern`, ….
        what: &'static str,
        /// Its name in the file.
        name: String,
    },
    /// A text grew past its bound while it was normalized, or is too long to encode.
    #[error("the text is {found} bytes {place}, at most {limit} are taken")]
    TextTooLong {
        /// Where: `before normalization` or `after normalization`.
        place: &'static str,
        /// Bytes found.
        found: usize,
        /// Bytes allowed.
        limit: usize,
    },
    /// A split pattern took more steps than any real one needs.
    #[error("the split pattern backtracks without end on this text; it is not linear, use another tokenizer file")]
    TooManySteps,
    /// The reader of the surrounding format failed.
    #[error(transparent)]
    Format(#[from] crate::error::Error),
    /// The text holds something that this vocabulary has no id for, and the vocabulary has no unknown token.
    #[error("the vocabulary has neither {0:?} nor an unknown token")]
    NoToken(String),
}

impl Error {
    /// The error with the name of its file, unless it has one.
    pub(super) fn within(self, name: &str) -> Error {
        match self {
            Error::Format(_) | Error::File { .. } => self,
            other => Error::File { path: name.into(), source: Box::new(other) },
        }
    }
}

/// The result of this module's functions.
pub type Result<T, E = Error> = std::result::Result<T, E>;

pub(super) fn invalid(what: impl Into<String>, found: impl Into<String>, wanted: impl Into<String>) -> Error {
    Error::Invalid { what: what.into(), found: found.into(), wanted: wanted.into() }
}

/// Text from a file as it may appear in a message: quoted, and cut after 80 characters.
pub(super) fn quoted(text: &str) -> String {
    match text.char_indices().nth(80) {
        Some((cut, _)) => format!("{:?}…", &text[..cut]),
        None => format!("{text:?}"),
    }
}

impl From<serde_json::Error> for Error {
    fn from(error: serde_json::Error) -> Self {
        Error::Json(error.to_string().chars().take(200).collect())
    }
}
