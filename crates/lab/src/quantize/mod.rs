//! Storing a model's weights in fewer bits: a named mixture, formats for single tensors, importance of inputs, and a
//! size to reach. Formats and their searches are the kernels'; how a file is written is the model crate's.

pub mod calibrate;
pub mod expected;
pub mod importance;
pub mod mixture;
pub mod ocp;
mod products;
pub mod search;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use pasture_files::Dtype;
use pasture_files::gguf::Value;
use pasture_kernels::Format;
use pasture_kernels::formats::Weights;
use pasture_kernels::formats::recode::Window;
use pasture_model::save::{Content, GgufPlan, Own, Progress, Target, plan_gguf};
use pasture_model::spec::{MixerSpec, Spec};
use pasture_model::{Source, Survey, survey};
use serde_json::json;

use crate::change::{Error, Result};
use crate::export::History;
use expected::Expected;
use importance::{Importance, Inputs};
use mixture::{Mixture, Sizes, choose, fitting, needs_importance};

/// How to quantize.
pub struct Options<'a> {
    /// The mixture.
    pub mixture: Mixture,
    /// Formats of tensors whose names match a pattern, `*` for anything; the first that matches counts.
    pub tensors: Vec<(String, Format)>,
    /// Bits for each weight that the file may have on average, in place of the mixture's own choice.
    pub bits: Option<f64>,
    /// How much inputs matter.
    pub importance: Option<&'a Importance>,
    /// Threads.
    pub threads: usize,
    /// Where the result comes from.
    pub history: History,
}

/// What was written.
#[derive(Clone, Debug)]
pub struct Quantized {
    /// The file.
    pub file: PathBuf,
    /// Bytes of its tensors.
    pub bytes: u64,
    /// Bits for each weight.
    pub bits: f64,
    /// Root mean square of the rounding, relative to that of the weights, for each matrix.
    pub errors: BTreeMap<String, f64>,
    /// How many matrices have each format.
    pub formats: BTreeMap<&'static str, usize>,
    /// The matrices whose formats differ from the mixture's, since their rows are no whole blocks.
    pub fallbacks: usize,
}

/// Writes a checkpoint's GGUF file with other numbers.
///
/// # Errors
/// When GGUF cannot say all of the model, a pattern matches nothing, or the size cannot be reached.
pub fn quantize(source: &Source, to: &Path, options: &Options<'_>, progress: Progress<'_>) -> Result<Quantized> {
    let survey = survey(source)?;
    let own = Own { source, survey: &survey };
    quantize_content(source, &survey, &own, to, options, progress)
}

/// The same of numbers that were made from a checkpoint.
///
/// # Errors
/// As [`quantize`].
pub fn quantize_content(
    source: &Source,
    survey: &Survey,
    content: &dyn Content,
    to: &Path,
    options: &Options<'_>,
    progress: Progress<'_>,
) -> Result<Quantized> {
    let mut plan = plan_gguf(source, survey)?;
    let importance = options.importance.is_some();
    let fallbacks = assigned(&mut plan, &survey.spec, options.mixture, &options.tensors, importance)?;
    if let Some(bits) = options.bits {
        reach(&mut plan, content, bits, options)?;
    }
    check_importance(&plan, options.importance)?;
    options.history.set(&mut plan)?;
    plan.set("general.file_type", Value::U32(options.mixture.number))?;
    plan.set("general.quantized_by", Value::text("pasture"))?;
    let mut formats = BTreeMap::new();
    let matrices = plan.targets.iter().filter(|target| !target.is_vector());
    matrices.for_each(|target| *formats.entry(target.format().name()).or_default() += 1);
    let (bytes, values) = (plan.byte_count(), plan.targets.iter().map(values_of).sum::<usize>());
    let errors = Errors::default();
    let expected = Expected::new(content, survey, &plan.targets, options.importance, options.threads);
    let encode = errors.weighted_encoder(options.threads, options.importance, Some(&expected));
    plan.write(to, None, content, &encode, progress)?;
    let bits = bytes as f64 * 8.0 / values.max(1) as f64;
    Ok(Quantized { file: to.to_owned(), bytes, bits, errors: errors.relative(), formats, fallbacks })
}

/// Refuses formats that need the importance of inputs where it is not known. Rows of an embedding are no one's inputs.
fn check_importance(plan: &GgufPlan, importance: Option<&Importance>) -> Result<()> {
    let needs = |target: &&Target| {
        let name = target.outline.name.as_str();
        let is_free = name == "token_embd.weight" || name == "output.weight";
        let is_known = importance.is_some_and(|found| found.has(name, target.row_len()));
        !target.is_vector() && needs_importance(target.format()) && !is_free && !is_known
    };
    let Some(target) = plan.targets.iter().find(needs) else { return Ok(()) };
    let (format, name) = (target.format().name(), &target.outline.name);
    let why = if importance.is_some() { "the importance given has none for it" } else { "none is given" };
    Err(Error::Ask(format!(
        "{format} needs the importance of inputs for {name:?}, and {why}; measure it with --calibrate TEXT, or give a file \
         with --imatrix"
    )))
}

