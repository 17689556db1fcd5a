//! A model as the server sees it: an engine, a prompt object, and what the program above lends it for work that the
//! engine's thread does not do.

use std::sync::Arc;

use pasture_engine::Engine;
pub use pasture_engine::Scored;
use pasture_engine::sampling::SamplingOptions;
use pasture_files::prompt::Prompt;

/// A model that is served.
#[derive(Clone)]
pub struct Served {
    /// The name that requests have in `model`. No path.
    pub name: String,
    /// What answers.
    pub engine: Engine,
    /// Template, tokenizer, stop rules.
    pub prompt: Prompt,
    /// The settings of sampling in the model's own files.
    pub defaults: SamplingOptions,
    /// The name of its family.
    pub family: &'static str,
    /// Embedding and scoring.
    pub work: Arc<dyn Work>,
}

/// Texts to embed.
pub enum Texts {
    /// Texts, which get the model's own prompt and special tokens.
    Plain(Vec<String>),
    /// Token ids, taken as they are.
    Ids(Vec<Vec<u32>>),
}

/// What became of them.
pub struct Vectors {
    /// One for each text.
    pub vectors: Vec<Vec<f32>>,
    /// Tokens of all texts together, as they were run.
    pub tokens: usize,
}

/// Why work is not done.
#[derive(Debug)]
pub enum Failed {
    /// It cannot be done as asked; the message says what to do.
    Asked(String),
    /// Something is wrong here; the message is for the log.
    Here(String),
}

/// Work beside the engine's thread. Blocking; called on threads that may wait.
pub trait Work: Send + Sync {
    /// Vectors of texts. `truncate` cuts texts that are too long; `normalize` goes before what the model's files say.
    ///
    /// # Errors
    /// When the model cannot embed, or a text is empty or too long.
    fn embed(&self, texts: Texts, truncate: bool, normalize: Option<bool>) -> Result<Vectors, Failed>;

    /// For each of `ids` but the first its log-probability, and the `top` most probable tokens at its place.
    ///
    /// # Errors
    /// When the ids cannot be run.
    fn score(&self, ids: &[u32], top: usize) -> Result<Vec<Scored>, Failed>;
}
