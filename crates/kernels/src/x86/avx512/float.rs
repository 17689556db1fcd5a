//! Panels of F32, F16 and BF16 weights times f32 or bf16 activations, and what prepares them.
//!
//! Invariant: each (row, token) sums eight steps in order from zero and adds that to its total, at every tile width;
//! the short chains hide the latency of the multiply-add when there is one token.

use std::arch::x86_64::*;

use super::vector;
use crate::linear::{PANEL, Rows, Section, TOKENS, Tile};

/// Steps (columns, or pairs of bf16 columns) whose weights are in registers at once.
const GROUP: usize = 8;

/// Calls a kernel with the smallest tile width that holds the tokens.
macro_rules! widths {
    ($tokens:expr, $kernel:ident::<$form:ty>($($argument:expr),*)) => {
        match $tokens {
            1 => $kernel::<$form, 1>($($argument),*),
            2 => $kernel::<$form, 2>($($argument),*),
            3 => $kernel::<$form, 3>($($argument),*),
            4 => $kernel::<$form, 4>($($argument),*),
            5..=6 => $kernel::<$form, 6>($($argument),*),
            7..=8 => $kernel::<$form, 8>($($argument),*),
            9..=12 => $kernel::<$form, 12>($($argument),*),
            _ => $kernel::<$form, 16>($($argument),*),
        }
    };
}

/// A stored form of a panel: what one step of 16 rows is and how it multiplies a word of activations.
trait Form {
    /// Bytes of a step.
    const BYTES: usize;

    /// The step's weights.
    ///
    /// # Safety
    /// `step` points to [`Form::BYTES`] readable bytes, and the processor has the features.
    unsafe fn load(step: *const u8) -> __m512;

    /// `sum + weights · word`.
    ///
    /// # Safety
    /// The processor has the features.
    unsafe fn accumulate(sum: __m512, weights: __m512, word: u32) -> __m512;
}

struct F32;
struct F16;
struct Pairs;

impl Form for F32 {
    const BYTES: usize = 64;

    #[inline]
    #[target_feature(enable = "avx512f")]
    unsafe fn load(step: *const u8) -> __m512 {
        // SAFETY: the caller's promise.
        unsafe { _mm512_loadu_ps(step.cast()) }
    }

    #[inline]
    #[target_feature(enable = "avx512f")]
    unsafe fn accumulate(sum: __m512, weights: __m512, word: u32) -> __m512 {
        _mm512_fmadd_ps(weights, _mm512_set1_ps(f32::from_bits(word)), sum)
    }
}

impl Form for F16 {
    const BYTES: usize = 32;

    #[inline]
    #[target_feature(enable = "avx512f")]
    unsafe fn load(step: *const u8) -> __m512 {
        // SAFETY: the caller's promise.
        _mm512_cvtph_ps(unsafe { _mm256_loadu_si256(step.cast()) })
    }

    #[inline]
    #[target_feature(enable = "avx512f")]
    unsafe fn accumulate(sum: __m512, weights: __m512, word: u32) -> __m512 {
        _mm512_fmadd_ps(weights, _mm512_set1_ps(f32::from_bits(word)), sum)
    }
}

impl Form for Pairs {
    const BYTES: usize = 64;

