//! Panels that are made of others: decoded, or interleaved.

use std::arch::x86_64::*;

use super::float::widen;
use super::vector;
use crate::linear::PANEL;

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
