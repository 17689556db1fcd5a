//! Products of two matrices of f32 by the calling thread, in bf16 tiles: what attention's gradient is made of. Each operand
//! is packed once and used several times.

use std::ops::Range;

use super::{Out, PANEL, PANELS, Side, TALL, WIDE, join, pack_step};
use crate::isa::Kernels;

/// Rows of f32 that lie `stride` apart.
#[derive(Clone, Copy)]
pub struct View<'a> {
    /// From the first row on.
    pub values: &'a [f32],
    /// Values from a row to the next.
    pub stride: usize,
    /// How many rows.
    pub rows: usize,
    /// Values of a row.
    pub cols: usize,
}

impl<'a> View<'a> {
    fn row(&self, row: usize) -> &'a [f32] {
        &self.values[row * self.stride..][..self.cols]
    }
}

/// The rows' side of a product.
#[derive(Default)]
pub struct Rows {
    words: Vec<u32>,
    rows: usize,
    row: usize,
    step: usize,
    later: usize,
}

impl Rows {
    /// The rows of a view; k are its columns.
    pub fn pack(&mut self, kernels: &Kernels, view: View<'_>) {
        let (step, len) = (kernels.pairs.words, kernels.pairs.words * view.cols.div_ceil(2));
        (self.rows, self.row, self.step, self.later) = (view.rows, len, step, 1);
        self.words.resize(view.rows.next_multiple_of(TALL) * len, 0);
        for (row, words) in self.words.chunks_exact_mut(len.max(1)).take(view.rows).enumerate() {
            (kernels.pairs.row)(view.row(row), words);
        }
    }

    /// The columns of a view; k are its rows.
    pub fn turn(&mut self, kernels: &Kernels, view: View<'_>) {
        let (steps, width) = (view.rows.div_ceil(2), view.cols.next_multiple_of(TALL));
        let len = kernels.pairs.words * width;
        (self.rows, self.row, self.step, self.later) = (view.cols, 1, len, width);
        self.words.resize(steps * len, 0);
        for (step, words) in self.words.chunks_exact_mut(len.max(1)).enumerate() {
            let high = if 2 * step + 1 < view.rows { view.row(2 * step + 1) } else { &[] };
            pack_step(kernels, view.row(2 * step), high, words);
        }
    }
}

/// The columns' side of a product: panels of 16 columns, each `[steps][16]` words.
#[derive(Default)]
pub struct Columns {
    words: Vec<u32>,
    steps: usize,
    cols: usize,
}

impl Columns {
    /// The rows of a view as columns; k are its columns.
    pub fn turn(&mut self, kernels: &Kernels, view: View<'_>) {
        let k = view.cols.next_multiple_of(2);
        (self.steps, self.cols) = (k / 2, view.rows);
        self.words.resize(view.rows.div_ceil(PANEL) * self.steps * PANEL, 0);
        let (mut rows, mut turned) = (vec![0.0; PANEL * k], vec![0.0; PANEL * k]);
        for (panel, words) in self.words.chunks_exact_mut((self.steps * PANEL).max(1)).enumerate() {
            for (at, row) in rows.chunks_exact_mut(k).enumerate() {
                match panel * PANEL + at {
                    number if number < view.rows => row[..view.cols].copy_from_slice(view.row(number)),
                    _ => row.fill(0.0),
                }
            }
            (kernels.interleave)(&rows, k, &mut turned);
            for (words, two) in words.chunks_exact_mut(PANEL).zip(turned.chunks_exact(2 * PANEL)) {
                (kernels.pairs.join)(&two[..PANEL], &two[PANEL..], words);
            }
        }
    }

    /// The columns of a view; k are its rows.
    pub fn pack(&mut self, kernels: &Kernels, view: View<'_>) {
        (self.steps, self.cols) = (view.rows.div_ceil(2), view.cols);
        self.words.resize(view.cols.div_ceil(PANEL) * self.steps * PANEL, 0);
        for (panel, words) in self.words.chunks_exact_mut((self.steps * PANEL).max(1)).enumerate() {
            let part = panel * PANEL..((panel + 1) * PANEL).min(view.cols);
            for (step, words) in words.chunks_exact_mut(PANEL).enumerate() {
                words[part.len()..].fill(0);
                let high = if 2 * step + 1 < view.rows { &view.row(2 * step + 1)[part.clone()] } else { &[] };
                join(kernels, &view.row(2 * step)[part.clone()], high, &mut words[..part.len()]);
            }
        }
    }
}

/// `out[row][col] (+)= Σ rows · columns` for the given columns (they begin at a multiple of 16) and steps; `out` has rows
/// of `stride` values, of which the first is the first of the columns.
pub fn multiply(
    kernels: &Kernels,
    rows: &Rows,
    (columns, cols, steps): (&Columns, Range<usize>, Range<usize>),
    (out, stride): (&mut [f32], usize),
    adds: bool,
) {
    assert!(cols.start.is_multiple_of(PANEL) && cols.end <= columns.cols && steps.end <= columns.steps, "inside");
    let panel = |number: usize| {
        // Past the last panel its neighbor is read, and what comes of it is not used.
        let number = number.min(cols.end.div_ceil(PANEL) - 1);
        &columns.words[(number * columns.steps + steps.start) * PANEL..][..steps.len() * PANEL]
    };
    for row in (0..rows.rows).step_by(WIDE) {
        let side = Side { words: &rows.words[row * rows.row..], row: rows.row, step: rows.step, later: rows.later };
        for col in cols.clone().step_by(PANELS * PANEL) {
            let part = col - cols.start..cols.end.min(col + PANELS * PANEL) - cols.start;
            let mut parts: [&mut [f32]; WIDE] = Default::default();
            let some = out[row * stride..].chunks_mut(stride).take(rows.rows - row);
            let out = Out::new(&mut parts, some, &part, adds.then_some(1.0));
            (kernels.pairs.wide)(side, std::array::from_fn(|at| panel(col / PANEL + at)), out);
        }
    }
}

/// The steps that hold values `range` of k, which begins at an even one.
pub fn steps(range: &Range<usize>) -> Range<usize> {
    assert!(range.start.is_multiple_of(2), "a step is two values");
    range.start / 2..range.end.div_ceil(2)
}
