//! Products of many rows in bf16, summed in f32: what tuning computes with. One tile serves the forward, the input's
//! gradient and a weight's gradient; they differ in where the columns' side comes from (`source.rs`).
//!
//! Invariant: each result sums its steps (pairs of k) in order within blocks of [`BLOCK`] steps, and the blocks in order,
//! whatever the tile, the stripe and the number of threads; so a row's bits depend on that row alone.

mod piece;
pub mod small;
mod source;

use std::cell::Cell;
use std::ops::Range;

use crate::isa::Kernels;
use crate::linear::Matrix;
use crate::pool::{Chunks, Pool, Stripes};
use piece::{Part, Scratch, WholeRows, piece};
use source::Source;

/// Columns of a panel.
pub(crate) const PANEL: usize = 16;

/// Panels of a wide tile.
pub(crate) const PANELS: usize = 4;

/// Rows of a wide tile, [`PANELS`] panels wide.
pub(crate) const WIDE: usize = 6;

/// Rows of a tall tile, one panel wide.
pub(crate) const TALL: usize = WIDE * PANELS;

/// Words of a square of 16 by 16 bf16 values: eight steps of a panel.
pub(crate) const SQUARE: usize = PANEL / 2 * PANEL;

/// Steps that are summed before results are written.
const BLOCK: usize = 1024;

/// Columns that a worker takes at once: so few that no thread waits long for the last ones of another.
const STRIPE: usize = 128;

/// Inputs of a weight's gradient that count as few: an adapter's rank.
const NARROW: usize = PANELS * PANEL;

/// Rows that a worker takes at once where there are few columns.
const ROWS: usize = 4 * TALL;

/// The rows' side of a tile: a step is a pair of k, as a set of instructions reads it ([`PairKernels::words`]).
#[derive(Clone, Copy)]
pub(crate) struct Side<'a> {
    /// From the tile's first row and step on.
    pub(crate) words: &'a [u32],
    /// Words from a row to the next.
    pub(crate) row: usize,
    /// Words from a step to the next.
    pub(crate) step: usize,
    /// Words from a pair's earlier value to its later one, where they are in words of their own.
    #[cfg_attr(not(target_arch = "x86_64"), allow(dead_code, reason = "other sets have pairs in a word"))]
    pub(crate) later: usize,
}

/// Where a tile's results go.
pub(crate) struct Out<'o, 'r> {
    /// Rows of results, each of as many values as the tile has columns, or of fewer: the rest is not used.
    pub(crate) rows: &'o mut [&'r mut [f32]],
    /// By what results are multiplied before they are added; none where they are written.
    pub(crate) adds: Option<f32>,
}

impl<'o, 'r> Out<'o, 'r> {
    /// The given columns of the first rows, which `parts` is to hold.
    fn new(
        parts: &'o mut [&'r mut [f32]],
        rows: impl Iterator<Item = &'r mut [f32]>,
        cols: &Range<usize>,
        adds: Option<f32>,
    ) -> Out<'o, 'r> {
        let mut count = 0;
        for (part, row) in parts.iter_mut().zip(rows) {
            *part = &mut row[cols.clone()];
            count += 1;
        }
        Out { rows: &mut parts[..count], adds }
    }
}

