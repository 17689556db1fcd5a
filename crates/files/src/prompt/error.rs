//! What can be wrong with a prompt's files or with a conversation, in words.
#![forbid(unsafe_code)]

use super::template::TemplateError;

/// Why a prompt cannot be opened, or a conversation cannot be rendered.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file could not be read, or its content is invalid.
    #[error(transparent)]
    File(#[from] crate::Error),
    /// The tokenizer could not be read, or a text could not be encoded.
    #[error(transparent)]
    Tokenizer(#[from] crate::tokenizer::Error),
    /// The chat template cannot be compiled.
    #[error("{file}: {source}")]
    Source {
        /// Where the template stands.
        file: String,
        /// What is wrong with it.
        source: TemplateError,
    },
    /// The chat template failed on this conversation.
    #[error("the conversation cannot be rendered: {0}")]
    Render(TemplateError),
    /// The chat template refuses this conversation through its own words.
    #[error("the chat template refuses this conversation: {message}{hint}")]
    Refused {
        /// The template's words.
        message: String,
        /// What to do, where that is known.
        hint: &'static str,
    },
    /// Something in the conversation would have no effect with this template.
    #[error("the chat template has no place for {what}; {hint}")]
    Ignored {
        /// What would be lost.
        what: String,
        /// What to do.
        hint: &'static str,
    },
    /// A message is not of a known shape.
    #[error("message {number}: {what}")]
    Message {
        /// The message, from 1.
        number: usize,
        /// What was found and what is expected.
        what: String,
    },
    /// The conversation as a whole is not of a known shape.
    #[error("{0}")]
    Conversation(String),
    /// There is no chat template.
    #[error("this model has no chat template; use it for completion, or name a template")]
    NoTemplate,
    /// There is no tokenizer.
    #[error("this model has no tokenizer that is read here; without one there are no tokens")]
    NoTokenizer,
}

/// The result of this module.
pub type Result<T, E = Error> = std::result::Result<T, E>;
