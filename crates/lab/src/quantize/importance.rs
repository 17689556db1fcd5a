//! How much each input of a matrix matters: mean squares of what reaches it over a calibration text. Measured here, and
//! read and written as llama.cpp's GGUF files of importance (`TENSOR.in_sum2`, `TENSOR.counts`).

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use pasture_files::durable::Sink;
use pasture_files::gguf::{self, Metadata, Texts, Value};
use pasture_files::outline::Outline;
use pasture_files::tokenizer::Specials;
use pasture_files::{Dtype, Tensors};
use pasture_kernels::{Format, Pool};
use pasture_model::save::plan_gguf;
use pasture_model::{LoadOptions, Source, load, survey};
use pasture_tensor::backend::Group;
use pasture_tensor::kv::KvFormat;
use pasture_tensor::{Backend, Cpu, Precision, Tensor, Weight, WeightId};

use crate::change::{Error, Result};
use crate::evaluate::{Subject, likelihoods, windows};

/// Sums of squares and how many rows they are of, for each matrix of each tensor by its GGUF name.
#[derive(Clone, Debug, Default)]
pub struct Importance {
    tensors: BTreeMap<String, Vec<Sums>>,
}

/// One matrix's inputs.
#[derive(Clone, Debug, Default)]
struct Sums {
    squares: Vec<f32>,
    rows: f32,
}

const SUMS: &str = ".in_sum2";
const COUNTS: &str = ".counts";

impl Importance {
    /// The weight of each input of matrix `stack` of a tensor; none where it was not measured.
    pub fn of(&self, tensor: &str, stack: usize) -> Option<Vec<f32>> {
        let sums = self.tensors.get(tensor)?.get(stack).filter(|sums| sums.rows > 0.0)?;
        Some(sums.squares.iter().map(|sum| sum / sums.rows).collect())
    }

    /// Whether inputs of a tensor with rows of `width` were measured, of one of its matrices at least.
    pub fn has(&self, tensor: &str, width: usize) -> bool {
        let stacks = self.tensors.get(tensor).map(Vec::as_slice).unwrap_or_default();
        stacks.iter().any(|sums| sums.rows > 0.0 && sums.squares.len() == width)
    }

    /// Whether nothing was measured.
    pub fn is_empty(&self) -> bool {
        self.tensors.is_empty()
    }

    /// Reads a file of importance.
    ///
    /// # Errors
    /// When it is none.
    pub fn read(path: &Path) -> Result<Importance> {
        let tensors = Tensors::open(path)?;
        let mut found = Importance::default();
        let floats = |name: &str| -> Result<Vec<f32>> {
            let entry = tensors.get(name).ok_or_else(|| Error::Ask(format!("{path:?} has no {name:?}")))?;
            if entry.dtype != Dtype::Number(Format::F32) {
                return Err(Error::Ask(format!("{name:?} of {path:?} is {}, it should be F32", entry.dtype)));
            }
            let bytes = tensors.bytes(name)?;
            Ok(bytes.as_chunks::<4>().0.iter().map(|four| f32::from_le_bytes(*four)).collect())
        };
        for name in tensors.names().filter_map(|name| name.strip_suffix(SUMS)) {
            let (sums, counts) = (floats(&format!("{name}{SUMS}"))?, floats(&format!("{name}{COUNTS}"))?);
            if counts.is_empty() || !sums.len().is_multiple_of(counts.len()) {
                return Err(Error::Ask(format!("{path:?} has {} counts for {name:?}", counts.len())));
            }
            let width = sums.len() / counts.len();
            let one = |(squares, rows): (&[f32], &f32)| Sums { squares: squares.to_vec(), rows: *rows };
            found.tensors.insert(name.to_owned(), sums.chunks(width.max(1)).zip(&counts).map(one).collect());
        }
        if found.is_empty() {
            return Err(Error::Ask(format!("{path:?} is no file of importance: it has no tensor \"…{SUMS}\"")));
        }
        Ok(found)
    }

    /// Writes a file of importance.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write(&self, path: &Path, text: &str) -> Result<()> {
        let mut metadata = Metadata::new("importance.gguf");
        metadata.insert("general.type", Value::text("imatrix"))?;
        metadata.insert("imatrix.datasets", Value::Texts(Texts::from_texts([text])))?;
        metadata.insert("imatrix.chunk_count", Value::U32(1))?;
        metadata.insert("imatrix.chunk_size", Value::U32(WINDOW as u32))?;
        let (mut outlines, mut values) = (Vec::new(), BTreeMap::new());
        for (name, stacks) in &self.tensors {
            let width = stacks.first().map_or(0, |sums| sums.squares.len());
            let (sums, counts) = (format!("{name}{SUMS}"), format!("{name}{COUNTS}"));
            let outline = |name: &str, shape: Vec<usize>| Outline {
                name: name.to_owned(),
                dtype: Dtype::Number(Format::F32),
                shape,
            };
            outlines.push(outline(&sums, vec![stacks.len(), width]));
            outlines.push(outline(&counts, vec![stacks.len(), 1]));
            values.insert(sums, stacks.iter().flat_map(|sums| sums.squares.clone()).collect::<Vec<f32>>());
            values.insert(counts, stacks.iter().map(|sums| sums.rows).collect());
        }
        let fill = |outline: &Outline, sink: &mut Sink| {
            let bytes: Vec<u8> = values[&outline.name].iter().flat_map(|value| value.to_le_bytes()).collect();
            sink.put(&bytes)
        };
        Ok(gguf::write(path, &metadata, &outlines, fill)?)
    }
}

