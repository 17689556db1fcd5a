//! What can be wrong with a model's files, and what a forward refuses.

use std::path::PathBuf;

/// Why a model cannot be loaded or run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file cannot be read, or is not what it says.
    #[error(transparent)]
    File(#[from] pasture_files::Error),
    /// The folder has no such file.
    #[error("{folder:?} has no {wanted}")]
    Missing {
        /// Where it was looked for.
        folder: PathBuf,
        /// What was looked for.
        wanted: String,
    },
    /// An architecture without a page.
    #[error("architecture {name:?} in {file:?} is not known; known are {known}")]
    Architecture {
        /// The name in the file.
        name: String,
        /// The file.
        file: PathBuf,
        /// All names that have a page.
        known: String,
    },
    /// A key with a value that the model cannot have.
    #[error("{key:?} in {file:?} {what}")]
    Key {
        /// The key's path.
        key: String,
        /// The file.
        file: PathBuf,
        /// What is wrong with it, as the end of the sentence.
        what: String,
    },
    /// A tensor that the model needs is not there.
    #[error("tensor {name:?} is not in {file:?}, but this model needs it as {wanted}")]
    NoTensor {
        /// The tensor's name.
        name: String,
        /// Where it was looked for.
        file: PathBuf,
        /// The needed shape.
        wanted: String,
    },
    /// A tensor that nothing uses.
    #[error("tensor {name:?} in {file:?} has no place in this model: the file and its config do not belong together")]
    ExtraTensor {
        /// The tensor's name.
        name: String,
        /// The file.
        file: PathBuf,
    },
    /// A head that differs from the embedding to which the configuration ties it.
    #[error(
        "tensor {name:?} in {file:?} is not the same as {embed:?}, but the configuration ties the head to it: \"tie_word_embeddings\" should be false"
    )]
    Untied {
        /// The head's name.
        name: String,
        /// The embedding's name.
        embed: String,
        /// The file.
        file: PathBuf,
    },
    /// A tensor of another shape.
    #[error("tensor {name:?} in {file:?} is {found} but this model needs {wanted}")]
    Shape {
        /// The tensor's name.
        name: String,
        /// The file.
        file: PathBuf,
        /// Its shape.
        found: String,
        /// The needed shape.
        wanted: String,
    },
    /// A tensor whose numbers cannot be computed with.
    #[error("tensor {name:?} in {file:?} is stored as {found}, which this model cannot compute with")]
    Dtype {
        /// The tensor's name.
        name: String,
        /// The file.
        file: PathBuf,
        /// Its number type.
        found: String,
    },
    /// A tensor of a quantized folder that cannot be read so.
    #[error("tensor {name:?} in {file:?} {what}")]
    Quantized {
        /// The tensor's name.
        name: String,
        /// The file.
        file: PathBuf,
        /// What is wrong with it, as the end of the sentence.
        what: String,
    },
    /// A file of packed weights that is not this model's as it is now.
    #[error("the file of packed weights is not this model's: {what}")]
    Unprepared {
        /// What differs.
        what: String,
    },
    /// Experts that cannot stay on disk.
    #[error("experts cannot stay on disk: {what}")]
    ExpertCache {
        /// Why.
        what: String,
    },
    /// Memory for an expert cannot be had.
    #[error("no memory for an expert of {bytes} bytes; ask for a smaller expert cache")]
    ExpertMemory {
        /// Bytes asked for.
        bytes: u64,
    },
    /// An adapter that does not fit.
    #[error("adapter {file:?} {what}")]
    Adapter {
        /// The adapter's file.
        file: PathBuf,
        /// What is wrong with it, as the end of the sentence.
        what: String,
    },
    /// A token that is not in the vocabulary.
    #[error("token id {id} is past the vocabulary of {vocab}")]
    Token {
        /// The id.
        id: u32,
        /// Entries of the vocabulary.
        vocab: usize,
    },
    /// More positions than the model has.
    #[error("{wanted} positions are more than the {limit} that this model was made for")]
    Context {
        /// Positions asked for.
        wanted: usize,
        /// Positions that there are.
        limit: usize,
    },
    /// Heads that are not whole blocks of the format in which keys and values are to be kept.
    #[error(
        "keys and values cannot be kept in {format}: its blocks have {block} values, and a head of this model has {head_dim}; {choices} have no blocks"
    )]
    KvBlocks {
        /// The format.
        format: &'static str,
        /// Values in a block.
        block: usize,
        /// Values of a head.
        head_dim: usize,
        /// Formats that fit any head.
        choices: String,
    },
    /// Memory for keys and values cannot be had.
    #[error("no memory for the keys and values of {pages} more pages; ask for a shorter context")]
    Memory {
        /// Pages asked for.
        pages: usize,
    },
    /// What a container has no way to say.
    #[error("{container} cannot express {what}")]
    CannotExpress {
        /// The container, or the architecture in it.
        container: String,
        /// What would be lost.
        what: String,
    },
    /// The model has no output head.
    #[error("this model is an encoder: it has no output head")]
    NoHead,
}

/// The result of whatever can fail here.
pub type Result<T> = std::result::Result<T, Error>;