/// The tile's loops. Panels are `[steps][16]` words, each a pair of bf16 with the earlier k in its lower half.
pub(crate) struct PairKernels {
    /// Words of a step on the rows' side: one, a pair of bf16 like those of the panels; or two, f32 values rounded to bf16.
    pub(crate) words: usize,
    /// Values of a row to its words; an odd last value is followed by zero.
    pub(crate) row: fn(x: &[f32], words: &mut [u32]),
    /// `out[row][col] (+)= Σ side · panel` for up to [`WIDE`] rows and [`PANELS`] panels.
    pub(crate) wide: fn(side: Side<'_>, panels: [&[u32]; PANELS], out: Out<'_, '_>),
    /// The same for up to [`TALL`] rows and one panel.
    pub(crate) tall: fn(side: Side<'_>, panel: &[u32], out: Out<'_, '_>),
    /// `out[i]` is the pair of `low[i]` and `high[i]`, rounded to bf16.
    pub(crate) join: fn(low: &[f32], high: &[f32], out: &mut [u32]),
    /// A square turned: pairs of inputs for each output become pairs of outputs for each input.
    pub(crate) turn: fn(square: &[u32; SQUARE], out: &mut [u32; SQUARE]),
}

thread_local! {
    static SCRATCH: Cell<Option<Box<Scratch>>> = const { Cell::new(None) };
    static TURNED: Cell<Vec<u32>> = const { Cell::new(Vec::new()) };
}

/// Rows of f32 as tiles read them, in memory that lasts between products: rows that meet several weights are packed once.
#[derive(Default)]
pub struct Packed {
    words: Vec<u32>,
    /// Rows and values of a row that are packed now.
    holds: Option<(usize, usize)>,
}

impl Packed {
    /// Places of rows that are packed by [`pack_row`] where they are made, all of them before the next product.
    pub fn rows_mut(&mut self, kernels: &Kernels, rows: usize, k: usize) -> impl Iterator<Item = &mut [u32]> {
        let work = Work::by_rows(&kernels.pairs, rows, (k, 0), None);
        let len = kernels.pairs.words * work.steps;
        self.forget();
        self.holds = Some((rows, k));
        let words = reserve(&mut self.words, rows.next_multiple_of(TALL) * work.row);
        words.chunks_exact_mut(work.row).take(rows).map(move |words| &mut words[..len])
    }

    /// The next product packs its rows anew. Memory beyond what a usual step needs is given back.
    pub fn forget(&mut self) {
        self.holds = None;
        trim(&mut self.words);
    }
}

/// Packs one row into its place of [`Packed::rows_mut`]; an empty place takes none.
pub fn pack_row(kernels: &Kernels, x: &[f32], words: &mut [u32]) {
    if !words.is_empty() {
        (kernels.pairs.row)(x, words);
    }
}

/// Rows of a product: their values, and these packed, unless `packed` was told to forget. Whoever lends `packed` sees to it
/// that it holds these values or nothing.
pub struct Rows<'a> {
    /// `[rows, k]`.
    pub values: &'a [f32],
    /// The same, packed, after the first product.
    pub packed: &'a mut Packed,
}

/// What is added to a product as soon as a part of it is there: an adapter's second product.
#[derive(Clone, Copy)]
pub struct Beside<'a> {
    /// As many rows as the product has.
    pub values: &'a [f32],
    /// Its results are the product's.
    pub weight: Matrix<'a>,
    /// The factor of what is added.
    pub scale: f32,
}

/// `out[row] = x[row] · weightᵀ`: `[rows, weight.cols]` to `[rows, weight.rows]`, and what stands beside it by the same rule.
/// With a factor it is added to what is there.
pub fn products(
    pool: &Pool,
    x: Rows<'_>,
    weight: Matrix<'_>,
    beside: Option<Beside<'_>>,
    adds: Option<f32>,
    out: &mut [f32],
) {
    let beside = beside.map(|beside| (beside, Source::Outputs(beside.weight)));
    by_rows(pool, x, &Source::Outputs(weight), beside, adds, out);
}

/// `out[row] = dy[row] · weight`: `[rows, weight.rows]` to `[rows, weight.cols]`, beside it and added as by [`products`].
pub fn input_gradient(
    pool: &Pool,
    dy: Rows<'_>,
    weight: Matrix<'_>,
    beside: Option<Beside<'_>>,
    adds: Option<f32>,
    out: &mut [f32],
) {
    let beside = beside.map(|beside| (beside, Source::Inputs(beside.weight)));
    by_rows(pool, dy, &Source::Inputs(weight), beside, adds, out);
}

/// `sum += dyᵀ · x` over all rows: `[rows, outputs]` and `[rows, inputs]` to `[outputs, inputs]`.
pub fn outer(pool: &Pool, dy: &[f32], x: &[f32], rows: usize, sum: &mut [f32]) {
    if rows == 0 || sum.is_empty() {
        return;
    }
    let (outputs, inputs) = (dy.len() / rows, x.len() / rows);
    assert_eq!((dy.len(), x.len(), sum.len()), (rows * outputs, rows * inputs, outputs * inputs), "an outer product");
    if inputs > NARROW || outputs <= inputs {
        return by_steps(pool, dy, x, rows, Some(1.0), sum);
    }
    // The wide side makes better columns: they are read once, some at a time.
    let mut turned = vec![0.0; sum.len()];
    by_steps(pool, x, dy, rows, None, &mut turned);
    pool.for_chunks_mut(sum, ROWS * inputs, |number, sum| {
        for (output, sum) in (number * ROWS..).zip(sum.chunks_exact_mut(inputs)) {
            sum.iter_mut().zip(turned[output..].iter().step_by(outputs)).for_each(|(sum, value)| *sum += value);
        }
    });
}

