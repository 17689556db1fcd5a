//! The library's error: what the floors below say, and what only a conversation can get wrong.

/// Why something did not work.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The prompt and its answer do not fit into the context. Nothing is cut in silence.
    #[error(
        "the context is full: {prompt} tokens of prompt and {new} new ones are more than its {limit}; shorten the text, ask for fewer new tokens or load the model with a longer context"
    )]
    ContextFull {
        /// Tokens of the conversation.
        prompt: usize,
        /// New tokens that were asked for, at least one.
        new: usize,
        /// Tokens that the context holds.
        limit: usize,
    },
    /// The answer filled the context before it came to its end.
    #[error(
        "the answer is cut: {prompt} tokens of conversation and {new} new ones fill the context of {limit}; drop old messages or load the model with a longer context"
    )]
    AnswerCut {
        /// Tokens of the conversation.
        prompt: usize,
        /// Tokens of the answer.
        new: usize,
        /// Tokens that the context holds.
        limit: usize,
    },
    /// Text is asked of a model that came without a tokenizer.
    #[error("{name:?} came without a tokenizer, so it takes and gives token ids only")]
    NoTokenizer {
        /// The model.
        name: String,
    },
    /// An assistant's part is not the one that it was made of.
    #[error("the assistant {name:?} was made of other files: {what}; `pasture create {name} --replace` makes it anew")]
    Changed {
        /// The assistant.
        name: String,
        /// What differs.
        what: String,
    },
    /// A model of which no packed weights can be kept in a file.
    #[error("{name:?} cannot be prepared: it is no file or folder of this machine")]
    Unprepared {
        /// The model.
        name: String,
    },
    /// A draft whose tokens are not the model's.
    #[error("{draft:?} cannot propose tokens for {name:?}: {what}; a draft needs the same tokenizer")]
    Draft {
        /// The draft.
        draft: String,
        /// The model.
        name: String,
        /// How they differ.
        what: String,
    },
    /// A message of a role that no template knows.
    #[error("{role:?} is no role; known are system, developer, user, assistant and tool")]
    Role {
        /// The role.
        role: String,
    },
    /// There is no chat template, or it refuses the conversation.
    #[error(transparent)]
    Prompt(#[from] pasture_files::prompt::Error),
    /// The tokenizer is broken, or refuses a text.
    #[error(transparent)]
    Tokenizer(#[from] pasture_files::tokenizer::Error),
    /// There is no model of that name.
    #[error(transparent)]
    Store(#[from] pasture_store::Error),
    /// Nothing says how the rows of a text become one vector.
    #[error(
        "nothing in the files of {name:?} says how the rows of a text become one vector; choose a pooling: cls, mean or last"
    )]
    NoPooling {
        /// The model.
        name: String,
    },
    /// The model's files have no prompt of that name.
    #[error("{name:?} has no prompt {prompt:?}; it has {known}")]
    NoPrompt {
        /// The model.
        name: String,
        /// The prompt that was asked for.
        prompt: String,
        /// The prompts that there are, in words.
        known: String,
    },
    /// A text that is longer than the model takes. Nothing is cut in silence.
    #[error("text {text} has {tokens} tokens, but this model takes {limit}; shorten it, or ask for it to be truncated")]
    TextTooLong {
        /// Which of the texts, counted from 1.
        text: usize,
        /// Its tokens.
        tokens: usize,
        /// Tokens that a text may have.
        limit: usize,
    },
    /// A text without tokens has no vector.
    #[error("text {text} has no tokens, so there is nothing to embed")]
    EmptyText {
        /// Which of the texts, counted from 1.
        text: usize,
    },
    /// The files that say how to embed are wrong, or ask for something that is not known here.
    #[error("{0}")]
    Embedding(String),
    /// There is no question to answer again.
    #[error("there is no question to answer yet")]
    NoQuestion,
    /// The engine refuses a request, or an answer broke off.
    #[error(transparent)]
    Engine(pasture_engine::Error),
    /// The data cannot be learned from.
    #[error(transparent)]
    Data(#[from] pasture_lab::data::Error),
    /// Tuning did not begin, or did not go on.
    #[error(transparent)]
    Tune(#[from] pasture_lab::tune::Error),
    /// The model cannot be loaded or run.
    #[error(transparent)]
    Model(#[from] pasture_model::Error),
    /// A model cannot be changed so.
    #[error("{0}")]
    Change(String),
    /// A changed model cannot be made or measured.
    #[error(transparent)]
    Make(#[from] pasture_lab::change::Error),
    /// The model cannot be measured.
    #[error(transparent)]
    Evaluate(#[from] pasture_lab::evaluate::Error),
    /// A file cannot be read.
    #[error(transparent)]
    File(#[from] pasture_files::Error),
}

impl From<pasture_engine::Error> for Error {
    fn from(error: pasture_engine::Error) -> Error {
        match error {
            pasture_engine::Error::ContextFull { prompt, new, limit } => Error::ContextFull { prompt, new, limit },
            error => Error::Engine(error),
        }
    }
}

/// The result of whatever can fail here.
pub type Result<T> = std::result::Result<T, Error>;