    #[inline]
    #[target_feature(enable = "avx512f")]
    unsafe fn load(step: *const u8) -> __m512 {
        // SAFETY: the caller's promise.
        unsafe { _mm512_loadu_ps(step.cast()) }
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512bf16")]
    unsafe fn accumulate(sum: __m512, weights: __m512, word: u32) -> __m512 {
        // SAFETY: all three are plain vectors of 64 bytes.
        let pair = |x: __m512i| unsafe { std::mem::transmute::<__m512i, __m512bh>(x) };
        _mm512_dpbf16_ps(sum, pair(_mm512_castps_si512(weights)), pair(_mm512_set1_epi32(word.cast_signed())))
    }
}

/// A panel of f32, `[cols][16]`, times f32.
pub(super) fn tile_f32(panel: &[u8], rows: &Rows<'_>, tokens: usize, tile: &mut Tile) {
    let words = rows.section(Section::Values);
    // SAFETY: this table is given out only where the processor has the features; `multiply` checks the lengths.
    unsafe { widths!(tokens, multiply::<F32>(panel, words, rows.layout.stride, tile)) }
}

/// A panel of f16, `[cols][16]`, times f32.
pub(super) fn tile_f16(panel: &[u8], rows: &Rows<'_>, tokens: usize, tile: &mut Tile) {
    let words = rows.section(Section::Values);
    // SAFETY: this table is given out only where the processor has the features; `multiply` checks the lengths.
    unsafe { widths!(tokens, multiply::<F16>(panel, words, rows.layout.stride, tile)) }
}

/// A panel of bf16, `[pairs of columns][16][2]`, times pairs of bf16.
pub(super) fn tile_bf16_pairs(panel: &[u8], rows: &Rows<'_>, tokens: usize, tile: &mut Tile) {
    let words = rows.section(Section::Pairs);
    // SAFETY: this table is given out only where the processor has the features; `multiply` checks the lengths.
    unsafe { widths!(tokens, multiply::<Pairs>(panel, words, rows.layout.stride, tile)) }
}

/// # Safety
/// The processor has the features.
#[target_feature(enable = "avx512f,avx512bf16")]
unsafe fn multiply<F: Form, const T: usize>(panel: &[u8], words: &[u32], stride: usize, tile: &mut Tile) {
    let steps = panel.len() / F::BYTES;
    assert!((T - 1) * stride + steps <= words.len() && T <= TOKENS, "records of {T} tokens");
    let (weights, words) = (panel.as_ptr(), words.as_ptr());
    let mut sums = [_mm512_setzero_ps(); T];
    let whole = steps / GROUP * GROUP;
    // SAFETY: steps below `steps` are inside the panel, and `t * stride + step` inside the words, as asserted.
    unsafe {
        for first in (0..whole).step_by(GROUP) {
            let mut group = [_mm512_setzero_ps(); GROUP];
            for (at, step) in group.iter_mut().enumerate() {
                *step = F::load(weights.add((first + at) * F::BYTES));
            }
            for (t, sum) in sums.iter_mut().enumerate() {
                let words = words.add(t * stride + first);
                let mut part = _mm512_setzero_ps();
                for (at, weights) in group.into_iter().enumerate() {
                    part = F::accumulate(part, weights, *words.add(at));
                }
                *sum = _mm512_add_ps(*sum, part);
            }
        }
        for (t, sum) in sums.iter_mut().enumerate() {
            let mut part = _mm512_setzero_ps();
            for step in whole..steps {
                part = F::accumulate(part, F::load(weights.add(step * F::BYTES)), *words.add(t * stride + step));
            }
            *sum = _mm512_add_ps(*sum, part);
        }
    }
    for (sum, out) in sums.into_iter().zip(tile) {
        vector::store(out, sum);
    }
}

/// A packed BF16 panel times f32: the pairs are widened in registers.
pub(super) fn tile_bf16(panel: &[u8], rows: &Rows<'_>, tokens: usize, tile: &mut Tile) {
    let (words, cols) = (rows.section(Section::Values), rows.layout.cols);
    // SAFETY: this table is given out only where the processor has the features; the body checks the lengths.
    unsafe { widths!(tokens, multiply_bf16::<F32>(panel, words, cols, rows.layout.stride, tile)) }
}

/// # Safety
/// The processor has the features.
#[target_feature(enable = "avx512f,avx512bf16")]
unsafe fn multiply_bf16<F: Form, const T: usize>(
    panel: &[u8],
    words: &[u32],
    cols: usize,
    stride: usize,
    tile: &mut Tile,
) {
    let whole = cols / GROUP * GROUP;
    assert!(panel.len() >= cols.div_ceil(2) * 64 && (T - 1) * stride + cols <= words.len(), "records of {T} tokens");
    let (weights, words) = (panel.as_ptr(), words.as_ptr());
    let mut sums = [_mm512_setzero_ps(); T];
    // SAFETY: pairs of columns below `cols` are inside the panel and the words, as asserted.
    unsafe {
        for first in (0..whole).step_by(GROUP) {
            let mut group = [_mm512_setzero_ps(); GROUP];
            for (at, step) in group.iter_mut().enumerate() {
                *step = widen(_mm512_loadu_si512(weights.add((first + at) / 2 * 64).cast()), at);
            }
            for (t, sum) in sums.iter_mut().enumerate() {
                let words = words.add(t * stride + first);
                let mut part = _mm512_setzero_ps();
                for (at, weights) in group.into_iter().enumerate() {
                    part = F::accumulate(part, weights, *words.add(at));
                }
                *sum = _mm512_add_ps(*sum, part);
            }
        }
        for (t, sum) in sums.iter_mut().enumerate() {
            let mut part = _mm512_setzero_ps();
            for col in whole..cols {
                let pair = _mm512_loadu_si512(weights.add(col / 2 * 64).cast());
                part = F::accumulate(part, widen(pair, col), *words.add(t * stride + col));
            }
            *sum = _mm512_add_ps(*sum, part);
        }
    }
    for (sum, out) in sums.into_iter().zip(tile) {
        vector::store(out, sum);
    }
}

/// A packed BF16 panel, `[pairs of columns][16][2]`, to `[cols][16]` f32.
pub(super) fn decode_bf16(panel: &[u8], cols: usize, out: &mut [f32]) {
    assert!(out.len() == cols * PANEL && panel.len() >= cols.div_ceil(2) * 64, "a decoded panel");
    for (pair, out) in panel.chunks_exact(64).zip(out.chunks_mut(2 * PANEL)) {
        // SAFETY: this table is given out only where the processor has the features; a chunk has 64 bytes.
        unsafe { widen_pair(pair, out) };
    }
}

/// # Safety
/// `pair` has 64 bytes, and the processor has the features.
#[target_feature(enable = "avx512f")]
unsafe fn widen_pair(pair: &[u8], out: &mut [f32]) {
    // SAFETY: the caller's promise.
    let pair = unsafe { _mm512_loadu_si512(pair.as_ptr().cast()) };
    vector::store(&mut out[..PANEL], widen(pair, 0));
    if let Some(odd) = out.get_mut(PANEL..2 * PANEL) {
        vector::store(odd, widen(pair, 1));
    }
}

/// The even or odd column of a pair as f32.
#[inline]
#[target_feature(enable = "avx512f")]
fn widen(pair: __m512i, col: usize) -> __m512 {
    _mm512_castsi512_ps(if col.is_multiple_of(2) {
        _mm512_slli_epi32::<16>(pair)
    } else {
        _mm512_and_si512(pair, _mm512_set1_epi32(0xffff_0000_u32.cast_signed()))
    })
}

/// Pairs of bf16, the earlier value in the lower half.
pub(super) fn narrow_pairs(x: &[f32], pairs: &mut [u32]) {
    let whole = x.len() / 32 * 32;
    let (head, tail) = pairs.split_at_mut(whole / 2);
    for (x, pairs) in x.chunks_exact(32).zip(head.chunks_exact_mut(16)) {
        // SAFETY: this table is given out only where the processor has the features.
        unsafe { narrow_32(x, pairs) };
    }
    crate::scalar::narrow_pairs(&x[whole..], tail);
}

#[target_feature(enable = "avx512f,avx512bf16")]
fn narrow_32(x: &[f32], pairs: &mut [u32]) {
    let narrow = _mm512_cvtne2ps_pbh(vector::load(&x[16..]), vector::load(x));
    // SAFETY: both are 64 bytes of plain numbers.
    let words: [u32; 16] = unsafe { std::mem::transmute(narrow) };
    pairs.copy_from_slice(&words);
}

/// 16 rows of `cols` values to `[cols][16]`.
pub(super) fn interleave(rows: &[f32], cols: usize, panel: &mut [f32]) {
    assert!(rows.len() == PANEL * cols && panel.len() == rows.len(), "a panel is 16 rows of {cols}");
    for (first, panel) in (0..cols).step_by(16).zip(panel.chunks_mut(16 * PANEL)) {
        // SAFETY: this table is given out only where the processor has the features.
        unsafe { transpose(&rows[first..], cols, cols - first, panel) };
    }
}

/// Up to 16 columns of 16 rows that lie `stride` apart, column after column.
#[target_feature(enable = "avx512f")]
fn transpose(rows: &[f32], stride: usize, left: usize, panel: &mut [f32]) {
    let mut r = [_mm512_setzero_ps(); 16];
    for (row, r) in r.iter_mut().enumerate() {
        *r = vector::load(&rows[row * stride..][..left.min(16)]);
    }
    // Pairs of rows, then fours: lane group L of `fours[4 q + j]` is column 4 L + j of rows 4 q to 4 q + 3.
    let mut twos = r;
    for (at, two) in twos.iter_mut().enumerate() {
        let (a, b) = (r[at / 2 * 2], r[at / 2 * 2 + 1]);
        *two = if at % 2 == 0 { _mm512_unpacklo_ps(a, b) } else { _mm512_unpackhi_ps(a, b) };
    }
    let mut fours = twos;
    for (at, four) in fours.iter_mut().enumerate() {
        let (q, j) = (at / 4 * 4, at % 4);
        let (a, b) = (_mm512_castps_pd(twos[q + j / 2]), _mm512_castps_pd(twos[q + 2 + j / 2]));
        *four = _mm512_castpd_ps(if j % 2 == 0 { _mm512_unpacklo_pd(a, b) } else { _mm512_unpackhi_pd(a, b) });
    }
    for (col, out) in panel.chunks_exact_mut(PANEL).enumerate() {
        let (group, j) = (col / 4, col % 4);
        let (low, high) = if group < 2 {
            (
                _mm512_shuffle_f32x4::<0x44>(fours[j], fours[4 + j]),
                _mm512_shuffle_f32x4::<0x44>(fours[8 + j], fours[12 + j]),
            )
        } else {
            (
                _mm512_shuffle_f32x4::<0xee>(fours[j], fours[4 + j]),
                _mm512_shuffle_f32x4::<0xee>(fours[8 + j], fours[12 + j]),
            )
        };
        let column = if group % 2 == 0 {
            _mm512_shuffle_f32x4::<0x88>(low, high)
        } else {
            _mm512_shuffle_f32x4::<0xdd>(low, high)
        };
        vector::store(out, column);
    }
}