/// The rounding of every tensor that is encoded.
#[derive(Default)]
pub struct Errors(Mutex<BTreeMap<String, (f64, f64)>>);

impl Errors {
    /// An encoder on several threads that notes what it rounds.
    pub fn encoder(&self, threads: usize) -> impl Fn(&Target, usize, &[f32], Format, &mut [u8]) {
        self.weighted_encoder(threads, None, None)
    }

    fn weighted_encoder(
        &self,
        threads: usize,
        importance: Option<&Importance>,
        expected: Option<&Expected<'_>>,
    ) -> impl Fn(&Target, usize, &[f32], Format, &mut [u8]) {
        move |target, at, values, format, out| {
            let known = Known::of(importance, expected, target, at / values.len().max(1));
            let width = if target.is_vector() { values.len() } else { target.row_len() };
            let (wrong, all) = encode_rows(values, width, format, &known, threads, out);
            self.note(&target.outline.name, (wrong, all));
        }
    }

    /// Adds a tensor's sums of squared errors and of squares.
    fn note(&self, name: &str, (wrong, all): (f64, f64)) {
        let mut errors = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let sums = errors.entry(name.to_owned()).or_default();
        *sums = (sums.0 + wrong, sums.1 + all);
    }

    /// Root mean square of the rounding, relative to that of the numbers, for each tensor.
    pub fn relative(&self) -> BTreeMap<String, f64> {
        let errors = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let relative =
            |(name, (wrong, all)): (&String, &(f64, f64))| (name.clone(), (wrong / all.max(f64::MIN_POSITIVE)).sqrt());
        errors.iter().map(relative).collect()
    }
}

fn values_of(target: &Target) -> usize {
    target.outline.shape.iter().product()
}

/// What is known of a matrix's inputs.
#[derive(Default)]
struct Known {
    /// How much each matters.
    weights: Option<Vec<f32>>,
    /// Whether that was measured.
    measured: bool,
    /// How they go together, where a format's codes can be chosen by that.
    windows: Vec<Window>,
}

impl Known {
    /// What was measured, and what can be expected of the rest.
    fn of(importance: Option<&Importance>, expected: Option<&Expected<'_>>, target: &Target, stack: usize) -> Known {
        let format = target.format();
        let fits = |inputs: &&Inputs| inputs.squares.len() == target.row_len();
        let measured = importance.and_then(|found| found.of(&target.outline.name, stack)).filter(fits);
        let is_whole = measured.is_some_and(|inputs| !inputs.correlations.is_empty() || !format.can_recode());
        let expected = expected.filter(|_| !is_whole && (format.can_recode() || format.block() == SEARCHED));
        let expected = expected.and_then(|found| found.of(target, stack));
        let Some(inputs) = expected.as_ref().or(measured) else { return Known::default() };
        let windows = if format.can_recode() { inputs.windows() } else { Vec::new() };
        let is_worth = measured.is_some() || format.block() == SEARCHED;
        Known { weights: is_worth.then(|| measured.unwrap_or(inputs).weights()), measured: measured.is_some(), windows }
    }

    fn weights(&self) -> Option<Weights<'_>> {
        self.weights.as_deref().map(|values| Weights { values, measured: self.measured })
    }
}

/// Values of a block in the formats whose scales are searched for by inputs even where these were not measured.
const SEARCHED: usize = 256;

/// Rows into blocks on several threads; the sums of squared errors and of squares.
fn encode_rows(
    values: &[f32],
    width: usize,
    format: Format,
    known: &Known,
    threads: usize,
    out: &mut [u8],
) -> (f64, f64) {
    let (rows, row_bytes) = (values.len() / width, format.row_bytes(width));
    let share = rows.div_ceil(threads.max(1)).max(1);
    let work = |values: &[f32], out: &mut [u8]| {
        let (mut wrong, mut all, mut back) = (0.0, 0.0, vec![0.0; width]);
        for (row, out) in values.chunks_exact(width).zip(out.chunks_exact_mut(row_bytes)) {
            format.quantize_by(row, known.weights(), out);
            if !known.windows.is_empty() {
                format.recode(row, &known.windows, out);
            }
            format.dequantize(out, &mut back);
            for (value, back) in row.iter().zip(&back) {
                wrong += f64::from(value - back).powi(2);
                all += f64::from(*value).powi(2);
            }
        }
        (wrong, all)
    };
    std::thread::scope(|scope| {
        let parts = values.chunks(share * width).zip(out.chunks_mut(share * row_bytes));
        let threads: Vec<_> = parts.map(|(values, out)| scope.spawn(move || work(values, out))).collect();
        let join = |sums: (f64, f64), thread: std::thread::ScopedJoinHandle<'_, (f64, f64)>| {
            let (wrong, all) = thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            (sums.0 + wrong, sums.1 + all)
        };
        threads.into_iter().fold((0.0, 0.0), join)
    })
}

