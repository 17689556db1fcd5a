//! What can be wrong with data to learn from, and where.
#![forbid(unsafe_code)]

use pasture_files::data::Layout;

/// Why data cannot be learned from.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The file, or a row as such.
    #[error(transparent)]
    Rows(#[from] pasture_files::data::Error),
    /// A row that the model cannot learn from.
    #[error("{file:?}, {place}: {what}")]
    Sample {
        /// Name of the file, without its folder.
        file: String,
        /// `line 7`, or `row 7` where the file has no lines.
        place: String,
        /// What is wrong, and what to do.
        what: String,
    },
    /// An option that would have no effect on rows of this layout.
    #[error("{option} has no effect on rows of {}; leave it out", layout.name())]
    Idle {
        /// The option as it was given.
        option: String,
        /// The layout of the rows.
        layout: Layout,
    },
    /// Nothing is left to learn from.
    #[error("{file:?}: {what}")]
    Nothing {
        /// Name of the file, without its folder.
        file: String,
        /// Why.
        what: String,
    },
    /// A file could not be written.
    #[error(transparent)]
    File(#[from] pasture_files::Error),
    /// The model has no tokenizer.
    #[error(transparent)]
    Prompt(#[from] pasture_files::prompt::Error),
}

/// The result of this module.
pub type Result<T, E = Error> = std::result::Result<T, E>;
