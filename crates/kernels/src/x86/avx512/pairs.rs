//! Tiles of bf16 pairs: 24 sums in registers, each step four panels against six rows or one panel against 24.
//!
//! Invariant: each result is one chain of `vdpbf16ps` over its steps, in both tiles.

use std::arch::x86_64::*;

use super::vector;
use crate::gemm::{PANEL, PANELS, SQUARE, Side, TALL, Tile, WIDE};

/// [`WIDE`] rows of [`PANELS`] panels.
pub(super) fn wide(side: Side<'_>, panels: [&[u32]; PANELS], tile: &mut Tile) {
    // SAFETY: this table is given out only where the processor has the features; the body checks the lengths.
    unsafe { multiply::<WIDE, PANELS>(side, panels, tile) }
}

/// [`TALL`] rows of one panel.
pub(super) fn tall(side: Side<'_>, panel: &[u32], tile: &mut Tile) {
    // SAFETY: this table is given out only where the processor has the features; the body checks the lengths.
    unsafe { multiply::<TALL, 1>(side, [panel], tile) }
}

/// # Safety
/// The processor has the features.
#[target_feature(enable = "avx512f,avx512bf16")]
unsafe fn multiply<const R: usize, const P: usize>(side: Side<'_>, panels: [&[u32]; P], tile: &mut Tile) {
    let steps = panels[0].len() / PANEL;
    assert!(panels.iter().all(|panel| panel.len() == steps * PANEL) && R * P == TALL, "panels of one length");
    if steps == 0 {
        return tile.fill(0.0);
    }
    assert!((R - 1) * side.row + (steps - 1) * side.step < side.words.len(), "words of {R} rows and {steps} steps");
    let words = side.words.as_ptr();
    let mut sums = [[_mm512_setzero_ps(); P]; R];
    // SAFETY: steps below `steps` are inside the panels, and row and step inside the words, as asserted; vectors of
    // words and of bf16 pairs are both 64 bytes of plain numbers.
    unsafe {
        for step in 0..steps {
            let mut columns = [_mm512_setzero_si512(); P];
            for (column, panel) in columns.iter_mut().zip(&panels) {
                *column = _mm512_loadu_si512(panel.as_ptr().add(step * PANEL).cast());
            }
            for (row, sums) in sums.iter_mut().enumerate() {
                let word = _mm512_set1_epi32((*words.add(row * side.row + step * side.step)).cast_signed());
                for (sum, column) in sums.iter_mut().zip(columns) {
                    *sum = _mm512_dpbf16_ps(*sum, pair(column), pair(word));
                }
            }
        }
    }
    for (out, sum) in tile.chunks_exact_mut(PANEL).zip(sums.into_iter().flatten()) {
        vector::store(out, sum);
    }
}

#[inline]
#[target_feature(enable = "avx512f")]
fn pair(x: __m512i) -> __m512bh {
    // SAFETY: both are 64 bytes of plain numbers.
    unsafe { std::mem::transmute::<__m512i, __m512bh>(x) }
}

/// Pairs of two rows.
pub(super) fn join(low: &[f32], high: &[f32], out: &mut [u32]) {
    assert!(low.len() == high.len() && low.len() == out.len(), "rows of one length");
    let rows = low.chunks(PANEL).zip(high.chunks(PANEL));
    for ((low, high), out) in rows.zip(out.chunks_mut(PANEL)) {
        // SAFETY: this table is given out only where the processor has the features.
        unsafe { join_16(low, high, out) };
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
fn join_16(low: &[f32], high: &[f32], out: &mut [u32]) {
    // SAFETY: both are 32 bytes of plain numbers.
    let narrow = |x: &[f32]| unsafe { std::mem::transmute::<__m256bh, __m256i>(_mm512_cvtneps_pbh(vector::load(x))) };
    let high = _mm512_slli_epi32::<16>(_mm512_cvtepu16_epi32(narrow(high)));
    let words = _mm512_or_si512(_mm512_cvtepu16_epi32(narrow(low)), high);
    vector::store(bytemuck::cast_slice_mut(out), _mm512_castsi512_ps(words));
}

/// A square of bf16 values turned.
pub(super) fn turn(square: &[u32; SQUARE], out: &mut [u32; SQUARE]) {
    // SAFETY: this table is given out only where the processor has the features.
    unsafe { turn_square(square, out) };
}

/// The three bits of a register's number change places with the three upper bits of a pair's number, each in a stage of
/// its own; then the two lower bits of a value's number change places with each other.
#[target_feature(enable = "avx512f,avx512bw")]
fn turn_square(square: &[u32; SQUARE], out: &mut [u32; SQUARE]) {
    // SAFETY: rows of 16 words are 64 bytes of plain numbers, inside the square.
    let mut rows: [__m512i; 8] =
        std::array::from_fn(|row| unsafe { _mm512_loadu_si512(square[row * PANEL..].as_ptr().cast()) });
    for row in 0..4 {
        let (a, b) = (rows[row], rows[row + 4]);
        rows[row] = _mm512_shuffle_i64x2::<0b01_00_01_00>(a, b);
        rows[row + 4] = _mm512_shuffle_i64x2::<0b11_10_11_10>(a, b);
    }
    let low = _mm512_set_epi64(13, 12, 5, 4, 9, 8, 1, 0);
    let high = _mm512_set_epi64(15, 14, 7, 6, 11, 10, 3, 2);
    for row in [0, 1, 4, 5] {
        let (a, b) = (rows[row], rows[row + 2]);
        rows[row] = _mm512_permutex2var_epi64(a, low, b);
        rows[row + 2] = _mm512_permutex2var_epi64(a, high, b);
    }
    for row in [0, 2, 4, 6] {
        let (a, b) = (rows[row], rows[row + 1]);
        rows[row] = _mm512_unpacklo_epi64(a, b);
        rows[row + 1] = _mm512_unpackhi_epi64(a, b);
    }
    for (row, out) in rows.into_iter().zip(out.chunks_exact_mut(PANEL)) {
        let row = _mm512_shufflehi_epi16::<0b11_01_10_00>(_mm512_shufflelo_epi16::<0b11_01_10_00>(row));
        vector::store(bytemuck::cast_slice_mut(out), _mm512_castsi512_ps(row));
    }
}