/// Gives each matrix its format: the mixture's, or that of the first pattern that matches. Routers, positions and types
/// of segments keep theirs. Gives how many have another than the mixture's own.
///
/// # Errors
/// When a pattern matches nothing, or its format does not fit.
pub fn assigned(
    plan: &mut GgufPlan,
    spec: &Spec,
    mixture: Mixture,
    tensors: &[(String, Format)],
    importance: bool,
) -> Result<usize> {
    let sizes = sizes(spec, importance);
    let kinds = |name: &str| name.split('.').nth_back(1).unwrap_or_default().trim_end_matches("_exps").to_owned();
    let mut totals: BTreeMap<String, usize> = BTreeMap::new();
    let kept = |target: &Target| {
        let name = target.outline.name.as_str();
        let slot = target.slots().next().map_or("", |slot| slot.place.slot);
        target.is_vector() || slot == "router" || name.starts_with("position_embd") || name.starts_with("token_types")
    };
    for target in plan.targets.iter().filter(|target| !kept(target)) {
        *totals.entry(kinds(&target.outline.name)).or_default() += 1;
    }
    let (mut seen, mut fallbacks) = (BTreeMap::<String, usize>::new(), 0);
    let mut used = vec![false; tensors.len()];
    for target in plan.targets.iter_mut() {
        let (name, columns, stacked) = (target.outline.name.clone(), target.row_len(), target.stacks() > 1);
        let asked = tensors.iter().position(|(pattern, _)| matches(pattern, &name));
        if let Some(at) = asked.filter(|_| !target.is_vector()) {
            used[at] = true;
            let format = tensors[at].1;
            if !columns.is_multiple_of(format.block()) {
                let what = format!("{name:?} has rows of {columns}, which are no whole blocks of {}", format.name());
                return Err(Error::Ask(what));
            }
            target.outline.dtype = Dtype::Number(format);
            continue;
        }
        if kept(target) {
            continue;
        }
        let kind = kinds(&name);
        let at = seen.entry(kind.clone()).or_default();
        let format = choose(mixture, &name, columns, stacked, *at, totals[&kind], sizes);
        fallbacks += usize::from(!columns.is_multiple_of(mixture.base.block()));
        *at += 1;
        target.outline.dtype = Dtype::Number(format);
    }
    match used.iter().position(|used| !used) {
        Some(at) => Err(Error::Ask(format!("no matrix of the model matches {:?}", tensors[at].0))),
        None => Ok(fallbacks),
    }
}

fn sizes(spec: &Spec, importance: bool) -> Sizes {
    let (mut group, mut experts) = (1, 1);
    for branch in spec.layers.iter().flatten() {
        match &branch.mixer {
            MixerSpec::Attention(attention) => group = attention.heads / attention.kv_heads.max(1),
            MixerSpec::Experts(mixture) => experts = mixture.experts,
            MixerSpec::Mlp(_) => {}
        }
    }
    let tied = spec.head.as_ref().is_some_and(|head| head.tied);
    Sizes { layers: spec.layers.len(), group, experts, tied, importance }
}

/// Whether a name fits a pattern in which `*` stands for anything.
fn matches(pattern: &str, name: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == name,
        Some((start, rest)) => name.strip_prefix(start).is_some_and(|name| {
            (0..=name.len()).filter(|at| name.is_char_boundary(*at)).any(|at| matches(rest, &name[at..]))
        }),
    }
}

/// Formats from small to large, among which a size is reached.
const LADDER: [Format; 7] =
    [Format::Q2_K, Format::Q3_K, Format::IQ4_XS, Format::Q4_K, Format::Q5_K, Format::Q6_K, Format::Q8_0];

/// Rows of a matrix that are tried for a choice.
const TRIED_ROWS: usize = 64;

/// A matrix on its way up the ladder.
struct Step {
    target: usize,
    rung: usize,
    /// Bytes and weighted error on each rung.
    rungs: Vec<(Format, f64, f64)>,
}

