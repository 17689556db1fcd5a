//! Tiles of bf16 pairs: 24 sums in registers, each step four panels against six rows or one panel against 24.
//!
//! Invariant: each result is one chain of products over its steps, in both tiles.

use std::arch::x86_64::*;

use super::float::widen;
use super::{bf16, vector};
use crate::gemm::{Out, PANEL, PANELS, PairKernels, SQUARE, Side, TALL, WIDE};
use crate::x86::{fetch_at, fetch_far_at, fetch_to_write};

/// How far ahead of the values at work memory is asked for: rows follow each other, and are longer than what a processor
/// looks ahead.
const AHEAD: usize = 512;

/// With products of f32: what processors without bf16 products have, and those that make them at less than half the rate.
pub(super) const BY_FLOATS: PairKernels =
    PairKernels { words: 2, row: round, wide: wide::<false>, tall: tall::<false>, join, turn };

/// With products of bf16.
pub(super) const BY_PAIRS: PairKernels =
    PairKernels { words: 1, row: narrow_pairs, wide: wide::<true>, tall: tall::<true>, join, turn };

/// Writes results to their places, or adds them. A function would take its sums through memory.
macro_rules! put {
    ($sums:ident, $out:ident) => {
        // By sums, whose number is known when this is compiled.
        for (row, sums) in $sums.into_iter().enumerate() {
            let Some(values) = $out.rows.get_mut(row) else { return };
            for (panel, sum) in sums.into_iter().enumerate() {
                let Some(values) = values.get_mut(panel * PANEL..) else { break };
                let sum = match $out.adds {
                    None => sum,
                    Some(scale) => _mm512_fmadd_ps(sum, _mm512_set1_ps(scale), vector::load(values)),
                };
                vector::store(values, sum);
            }
        }
    };
}

/// Rows of [`PANELS`] panels.
fn wide<const BF16: bool>(side: Side<'_>, panels: [&[u32]; PANELS], out: Out<'_, '_>) {
    // SAFETY: this table is given out only where the processor has the features; the bodies check the lengths.
    unsafe {
        match (BF16, out.rows.len()) {
            (true, ..=2) => by_pairs::<2, PANELS>(side, panels, out),
            (true, 3..=4) => by_pairs::<4, PANELS>(side, panels, out),
            (true, 5..) => by_pairs::<WIDE, PANELS>(side, panels, out),
            (false, ..=2) => by_floats::<2, PANELS>(side, panels, out),
            (false, 3..=4) => by_floats::<4, PANELS>(side, panels, out),
            (false, 5..) => by_floats::<WIDE, PANELS>(side, panels, out),
        }
    }
}

/// Rows of one panel.
fn tall<const BF16: bool>(side: Side<'_>, panel: &[u32], out: Out<'_, '_>) {
    // SAFETY: this table is given out only where the processor has the features; the bodies check the lengths.
    unsafe {
        match BF16 {
            true => by_pairs::<TALL, 1>(side, [panel], out),
            false => by_floats::<TALL, 1>(side, [panel], out),
        }
    }
}

/// Checks that all steps of `R` rows and `P` panels can be read, and gives their number.
fn steps_of<const R: usize, const P: usize>(side: &Side<'_>, panels: &[&[u32]; P], later: usize) -> usize {
    let steps = panels[0].len() / PANEL;
    assert!(panels.iter().all(|panel| panel.len() == steps * PANEL) && R * P <= TALL, "panels of one length");
    let last = (R - 1) * side.row + steps.saturating_sub(1) * side.step + later;
    assert!(steps == 0 || last < side.words.len(), "words of {R} rows and {steps} steps");
    steps
}

/// Asks for what is written after all steps: for the second cache, a line of each row at a time; for the first one only at
/// the end, because the panels drive it away.
#[inline(always)]
fn fetch_out(out: &Out<'_, '_>, panels: usize, step: usize, steps: usize) {
    if step < panels * PANEL {
        out.rows.iter().for_each(|values| fetch_far_at(values.as_ptr().wrapping_add(step)));
    }
    if step + PANEL >= steps {
        for values in out.rows.iter() {
            (0..panels).for_each(|panel| fetch_to_write(values.as_ptr().wrapping_add(panel * PANEL)));
        }
    }
}

/// # Safety
/// The processor has the features.
#[target_feature(enable = "avx512f,avx512bf16")]
unsafe fn by_pairs<const R: usize, const P: usize>(side: Side<'_>, panels: [&[u32]; P], out: Out<'_, '_>) {
    let steps = steps_of::<R, P>(&side, &panels, 0);
    let words = side.words.as_ptr();
    let mut sums = [[_mm512_setzero_ps(); P]; R];
    // SAFETY: `steps_of` has checked that these steps are inside the panels, and row and step inside the words.
    unsafe {
        for step in 0..steps {
            if P > 1 && step.is_multiple_of(PANEL) {
                // The next tile's rows, which are longer than what a processor looks ahead, come into the second cache.
                for row in R..2 * R {
                    fetch_far_at(words.wrapping_add(row * side.row + step * side.step));
                }
                fetch_out(&out, P, step, steps);
            }
            let mut columns = [_mm512_setzero_si512(); P];
            for (column, panel) in columns.iter_mut().zip(&panels) {
                *column = _mm512_loadu_si512(panel.as_ptr().add(step * PANEL).cast());
            }
            for (row, sums) in sums.iter_mut().enumerate() {
                let word = *words.add(row * side.row + step * side.step);
                for (sum, column) in sums.iter_mut().zip(columns) {
                    *sum = bf16::add(*sum, column, word);
                }
            }
        }
    }
    put!(sums, out);
}

