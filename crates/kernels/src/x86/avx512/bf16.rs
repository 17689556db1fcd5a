//! Products of bf16 pairs, and f32 values rounded to them, for processors that multiply bf16 faster than f32.
//!
//! Invariant: each (row, token) sums eight pairs of columns in order from zero and adds that to its total, at every tile
//! width; the short chains hide the latency of the product when there is one token.

use std::arch::x86_64::*;

use super::vector;
use crate::linear::{Rows, Section, TOKENS, Tile, Tiles};
use crate::x86::fetch_at;

/// Pairs of columns whose weights are in registers at once.
const GROUP: usize = 8;

/// How far ahead memory is asked for, in bytes.
const AHEAD: usize = 4096;

/// Bytes of a pair of columns of a panel.
const BYTES: usize = 64;

/// A panel of bf16, `[pairs of columns][16][2]`, times pairs of bf16.
pub(super) fn tile(panel: &[u8], rows: &Rows<'_>, tokens: usize, tile: &mut Tile) {
    let (words, stride) = (rows.section(Section::Pairs), rows.layout.stride);
    // SAFETY: this table is given out only where the processor has the features; `multiply` checks the lengths.
    unsafe {
        match tokens {
            1 => multiply::<1>(panel, words, stride, tile),
            2 => multiply::<2>(panel, words, stride, tile),
            3 => multiply::<3>(panel, words, stride, tile),
            4 => multiply::<4>(panel, words, stride, tile),
            5..=6 => multiply::<6>(panel, words, stride, tile),
            7..=8 => multiply::<8>(panel, words, stride, tile),
            9..=12 => multiply::<12>(panel, words, stride, tile),
            _ => multiply::<16>(panel, words, stride, tile),
        }
    }
}

/// # Safety
/// The processor has the features.
#[target_feature(enable = "avx512f,avx512bf16")]
unsafe fn multiply<const T: usize>(panel: &[u8], words: &[u32], stride: usize, tile: &mut Tile) {
    let steps = panel.len() / BYTES;
    assert!((T - 1) * stride + steps <= words.len() && T <= TOKENS, "records of {T} tokens");
    let (weights, words) = (panel.as_ptr(), words.as_ptr());
    let mut sums = [_mm512_setzero_ps(); T];
    let whole = steps / GROUP * GROUP;
    // SAFETY: steps below `steps` are inside the panel, and `t * stride + step` inside the words, as asserted.
    unsafe {
        for first in (0..whole).step_by(GROUP) {
            let mut group = [_mm512_setzero_si512(); GROUP];
            for (at, step) in group.iter_mut().enumerate() {
                *step = _mm512_loadu_si512(weights.add((first + at) * BYTES).cast());
                _mm_prefetch::<_MM_HINT_T0>(weights.wrapping_add((first + at) * BYTES + AHEAD).cast());
            }
            for (t, sum) in sums.iter_mut().enumerate() {
                let words = words.add(t * stride + first);
                let mut part = _mm512_setzero_ps();
                for (at, weights) in group.into_iter().enumerate() {
                    part = add(part, weights, *words.add(at));
                }
                *sum = _mm512_add_ps(*sum, part);
            }
        }
        for (t, sum) in sums.iter_mut().enumerate() {
            let mut part = _mm512_setzero_ps();
            for step in whole..steps {
                let weights = _mm512_loadu_si512(weights.add(step * BYTES).cast());
                part = add(part, weights, *words.add(t * stride + step));
            }
            *sum = _mm512_add_ps(*sum, part);
        }
    }
    for (sum, out) in sums.into_iter().zip(tile) {
        vector::store(out, sum);
    }
}

/// Tokens of a pass over two panels: their sums of a group fill half of the registers.
const ABREAST: usize = 8;

/// Two panels likewise, with the same bits: a word of activations is loaded once for both.
pub(super) fn two(panels: [&[u8]; 2], rows: &Rows<'_>, tokens: usize, tiles: &mut Tiles) {
    let (words, stride) = (rows.section(Section::Pairs), rows.layout.stride);
    // SAFETY: this table is given out only where the processor has the features; `multiply_two` checks the lengths.
    unsafe {
        match tokens {
            ..=ABREAST => multiply_two::<1>(panels, words, stride, tiles),
            _ => multiply_two::<2>(panels, words, stride, tiles),
        }
    }
}

/// `H` times [`ABREAST`] tokens.
///
/// # Safety
/// The processor has the features.
#[target_feature(enable = "avx512f,avx512bf16")]
unsafe fn multiply_two<const H: usize>(panels: [&[u8]; 2], words: &[u32], stride: usize, tiles: &mut Tiles) {
    let [first, second] = panels;
    let steps = first.len() / BYTES;
    assert!(first.len() == second.len() && H * ABREAST <= TOKENS, "two panels of one length");
    assert!((H * ABREAST - 1) * stride + steps <= words.len(), "records of {H} times {ABREAST} tokens");
    let mut sums = [[[_mm512_setzero_ps(); 2]; ABREAST]; H];
    for from in (0..steps).step_by(GROUP) {
        let count = GROUP.min(steps - from);
        for at in (from..from + count).map(|step| step * BYTES + AHEAD) {
            // Behind the first panel lies the second.
            let next = if at < first.len() { 0 } else { first.len() };
            fetch_at(first.as_ptr().wrapping_add(at + next));
            fetch_at(second.as_ptr().wrapping_add(at + next));
        }
        for (half, sums) in sums.iter_mut().enumerate() {
            let mut parts = [[_mm512_setzero_ps(); 2]; ABREAST];
            for step in from..from + count {
                // SAFETY: steps below `steps` are inside the panels, and `t * stride + step` inside the words, as asserted.
                unsafe {
                    let first = _mm512_loadu_si512(first.as_ptr().add(step * BYTES).cast());
                    let second = _mm512_loadu_si512(second.as_ptr().add(step * BYTES).cast());
                    for (t, [one, other]) in parts.iter_mut().enumerate() {
                        let word = *words.as_ptr().add((half * ABREAST + t) * stride + step);
                        (*one, *other) = (add(*one, first, word), add(*other, second, word));
                    }
                }
            }
            for (sum, part) in sums.as_flattened_mut().iter_mut().zip(parts.as_flattened()) {
                *sum = _mm512_add_ps(*sum, *part);
            }
        }
    }
    let [first, second] = tiles;
    for ([one, other], (first, second)) in sums.into_iter().flatten().zip(first.iter_mut().zip(second)) {
        vector::store(first, one);
        vector::store(second, other);
    }
}

/// `sum + weights · word`, two products a lane.
#[inline]
#[target_feature(enable = "avx512f,avx512bf16")]
pub(super) fn add(sum: __m512, weights: __m512i, word: u32) -> __m512 {
    // SAFETY: both are 64 bytes of plain numbers.
    let pair = |x: __m512i| unsafe { std::mem::transmute::<__m512i, __m512bh>(x) };
    _mm512_dpbf16_ps(sum, pair(weights), pair(_mm512_set1_epi32(word.cast_signed())))
}
