//! The columns' side of a product, block by block: panels of 16 columns, each step a word of two neighbors along k for
//! every column. Weights are decoded here once for all rows, from whatever format and layout they are stored in.

use std::ops::Range;

use super::{BLOCK, PANEL, PANELS, SQUARE, STRIPE, join};
use crate::isa::{Kernels, fetch, fetch_far};
use crate::linear::{Layout, Matrix, packed_block, unpack_row};

/// How many rows ahead memory is asked for.
const AHEAD: usize = 8;

/// Where the columns' side comes from.
pub(super) enum Source<'a> {
    /// Columns are a weight's outputs, k its inputs.
    Outputs(Matrix<'a>),
    /// Columns are a weight's inputs, k its outputs.
    Inputs(Matrix<'a>),
    /// Columns and rows of f32, k is the rows.
    Rows {
        /// `[rows, cols]`.
        values: &'a [f32],
        cols: usize,
        rows: usize,
    },
}

impl Source<'_> {
    /// How long k is, and how many columns there are. Checks a weight's bytes.
    pub(super) fn shape(&self) -> (usize, usize) {
        match self {
            Source::Outputs(weight) => {
                weight.check();
                (weight.cols, weight.rows)
            }
            Source::Inputs(weight) => {
                weight.check();
                (weight.rows, weight.cols)
            }
            Source::Rows { cols, rows, .. } => (*rows, *cols),
        }
    }

    /// A stripe of about so many columns that begins and ends where the stored blocks do.
    pub(super) fn stripe(&self, wanted: usize) -> usize {
        match self {
            Source::Inputs(weight) => wanted.next_multiple_of(weight.format.block().max(PANEL)),
            Source::Outputs(_) => wanted.next_multiple_of(PANEL),
            // The next row may be on another page.
            Source::Rows { .. } => (2 * wanted).next_multiple_of(PANEL),
        }
    }

    /// How many columns are filled at once: a group of panels, or what lies together.
    pub(super) fn span(&self) -> usize {
        match self {
            Source::Outputs(_) => PANELS * PANEL,
            Source::Inputs(weight) => weight.format.block().next_multiple_of(PANELS * PANEL),
            Source::Rows { .. } => 2 * STRIPE,
        }
    }

    /// Asks for a share of what the given steps of the given columns are read from: the `number`th of `count`.
    pub(super) fn fetch(&self, steps: &Range<usize>, cols: &Range<usize>, (number, count): (usize, usize)) {
        let share = |len: usize| number * len / count..(number + 1) * len / count;
        let part = |weight: &Matrix<'_>, inputs: Range<usize>| {
            let (block, bytes) = packed_block(weight.format);
            inputs.start / block * bytes * PANEL..inputs.end.min(weight.cols).div_ceil(block) * bytes * PANEL
        };
        match self {
            Source::Outputs(weight) if weight.layout == Layout::Packed => {
                let part = part(weight, 2 * steps.start..2 * steps.end);
                let share = share(part.len());
                for panel in cols.start / PANEL..cols.end.div_ceil(PANEL) {
                    fetch_far(&weight.panel(panel)[part.clone()][share.clone()]);
                }
            }
            Source::Inputs(weight) if weight.layout == Layout::Packed => {
                let part = part(weight, cols.clone());
                for panel in share((2 * steps.len()).div_ceil(PANEL)) {
                    fetch_far(&weight.panel(2 * steps.start / PANEL + panel)[part.clone()]);
                }
            }
            Source::Outputs(_) | Source::Inputs(_) | Source::Rows { .. } => {}
        }
    }

    /// A stored panel that is words already: BF16 that is packed, by outputs.
    pub(super) fn words(&self, panel: usize, steps: &Range<usize>) -> Option<&[u32]> {
        match self {
            Source::Outputs(weight) => pairs_of(weight, panel, steps),
            Source::Inputs(_) | Source::Rows { .. } => None,
        }
    }

    /// Fills panel after panel, `[steps][16]` words each, with the given steps of the given columns.
    pub(super) fn fill(
        &self,
        kernels: &Kernels,
        steps: Range<usize>,
        cols: Range<usize>,
        out: &mut [u32],
        scratch: (&mut Vec<f32>, &mut Vec<f32>),
    ) {
        match self {
            Source::Outputs(weight) => outputs(kernels, weight, steps, cols, out, scratch.0),
            Source::Inputs(weight) => inputs(kernels, weight, steps, cols, out, scratch),
            Source::Rows { values, cols: width, rows } => {
                let row = |row: usize, at: &Range<usize>| {
                    let part = row * width + at.start..row * width + at.end;
                    if row < *rows { &values[part] } else { &[] }
                };
                // Row by row, because the next row may be on another page.
                let panels = out.chunks_exact_mut(steps.len() * PANEL).take(cols.len().div_ceil(PANEL));
                let mut panels: Vec<_> = panels.map(|panel| panel.chunks_exact_mut(PANEL)).collect();
                for step in steps {
                    for ahead in [2 * step + AHEAD, 2 * step + AHEAD + 1] {
                        fetch(row(ahead, &cols));
                    }
                    let (low, high) = (row(2 * step, &cols), row(2 * step + 1, &cols));
                    for (number, words) in panels.iter_mut().enumerate() {
                        let (first, words) = (number * PANEL, words.next().expect("one for each step"));
                        let some = PANEL.min(cols.len() - first);
                        if some < PANEL {
                            words[some..].fill(0);
                        }
                        let high = high.get(first..first + some).unwrap_or(&[]);
                        join(kernels, &low[first..first + some], high, &mut words[..some]);
                    }
                }
            }
        }
    }
}