/// Tokens of a window of the calibration text.
const WINDOW: usize = 512;

/// Runs a model over a text and sums what reaches each of its matrices.
///
/// # Errors
/// When the model cannot be run or came without a tokenizer.
pub fn calibrate(source: &Source, text: &str, tokens_max: usize, threads: usize) -> Result<Importance> {
    let watching =
        Arc::new(Watching { inner: Cpu::new(Arc::new(Pool::new(threads)), Precision::Exact), sums: Mutex::default() });
    let backend: Arc<dyn Backend> = watching.clone();
    let decoder = load(source, &backend, &LoadOptions::default(), &mut |_, _| {})?.decoder;
    let weights: Vec<WeightId> = decoder.parameters().iter().map(|parameter| parameter.weight).collect();
    let tokenizer =
        crate::change::tokenizer(source)?.ok_or_else(|| Error::Ask("the model came without a tokenizer".to_owned()))?;
    let mut ids = tokenizer.encode(text, Specials::AsText).map_err(|error| Error::Ask(error.to_string()))?;
    ids.truncate(tokens_max);
    let subject = Subject::new(Arc::new(decoder), None, KvFormat::F32);
    let window = WINDOW.min(subject.context().saturating_sub(1)).max(2);
    let prefix = tokenizer.bos().or(tokenizer.eos()).unwrap_or(0);
    likelihoods(&subject, &windows(&ids, prefix, window, window), &mut |_| true)?;
    let sums = watching.sums.lock().unwrap_or_else(PoisonError::into_inner);
    let survey = survey(source)?;
    // Parameters come in the order of slots.
    let by_slot: BTreeMap<_, WeightId> = survey.slots.iter().map(|slot| (slot.place, slot.part)).zip(weights).collect();
    let mut found = Importance::default();
    for target in plan_gguf(source, &survey)?.targets.iter().filter(|target| !target.is_vector()) {
        let mut stacks: Vec<Sums> = vec![Sums::default(); target.stacks()];
        for slot in target.slots() {
            let Some(own) = by_slot.get(&(slot.place, slot.part)).and_then(|id| sums.get(id)) else { continue };
            // Slots that share rows have the same inputs.
            if let Some(stack) = stacks.get_mut(slot.place.expert.filter(|_| target.stacks() > 1).unwrap_or(0)) {
                *stack = own.clone();
            }
        }
        let width = target.row_len();
        stacks.iter_mut().filter(|sums| sums.squares.is_empty()).for_each(|sums| sums.squares = vec![0.0; width]);
        if stacks.iter().any(|sums| sums.rows > 0.0) {
            found.tensors.insert(target.outline.name.clone(), stacks);
        }
    }
    Ok(found)
}

/// A processor that sums the squares of what reaches each weight.
struct Watching {
    inner: Cpu,
    sums: Mutex<BTreeMap<WeightId, Sums>>,
}

impl Watching {
    fn note(&self, x: &Tensor, groups: &[Group]) {
        let mut all = self.sums.lock().unwrap_or_else(PoisonError::into_inner);
        for group in groups {
            let sums = all.entry(group.weight.id()).or_default();
            sums.squares.resize(x.cols(), 0.0);
            for row in group.rows.clone() {
                x.row(row).iter().zip(&mut sums.squares).for_each(|(value, sum)| *sum += value * value);
            }
            sums.rows += group.rows.len() as f32;
        }
    }
}

impl Backend for Watching {
    fn name(&self) -> &'static str {
        "watching"
    }

    fn precision(&self) -> Precision {
        Precision::Exact
    }

    fn weight<'a>(&self, format: Format, rows: usize, cols: usize, row: &(dyn Fn(usize) -> &'a [u8] + Sync)) -> Weight {
        self.inner.weight(format, rows, cols, row)
    }

    fn grouped(&self, x: &Tensor, groups: &[Group]) -> Tensor {
        self.note(x, groups);
        self.inner.grouped(x, groups)
    }

    fn outer(&self, dy: &Tensor, x: &Tensor, rows: Range<usize>, sum: &mut [f32]) {
        self.inner.outer(dy, x, rows, sum);
    }
}
