//! Panels of F32, F16 and BF16 weights times f32 activations, one panel or two in a pass over the records.
//!
//! Invariant: each (row, token) sums [`GROUP`] columns in order from zero and adds that to its total, at every tile width
//! and by either loop.

use std::arch::x86_64::*;

use super::vector;
use crate::linear::{PANEL, Rows, Section, TOKENS, Tile, TileKernels};

/// Columns that are summed before they join the total: their weights stay in the first cache while all tokens pass.
const GROUP: usize = 32;

/// Tokens of one panel whose sums are in registers at once; half as many of two.
const AT_ONCE: usize = 16;

/// A stored form of a panel.
trait Form {
    /// Bytes of a panel of `cols` columns.
    fn bytes(cols: usize) -> usize;

    /// Columns `2 · pair` and `2 · pair + 1` of 16 rows.
    ///
    /// # Safety
    /// The panel at `panel` has both columns; the processor has the features.
    unsafe fn two(panel: *const u8, pair: usize) -> [__m512; 2];

    /// Column `2 · pair` alone.
    ///
    /// # Safety
    /// As for [`Form::two`].
    unsafe fn one(panel: *const u8, pair: usize) -> __m512;
}

struct F32;
struct F16;
struct BF16;

impl Form for F32 {
    fn bytes(cols: usize) -> usize {
        4 * PANEL * cols
    }

    #[inline]
    #[target_feature(enable = "avx512f")]
    unsafe fn two(panel: *const u8, pair: usize) -> [__m512; 2] {
        let at = panel.cast::<f32>().wrapping_add(2 * PANEL * pair);
        // SAFETY: the caller's promise.
        unsafe { [_mm512_loadu_ps(at), _mm512_loadu_ps(at.add(PANEL))] }
    }

    #[inline]
    #[target_feature(enable = "avx512f")]
    unsafe fn one(panel: *const u8, pair: usize) -> __m512 {
        // SAFETY: the caller's promise.
        unsafe { _mm512_loadu_ps(panel.cast::<f32>().add(2 * PANEL * pair)) }
    }
}

impl Form for F16 {
    fn bytes(cols: usize) -> usize {
        2 * PANEL * cols
    }

    #[inline]
    #[target_feature(enable = "avx512f")]
    unsafe fn two(panel: *const u8, pair: usize) -> [__m512; 2] {
        let at = panel.cast::<__m256i>().wrapping_add(2 * pair);
        // SAFETY: the caller's promise.
        unsafe { [_mm512_cvtph_ps(_mm256_loadu_si256(at)), _mm512_cvtph_ps(_mm256_loadu_si256(at.add(1)))] }
    }

    #[inline]
    #[target_feature(enable = "avx512f")]
    unsafe fn one(panel: *const u8, pair: usize) -> __m512 {
        // SAFETY: the caller's promise.
        unsafe { _mm512_cvtph_ps(_mm256_loadu_si256(panel.cast::<__m256i>().add(2 * pair))) }
    }
}

/// `[pairs of columns][16][2]`: the halves of a word.
impl Form for BF16 {
    fn bytes(cols: usize) -> usize {
        4 * PANEL * cols.div_ceil(2)
    }

    #[inline]
    #[target_feature(enable = "avx512f")]
    unsafe fn two(panel: *const u8, pair: usize) -> [__m512; 2] {
        // SAFETY: the caller's promise.
        let words = unsafe { _mm512_loadu_si512(panel.cast::<__m512i>().add(pair).cast()) };
        [widen(words, 0), widen(words, 1)]
    }

    #[inline]
    #[target_feature(enable = "avx512f")]
    unsafe fn one(panel: *const u8, pair: usize) -> __m512 {
        // SAFETY: the caller's promise.
        widen(unsafe { _mm512_loadu_si512(panel.cast::<__m512i>().add(pair).cast()) }, 0)
    }
}

/// The even or odd half of each word, a bf16, as f32.
#[inline]
#[target_feature(enable = "avx512f")]
pub(super) fn widen(words: __m512i, half: usize) -> __m512 {
    _mm512_castsi512_ps(if half.is_multiple_of(2) {
        _mm512_slli_epi32::<16>(words)
    } else {
        _mm512_and_si512(words, _mm512_set1_epi32(0xffff_0000_u32.cast_signed()))
    })
}

/// Panels of f32, `[cols][16]`.
pub(super) const TILES_F32: TileKernels = TileKernels { one: one::<F32>, two: Some(two::<F32>) };
/// Panels of f16, `[cols][16]`.
pub(super) const TILES_F16: TileKernels = TileKernels { one: one::<F16>, two: Some(two::<F16>) };
/// Panels of bf16, `[pairs of columns][16][2]`.
pub(super) const TILES_BF16: TileKernels = TileKernels { one: one::<BF16>, two: Some(two::<BF16>) };

