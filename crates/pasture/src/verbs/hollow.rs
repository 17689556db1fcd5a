//! Loading without weights: every tensor is found and compared with what the model needs, and nothing of it is kept.

use std::path::Path;
use std::sync::Arc;

use pasture_kernels::Format;
use pasture_model::{Loaded, Source};
use pasture_tensor::{Backend, Layout, Precision, Weight};

use super::model::{Place, file_options, prompt};
use crate::exit::Failure;

/// A backend that keeps no weights: loading onto it compares every tensor with what the model needs, and costs nothing.
struct Hollow;

impl Backend for Hollow {
    fn name(&self) -> &'static str {
        "hollow"
    }

    fn precision(&self) -> Precision {
        Precision::Exact
    }

    fn weight<'a>(&self, format: Format, rows: usize, cols: usize, _: &(dyn Fn(usize) -> &'a [u8] + Sync)) -> Weight {
        Weight::new(format, Layout::Plain, rows, cols, Arc::new([]))
    }
}

/// A decoder without weights, after every tensor was found and its shape compared.
pub fn hollow(source: &Source, strict: bool) -> Result<Loaded, Failure> {
    let backend: Arc<dyn Backend> = Arc::new(Hollow);
    Ok(pasture_model::load(source, &backend, &file_options(strict), &mut |_, _| {})?)
}

/// The same of a mixture, whose experts stay on disk and could be read from there.
pub fn hollow_mixture(source: &Source) -> Result<Loaded, pasture_model::Error> {
    let backend: Arc<dyn Backend> = Arc::new(Hollow);
    let options = pasture_model::LoadOptions { expert_cache: Some(u64::MAX), ..pasture_model::LoadOptions::default() };
    pasture_model::load(source, &backend, &options, &mut |_, _| {})
}

/// Says what a model's files hold, or what is wrong with them.
pub fn check(path: &Path, strict: bool) -> Result<String, Failure> {
    let source = Source::open(path)?;
    let loaded = hollow(&source, strict)?;
    let text = if prompt(&Place::At(path.to_owned()))?.tokenizer().is_some() { "" } else { ", without a tokenizer" };
    let unknown: Vec<String> = loaded.report.unknown.iter().map(|key| format!("{key:?}")).collect();
    let unknown = if unknown.is_empty() { String::new() } else { format!("; unknown keys: {}", unknown.join(", ")) };
    Ok(format!("{}, {} tensors{text}{unknown}", loaded.family.name, source.tensors.len()))
}
