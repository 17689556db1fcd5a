//! Why a request is refused or ends early. Errors are cheap to clone: one failed step ends several answers.

use std::sync::Arc;

use crate::sampling::SamplingError;

/// Why a request is refused, or an answer ends early.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The prompt and its answer are longer than the context. Nothing is cut in silence.
    #[error(
        "the context is full: {prompt} tokens of prompt and {new} new ones are more than its {limit}; shorten the prompt or ask for a longer context"
    )]
    ContextFull {
        /// Tokens of the prompt.
        prompt: usize,
        /// New tokens that were asked for, at least one.
        new: usize,
        /// Tokens that the context holds.
        limit: usize,
    },
    /// The memory set aside for keys and values can never hold the request.
    #[error(
        "the request needs {needed} pages of keys and values, but {pages} are set aside; allow more pages or ask for fewer tokens"
    )]
    Pages {
        /// Pages of the longest answer.
        needed: usize,
        /// Pages that there are.
        pages: usize,
    },
    /// A prompt without tokens.
    #[error("the prompt has no tokens; give at least one")]
    EmptyPrompt,
    /// A number that must be at least one.
    #[error("{name} is 0, but it must be at least 1")]
    Zero {
        /// The setting.
        name: &'static str,
    },
    /// A token that is not in the vocabulary.
    #[error("token id {id} is past the vocabulary of {vocab}")]
    Token {
        /// The id.
        id: u32,
        /// Entries of the vocabulary.
        vocab: usize,
    },
    /// Text is needed and the model came without a tokenizer.
    #[error("{what} needs a tokenizer, and this model came without one")]
    NoTokenizer {
        /// What was asked for.
        what: &'static str,
    },
    /// A setting of sampling, or logits that cannot be sampled.
    #[error(transparent)]
    Sampling(#[from] SamplingError),
    /// The forward failed.
    #[error(transparent)]
    Model(Arc<pasture_model::Error>),
    /// A bug: the compute thread panicked. It goes on with the next request.
    #[error("the computation broke off: {message}; this is a bug in Pasture, please report it")]
    Panic {
        /// What the panic said.
        message: String,
    },
    /// The system gives no thread to compute on.
    #[error("cannot start the engine's thread: {message}")]
    Thread {
        /// What the system said.
        message: String,
    },
    /// The compute thread is gone.
    #[error("the engine has stopped")]
    Stopped,
}

impl From<pasture_model::Error> for Error {
    fn from(error: pasture_model::Error) -> Error {
        Error::Model(Arc::new(error))
    }
}

/// The result of whatever can fail here.
pub type Result<T> = std::result::Result<T, Error>;
