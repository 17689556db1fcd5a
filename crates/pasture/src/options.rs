//! How a model is loaded, and the processor that several models share.

use std::sync::Arc;

use pasture_engine::{Speculation, Turns};
use pasture_kernels::Pool;
use pasture_tensor::Precision;
use pasture_tensor::kv::KvFormat;

use crate::draft::Draft;

/// A processor that several models share: its threads, and the order in which the models take their steps.
#[derive(Clone)]
pub struct Device {
    pool: Arc<Pool>,
    turns: Turns,
}

impl Device {
    /// So many threads; as many as the machine has processors where absent.
    pub fn new(threads: Option<usize>) -> Device {
        let threads = threads.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from));
        Device { pool: Arc::new(Pool::new(threads)), turns: Turns::default() }
    }

    pub(crate) fn pool(&self) -> &Arc<Pool> {
        &self.pool
    }

    pub(crate) fn turns(&self) -> &Turns {
        &self.turns
    }
}

impl std::fmt::Debug for Device {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Device of {} threads", self.pool.threads())
    }
}

/// What loading does with a file of the model's packed weights, from which it starts faster (`prepare`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Prepare {
    /// Uses one that is there and of this very model; writes none.
    #[default]
    Use,
    /// Writes one where there is none, and uses it.
    Auto,
    /// Packs the weights into memory.
    Off,
}

/// How to load a model.
///
/// ```
/// # fn main() -> pasture::Result<()> {
/// # let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../../starter/starter.gguf");
/// use pasture::{LoadOptions, Model};
///
/// let options = LoadOptions { threads: Some(1), context: Some(128), ..LoadOptions::default() };
/// let model = Model::open_with(file, &options)?;
/// assert_eq!(model.engine().context(), 128);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct LoadOptions {
    /// Threads that compute; as many as the machine has processors where absent.
    pub threads: Option<usize>,
    /// With which numbers products are computed.
    pub precision: Precision,
    /// Positions that a sequence may have; the model's own number where absent.
    pub context: Option<usize>,
    /// How keys and values are stored; where absent in f16, and in f32 if the precision is exact.
    pub kv: Option<KvFormat>,
    /// The largest part of a prompt that runs at once. The answers do not depend on it.
    pub chunk: Option<usize>,
    /// Answers that are made at once, 64 where absent; others wait.
    pub running: Option<usize>,
    /// Bytes that keys and values of all answers may take; where absent as many as four full contexts need.
    pub kv_bytes: Option<u64>,
    /// The same in pages of tokens, however long the context is.
    pub pages: Option<usize>,
    /// Pages at most that are kept for prompts to come while no answer needs them; the engine's own number where absent.
    pub cached: Option<usize>,
    /// Whether tokens are proposed before they are chosen. The answers do not depend on it.
    pub speculation: Speculation,
    /// A smaller model with the same tokenizer that proposes tokens, unless nothing is proposed.
    pub draft: Option<Draft>,
    /// The processor, where several models share it; `threads` is its number then.
    pub device: Option<Device>,
    /// Whether packed weights come out of a file.
    pub prepare: Prepare,
    /// What to do with keys of the configuration that nobody knows, and the like.
    pub files: pasture_model::LoadOptions,
}

impl Default for LoadOptions {
    fn default() -> Self {
        let files = pasture_model::LoadOptions::default();
        LoadOptions {
            threads: None,
            precision: Precision::Fast,
            context: None,
            kv: None,
            chunk: None,
            running: None,
            kv_bytes: None,
            pages: None,
            cached: None,
            speculation: Speculation::default(),
            draft: None,
            device: None,
            prepare: Prepare::default(),
            files,
        }
    }
}
