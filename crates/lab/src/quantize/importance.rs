//! How much each input of a matrix matters, and how inputs go together: mean squares and correlations of what reaches
//! it over a calibration text, read and written as llama.cpp's GGUF files of importance (`TENSOR.in_sum2` and
//! `TENSOR.counts`), which here have `TENSOR.in_correlations` too; llama.cpp passes over it.

use std::collections::BTreeMap;
use std::path::Path;

use pasture_files::durable::Sink;
use pasture_files::gguf::{self, Metadata, Texts, Value};
use pasture_files::outline::Outline;
use pasture_files::{Dtype, Tensors};
use pasture_kernels::Format;
use pasture_kernels::formats::recode::{WINDOW as COLUMNS, Window};

use crate::change::{Error, Result};

/// The inputs of each matrix of each tensor by its GGUF name.
#[derive(Clone, Debug, Default)]
pub struct Importance {
    tensors: BTreeMap<String, Vec<Inputs>>,
}

/// One matrix's inputs.
#[derive(Clone, Debug, Default)]
pub struct Inputs {
    /// The sum of the squares of each.
    pub squares: Vec<f32>,
    /// How many rows were seen.
    pub rows: f32,
    /// How inputs go together, binary16: window after window, for each input its correlations with those before it.
    /// Empty where it is not known.
    pub correlations: Vec<u8>,
}

impl Inputs {
    /// The mean square of each: how much it matters.
    pub fn weights(&self) -> Vec<f32> {
        self.squares.iter().map(|sum| sum / self.rows).collect()
    }

    /// How the inputs of each window go together; none where that is not known. Correlations of few rows are trusted
    /// less, as most of those are chance.
    pub fn windows(&self) -> Vec<Window> {
        let mut left = &self.correlations[..];
        let window = |squares: &[f32]| {
            let (bytes, rest) = left.split_at_checked(Format::F16.row_bytes(pairs(squares.len())))?;
            left = rest;
            let mut correlations = vec![0.0; pairs(squares.len())];
            Format::F16.dequantize(bytes, &mut correlations);
            let trust = MOST_TRUST * self.rows / (self.rows + squares.len() as f32);
            let squares: Vec<f32> = squares.iter().map(|sum| sum / self.rows).collect();
            Some(Window::new(&squares, correlations.into_iter().map(|found| trust * found)))
        };
        self.squares.chunks(COLUMNS).map_while(window).collect()
    }

    /// Bytes of the correlations that inputs of that width have.
    fn correlation_bytes(width: usize) -> usize {
        let last = width % COLUMNS;
        Format::F16.row_bytes(width / COLUMNS * pairs(COLUMNS) + pairs(last))
    }
}

/// Pairs among a number of things.
fn pairs(count: usize) -> usize {
    count * count.saturating_sub(1) / 2
}

/// What correlations are multiplied with at most. On a trained model 0.97 to 0.99 make no difference.
const MOST_TRUST: f32 = 0.99;

/// Tokens of a window of the calibration text.
pub const WINDOW: usize = 512;

const SUMS: &str = ".in_sum2";
const COUNTS: &str = ".counts";
const CORRELATIONS: &str = ".in_correlations";

impl Importance {
    /// The inputs of the matrices of a tensor.
    pub fn insert(&mut self, tensor: String, stacks: Vec<Inputs>) {
        self.tensors.insert(tensor, stacks);
    }

    /// The inputs of matrix `stack` of a tensor; none where they were not measured.
    pub fn of(&self, tensor: &str, stack: usize) -> Option<&Inputs> {
        self.tensors.get(tensor)?.get(stack).filter(|inputs| inputs.rows > 0.0)
    }

    /// Whether inputs of a tensor with rows of `width` were measured, of one of its matrices at least.
    pub fn has(&self, tensor: &str, width: usize) -> bool {
        let stacks = self.tensors.get(tensor).map(Vec::as_slice).unwrap_or_default();
        stacks.iter().any(|inputs| inputs.rows > 0.0 && inputs.squares.len() == width)
    }

