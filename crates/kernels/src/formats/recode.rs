//! The codes of a stored row chosen again, its scales as they are, so that the error of one input makes up for that of
//! another. No layouts here. Invariant: codes lie in the format's range, whatever the values and the products.

// A row's error in the output is `eᵀ H e` with the errors `e` of its weights and the mean products `H` of its inputs, of
// which a search by importance knows the diagonal alone. Written as `H = Aᵀ D A` with unit triangular `A`, each weight in
// turn is rounded to what those before it left over (Frantar et al., arXiv:2210.17323, in the form of Chee et al.,
// arXiv:2307.13304); then single codes move while that lowers the error. Weights with strong inputs come first, as later
// ones make up for them. `H` is taken by windows of neighboring inputs.

use super::block::{Block, reciprocal};
use super::search::level;
use crate::isa::{Loops, widely};

/// Inputs that are taken together.
pub const WINDOW: usize = 256;

/// How often codes are gone through one by one at most; on a trained model a third round moves few.
const ROUNDS: usize = 4;

/// A block whose values each have a code of their own, for one of the format's levels under a scale and beside an
/// offset.
pub trait Coded<const N: usize>: Block<N> {
    /// The levels of the codes 0 and 1.
    const LEVELS: [f32; 2];

    /// The nearest level and its code, of some level for NaN.
    fn nearest(value: f32) -> (f32, u8);

    /// Replaces the codes.
    fn put(&mut self, codes: &[u8; N]);
}

/// [`Coded::nearest`] of the whole numbers from `lowest`, which has code 0, to `highest`.
#[inline(always)]
pub fn nearest_whole(value: f32, lowest: f32, highest: f32) -> (f32, u8) {
    let found = level(value, lowest, highest);
    (found, (found - lowest) as u8)
}

/// How the inputs of a window of columns go together, strong ones first.
pub struct Window {
    /// The column, within the window, of each place.
    order: Vec<usize>,
    /// The mean products `H` by places, row by row.
    products: Vec<f32>,
    /// One by each product of a place with itself.
    inverses: Vec<f32>,
    /// `A` below its diagonal of ones, column after column.
    below: Vec<f32>,
}

impl Window {
    /// Of the mean squares of the inputs, and their correlations: for each input those with the inputs before it, none
    /// of them quite 1.
    ///
    /// Asserts that there are correlations for every pair.
    pub fn new(squares: &[f32], correlations: impl ExactSizeIterator<Item = f32>) -> Window {
        let n = squares.len();
        assert_eq!(correlations.len(), n * n.saturating_sub(1) / 2, "one correlation for each pair of inputs");
        let mut order: Vec<usize> = (0..n).collect();
        order.sort_by(|a, b| squares[*b].total_cmp(&squares[*a]));
        let mut place = vec![0; n];
        order.iter().enumerate().for_each(|(at, column)| place[*column] = at);
        let mut products = vec![0.0; n * n];
        let pairs = (0..n).flat_map(|a| (0..a).map(move |b| (a, b)));
        for ((a, b), correlation) in pairs.zip(correlations) {
            let product = correlation * (squares[a] * squares[b]).sqrt();
            (products[place[a] * n + place[b]], products[place[b] * n + place[a]]) = (product, product);
        }
        order.iter().enumerate().for_each(|(at, column)| products[at * n + at] = squares[*column]);
        let inverses = order.iter().map(|column| reciprocal(squares[*column])).collect();
        let below = triangle(products.clone(), n);
        Window { order, products, inverses, below }
    }

    /// How many inputs.
    pub fn len(&self) -> usize {
        self.order.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.order.is_empty()
    }
}

/// `A` of `H = Aᵀ D A`, below its diagonal of ones, column after column.
fn triangle(mut rest: Vec<f32>, n: usize) -> Vec<f32> {
    let mut below = vec![0.0; n * n];
    for last in (1..n).rev() {
        let (above, row) = rest.split_at_mut(last * n);
        let inverse = reciprocal(row[last]);
        for (at, above) in above.chunks_exact_mut(n).enumerate() {
            below[at * n + last] = row[at] * inverse;
            add(&mut above[..last], -below[at * n + last], row);
        }
    }
    below
}

