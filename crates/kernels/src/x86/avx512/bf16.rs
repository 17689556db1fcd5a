//! Products of bf16 pairs, and f32 values rounded to them, for processors that multiply bf16 faster than f32.
//!
//! Invariant: each (row, token) sums eight pairs of columns in order from zero and adds that to its total, at every tile
//! width; the short chains hide the latency of the product when there is one token.

use std::arch::asm;
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

/// Tokens whose groups are summed at a time: with two panels as many chains as hide the latency of a product.
const CHAINS: usize = 4;

/// Tokens of a pass over two panels whose sums stay in registers.
const ABREAST: usize = 2 * CHAINS;

/// Two panels likewise, with the same bits: a word of activations is loaded once for both. Panels that come from memory
/// are passed once, with all tokens; those that earlier tokens left in the cache once for as many as the registers hold.
pub(super) fn two(panels: [&[u8]; 2], rows: &Rows<'_>, tokens: usize, tiles: &mut Tiles) {
    let (words, stride) = (rows.section(Section::Pairs), rows.layout.stride);
    // SAFETY: this table is given out only where the processor has the features; `multiply_two` checks the lengths.
    unsafe {
        if !rows.again && tokens > ABREAST {
            return multiply_two::<4>(panels, words, stride, true, 0, tiles);
        }
        for first in (0..tokens).step_by(ABREAST) {
            multiply_two::<2>(panels, &words[first * stride..], stride, !rows.again, first, tiles);
        }
    }
}

/// `Q` times [`CHAINS`] tokens, whose results are the tiles' from `first` on. `fetches` asks for memory ahead.
///
/// # Safety
/// The processor has the features.
#[target_feature(enable = "avx512f,avx512bf16")]
unsafe fn multiply_two<const Q: usize>(
    panels: [&[u8]; 2],
    words: &[u32],
    stride: usize,
    fetches: bool,
    first: usize,
    tiles: &mut Tiles,
) {
    let [one, other] = panels;
    let steps = one.len() / BYTES;
    assert!(one.len() == other.len() && first + Q * CHAINS <= TOKENS, "two panels of one length");
    assert!((Q * CHAINS - 1) * stride + steps <= words.len(), "records of {Q} times {CHAINS} tokens");
    let mut sums = [[[_mm512_setzero_ps(); 2]; CHAINS]; Q];
    for from in (0..steps).step_by(GROUP) {
        if fetches {
            // Behind the first panel lies the second.
            let next = from * BYTES + AHEAD + if from * BYTES + AHEAD < one.len() { 0 } else { one.len() };
            for line in 0..GROUP {
                fetch_at(one.as_ptr().wrapping_add(next + line * BYTES));
                fetch_at(other.as_ptr().wrapping_add(next + line * BYTES));
            }
        }
        let steps = from..from + GROUP.min(steps - from);
        for (number, sums) in sums.iter_mut().enumerate() {
            let mut parts = [[_mm512_setzero_ps(); 2]; CHAINS];
            for step in steps.clone() {
                // SAFETY: these steps are inside the panels, and `t * stride + step` inside the words, as asserted.
                unsafe {
                    let [one, other] =
                        [one, other].map(|panel| _mm512_loadu_si512(panel.as_ptr().add(step * BYTES).cast()));
                    for (t, [early, late]) in parts.iter_mut().enumerate() {
                        let word = everywhere(words.as_ptr().add((number * CHAINS + t) * stride), step);
                        (*early, *late) = (add_words(*early, one, word), add_words(*late, other, word));
                    }
                }
            }
            for (sum, part) in sums.as_flattened_mut().iter_mut().zip(parts.as_flattened()) {
                *sum = _mm512_add_ps(*sum, *part);
            }
        }
    }
    let [ones, others] = tiles;
    for (t, [one, other]) in sums.as_flattened().iter().enumerate() {
        vector::store(&mut ones[first + t], *one);
        vector::store(&mut others[first + t], *other);
    }
}

/// `sum + weights · word`, two products a lane.
#[inline]
#[target_feature(enable = "avx512f,avx512bf16")]
pub(super) fn add(sum: __m512, weights: __m512i, word: u32) -> __m512 {
    add_words(sum, weights, _mm512_set1_epi32(word.cast_signed()))
}

/// The same with a word for each lane.
#[inline]
#[target_feature(enable = "avx512f,avx512bf16")]
fn add_words(sum: __m512, weights: __m512i, words: __m512i) -> __m512 {
    // SAFETY: both are 64 bytes of plain numbers.
    let pair = |x: __m512i| unsafe { std::mem::transmute::<__m512i, __m512bh>(x) };
    _mm512_dpbf16_ps(sum, pair(weights), pair(words))
}

/// The word `at` words behind `words` in each lane, loaded as an integer: for operands of float products compilers take the
/// load of floats, which made a tile of them 5 % slower on Zen 4.
///
/// # Safety
/// The word is there.
#[inline]
#[target_feature(enable = "avx512f")]
unsafe fn everywhere(words: *const u32, at: usize) -> __m512i {
    let lanes;
    // SAFETY: the instruction reads this word, and writes this register only.
    unsafe {
        asm!(
            "vpbroadcastd {lanes}, dword ptr [{words} + 4*{at}]",
            lanes = lateout(zmm_reg) lanes,
            words = in(reg) words,
            at = in(reg) at,
            options(pure, readonly, nostack, preserves_flags),
        );
    }
    lanes
}
