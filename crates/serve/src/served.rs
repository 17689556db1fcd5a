//! A model as the server sees it: an engine, a prompt object, and what the program above lends it for work that the
//! engine's thread does not do.

use std::sync::Arc;

pub use pasture_engine::Scored;
use pasture_engine::sampling::SamplingOptions;
use pasture_engine::{Adapter, Engine};
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
    /// What its answers take beside the weights.
    pub adapter: Option<Arc<Adapter>>,
    /// Bytes that it takes at most: weights, keys and values.
    pub bytes: u64,
}

/// Loads models that a request names, and adapters. Blocking; called on threads that may wait.
pub trait Loader: Send + Sync {
    /// The names of models that are on this machine. No paths, and nothing is downloaded.
    fn names(&self) -> Vec<String>;

    /// Bytes that a model will take.
    ///
    /// # Errors
    /// When there is no such model.
    fn bytes(&self, name: &str) -> Result<u64, Failed>;

    /// Loads a model. Only names that [`Loader::names`] gave are asked for.
    ///
    /// # Errors
    /// When it cannot be loaded.
    fn load(&self, name: &str) -> Result<Served, Failed>;
}

/// Texts to embed.
pub enum Texts {
    /// Texts, which get the model's own prompt and special tokens.
    Plain(Vec<String>),
    /// Texts that ask: the same, with the prompt for questions where the model's files have one.
    Questions(Vec<String>),
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
    fn score(&self, ids: &[u32], adapter: Option<&Arc<Adapter>>, top: usize) -> Result<Vec<Scored>, Failed>;

    /// Reads the adapter of that name from the folder that the program was given for them.
    ///
    /// # Errors
    /// When there is no such folder, no such adapter, or it is one of another model.
    fn adapter(&self, name: &str) -> Result<Arc<Adapter>, Failed> {
        let _ = name;
        Err(Failed::Asked("no folder of adapters was named when the server was started".to_owned()))
    }

    /// The names of the adapters in that folder.
    fn adapters(&self) -> Vec<String> {
        Vec::new()
    }
}