/// Panels of outputs: the weight's own panels, as pairs of inputs.
fn outputs(
    kernels: &Kernels,
    weight: &Matrix<'_>,
    steps: Range<usize>,
    cols: Range<usize>,
    out: &mut [u32],
    values: &mut Vec<f32>,
) {
    let block = weight.format.block();
    let inside = 2 * steps.start..(2 * steps.end).min(weight.cols);
    // Whole stored blocks around the wanted inputs.
    let around =
        inside.start / block * block..inside.end.next_multiple_of(block).min(weight.cols.next_multiple_of(block));
    for (at, first) in cols.step_by(PANEL).enumerate() {
        let panel = &mut out[at * steps.len() * PANEL..][..steps.len() * PANEL];
        decode(kernels, weight, first / PANEL, &around, values);
        let values = &values[(inside.start - around.start) * PANEL..(inside.end - around.start) * PANEL];
        for (words, two) in panel.chunks_exact_mut(PANEL).zip(values.chunks(2 * PANEL)) {
            let (low, high) = two.split_at(PANEL);
            join(kernels, low, high, words);
        }
    }
}

/// Whether a weight's panels are words already: packed BF16.
fn stores_pairs(weight: &Matrix<'_>) -> bool {
    weight.layout == Layout::Packed
        && weight.format == crate::Format::BF16
        && bytemuck::try_cast_slice::<u8, u32>(weight.panel(0)).is_ok()
}

/// Panels of inputs from a weight whose panels are words: no value is decoded.
fn turned_pairs(kernels: &Kernels, weight: &Matrix<'_>, steps: Range<usize>, cols: Range<usize>, out: &mut [u32]) {
    let len = steps.len() * PANEL;
    for (at, first) in (2 * steps.start..2 * steps.end).step_by(PANEL).enumerate() {
        let stored: &[u32] = bytemuck::cast_slice(weight.panel(first / PANEL));
        let squares = stored.as_chunks::<SQUARE>().0;
        for (panel, square) in squares[cols.start / PANEL..cols.end.div_ceil(PANEL)].iter().enumerate() {
            let words = &mut out[panel * len..(panel + 1) * len][at * SQUARE..];
            if let Some(words) = words.first_chunk_mut::<SQUARE>() {
                (kernels.pairs.turn)(square, words);
            } else {
                let mut whole = [0; SQUARE];
                (kernels.pairs.turn)(square, &mut whole);
                words.copy_from_slice(&whole[..words.len()]);
            }
        }
    }
}

