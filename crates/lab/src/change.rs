//! What quantizing and merging share: their error, and the measure of what they did to a model's predictions.

use std::sync::Arc;

use pasture_files::tokenizer::{Specials, Tokenizer};
use pasture_kernels::Pool;
use pasture_model::{LoadOptions, Source, load};
use pasture_tensor::kv::KvFormat;
use pasture_tensor::{Backend, Cpu, Precision};

use crate::evaluate::{Subject, differences, windows};
use crate::receipt::{Divergence, Measures, Perplexity, digest_of};

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

/// A text by which two models are compared.
#[derive(Clone, Debug)]
pub struct Text {
    /// Its name.
    pub name: String,
    /// What it says.
    pub text: String,
    /// Tokens that are scored at most.
    pub tokens_max: usize,
}

/// Tokens of a window.
const WINDOW: usize = 512;

/// A model, loaded to be measured: in f32 throughout, so that a figure is of its weights.
pub fn subject(source: &Source, threads: usize) -> Result<(Subject, Option<Tokenizer>)> {
    let backend: Arc<dyn Backend> = Arc::new(Cpu::new(Arc::new(Pool::new(threads)), Precision::Exact));
    let loaded = load(source, &backend, &LoadOptions::default(), &mut |_, _| {})?;
    let tokenizer = match (source.tensors.gguf(), &source.folder) {
        (Some(metadata), _) => Tokenizer::from_gguf(metadata),
        (None, Some(folder)) => Tokenizer::in_folder(folder),
        (None, None) => Ok(None),
    };
    let tokenizer = tokenizer.map_err(|error| Error::Ask(error.to_string()))?;
    Ok((Subject::new(Arc::new(loaded.decoder), tokenizer.clone(), KvFormat::F32), tokenizer))
}

/// Perplexity of both on the text, and how far the second's predictions are from the first's.
///
/// # Errors
/// When a model has no tokenizer or cannot be run.
pub fn measure(before: &Source, after: &Source, text: &Text, threads: usize) -> Result<(Measures, Measures)> {
    let (parent, tokenizer) = subject(before, threads)?;
    let (model, _) = subject(after, threads)?;
    let tokenizer = tokenizer.ok_or_else(|| Error::Ask("the model came without a tokenizer".to_owned()))?;
    let encoded = tokenizer.encode(&text.text, Specials::AsText).map_err(|error| Error::Ask(error.to_string()))?;
    let ids = &encoded[..encoded.len().min(text.tokens_max)];
    let prefix = tokenizer.bos().or(tokenizer.eos()).unwrap_or(0);
    let window = WINDOW.min(parent.context().saturating_sub(1)).max(2);
    let found = differences(&parent, &model, &windows(ids, prefix, window, window), &mut |_| true)?;
    let perplexity = |logprobs: &[f32]| {
        let (mean, stderr) = mean(logprobs.iter().map(|logprob| -f64::from(*logprob)));
        Perplexity {
            value: mean.exp(),
            stderr: mean.exp() * stderr,
            tokens: logprobs.len() as u64,
            window,
            stride: window,
            text: text.name.clone(),
            digest: digest_of(text.text.as_bytes()),
        }
    };
    let (kl, stderr) = mean(found.kl.iter().map(|kl| f64::from(*kl)));
    let mut sorted = found.kl.clone();
    sorted.sort_by(f32::total_cmp);
    let at = |share: f64| sorted.get((sorted.len() as f64 * share) as usize).or(sorted.last()).copied().unwrap_or(0.0);
    let agree = found.agree.iter().filter(|agree| **agree).count() as f64;
    let divergence = Divergence {
        kl,
        stderr,
        kl_p99: f64::from(at(0.99)),
        kl_max: f64::from(at(1.0)),
        top1: agree / found.agree.len().max(1) as f64,
        tokens: found.kl.len() as u64,
    };
    let before = Measures { perplexity: Some(perplexity(&found.parent)), ..Measures::default() };
    let after =
        Measures { perplexity: Some(perplexity(&found.model)), divergence: Some(divergence), ..Measures::default() };
    Ok((before, after))
}

/// Mean and its standard error.
fn mean(values: impl Iterator<Item = f64> + Clone) -> (f64, f64) {
    let count = values.clone().count().max(1) as f64;
    let mean = values.clone().sum::<f64>() / count;
    let variance = values.map(|value| (value - mean) * (value - mean)).sum::<f64>() / (count - 1.0).max(1.0);
    (mean, (variance / count).sqrt())
}
