//! What quantizing and merging share: their error, and how a model is loaded to be measured.

use std::sync::Arc;

use pasture_files::tokenizer::Tokenizer;
use pasture_kernels::Pool;
use pasture_model::{LoadOptions, Source, load};
use pasture_tensor::kv::KvFormat;
use pasture_tensor::{Backend, Cpu, Precision};

use crate::evaluate::Subject;

/// Why a model cannot be changed so.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A model cannot be read, or its container cannot hold the result.
    #[error(transparent)]
    Model(#[from] pasture_model::Error),
    /// A file cannot be read or written.
    #[error(transparent)]
    File(#[from] pasture_files::Error),
    /// A measure cannot be taken.
    #[error(transparent)]
    Evaluate(#[from] crate::evaluate::Error),
    /// The smallest formats take more bits than are asked for.
    #[error("{wanted} bits for each weight cannot be reached; the least is {least:.2}")]
    Bits {
        /// What is asked for.
        wanted: f64,
        /// What can be had.
        least: f64,
    },
    /// What is asked for does not exist or fit.
    #[error("{0}")]
    Ask(String),
}

/// The result of whatever can fail here.
pub type Result<T> = std::result::Result<T, Error>;

/// A checkpoint's tokenizer; none where it came without one.
pub(crate) fn tokenizer(source: &Source) -> Result<Option<Tokenizer>> {
    let found = match (source.tensors.gguf(), &source.folder) {
        (Some(metadata), _) => Tokenizer::from_gguf(metadata),
        (None, Some(folder)) => Tokenizer::in_folder(folder),
        (None, None) => Ok(None),
    };
    found.map_err(|error| Error::Ask(error.to_string()))
}

/// A model, loaded to be measured: in f32 throughout where the figure is of its weights, or as answers are computed.
pub(crate) fn subject(source: &Source, precision: Precision, threads: usize) -> Result<Subject> {
    let backend: Arc<dyn Backend> = Arc::new(Cpu::new(Arc::new(Pool::new(threads)), precision));
    let loaded = load(source, &backend, &LoadOptions::default(), &mut |_, _| {})?;
    let kv = if precision == Precision::Fast { KvFormat::F16 } else { KvFormat::F32 };
    Ok(Subject::new(Arc::new(loaded.decoder), tokenizer(source)?, kv))
}