fn one<F: Form>(panel: &[u8], rows: &Rows<'_>, tokens: usize, tile: &mut Tile) {
    tiles_of::<F, 1>([panel], rows, tokens, [tile]);
}

fn two<F: Form>(panels: [&[u8]; 2], rows: &Rows<'_>, tokens: usize, [first, second]: &mut [Tile; 2]) {
    tiles_of::<F, 2>(panels, rows, tokens, [first, second]);
}

fn tiles_of<F: Form, const P: usize>(panels: [&[u8]; P], rows: &Rows<'_>, tokens: usize, mut tiles: [&mut Tile; P]) {
    let (words, stride, cols) = (rows.section(Section::Values), rows.layout.stride, rows.layout.cols);
    assert!(panels.iter().all(|panel| panel.len() == F::bytes(cols)), "panels of {cols} columns");
    assert!(tokens <= TOKENS && (tokens.max(1) - 1) * stride + cols <= words.len(), "records of {tokens} tokens");
    if cols == 0 {
        tiles.iter_mut().for_each(|tile| tile[..tokens].fill([0.0; PANEL]));
    }
    let panels = panels.map(<[u8]>::as_ptr);
    for first in (0..cols).step_by(GROUP) {
        let cols = first..cols.min(first + GROUP);
        let mut start = 0;
        while start < tokens {
            let at = (cols.clone(), start);
            // SAFETY: this table is given out only where the processor has the features; each panel holds the columns,
            // and each record that is read as many words.
            start += unsafe {
                match (tokens - start).min(AT_ONCE / P) {
                    1 => add_group::<F, 1, P>(panels, words, stride, at, &mut tiles),
                    2..4 => add_group::<F, 2, P>(panels, words, stride, at, &mut tiles),
                    4..8 => add_group::<F, 4, P>(panels, words, stride, at, &mut tiles),
                    8..16 => add_group::<F, 8, P>(panels, words, stride, at, &mut tiles),
                    _ => add_group::<F, 16, P>(panels, words, stride, at, &mut tiles),
                }
            };
        }
    }
}

/// Adds the products of some columns and `T` tokens from one on, and gives `T`.
///
/// # Safety
/// The panels hold the columns, which begin at an even one, and so do the records of the tokens in `words`; the processor
/// has the features.
#[target_feature(enable = "avx512f")]
unsafe fn add_group<F: Form, const T: usize, const P: usize>(
    panels: [*const u8; P],
    words: &[u32],
    stride: usize,
    (cols, start): (std::ops::Range<usize>, usize),
    tiles: &mut [&mut Tile; P],
) -> usize {
    let words = words.as_ptr().wrapping_add(start * stride);
    let mut parts = [[_mm512_setzero_ps(); P]; T];
    // SAFETY: the caller's promise.
    unsafe {
        let value = |token: usize, col: usize| _mm512_set1_ps(f32::from_bits(*words.add(token * stride + col)));
        for pair in cols.start / 2..cols.end / 2 {
            let (mut even, mut odd) = ([_mm512_setzero_ps(); P], [_mm512_setzero_ps(); P]);
            // By numbers: an iterator over three of them would go through memory.
            for panel in 0..P {
                [even[panel], odd[panel]] = F::two(panels[panel], pair);
            }
            for (token, parts) in parts.iter_mut().enumerate() {
                let x = value(token, 2 * pair);
                for (part, weights) in parts.iter_mut().zip(even) {
                    *part = _mm512_fmadd_ps(weights, x, *part);
                }
            }
            for (token, parts) in parts.iter_mut().enumerate() {
                let x = value(token, 2 * pair + 1);
                for (part, weights) in parts.iter_mut().zip(odd) {
                    *part = _mm512_fmadd_ps(weights, x, *part);
                }
            }
        }
        if cols.end % 2 == 1 {
            for (token, parts) in parts.iter_mut().enumerate() {
                let x = value(token, cols.end - 1);
                for (part, panel) in parts.iter_mut().zip(panels) {
                    *part = _mm512_fmadd_ps(F::one(panel, cols.end / 2), x, *part);
                }
            }
        }
    }
    for (token, parts) in parts.iter().enumerate() {
        for (part, tile) in parts.iter().zip(&mut *tiles) {
            let total = &mut tile[start + token];
            let sum = if cols.start == 0 { *part } else { _mm512_add_ps(vector::load(total), *part) };
            vector::store(total, sum);
        }
    }
    T
}
