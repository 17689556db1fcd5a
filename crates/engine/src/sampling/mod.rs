//! Choosing a token from a row of logits: settings, steps, random numbers, log-probabilities, stop strings.
//! Pure: no I/O, no clock, no tokenizer. Where the logits come from is the model's matter.

pub mod chain;
pub mod logprobs;
pub mod math;
pub mod options;
pub mod random;
pub mod repeats;
pub mod row;
pub mod steps;
pub mod stops;

pub use chain::{Choice, Sampler, Step, StepKind};
pub use options::{FIELDS, Field, Range, SamplingOptions};
pub use stops::{StopMatcher, Stopped};

/// Why no token was chosen, or no sampler made.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum SamplingError {
    /// A value outside its range.
    #[error("{name} is {value}, but it must be {wanted}")]
    Range {
        /// The setting.
        name: &'static str,
        /// Its value, as JSON, shortened.
        value: String,
        /// The range in words.
        wanted: String,
    },
    /// There is no such setting.
    #[error("no sampling setting is called {name:?}; the nearest is {near:?}")]
    UnknownName {
        /// What was asked for.
        name: String,
        /// The nearest name.
        near: &'static str,
    },
    /// A step is asked for but absent from the order.
    #[error("{name} is set but absent from the order in samplers; add it there or remove the setting")]
    NotInOrder {
        /// The step.
        name: &'static str,
    },
    /// A biased token that the vocabulary lacks.
    #[error("logit_bias names token {token}, but the vocabulary ends at {}", vocabulary.saturating_sub(1))]
    BiasOutside {
        /// The token.
        token: u32,
        /// Tokens in the vocabulary.
        vocabulary: usize,
    },
    /// The model computed something that is no number.
    #[error("logits are not finite: token {token} has {value}; the weights are damaged or an activation overflowed")]
    NotFinite {
        /// The first such token.
        token: usize,
        /// Its logit.
        value: f32,
    },
    /// Bans and biases leave nothing to choose from.
    #[error("no token is left to choose from; no_repeat_ngram_size, logit_bias or the grammar forbids all of them")]
    NothingLeft,
    /// A grammar that cannot go on.
    #[error("the answer's grammar cannot go on: {0}")]
    Grammar(String),
    /// Stop strings that cannot be matched.
    #[error("{0}")]
    Stops(String),
}
