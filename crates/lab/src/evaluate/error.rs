//! What can go wrong when a model is measured: which task, which line of which file, and what to do.

/// Why a model cannot be measured.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A row of a task's file.
    #[error("{file:?}, line {line}: {what}")]
    Row {
        /// Name of the file, without its folder.
        file: String,
        /// The line at which the row begins, from 1.
        line: usize,
        /// What was found and what is expected.
        what: String,
    },
    /// A task as a whole.
    #[error("task {task:?}: {what}")]
    Task {
        /// The task.
        task: String,
        /// What is wrong, and what to do.
        what: String,
    },
    /// Two models that cannot be compared.
    #[error("the models cannot be compared: {what}")]
    Unlike {
        /// In what they differ.
        what: String,
    },
    /// Text is measured and the model came without a tokenizer.
    #[error("the model came without a tokenizer, so it cannot be measured on text")]
    NoTokenizer,
    /// The forward failed.
    #[error(transparent)]
    Model(#[from] pasture_model::Error),
    /// A file cannot be read.
    #[error(transparent)]
    File(#[from] pasture_files::Error),
    /// A file of rows cannot be read.
    #[error(transparent)]
    Data(#[from] pasture_files::data::Error),
    /// The tokenizer refuses a text.
    #[error(transparent)]
    Tokenizer(#[from] pasture_files::tokenizer::Error),
    /// An answer cannot be generated.
    #[error(transparent)]
    Engine(#[from] pasture_engine::Error),
}

/// The result of measuring.
pub type Result<T, E = Error> = std::result::Result<T, E>;