/// One row of whole blocks.
pub fn recode<B: Coded<N>, const N: usize>(values: &[f32], windows: &[Window], bytes: &mut [u8]) {
    let (mut values, mut blocks) = (values, bytemuck::cast_slice_mut::<u8, B>(bytes));
    for window in windows {
        let (these, values_after) = values.split_at(window.order.len());
        let (stored, blocks_after) = blocks.split_at_mut(these.len() / N);
        let spots = spots(these, stored);
        let spots = window.order.iter().map(|column| spots[*column]).collect();
        let mut codes = vec![0; these.len()];
        widely(Choice { nearest: B::nearest, spots, window, codes: &mut codes });
        stored.iter_mut().zip(codes.as_chunks::<N>().0).for_each(|(block, codes)| block.put(codes));
        (values, blocks) = (values_after, blocks_after);
    }
}

/// A value's place among the levels of its group.
#[derive(Clone, Copy, Default)]
struct Spot {
    value: f32,
    offset: f32,
    step: f32,
    inverse: f32,
}

/// The codes of a window's values.
struct Choice<'a, F> {
    nearest: F,
    /// By places.
    spots: Vec<Spot>,
    window: &'a Window,
    /// By columns.
    codes: &'a mut [u8],
}

impl<F: Fn(f32) -> (f32, u8)> Loops for Choice<'_, F> {
    #[inline(always)]
    fn run(self) {
        let (window, n) = (self.window, self.spots.len());
        // The error of the level nearest to a value's own and this much more, and its code.
        let round = |at: usize, more: f32| -> (f32, u8) {
            let spot = &self.spots[at];
            let (level, code) = (self.nearest)((spot.value + more - spot.offset) * spot.inverse);
            let error = spot.step * level + spot.offset - spot.value;
            (if error.is_finite() { error } else { 0.0 }, code)
        };
        let (mut errors, mut codes, mut before) = (vec![0.0; n], vec![0; n], vec![0.0; n]);
        for (at, column) in window.below.chunks_exact(n).enumerate() {
            (errors[at], codes[at]) = round(at, -before[at]);
            add(&mut before[at + 1..], errors[at], &column[at + 1..]);
        }
        let mut slopes = vec![0.0; n];
        let rows = || window.products.chunks_exact(n);
        errors.iter().zip(rows()).for_each(|(error, row)| add(&mut slopes, *error, row));
        for _ in 0..ROUNDS {
            let mut moved = false;
            for (at, row) in rows().enumerate() {
                let (error, code) = round(at, errors[at] - slopes[at] * window.inverses[at]);
                let by = error - errors[at];
                if code != codes[at] && by * (2.0 * slopes[at] + by * row[at]) < 0.0 {
                    (errors[at], codes[at], moved) = (error, code, true);
                    add(&mut slopes, by, row);
                }
            }
            if !moved {
                break;
            }
        }
        window.order.iter().zip(&codes).for_each(|(column, code)| self.codes[*column] = *code);
    }
}

/// Where values lie among the levels of their blocks, read from what two codes stand for.
fn spots<B: Coded<N>, const N: usize>(values: &[f32], blocks: &[B]) -> Vec<Spot> {
    let [first, second] = B::LEVELS;
    let decoded = |block: &B, code: u8| -> [f32; N] {
        let (mut block, mut out) = (*block, [0.0; N]);
        block.put(&[code; N]);
        block.decode(&mut out);
        out
    };
    let spot = |((low, high), value): ((f32, f32), &f32)| {
        let step = (high - low) / (second - first);
        Spot { value: *value, offset: low - step * first, step, inverse: reciprocal(step) }
    };
    let of_block = |(block, values): (&B, &[f32; N])| {
        decoded(block, 0).into_iter().zip(decoded(block, 1)).zip(values).map(spot).collect::<Vec<Spot>>()
    };
    blocks.iter().zip(values.as_chunks::<N>().0).flat_map(of_block).collect()
}

/// `sum += factor * row`.
#[inline(always)]
fn add(sum: &mut [f32], factor: f32, row: &[f32]) {
    sum.iter_mut().zip(row).for_each(|(sum, value)| *sum += factor * value);
}