/// `rowsᵀ · columns`, whose k are the rows of both: `[k, rows]` and `[k, cols]` to `[rows, cols]`.
fn by_steps(pool: &Pool, side: &[f32], columns: &[f32], k: usize, adds: Option<f32>, out: &mut [f32]) {
    let (rows, cols) = (side.len() / k, columns.len() / k);
    let (steps, width) = (k.div_ceil(2), rows.next_multiple_of(TALL));
    let step_words = pool.kernels().pairs.words * width;
    let prepare = |step: usize, words: &mut [u32]| {
        if let Some(low) = side.get(2 * step * rows..(2 * step + 1) * rows) {
            let high = side.get((2 * step + 1) * rows..(2 * step + 2) * rows).unwrap_or(&[]);
            pack_step(pool.kernels(), low, high, words);
        }
    };
    let work = Work { rows, cols, steps, row: 1, step: step_words, later: width, adds };
    let mut words = TURNED.take();
    run(
        pool,
        (reserve(&mut words, steps * step_words), step_words),
        prepare,
        (&work, &Source::Rows { values: columns, cols, rows: k }),
        None,
        out,
    );
    trim(&mut words);
    TURNED.set(words);
}

/// Rows whose k lie side by side.
fn by_rows(
    pool: &Pool,
    x: Rows<'_>,
    source: &Source<'_>,
    beside: Option<(Beside<'_>, Source<'_>)>,
    adds: Option<f32>,
    out: &mut [f32],
) {
    let Rows { values: x, packed } = x;
    let (k, cols) = source.shape();
    let rows = x.len() / k.max(1);
    assert_eq!((x.len(), out.len()), (rows * k, rows * cols), "rows of a product");
    if out.is_empty() || k == 0 {
        if adds.is_none() {
            out.fill(0.0);
        }
        return;
    }
    let pairs = &pool.kernels().pairs;
    let work = Work::by_rows(pairs, rows, (k, cols), adds);
    let stride = work.row;
    let prepare = |row: usize, words: &mut [u32]| {
        if let Some(x) = x.get(row * k..(row + 1) * k) {
            (pairs.row)(x, &mut words[..pairs.words * work.steps]);
        }
    };
    let beside = beside.map(|(beside, source)| (beside, source.shape(), source)).filter(|(_, (k, _), _)| *k > 0);
    let beside = beside.map(|(beside, (k, results), source)| {
        assert_eq!((beside.values.len(), results), (rows * k, cols), "rows beside a product");
        let work = Work::by_rows(pairs, rows, (k, cols), Some(adds.unwrap_or(1.0) * beside.scale));
        let mut words = vec![0; rows.next_multiple_of(TALL) * work.row];
        for (x, words) in beside.values.chunks_exact(k).zip(words.chunks_exact_mut(work.row)) {
            (pairs.row)(x, &mut words[..pairs.words * work.steps]);
        }
        (work, source, words)
    });
    let beside = beside.as_ref().map(|(work, source, words)| Part { work, source, words });
    let main = (&work, source);
    let len = rows.next_multiple_of(TALL) * stride;
    let is_packed = packed.holds.replace((rows, k)).is_some_and(|held| {
        assert_eq!(held, (rows, k), "what is packed is another product's rows");
        true
    });
    let words = reserve(&mut packed.words, len);
    match is_packed {
        true => run(pool, (words, len), |_, _| (), main, beside, out),
        false => run(pool, (words, stride), prepare, main, beside, out),
    }
}

/// At least so many words, without touching those that are there.
fn reserve(words: &mut Vec<u32>, len: usize) -> &mut [u32] {
    if words.len() < len {
        words.resize(len, 0);
    }
    &mut words[..len]
}

