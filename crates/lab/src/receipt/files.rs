//! Measuring what a change did, from the files of before and after: quality in f32, so that a figure is of the weights;
//! speed with the numbers that answers are computed with.

use std::path::Path;
use std::sync::Arc;

use pasture_kernels::Kernels;
use pasture_model::{Need, Running, Source, adapter_bytes, load_adapter, survey};
use pasture_tensor::Precision;
use pasture_tensor::kv::KvFormat;

use super::measure::LEVEL_NONE;
use super::{Level, Measured, Memory, Plan, Side, Text, measure, speed};
use crate::change::{Result, subject};
use crate::evaluate::Subject;

/// Tokens that run at once while a model is measured.
const WINDOW: usize = 512;

/// What is to be measured of a change.
#[derive(Clone, Debug)]
pub struct Asked {
    /// How much.
    pub level: Level,
    /// The text; the built-in one where absent.
    pub text: Option<Text>,
    /// Tokens of it that are scored at most; all where absent.
    pub tokens_max: Option<usize>,
    /// Threads.
    pub threads: usize,
}

/// What a change made of a model.
#[derive(Clone, Copy)]
pub enum Made<'a> {
    /// Another checkpoint.
    Model(&'a Source),
    /// An adapter's folder, to stand beside the model.
    Adapter(&'a Path),
}

/// Measures a change: perplexity before and after, divergence, speed before and after. Nothing is loaded that would not
/// fit into the memory that is free; it is named as not measured. `watch` is told what is measured, how much is done, and
/// how much there is.
///
/// # Errors
/// When a model cannot be loaded or run.
pub fn measure_files(
    before: &Source,
    after: Made<'_>,
    asked: &Asked,
    watch: &mut dyn FnMut(&str, usize, usize),
) -> Result<Measured> {
    let (of_before, of_after) = (Sizes::of(before, asked.threads)?, after.sizes(before, asked.threads)?);
    let mut measured = measure_quality(before, after, asked, watch)?;
    (measured.before.bytes, measured.after.bytes) = (Some(of_before.bytes), Some(of_after.bytes));
    let mut base = None;
    for (at, needed) in [of_before.needed, of_after.needed].into_iter().enumerate() {
        watch("speed", at, 2);
        if let Some(reason) = obstacle(asked.level, needed) {
            measured.leave(if at == 0 { "speed before" } else { "speed" }, reason);
            continue;
        }
        let found = match (at, after, base.take()) {
            (0, ..) => subject(before, Precision::Fast, asked.threads)?,
            (_, _, base) => after.loaded(before, base, Precision::Fast, asked.threads)?,
        };
        speed(&found, if at == 0 { &mut measured.before } else { &mut measured.after })?;
        base = Some(found).filter(|_| matches!(after, Made::Adapter(_)));
    }
    watch("speed", 2, 2);
    Ok(measured)
}

/// Perplexity before and after, and divergence: [`measure_files`] without speed.
///
/// # Errors
/// As [`measure_files`].
pub fn measure_quality(
    before: &Source,
    after: Made<'_>,
    asked: &Asked,
    watch: &mut dyn FnMut(&str, usize, usize),
) -> Result<Measured> {
    let mut measured = Measured { level: asked.level, ..Measured::default() };
    let mut needed = Sizes::of(before, asked.threads)?.needed;
    if let Made::Model(source) = after {
        needed = needed.saturating_add(Sizes::of(source, asked.threads)?.needed);
    }
    if let Some(reason) = obstacle(asked.level, needed) {
        ["perplexity", "divergence"].into_iter().for_each(|what| measured.leave(what, reason.clone()));
        return Ok(measured);
    }
    let side = |subject: Subject| Side { subject, bytes: None };
    let base = subject(before, Precision::Exact, asked.threads)?;
    let made = after.loaded(before, Some(base.clone()), Precision::Exact, asked.threads)?;
    let plan = Plan { level: asked.level, text: asked.text.as_ref(), tokens_max: asked.tokens_max, tasks: &[] };
    Ok(measure(Some(&side(base)), &side(made), &plan, watch)?)
}

impl Made<'_> {
    /// What was made, loaded. An adapter stands beside `base`, which is loaded anew where it is absent.
    fn loaded(self, before: &Source, base: Option<Subject>, precision: Precision, threads: usize) -> Result<Subject> {
        match self {
            Made::Model(source) => subject(source, precision, threads),
            Made::Adapter(folder) => {
                let base = base.map_or_else(|| subject(before, precision, threads), Ok)?;
                let adapter = load_adapter(folder, base.decoder())?;
                Ok(base.with_adapter(Arc::new(adapter)))
            }
        }
    }

    /// What it takes; an adapter takes what its model takes, and its own numbers.
    fn sizes(self, before: &Source, threads: usize) -> Result<Sizes> {
        match self {
            Made::Model(source) => Sizes::of(source, threads),
            Made::Adapter(folder) => {
                let (base, own) = (Sizes::of(before, threads)?, adapter_bytes(folder)?);
                Ok(Sizes { bytes: base.bytes + own, needed: base.needed.saturating_add(own) })
            }
        }
    }
}

/// What a checkpoint takes.
struct Sizes {
    /// Bytes of its tensors.
    bytes: u64,
    /// Bytes of memory while it is measured.
    needed: u64,
}

impl Sizes {
    fn of(source: &Source, threads: usize) -> Result<Sizes> {
        let found = survey(source)?;
        let running = Running {
            kernels: Kernels::get(),
            threads,
            context: WINDOW.min(found.spec.context.max(1)),
            sequences: 1,
            chunk: WINDOW,
            kv: KvFormat::F32,
        };
        let tensors = &source.tensors;
        Ok(Sizes {
            bytes: tensors.names().filter_map(|name| tensors.byte_count(name)).sum(),
            needed: Need::of(&found.spec, &found.slots, &|slot| slot.format, &running).most(),
        })
    }
}

/// Why so many bytes are not loaded to measure with.
fn obstacle(level: Level, needed: u64) -> Option<String> {
    if level == Level::None {
        return Some(LEVEL_NONE.to_owned());
    }
    let free = Memory::Free.bytes().filter(|free| *free < needed)?;
    Some(format!("it needs {} MiB of memory, and {} MiB are free", needed >> 20, free >> 20))
}
