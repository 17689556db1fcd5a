//! Panels of F32, F16 and BF16 weights times f32 activations in AVX2: four tokens at a time.
//!
//! Invariant: each (row, token) sums eight columns in order from zero and adds that to its total, at every tile width.

use std::arch::x86_64::*;

use super::vector;
use crate::linear::{PANEL, Rows, Section, TOKENS, Tile};

/// Columns that are summed before they join the total.
const GROUP: usize = 8;

/// A stored form of a panel: where the 16 weights of a column are.
trait Form {
    /// Bytes of a panel of `cols` columns.
    fn bytes(cols: usize) -> usize;

    /// The weights of a column, rows 0 to 7 and 8 to 15.
    ///
    /// # Safety
    /// `panel` points to the readable bytes of a panel with more than `col` columns; the processor has the features.
    unsafe fn load(panel: *const u8, col: usize) -> [__m256; 2];
}

struct F32;
struct F16;
struct BF16;

impl Form for F32 {
    fn bytes(cols: usize) -> usize {
        cols * PANEL * 4
    }

    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn load(panel: *const u8, col: usize) -> [__m256; 2] {
        let at = panel.cast::<f32>().wrapping_add(col * PANEL);
        // SAFETY: the caller's promise.
        unsafe { [_mm256_loadu_ps(at), _mm256_loadu_ps(at.add(8))] }
    }
}

impl Form for F16 {
    fn bytes(cols: usize) -> usize {
        cols * PANEL * 2
    }

    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn load(panel: *const u8, col: usize) -> [__m256; 2] {
        let at = panel.cast::<__m128i>().wrapping_add(2 * col);
        // SAFETY: the caller's promise.
        unsafe { [_mm256_cvtph_ps(_mm_loadu_si128(at)), _mm256_cvtph_ps(_mm_loadu_si128(at.add(1)))] }
    }
}

impl Form for BF16 {
    fn bytes(cols: usize) -> usize {
        cols.div_ceil(2) * PANEL * 4
    }

    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn load(panel: *const u8, col: usize) -> [__m256; 2] {
        let at = panel.cast::<__m256i>().wrapping_add(col / 2 * 2);
        // SAFETY: the caller's promise.
        let pairs = unsafe { [_mm256_loadu_si256(at), _mm256_loadu_si256(at.add(1))] };
        // The earlier column is the lower half of a word; the upper half of an f32 is a bf16.
        let [a, b] = pairs;
        if col.is_multiple_of(2) {
            [_mm256_castsi256_ps(_mm256_slli_epi32::<16>(a)), _mm256_castsi256_ps(_mm256_slli_epi32::<16>(b))]
        } else {
            let high = _mm256_set1_epi32(0xffff_0000_u32.cast_signed());
            [_mm256_castsi256_ps(_mm256_and_si256(a, high)), _mm256_castsi256_ps(_mm256_and_si256(b, high))]
        }
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
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn multiply<F: Form, const T: usize>(
    panel: &[u8],
    words: &[u32],
    cols: usize,
    stride: usize,
    tile: &mut [[f32; PANEL]],
) {
    let mut sums = [[_mm256_setzero_ps(); 2]; T];
    for first in (0..cols).step_by(GROUP) {
        let mut parts = [[_mm256_setzero_ps(); 2]; T];
        for col in first..cols.min(first + GROUP) {
            // SAFETY: the caller's promise.
            let [a, b] = unsafe { F::load(panel.as_ptr(), col) };
            for (t, part) in parts.iter_mut().enumerate() {
                // SAFETY: the caller's promise.
                let x = _mm256_set1_ps(f32::from_bits(unsafe { *words.get_unchecked(t * stride + col) }));
                *part = [_mm256_fmadd_ps(a, x, part[0]), _mm256_fmadd_ps(b, x, part[1])];
            }
        }
        for (sum, part) in sums.iter_mut().zip(parts) {
            *sum = [_mm256_add_ps(sum[0], part[0]), _mm256_add_ps(sum[1], part[1])];
        }
    }
    for (sum, out) in sums.into_iter().zip(tile) {
        vector::store(&mut out[..8], sum[0]);
        vector::store(&mut out[8..], sum[1]);
    }
}
