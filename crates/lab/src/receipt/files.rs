//! Measuring what a change did, from the files of before and after: quality in f32, so that a figure is of the weights;
//! speed with the numbers that answers are computed with.

use std::path::Path;
use std::sync::Arc;

use pasture_kernels::Kernels;
use pasture_model::{Need, Running, Source, load_adapter, survey};

use pasture_tensor::Precision;
use pasture_tensor::kv::KvFormat;

use super::measure::LEVEL_NONE;
use super::{Level, Measured, Measures, Memory, Plan, Side, measure, speed};
use crate::change::{Result, subject};

/// Tokens that run at once while a model is measured.
const WINDOW: usize = 512;

/// A text by which two models are compared.
#[derive(Clone, Debug)]
pub struct Text {
    /// Its name.
    pub name: String,
    /// What it says.
    pub text: String,
}

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

/// Measures a change: perplexity before and after, divergence, speed before and after. Nothing is loaded that would not
/// fit into the memory that is free; it is named as not measured. `watch` is told what is measured, how much is done, and
/// how much there is.
///
/// # Errors
/// When a model cannot be loaded or run.
pub fn measure_files(
    before: &Source,
    after: &Source,
    asked: &Asked,
    watch: &mut dyn FnMut(&str, usize, usize),
) -> Result<Measured> {
    let (of_before, of_after) = (Sizes::of(before, asked.threads)?, Sizes::of(after, asked.threads)?);
    let mut measured = measure_quality(before, after, asked, watch)?;
    (measured.before.bytes, measured.after.bytes) = (Some(of_before.bytes), Some(of_after.bytes));
    for (at, (source, sizes)) in [(before, &of_before), (after, &of_after)].into_iter().enumerate() {
        watch("speed", at, 2);
        let what = if at == 0 { "speed before" } else { "speed" };
        if let Some(reason) = obstacle(asked.level, sizes.needed) {
            measured.leave(what, reason);
            continue;
        }
        let found = subject(source, Precision::Fast, asked.threads)?;
        speed(&found, if at == 0 { &mut measured.before } else { &mut measured.after })?;
    }
    watch("speed", 2, 2);
    Ok(measured)
}

/// How fast a base answers, and how fast what was made of it does: another checkpoint, or an adapter's folder beside it.
///
/// # Errors
/// When a model cannot be loaded or run.
pub fn measure_speed(before: &Source, result: &Path, is_adapter: bool, asked: &Asked) -> Result<Measured> {
    let mut measured = Measured { level: asked.level, ..Measured::default() };
    let other = if is_adapter { None } else { Some(Source::open(result)?) };
    let sides = [Some(before), other.as_ref()].into_iter().flatten().map(|source| Sizes::of(source, asked.threads));
    let needed = sides.map(|sizes| sizes.map(|sizes| sizes.needed)).collect::<Result<Vec<_>>>()?;
    if let Some(reason) = obstacle(asked.level, needed.into_iter().max().unwrap_or(0)) {
        measured.leave("speed", reason);
        return Ok(measured);
    }
    let base = subject(before, Precision::Fast, asked.threads)?;
    speed(&base, &mut measured.before)?;
    let made = match other {
        None => {
            let adapter = Arc::new(load_adapter(result, base.decoder())?);
            base.with_adapter(adapter)
        }
        Some(other) => {
            drop(base);
            subject(&other, Precision::Fast, asked.threads)?
        }
    };
    speed(&made, &mut measured.after)?;
    Ok(measured)
}

/// Perplexity before and after, and divergence: [`measure_files`] without speed.
///
/// # Errors
/// As [`measure_files`].
pub fn measure_quality(
    before: &Source,
    after: &Source,
    asked: &Asked,
    watch: &mut dyn FnMut(&str, usize, usize),
) -> Result<Measured> {
    let mut measured = Measured { level: asked.level, ..Measured::default() };
    let sizes = [Sizes::of(before, asked.threads)?, Sizes::of(after, asked.threads)?];
    if let Some(reason) = obstacle(asked.level, sizes[0].needed.saturating_add(sizes[1].needed)) {
        ["perplexity", "divergence"].into_iter().for_each(|what| measured.leave(what, reason.clone()));
        return Ok(measured);
    }
    let side = |source: &Source| -> Result<Side> {
        Ok(Side { subject: subject(source, Precision::Exact, asked.threads)?, bytes: None })
    };
    let text = asked.text.as_ref();
    let plan = Plan {
        level: asked.level,
        text: text.map(|text| (text.name.as_str(), text.text.as_str())),
        tokens_max: asked.tokens_max,
        tasks: &[],
    };
    Ok(measure(Some(&side(before)?), &side(after)?, &plan, watch)?)
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

impl Measures {
    /// These figures, with the speed of others.
    #[must_use]
    pub fn with_speed_of(mut self, other: &Measures) -> Measures {
        self.prompt_tokens_per_second = other.prompt_tokens_per_second;
        self.new_tokens_per_second = other.new_tokens_per_second;
        self
    }
}
