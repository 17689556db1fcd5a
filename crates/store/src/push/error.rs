//! Why something could not be passed on.

use pasture_files::error::quoted;

/// Why a push failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The target is no repository.
    #[error("{} is no repository to push to: hf:owner/name is one, of letters, digits and \"._-\"", quoted(.text))]
    Target {
        /// What the user gave.
        text: String,
    },
    /// Nobody knows who pushes.
    #[error("{host} needs to know who pushes: set HF_TOKEN to a token that may write")]
    NoToken {
        /// Host and port.
        host: String,
    },
    /// The hub says no.
    #[error("{host} refuses {what}: {why}")]
    Refused {
        /// Host and port.
        host: String,
        /// What was asked.
        what: String,
        /// What the hub says, with the status.
        why: String,
    },
    /// A licence does not allow the name.
    #[error("{_0}; push it under another name")]
    Named(#[from] crate::licence::BrokenRule),
    /// The network, or an answer that is none.
    #[error(transparent)]
    Network(#[from] crate::pull::Error),
    /// A file cannot be read or written.
    #[error(transparent)]
    Store(#[from] crate::Error),
}

impl From<pasture_files::Error> for Error {
    fn from(error: pasture_files::Error) -> Error {
        Error::Store(error.into())
    }
}

/// The result of a push.
pub type Result<T, E = Error> = std::result::Result<T, E>;
