//! Products of bf16 pairs, and f32 values rounded to them, for processors that multiply bf16 faster than f32.
//!
//! Invariant: each (row, token) sums eight pairs of columns in order from zero and adds that to its total, at every tile
//! width; the short chains hide the latency of the product when there is one token.

use std::arch::x86_64::*;

use super::vector;
use crate::linear::{Rows, Section, TOKENS, Tile};

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

/// `sum + weights · word`, two products a lane.
#[inline]
#[target_feature(enable = "avx512f,avx512bf16")]
pub(super) fn add(sum: __m512, weights: __m512i, word: u32) -> __m512 {
    // SAFETY: both are 64 bytes of plain numbers.
    let pair = |x: __m512i| unsafe { std::mem::transmute::<__m512i, __m512bh>(x) };
    _mm512_dpbf16_ps(sum, pair(weights), pair(_mm512_set1_epi32(word.cast_signed())))
}
