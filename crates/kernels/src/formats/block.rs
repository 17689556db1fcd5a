//! The loops that every block format shares: whole rows to blocks and back, and the scalar product.
//! A format supplies one block's [`Block::decode`] and, where values can be stored in it, [`Encode::encode`].
//! Invariant: no loop here allocates, and a product sums exactly the decoded values.

use bytemuck::Pod;
use half::f16;

use super::recode::{Coded, recode};
use super::{Traits, Weights};
use crate::isa::{Loops, widely};

/// One block of `N` values as it lies in a file: plain bytes without padding.
pub trait Block<const N: usize>: Pod {
    /// The block's values.
    fn decode(&self, out: &mut [f32; N]);
}

/// A block that can be made from values.
pub trait Encode<const N: usize>: Block<N> {
    /// The block nearest to `values`, by `importance` where the format searches.
    fn encode(values: &[f32; N], importance: Option<Importance<'_, N>>) -> Self;
}

/// How much each value of a block matters, as measured by activations.
#[derive(Clone, Copy)]
pub struct Importance<'a, const N: usize> {
    /// One weight per value.
    pub weights: &'a [f32; N],
    /// Mean square of the whole row that holds the block.
    pub row_mean_square: f32,
    /// Whether it was measured, so that a search by it may take its time.
    pub measured: bool,
}

/// The table entry of a block format that is only read.
pub const fn read_only<B: Block<N>, const N: usize>(name: &'static str, ggml_type: Option<u32>) -> Traits {
    Traits {
        name,
        block: N,
        bytes: size_of::<B>(),
        ggml_type,
        dequantize: dequantize::<B, N>,
        quantize: None,
        recode: None,
        dot: dot::<B, N>,
    }
}

/// The table entry of a block format that values can be stored in.
pub const fn read_write<B: Encode<N>, const N: usize>(name: &'static str, ggml_type: Option<u32>) -> Traits {
    Traits { quantize: Some(quantize::<B, N>), ..read_only::<B, N>(name, ggml_type) }
}

/// The table entry of a block format whose values have a code each.
pub const fn coded<B: Encode<N> + Coded<N>, const N: usize>(name: &'static str, ggml_type: Option<u32>) -> Traits {
    Traits { recode: Some(recode::<B, N>), ..read_write::<B, N>(name, ggml_type) }
}

fn dequantize<B: Block<N>, const N: usize>(bytes: &[u8], out: &mut [f32]) {
    let (rows, _) = out.as_chunks_mut::<N>();
    for (block, out) in bytemuck::cast_slice::<u8, B>(bytes).iter().zip(rows) {
        block.decode(out);
    }
}

fn quantize<B: Encode<N>, const N: usize>(values: &[f32], importance: Option<Weights<'_>>, out: &mut [u8]) {
    widely(Quantizing::<'_, B, N> { values, importance, blocks: bytemuck::cast_slice_mut(out) });
}

struct Quantizing<'a, B, const N: usize> {
    values: &'a [f32],
    importance: Option<Weights<'a>>,
    blocks: &'a mut [B],
}

impl<'a, B: Encode<N>, const N: usize> Loops for Quantizing<'a, B, N> {
    #[inline(always)]
    fn run(self) {
        let row_mean_square = mean_square(self.values);
        for (at, (block, row)) in self.blocks.iter_mut().zip(self.values.as_chunks::<N>().0).enumerate() {
            let of_block = |given: Weights<'a>| Importance {
                weights: &given.values.as_chunks::<N>().0[at],
                row_mean_square,
                measured: given.measured,
            };
            *block = B::encode(row, self.importance.map(of_block));
        }
    }
}

fn dot<B: Block<N>, const N: usize>(bytes: &[u8], x: &[f32]) -> f32 {
    let mut weights = [0.0; N];
    let mut total = 0.0;
    let (rows, _) = x.as_chunks::<N>();
    for (block, x) in bytemuck::cast_slice::<u8, B>(bytes).iter().zip(rows) {
        block.decode(&mut weights);
        total += sum::<N>(|at| weights[at] * x[at]);
    }
    total
}

/// Sum of `term` over `0..N`, in eight interleaved lanes: an order that vector units can follow.
#[inline(always)]
pub fn sum<const N: usize>(term: impl Fn(usize) -> f32) -> f32 {
    let mut lanes = [0.0f32; 8];
    for start in (0..N).step_by(8) {
        for (lane, total) in lanes.iter_mut().enumerate() {
            *total += term(start + lane);
        }
    }
    let [a, b, c, d, e, f, g, h] = lanes;
    ((a + e) + (c + g)) + ((b + f) + (d + h))
}

/// An array by places. `std::array::from_fn` is a call for each place where loops are large.
#[inline(always)]
pub fn each<T: Copy + Default, const N: usize>(mut value: impl FnMut(usize) -> T) -> [T; N] {
    let mut all = [T::default(); N];
    for (at, one) in all.iter_mut().enumerate() {
        *one = value(at);
    }
    all
}

/// Mean of the squares.
#[inline(always)]
pub fn mean_square(values: &[f32]) -> f32 {
    values.iter().map(|value| value * value).sum::<f32>() / values.len().max(1) as f32
}

/// The value with the largest magnitude, the first of equals; 0 for a block of zeros and NaNs.
#[inline(always)]
pub fn extreme(values: &[f32]) -> f32 {
    values.iter().fold(0.0, |found: f32, &value| if value.abs() > found.abs() { value } else { found })
}

/// The smallest and the largest value; zeros if there is no number among them.
#[inline(always)]
pub fn span<const N: usize>(values: &[f32; N]) -> (f32, f32) {
    let low = values.iter().copied().fold(f32::INFINITY, f32::min);
    let high = values.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    if low <= high { (low, high) } else { (0.0, 0.0) }
}

/// `1 / value`, or 0 where there is no reciprocal.
#[inline(always)]
pub fn reciprocal(value: f32) -> f32 {
    if value == 0.0 { 0.0 } else { 1.0 / value }
}

/// A stored binary16.
#[inline(always)]
pub fn half_to_f32(bytes: [u8; 2]) -> f32 {
    f16::from_le_bytes(bytes).to_f32()
}

/// A value stored as binary16.
#[inline(always)]
pub fn half_from_f32(value: f32) -> [u8; 2] {
    f16::from_f32(value).to_le_bytes()
}

/// Thirty-two four-bit codes in sixteen bytes: code `j` in the low half of byte `j`, code `j + 16` in the high half.
#[inline(always)]
pub fn pack_nibbles(codes: &[u8; 32]) -> [u8; 16] {
    std::array::from_fn(|at| (codes[at] & 15) | (codes[at + 16] << 4))
}

/// The codes that [`pack_nibbles`] stored.
pub fn unpack_nibbles(bytes: &[u8; 16]) -> [u8; 32] {
    std::array::from_fn(|at| if at < 16 { bytes[at] & 15 } else { bytes[at - 16] >> 4 })
}

/// The fifth bits of thirty-two codes, code 0 in the lowest bit of the first byte.
#[inline(always)]
pub fn pack_fifth_bits(codes: &[u8; 32]) -> [u8; 4] {
    let word = codes.iter().enumerate().fold(0u32, |word, (at, code)| word | u32::from(code >> 4 & 1) << at);
    word.to_le_bytes()
}

/// Five-bit codes from their low halves and their fifth bits.
pub fn unpack_five_bits(low: &[u8; 16], high: [u8; 4]) -> [u8; 32] {
    let low = unpack_nibbles(low);
    let high = u32::from_le_bytes(high);
    std::array::from_fn(|at| low[at] | ((high >> at & 1) as u8) << 4)
}
