//! Loops of attention over one page: keys stand in panels like a weight's rows, values `[slots][dim]`. Which pages a row
//! reads, and the softmax between the two loops, is the backend's business.
//!
//! Invariant: each (query, key) product and each output value sums in one order, whatever else is computed beside it.

use std::ops::Range;

use half::f16;

use crate::Format;
use crate::isa::Kernels;
use crate::linear::{PANEL, RecordLayout, Rows, TOKENS, Tiles};

/// Slots come in groups of this many: a page holds a multiple.
pub const SLOT_GROUP: usize = PANEL;

/// A page's keys of one head: for each group of [`SLOT_GROUP`] slots `[dim][slot]`.
#[derive(Clone, Copy)]
pub enum Keys<'a> {
    /// In f32.
    F32(&'a [f32]),
    /// In f16.
    F16(&'a [f16]),
}

/// A page's values of one head: `[slot][dim]`.
#[derive(Clone, Copy)]
pub enum Values<'a> {
    /// In f32.
    F32(&'a [f32]),
    /// In f16.
    F16(&'a [f16]),
}

/// Loops over a page; lengths are checked by the callers in this file.
pub(crate) struct PageKernels {
    /// `out[query] += Σ weights[query · stride + slot] · value[slot]`, slot after slot.
    pub(crate) mix: fn(weights: &[f32], stride: usize, values: &[f32], dim: usize, out: &mut [f32]),
    /// The same of values in f16, with the same bits.
    pub(crate) mix_f16: fn(weights: &[f32], stride: usize, values: &[f16], dim: usize, out: &mut [f32]),
    /// f16 to f32.
    pub(crate) widen: fn(x: &[f16], out: &mut [f32]),
    /// f32 to f16, to nearest.
    pub(crate) narrow: fn(x: &[f32], out: &mut [f16]),
    /// Whole blocks to f32.
    pub(crate) decode: fn(format: Format, blocks: &[u8], out: &mut [f32]),
}

impl Kernels {
    /// `scores[query · stride + slot] = query · key[slot]` for every slot of a page. `queries` is `[queries][dim]`.
    pub fn page_scores(&self, queries: &[f32], keys: Keys<'_>, dim: usize, scores: &mut [f32], stride: usize) {
        let (bytes, values, tiles): (&[u8], _, _) = match keys {
            Keys::F32(keys) => (bytemuck::cast_slice(keys), keys.len(), self.tile_f32),
            Keys::F16(keys) => {
                let packed = (self.packed)(Format::F16).expect("every set multiplies panels of f16");
                (bytemuck::cast_slice(keys), keys.len(), packed.fast.0)
            }
        };
        assert!(dim > 0 && queries.len().is_multiple_of(dim) && values.is_multiple_of(dim * PANEL), "heads of {dim}");
        let (count, slots) = (queries.len() / dim, values / dim);
        assert!(count == 0 || scores.len() >= (count - 1) * stride + slots, "scores of {count} queries");
        let (layout, panel) = (RecordLayout::of_values(dim), bytes.len() / values.max(1) * dim * PANEL);
        let mut products: Tiles = [[[0.0; PANEL]; TOKENS]; 2];
        let batches = queries.chunks(TOKENS * dim).zip(scores.chunks_mut((TOKENS * stride).max(1)));
        for (queries, scores) in batches {
            let (rows, count) = (Rows::new(bytemuck::cast_slice(queries), &layout), queries.len() / dim);
            for (pair, panels) in bytes.chunks(2 * panel).enumerate() {
                let (first, second) = panels.split_at(panel);
                match tiles.two {
                    Some(two) if !second.is_empty() => two([first, second], &rows, count, &mut products),
                    _ => panels
                        .chunks_exact(panel)
                        .zip(&mut products)
                        .for_each(|(panel, products)| (tiles.one)(panel, &rows, count, products)),
                }
                for (at, products) in products.iter().take(panels.len() / panel).enumerate() {
                    for (query, products) in products[..count].iter().enumerate() {
                        let scores = scores[query * stride + (2 * pair + at) * PANEL..].first_chunk_mut();
                        *scores.expect("as many scores as slots") = *products;
                    }
                }
            }
        }
    }

    /// Keys `[slots][dim]`, a multiple of [`SLOT_GROUP`] of them, as [`Keys::F32`] has them.
    pub fn page_panels(&self, keys: &[f32], dim: usize, panels: &mut [f32]) {
        assert_eq!(keys.len(), panels.len(), "one value for each");
        for (keys, panel) in keys.chunks_exact(PANEL * dim).zip(panels.chunks_exact_mut(PANEL * dim)) {
            (self.interleave)(keys, dim, panel);
        }
    }

    /// `out[query] += Σ weights[query · stride + slot] · value[slot]` over the given slots of a page, in order. Weights
    /// begin with the first given slot's. Slots outside are not read.
    pub fn page_mix(
        &self,
        weights: &[f32],
        stride: usize,
        values: Values<'_>,
        slots: Range<usize>,
        dim: usize,
        out: &mut [f32],
    ) {
        assert!(dim > 0 && out.len().is_multiple_of(dim), "heads of {dim}");
        let count = out.len() / dim;
        let places = slots.start * dim..slots.end * dim;
        assert!(count == 0 || weights.len() >= (count - 1) * stride + slots.len(), "weights of {count} queries");
        match values {
            Values::F32(values) => (self.page.mix)(weights, stride, &values[places], dim, out),
            Values::F16(values) => (self.page.mix_f16)(weights, stride, &values[places], dim, out),
        }
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