/// Begins with the smallest formats and gives bits where they take away most of the measured error, until the size is
/// reached. Errors are of a sample of rows, weighted by the importance of their inputs where it is known.
fn reach(plan: &mut GgufPlan, content: &dyn Content, bits: f64, options: &Options<'_>) -> Result<()> {
    let is_free = |target: &Target| {
        let asked = options.tensors.iter().any(|(pattern, _)| matches(pattern, &target.outline.name));
        !target.is_vector() && target.format().block() > 1 && !asked
    };
    let mut steps = Vec::new();
    for (at, target) in plan.targets.iter().enumerate().filter(|(_, target)| is_free(target)) {
        let (width, values) = (target.row_len(), target.read(0, content, true)?);
        let every = (values.len() / width / TRIED_ROWS).max(1);
        let rows: Vec<&[f32]> = values.chunks_exact(width).step_by(every).collect();
        let measured = options.importance.and_then(|found| found.of(&target.outline.name, 0));
        let weights = measured.map(Inputs::weights).filter(|weights| weights.len() == width);
        let (count, share) = (values_of(target) as f64, values_of(target) as f64 / (rows.len() * width) as f64);
        let mut rungs: Vec<(Format, f64, f64)> = Vec::new();
        for format in LADDER.map(|format| fitting(format, width)) {
            let bytes = count / format.block() as f64 * format.block_bytes() as f64;
            if rungs.iter().all(|(known, ..)| *known != format) {
                rungs.push((format, bytes, share * error(&rows, format, weights.as_deref())));
            }
        }
        rungs.sort_by(|a, b| a.1.total_cmp(&b.1));
        steps.push(Step { target: at, rung: 0, rungs });
    }
    let free: Vec<usize> = steps.iter().map(|step| step.target).collect();
    let fixed: f64 = plan
        .targets
        .iter()
        .enumerate()
        .filter(|(at, _)| !free.contains(at))
        .map(|(_, target)| target.outline.byte_count("model.gguf").map_or(0, |bytes| bytes.get()) as f64)
        .sum();
    let all: usize = plan.targets.iter().map(values_of).sum();
    let budget = bits * all as f64 / 8.0;
    let mut sum = fixed + steps.iter().map(|step| step.rungs[0].1).sum::<f64>();
    if sum > budget {
        return Err(Error::Bits { wanted: bits, least: sum * 8.0 / all as f64 });
    }
    loop {
        let gain = |step: &Step| -> Option<(f64, usize)> {
            let (_, bytes, wrong) = step.rungs[step.rung];
            let up = (step.rung + 1..step.rungs.len()).filter(|rung| sum - bytes + step.rungs[*rung].1 <= budget);
            up.map(|rung| ((wrong - step.rungs[rung].2) / (step.rungs[rung].1 - bytes).max(1.0), rung))
                .max_by(|a, b| a.0.total_cmp(&b.0))
        };
        let best = steps.iter().enumerate().filter_map(|(at, step)| Some((gain(step)?, at)));
        let Some(((gain, rung), at)) = best.max_by(|a, b| a.0.0.total_cmp(&b.0.0)) else { break };
        if gain <= 0.0 {
            break;
        }
        sum += steps[at].rungs[rung].1 - steps[at].rungs[steps[at].rung].1;
        steps[at].rung = rung;
    }
    for step in steps {
        plan.targets[step.target].outline.dtype = Dtype::Number(step.rungs[step.rung].0);
    }
    Ok(())
}

/// The squared error of rows in a format, weighted.
fn error(rows: &[&[f32]], format: Format, weights: Option<&[f32]>) -> f64 {
    let Some(width) = rows.first().map(|row| row.len()) else { return 0.0 };
    let (mut bytes, mut back) = (vec![0; format.row_bytes(width)], vec![0.0; width]);
    let one = |row: &&[f32]| {
        format.quantize(row, weights, &mut bytes);
        format.dequantize(&bytes, &mut back);
        let each = row.iter().zip(&back).enumerate();
        each.map(|(at, (value, back))| f64::from(value - back).powi(2) * weights.map_or(1.0, |w| f64::from(w[at])))
            .sum::<f64>()
    };
    rows.iter().map(one).sum()
}

impl Quantized {
    /// What a receipt keeps of the way.
    pub fn recipe(&self, options: &Options<'_>) -> serde_json::Value {
        let tensors: BTreeMap<&str, &str> =
            options.tensors.iter().map(|(pattern, format)| (pattern.as_str(), format.name())).collect();
        json!({
            "type": options.mixture.name, "tensors": tensors, "bits_wanted": options.bits,
            "importance": options.importance.is_some(),
            "correlations": options.importance.is_some_and(Importance::has_correlations), "bits_per_weight": self.bits,
            "matrices_by_format": self.formats, "matrices_of_smaller_blocks": self.fallbacks,
            "relative_rms_error_by_tensor": self.errors,
        })
    }
}