/// The largest side of a step is not held for ever.
fn trim(words: &mut Vec<u32>) {
    words.truncate(KEPT);
    words.shrink_to(KEPT);
}

/// One product's shape and how the rows' side lies.
struct Work {
    rows: usize,
    cols: usize,
    steps: usize,
    row: usize,
    step: usize,
    later: usize,
    /// By what results are multiplied before they are added; none where they are written.
    adds: Option<f32>,
}

impl Work {
    /// Rows whose k lie side by side.
    fn by_rows(pairs: &PairKernels, rows: usize, (k, cols): (usize, usize), adds: Option<f32>) -> Work {
        let steps = k.div_ceil(2);
        // An odd number of cache lines keeps the rows of a tile out of each other's cache sets.
        let row = ((pairs.words * steps).div_ceil(PANEL) | 1) * PANEL;
        Work { rows, cols, steps, row, step: pairs.words, later: 1, adds }
    }
}

/// One dispatch: prepares the rows' side, chunk by chunk, then works on pieces of the result, each with what stands beside.
fn run(
    pool: &Pool,
    (words, chunk): (&mut [u32], usize),
    prepare: impl Fn(usize, &mut [u32]) + Sync,
    (work, source): (&Work, &Source<'_>),
    beside: Option<Part<'_>>,
    out: &mut [f32],
) {
    let kernels = pool.kernels();
    if work.cols <= PANELS * PANEL * pool.threads() {
        let chunks = Chunks::new(out, ROWS * work.cols);
        pool.prepare_then(words, chunk, prepare, |_, words| {
            with_scratch(|scratch| {
                while let Some((number, chunk)) = chunks.claim() {
                    let rows = number * ROWS..number * ROWS + chunk.len() / work.cols;
                    let mut out = WholeRows { first: rows.start, cols: work.cols, values: chunk };
                    let product = Part { work, source, words };
                    piece(kernels, (product, beside), (rows, 0..work.cols), scratch, &mut out);
                }
            });
        });
    } else {
        let stripe = source.stripe(STRIPE.min(work.cols.div_ceil(4 * pool.threads()))).next_multiple_of(PANEL);
        let stripe = beside.map_or(stripe, |beside| beside.source.stripe(stripe));
        let stripes = Stripes::new(out, work.cols, stripe);
        pool.prepare_then(words, chunk, prepare, |_, words| {
            with_scratch(|scratch| {
                while let Some((_, mut stripe)) = stripes.claim() {
                    let cols = stripe.first()..stripe.first() + stripe.cols();
                    let product = Part { work, source, words };
                    piece(kernels, (product, beside), (0..work.rows, cols), scratch, &mut stripe);
                }
            });
        });
    }
}

/// Words that are kept between dispatches: as many as the gradient of a chunk of logits has.
const KEPT: usize = 17 << 20;

fn with_scratch(work: impl FnOnce(&mut Scratch)) {
    let mut scratch = SCRATCH.take().unwrap_or_default();
    work(&mut scratch);
    SCRATCH.set(Some(scratch));
}

/// A step of rows whose k lie apart, each value of a pair in a row of its own; the later may be missing. `words` are as
/// many for both values of a pair, where they are in words of their own.
fn pack_step(kernels: &Kernels, low: &[f32], high: &[f32], words: &mut [u32]) {
    if kernels.pairs.words == 1 {
        return join(kernels, low, high, &mut words[..low.len()]);
    }
    let (early, late) = words.split_at_mut(words.len() / 2);
    (kernels.pairs.row)(low, &mut early[..low.len()]);
    (kernels.pairs.row)(high, &mut late[..high.len()]);
    late[high.len()..].fill(0);
}

/// Pairs of two rows; the second may end earlier, or be missing.
fn join(kernels: &Kernels, low: &[f32], high: &[f32], out: &mut [u32]) {
    if low.len() == high.len() {
        (kernels.pairs.join)(low, high, out);
    } else {
        let high: Vec<f32> = high.iter().copied().chain(std::iter::repeat(0.0)).take(low.len()).collect();
        (kernels.pairs.join)(low, &high, out);
    }
}

#[cfg(test)]
mod tests;