    /// Whether it says how inputs go together.
    pub fn has_correlations(&self) -> bool {
        self.tensors.values().flatten().any(|inputs| !inputs.correlations.is_empty())
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
            let together = correlations(&tensors, path, name, counts.len() * Inputs::correlation_bytes(width))?;
            let mut together = together.chunks(Inputs::correlation_bytes(width).max(1));
            let one = |(squares, rows): (&[f32], &f32)| Inputs {
                squares: squares.to_vec(),
                rows: *rows,
                correlations: together.next().unwrap_or_default().to_vec(),
            };
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
        let (mut outlines, mut contents) = (Vec::new(), BTreeMap::new());
        let mut add = |name: String, format: Format, shape: Vec<usize>, bytes: Vec<u8>| {
            outlines.push(Outline { name: name.clone(), dtype: Dtype::Number(format), shape });
            contents.insert(name, bytes);
        };
        for (name, stacks) in &self.tensors {
            let width = stacks.first().map_or(0, |inputs| inputs.squares.len());
            let sums = stacks.iter().flat_map(|inputs| &inputs.squares).flat_map(|sum| sum.to_le_bytes()).collect();
            let counts = stacks.iter().flat_map(|inputs| inputs.rows.to_le_bytes()).collect();
            add(format!("{name}{SUMS}"), Format::F32, vec![stacks.len(), width], sums);
            add(format!("{name}{COUNTS}"), Format::F32, vec![stacks.len(), 1], counts);
            let (each, known) = (Inputs::correlation_bytes(width), stacks.iter().any(|it| !it.correlations.is_empty()));
            if known {
                let padded = |inputs: &Inputs| {
                    let mut bytes = inputs.correlations.clone();
                    bytes.resize(each, 0);
                    bytes
                };
                let count = each / Format::F16.block_bytes();
                let all = stacks.iter().flat_map(padded).collect();
                add(format!("{name}{CORRELATIONS}"), Format::F16, vec![stacks.len(), count], all);
            }
        }
        let fill = |outline: &Outline, sink: &mut Sink| sink.put(&contents[&outline.name]);
        Ok(gguf::write(path, &metadata, &outlines, fill)?)
    }
}

/// How the inputs of a tensor go together, if a file of importance says so.
fn correlations(tensors: &Tensors, path: &Path, name: &str, wanted: usize) -> Result<Vec<u8>> {
    let name = format!("{name}{CORRELATIONS}");
    let Some(entry) = tensors.get(&name) else { return Ok(Vec::new()) };
    let bytes = tensors.bytes(&name)?;
    if entry.dtype != Dtype::Number(Format::F16) || bytes.len() != wanted {
        let (dtype, found) = (entry.dtype, bytes.len());
        let what = format!("{name:?} of {path:?} is {found} bytes of {dtype}, it should be {wanted} of F16");
        return Err(Error::Ask(what));
    }
    Ok(bytes.to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn measured(width: usize) -> Importance {
        let correlations: Vec<u8> = (0..Inputs::correlation_bytes(width)).map(|at| (at % 61) as u8).collect();
        let seen = Inputs { squares: (0..width).map(|at| at as f32).collect(), rows: 9.0, correlations };
        let unseen = Inputs { squares: vec![0.0; width], ..Inputs::default() };
        let mut found = Importance::default();
        found.insert("blk.0.ffn_down_exps.weight".to_owned(), vec![seen, unseen]);
        found
    }

    #[test]
    fn a_file_gives_back_what_was_measured() {
        let place = tempfile::tempdir().expect("a temporary folder");
        let path = place.path().join("importance.gguf");
        for width in [32, COLUMNS, COLUMNS + 64] {
            let (made, name) = (measured(width), "blk.0.ffn_down_exps.weight");
            made.write(&path, "a text").expect("it is written");
            let read = Importance::read(&path).expect("it is read");
            let (wanted, found) = (made.of(name, 0).expect("measured"), read.of(name, 0).expect("read"));
            assert_eq!((&wanted.squares, &wanted.correlations), (&found.squares, &found.correlations));
            assert_eq!((found.rows, found.windows().len()), (9.0, width.div_ceil(COLUMNS)));
            assert!(read.of(name, 1).is_none() && read.has(name, width) && !read.has(name, width + 1));
        }
    }

    #[test]
    fn correlations_of_another_width_are_refused() {
        let place = tempfile::tempdir().expect("a temporary folder");
        let path = place.path().join("importance.gguf");
        let outline = |ending: &str, format, shape| Outline {
            name: format!("output.weight{ending}"),
            dtype: Dtype::Number(format),
            shape,
        };
        let outlines = [
            outline(SUMS, Format::F32, vec![1, 32]),
            outline(COUNTS, Format::F32, vec![1, 1]),
            outline(CORRELATIONS, Format::F16, vec![1, 32]),
        ];
        let zeros = |outline: &Outline, sink: &mut Sink| sink.put(&vec![0; outline.byte_count("")?.get() as usize]);
        gguf::write(&path, &Metadata::new("importance.gguf"), &outlines, zeros).expect("it is written");
        let error = Importance::read(&path).expect_err("31 · 16 pairs are no 32").to_string();
        assert!(error.contains("in_correlations") && error.contains("64 bytes") && error.contains("992"), "{error}");
    }
}
