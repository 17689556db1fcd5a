//! Panels of F32, F16 and BF16 weights times f32 activations in NEON: four tokens at a time.
//!
//! Invariant: each (row, token) sums eight columns in order from zero and adds that to its total, at every tile width.

use std::arch::aarch64::*;

use super::vector;
use crate::linear::{PANEL, Rows, Section, TOKENS, Tile};

/// Columns that are summed before they join the total.
const GROUP: usize = 8;

/// A stored form of a panel: where the 16 weights of a column are.
trait Form {
    /// Bytes of a panel of `cols` columns.
    fn bytes(cols: usize) -> usize;

    /// The weights of a column, four rows in a vector.
    ///
    /// # Safety
    /// `panel` points to the readable bytes of a panel with more than `col` columns; the processor has the features.
    unsafe fn load(panel: *const u8, col: usize) -> [float32x4_t; 4];
}

struct F32;
struct F16;
struct BF16;

impl Form for F32 {
    fn bytes(cols: usize) -> usize {
        cols * PANEL * 4
    }

    #[inline]
    #[target_feature(enable = "neon")]
    unsafe fn load(panel: *const u8, col: usize) -> [float32x4_t; 4] {
        // SAFETY: the caller's promise.
        let at = |part: usize| unsafe { vreinterpretq_f32_u8(vld1q_u8(panel.add(64 * col + 16 * part))) };
        [at(0), at(1), at(2), at(3)]
    }
}

impl Form for F16 {
    fn bytes(cols: usize) -> usize {
        cols * PANEL * 2
    }

    #[inline]
    #[target_feature(enable = "neon")]
    unsafe fn load(panel: *const u8, col: usize) -> [float32x4_t; 4] {
        // SAFETY: the caller's promise.
        let at = |part: usize| unsafe { vcvt_f32_f16(vreinterpret_f16_u8(vld1_u8(panel.add(32 * col + 8 * part)))) };
        [at(0), at(1), at(2), at(3)]
    }
}

impl Form for BF16 {
    fn bytes(cols: usize) -> usize {
        cols.div_ceil(2) * PANEL * 4
    }

    #[inline]
    #[target_feature(enable = "neon")]
    unsafe fn load(panel: *const u8, col: usize) -> [float32x4_t; 4] {
        // The earlier column is the lower half of a word; the upper half of an f32 is a bf16.
        let at = |part: usize| {
            // SAFETY: the caller's promise.
            let pairs = vreinterpretq_u32_u8(unsafe { vld1q_u8(panel.add(64 * (col / 2) + 16 * part)) });
            let (even, odd) = (vshlq_n_u32::<16>(pairs), vandq_u32(pairs, vdupq_n_u32(0xffff_0000)));
            vreinterpretq_f32_u32(if col.is_multiple_of(2) { even } else { odd })
        };
        [at(0), at(1), at(2), at(3)]
    }
}

/// A panel of f32, `[cols][16]`.
pub(super) fn tile_f32(panel: &[u8], rows: &Rows<'_>, tokens: usize, tile: &mut Tile) {
    tile_of::<F32>(panel, rows, tokens, tile);
}

/// A panel of f16, `[cols][16]`.
pub(super) fn tile_f16(panel: &[u8], rows: &Rows<'_>, tokens: usize, tile: &mut Tile) {
    tile_of::<F16>(panel, rows, tokens, tile);
}

/// A panel of bf16, `[pairs of columns][16][2]`.
pub(super) fn tile_bf16(panel: &[u8], rows: &Rows<'_>, tokens: usize, tile: &mut Tile) {
    tile_of::<BF16>(panel, rows, tokens, tile);
}

fn tile_of<F: Form>(panel: &[u8], rows: &Rows<'_>, tokens: usize, tile: &mut Tile) {
    let (words, stride, cols) = (rows.section(Section::Values), rows.layout.stride, rows.layout.cols);
    assert_eq!(panel.len(), F::bytes(cols), "a panel of {cols} columns");
    assert!(tokens <= TOKENS && (tokens.max(1) - 1) * stride + cols <= words.len(), "records of {tokens} tokens");
    for start in (0..tokens).step_by(4) {
        let (words, tile) = (&words[start * stride..], &mut tile[start..]);
        // SAFETY: this table is given out only where the processor has the features; the panel holds `cols` columns,
        // and each record that is read as many words.
        unsafe {
            match tokens - start {
                1 => multiply::<F, 1>(panel, words, cols, stride, tile),
                2 => multiply::<F, 2>(panel, words, cols, stride, tile),
                3 => multiply::<F, 3>(panel, words, cols, stride, tile),
                _ => multiply::<F, 4>(panel, words, cols, stride, tile),
            }
        }
    }
}

/// # Safety
/// The panel holds `cols` columns, each of `T` records in `words` as many; the processor has the features.
#[target_feature(enable = "neon")]
unsafe fn multiply<F: Form, const T: usize>(
    panel: &[u8],
    words: &[u32],
    cols: usize,
    stride: usize,
    tile: &mut [[f32; PANEL]],
) {
    let zero = [vdupq_n_f32(0.0); 4];
    let mut sums = [zero; T];
    for first in (0..cols).step_by(GROUP) {
        let mut parts = [zero; T];
        for col in first..cols.min(first + GROUP) {
            // SAFETY: the caller's promise.
            let weights = unsafe { F::load(panel.as_ptr(), col) };
            for (t, parts) in parts.iter_mut().enumerate() {
                // SAFETY: the caller's promise.
                let x = f32::from_bits(unsafe { *words.get_unchecked(t * stride + col) });
                for (part, weights) in parts.iter_mut().zip(weights) {
                    *part = vfmaq_n_f32(*part, weights, x);
                }
            }
        }
        for (sum, part) in sums.as_flattened_mut().iter_mut().zip(parts.as_flattened()) {
            *sum = vaddq_f32(*sum, *part);
        }
    }
    for (sums, out) in sums.iter().zip(tile) {
        for (sum, out) in sums.iter().zip(out.chunks_exact_mut(4)) {
            vector::store(out, *sum);
        }
    }
}
