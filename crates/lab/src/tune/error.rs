//! Why tuning did not begin, or did not go on.

use std::path::PathBuf;

/// Why tuning failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The recipe asks for something that does not exist, or does not fit together.
    #[error("the recipe's {key:?} {what}")]
    Recipe {
        /// The key.
        key: String,
        /// What is wrong with it.
        what: String,
    },
    /// The recipe's file is no TOML.
    #[error("the recipe is no TOML: {what}")]
    Syntax {
        /// Where and what.
        what: String,
    },
    /// The data cannot be learned from.
    #[error("the data {what}")]
    Data {
        /// What is wrong with it.
        what: String,
    },
    /// A run cannot be gone on with by other means than it began with.
    #[error("cannot go on with the run in {folder:?}: {what}; give what it began with, or another folder")]
    Resume {
        /// The run's folder.
        folder: PathBuf,
        /// What differs.
        what: String,
    },
    /// The output is a run's already.
    #[error("{folder:?} has a run already; --resume goes on with it")]
    Exists {
        /// The folder.
        folder: PathBuf,
    },
    /// No checkpoint is whole.
    #[error("no checkpoint in {folder:?} can be used: {what}")]
    Damaged {
        /// The folder.
        folder: PathBuf,
        /// What is wrong with each.
        what: String,
    },
    /// Loss or gradients were not finite several times in a row.
    #[error(
        "loss or gradient was no finite number {times} times in a row at step {step}; {saved}, try a lower learning_rate"
    )]
    NotFinite {
        /// The step that failed last.
        step: usize,
        /// How often in a row.
        times: usize,
        /// What is kept.
        saved: String,
    },
    /// The result or its last state could not be written.
    #[error("tuning went to its end, but {what}")]
    Unsaved {
        /// What could not be written and why.
        what: String,
    },
    /// The model cannot be loaded or run.
    #[error(transparent)]
    Model(#[from] pasture_model::Error),
    /// A file cannot be read or written.
    #[error(transparent)]
    File(#[from] pasture_files::Error),
}

impl Error {
    pub(crate) fn recipe(key: &str, what: impl Into<String>) -> Error {
        Error::Recipe { key: key.to_owned(), what: what.into() }
    }

    pub(crate) fn data(what: impl Into<String>) -> Error {
        Error::Data { what: what.into() }
    }
}

/// The result of whatever can fail here.
pub type Result<T> = std::result::Result<T, Error>;
