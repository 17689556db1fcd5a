//! Loops of attention over one page of keys or values, `[slots][dim]` f32 each. Which pages a row reads, and the
//! softmax between the two loops, is the backend's business.
//!
//! Invariant: each (query, key) product and each output value sums in one order, whatever else is computed beside it.

use std::ops::Range;

use half::f16;

use crate::Format;
use crate::isa::Kernels;

/// Slots come in groups of this many: a page holds a multiple.
pub const SLOT_GROUP: usize = 16;

/// Loops over a page; lengths are checked by the callers in this file.
pub(crate) struct PageKernels {
    /// `scores[query · stride + slot] = query · key[slot]` for every slot of the page.
    pub(crate) scores: fn(queries: &[f32], keys: &[f32], dim: usize, scores: &mut [f32], stride: usize),
    /// `out[query] += Σ weights[query · stride + slot] · value[slot]`, slot after slot.
    pub(crate) mix: fn(weights: &[f32], stride: usize, values: &[f32], dim: usize, out: &mut [f32]),
    /// f16 to f32.
    pub(crate) widen: fn(x: &[f16], out: &mut [f32]),
    /// f32 to f16, to nearest.
    pub(crate) narrow: fn(x: &[f32], out: &mut [f16]),
    /// Whole blocks to f32.
    pub(crate) decode: fn(format: Format, blocks: &[u8], out: &mut [f32]),
}

impl Kernels {
    /// `scores[query · stride + slot] = query · key[slot]` for every slot of a page. `queries` is `[queries][dim]`,
    /// `keys` `[slots][dim]` with whole groups of [`SLOT_GROUP`] slots.
    pub fn page_scores(&self, queries: &[f32], keys: &[f32], dim: usize, scores: &mut [f32], stride: usize) {
        assert!(dim > 0 && queries.len().is_multiple_of(dim) && keys.len().is_multiple_of(dim), "heads of {dim}");
        let (count, slots) = (queries.len() / dim, keys.len() / dim);
        assert!(slots.is_multiple_of(SLOT_GROUP), "a page of {slots} slots");
        assert!(count == 0 || scores.len() >= (count - 1) * stride + slots, "scores of {count} queries");
        (self.page.scores)(queries, keys, dim, scores, stride);
    }

    /// `out[query] += Σ weights[query · stride + slot] · value[slot]` over the given slots of a page, in order. Weights
    /// begin with the first given slot's. Slots outside are not read.
    pub fn page_mix(
        &self,
        weights: &[f32],
        stride: usize,
        values: &[f32],
        slots: Range<usize>,
        dim: usize,
        out: &mut [f32],
    ) {
        assert!(dim > 0 && out.len().is_multiple_of(dim), "heads of {dim}");
        let count = out.len() / dim;
        let values = &values[slots.start * dim..slots.end * dim];
        assert!(count == 0 || weights.len() >= (count - 1) * stride + slots.len(), "weights of {count} queries");
        (self.page.mix)(weights, stride, values, dim, out);
    }

    /// f16 to f32.
    pub fn widen(&self, x: &[f16], out: &mut [f32]) {
        assert_eq!(x.len(), out.len(), "one value for each");
        (self.page.widen)(x, out);
    }

    /// f32 to the nearest f16.
    pub fn narrow(&self, x: &[f32], out: &mut [f16]) {
        assert_eq!(x.len(), out.len(), "one value for each");
        (self.page.narrow)(x, out);
    }

    /// Whole blocks of a format to f32: what [`Format::dequantize`] gives, bit for bit.
    pub fn decode(&self, format: Format, blocks: &[u8], out: &mut [f32]) {
        assert_eq!(blocks.len(), format.row_bytes(out.len()), "bytes of {} values", out.len());
        (self.page.decode)(format, blocks, out);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_set_decodes_blocks_to_the_same_bits() {
        let mut bytes: Vec<u8> =
            (0u32..34 * 18 * 2 * 5).map(|at| (at.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
        for (format, block) in [(Format::Q8_0, 34), (Format::Q4_0, 18), (Format::BF16, 64)] {
            let count = bytes.len() / block * block / format.block_bytes() * format.block();
            // A scale is a number: its exponent is not all ones.
            bytes.chunks_exact_mut(2).for_each(|pair| pair[1] &= 0xbf);
            let stored = &bytes[..format.row_bytes(count)];
            let (mut wanted, mut found) = (vec![0.0; count], vec![0.0; count]);
            format.dequantize(stored, &mut wanted);
            for kernels in Kernels::all() {
                kernels.decode(format, stored, &mut found);
                let same = wanted.iter().zip(&found).all(|(one, other)| one.to_bits() == other.to_bits());
                assert!(same, "{} on {}", format.name(), kernels.name());
            }
        }
    }
}