/// A packed BF16 panel is words already.
fn pairs_of<'a>(weight: &Matrix<'a>, number: usize, steps: &Range<usize>) -> Option<&'a [u32]> {
    let words: &[u32] = bytemuck::try_cast_slice(stores_pairs(weight).then(|| weight.panel(number))?).ok()?;
    Some(&words[steps.start * PANEL..steps.end * PANEL])
}

/// Panels of inputs: 16 by 16 values of the weight are turned, and pairs are of neighboring outputs.
fn inputs(
    kernels: &Kernels,
    weight: &Matrix<'_>,
    steps: Range<usize>,
    cols: Range<usize>,
    out: &mut [u32],
    (values, turned): (&mut Vec<f32>, &mut Vec<f32>),
) {
    const { assert!(BLOCK.is_multiple_of(PANEL / 2)) };
    let len = steps.len() * PANEL;
    if stores_pairs(weight) && cols.start.is_multiple_of(PANEL) && weight.cols.is_multiple_of(PANEL) {
        return turned_pairs(kernels, weight, steps, cols, out);
    }
    turned.resize(PANEL * PANEL, 0.0);
    let around = cols.start..cols.end.next_multiple_of(weight.format.block());
    for (at, first) in (2 * steps.start..2 * steps.end).step_by(PANEL).enumerate() {
        decode(kernels, weight, first / PANEL, &around, values);
        values.resize(cols.len().next_multiple_of(PANEL).max(around.len()) * PANEL, 0.0);
        for (panel, square) in values.chunks_exact(PANEL * PANEL).take(cols.len().div_ceil(PANEL)).enumerate() {
            (kernels.interleave)(square, PANEL, turned);
            let words = &mut out[panel * len..(panel + 1) * len];
            let words = words.chunks_exact_mut(PANEL).skip(at * PANEL / 2);
            for (words, two) in words.zip(turned.chunks_exact(2 * PANEL)) {
                let (low, high) = two.split_at(PANEL);
                (kernels.pairs.join)(low, high, words);
            }
        }
    }
}

/// `[cols][16]` values of a panel of 16 outputs, zeros beyond the last output. `cols` are whole stored blocks.
fn decode(kernels: &Kernels, weight: &Matrix<'_>, number: usize, cols: &Range<usize>, out: &mut Vec<f32>) {
    out.resize(cols.len() * PANEL, 0.0);
    let decode = (kernels.packed)(weight.format).and_then(|packed| packed.decode);
    if let (Layout::Packed, Some(decode)) = (weight.layout, decode) {
        // A panel holds its blocks of columns one behind the other.
        let (block, bytes) = packed_block(weight.format);
        let part = cols.start / block * bytes * PANEL..cols.end.div_ceil(block) * bytes * PANEL;
        return decode(&weight.panel(number)[part], cols.len(), out);
    }
    let (format, block) = (weight.format, weight.format.block());
    let mut rows = vec![0.0; PANEL * cols.len()];
    let mut bytes = vec![0; format.row_bytes(weight.cols)];
    let part = cols.start / block * format.block_bytes()..cols.end / block * format.block_bytes();
    for (row, values) in (number * PANEL..weight.rows).zip(rows.chunks_exact_mut(cols.len())) {
        match weight.layout {
            Layout::Plain => format.dequantize(&weight.plain_row(row)[part.clone()], values),
            Layout::Packed => {
                unpack_row(weight, row, &mut bytes);
                format.dequantize(&bytes[part.clone()], values);
            }
        }
    }
    (kernels.interleave)(&rows, cols.len(), out);
}