/// # Safety
/// The processor has the features.
#[target_feature(enable = "avx512f")]
unsafe fn by_floats<const R: usize, const P: usize>(side: Side<'_>, panels: [&[u32]; P], out: Out<'_, '_>) {
    let steps = steps_of::<R, P>(&side, &panels, side.later);
    let words = side.words.as_ptr();
    let mut sums = [[_mm512_setzero_ps(); P]; R];
    // SAFETY: as in `by_pairs`; a pair's later value is inside the words as well.
    unsafe {
        for step in 0..steps {
            if P > 1 && step.is_multiple_of(PANEL) {
                fetch_out(&out, P, step, steps);
            }
            let (mut early, mut late) = ([_mm512_setzero_ps(); P], [_mm512_setzero_ps(); P]);
            for (panel, (early, late)) in panels.iter().zip(early.iter_mut().zip(&mut late)) {
                let words = _mm512_loadu_si512(panel.as_ptr().add(step * PANEL).cast());
                (*early, *late) = (widen(words, 0), widen(words, 1));
            }
            let words = words.add(step * side.step);
            for (half, columns) in [early, late].into_iter().enumerate() {
                for (row, sums) in sums.iter_mut().enumerate() {
                    let x = _mm512_set1_ps(f32::from_bits(*words.add(row * side.row + half * side.later)));
                    for (sum, column) in sums.iter_mut().zip(columns) {
                        *sum = _mm512_fmadd_ps(column, x, *sum);
                    }
                }
            }
        }
    }
    put!(sums, out);
}

/// Pairs of two rows.
fn join(low: &[f32], high: &[f32], out: &mut [u32]) {
    assert!(low.len() == high.len() && low.len() == out.len(), "rows of one length");
    if out.len() <= PANEL {
        // SAFETY: this table is given out only where the processor has the features.
        return unsafe { join_16(low, high, out) };
    }
    let columns = low.chunks(PANEL).zip(high.chunks(PANEL)).zip(out.chunks_mut(PANEL));
    let ahead = low.chunks(PANEL).zip(high.chunks(PANEL)).skip(AHEAD / PANEL).map(Some).chain(std::iter::repeat(None));
    for (((low, high), out), ahead) in columns.zip(ahead) {
        if let Some((low, high)) = ahead {
            fetch_at(low.as_ptr());
            fetch_at(high.as_ptr());
        }
        // SAFETY: this table is given out only where the processor has the features.
        unsafe { join_16(low, high, out) };
    }
}

#[target_feature(enable = "avx512f")]
fn join_16(low: &[f32], high: &[f32], out: &mut [u32]) {
    let high = _mm512_slli_epi32::<16>(narrow(vector::load(high)));
    let words = _mm512_or_si512(narrow(vector::load(low)), high);
    vector::store(bytemuck::cast_slice_mut(out), _mm512_castsi512_ps(words));
}

/// Values rounded to bf16, ties to even, in the lower halves of words; a NaN stays one.
#[inline]
#[target_feature(enable = "avx512f")]
fn narrow(x: __m512) -> __m512i {
    let bits = _mm512_castps_si512(x);
    let odd = _mm512_and_si512(_mm512_srli_epi32::<16>(bits), _mm512_set1_epi32(1));
    let rounded = _mm512_add_epi32(bits, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff)));
    let quiet = _mm512_or_si512(bits, _mm512_set1_epi32(0x0040_0000));
    let is_nan = _mm512_cmp_ps_mask::<_CMP_UNORD_Q>(x, x);
    _mm512_srli_epi32::<16>(_mm512_mask_blend_epi32(is_nan, rounded, quiet))
}

/// Values rounded to bf16, as f32; a word more, if there is one, is zero.
fn round(x: &[f32], words: &mut [u32]) {
    let (values, rest) = words.split_at_mut(x.len());
    for (x, out) in x.chunks(PANEL).zip(values.chunks_mut(PANEL)) {
        // SAFETY: this table is given out only where the processor has the features.
        unsafe { round_16(x, out) };
    }
    rest.fill(0);
}

#[target_feature(enable = "avx512f")]
fn round_16(x: &[f32], out: &mut [u32]) {
    let rounded = _mm512_slli_epi32::<16>(narrow(vector::load(x)));
    vector::store(bytemuck::cast_slice_mut(out), _mm512_castsi512_ps(rounded));
}

/// Pairs of bf16, the earlier value in the lower half.
pub(super) fn narrow_pairs(x: &[f32], pairs: &mut [u32]) {
    let whole = x.len() / 32 * 32;
    let (head, tail) = pairs.split_at_mut(whole / 2);
    for (x, pairs) in x.chunks_exact(32).zip(head.chunks_exact_mut(16)) {
        fetch_at(x.as_ptr().wrapping_add(AHEAD));
        fetch_at(x.as_ptr().wrapping_add(AHEAD + PANEL));
        // SAFETY: this table is given out only where the processor has the features.
        unsafe { narrow_32(x, pairs) };
    }
    crate::scalar::narrow_pairs(&x[whole..], tail);
}

#[target_feature(enable = "avx512f")]
fn narrow_32(x: &[f32], pairs: &mut [u32]) {
    let halves = [&x[..16], &x[16..]].map(|x| _mm512_cvtepi32_epi16(narrow(vector::load(x))));
    // SAFETY: both are 64 bytes of plain numbers.
    let words: [u32; 16] = unsafe { std::mem::transmute(halves) };
    pairs.copy_from_slice(&words);
}

/// A square of bf16 values turned.
fn turn(square: &[u32; SQUARE], out: &mut [u32; SQUARE]) {
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
