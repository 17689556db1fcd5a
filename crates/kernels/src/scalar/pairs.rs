//! Plain loops of the tiles of bf16 pairs.

use half::bf16;

use crate::gemm::{Out, PANEL, PANELS, SQUARE, Side};

fn halves(word: u32) -> [f32; 2] {
    [f32::from_bits(word << 16), f32::from_bits(word & 0xffff_0000)]
}

fn one(side: Side<'_>, row: usize, panel: &[u32]) -> [f32; PANEL] {
    let mut sums = [0.0; PANEL];
    for (step, words) in panel.chunks_exact(PANEL).enumerate() {
        let [low, high] = halves(side.words[row * side.row + step * side.step]);
        for (sum, word) in sums.iter_mut().zip(words) {
            let [first, second] = halves(*word);
            *sum += low * first;
            *sum += high * second;
        }
    }
    sums
}

/// Writes results to their places, or adds them.
pub(crate) fn put(out: &mut [f32], values: &[f32], adds: Option<f32>) {
    for (out, value) in out.iter_mut().zip(values) {
        *out = adds.map_or(*value, |scale| *out + scale * value);
    }
}

/// Rows of [`PANELS`] panels.
pub(crate) fn wide(side: Side<'_>, panels: [&[u32]; PANELS], out: Out<'_, '_>) {
    some(side, &panels, out);
}

/// Rows of one panel.
pub(crate) fn tall(side: Side<'_>, panel: &[u32], out: Out<'_, '_>) {
    some(side, &[panel], out);
}

fn some(side: Side<'_>, panels: &[&[u32]], out: Out<'_, '_>) {
    for (row, values) in out.rows.iter_mut().enumerate() {
        for (panel, values) in panels.iter().zip(values.chunks_mut(PANEL)) {
            put(values, &one(side, row, panel), out.adds);
        }
    }
}

/// Pairs of two rows.
pub(crate) fn join(low: &[f32], high: &[f32], out: &mut [u32]) {
    let bits = |x: f32| u32::from(bf16::from_f32(x).to_bits());
    for (out, (low, high)) in out.iter_mut().zip(low.iter().zip(high)) {
        *out = bits(*low) | bits(*high) << 16;
    }
}

/// A square of bf16 values turned: value `(input, output)` is half `input % 2` of word `[input / 2][output]`, and then
/// half `output % 2` of word `[output / 2][input]`.
pub(crate) fn turn(square: &[u32; SQUARE], out: &mut [u32; SQUARE]) {
    for (step, words) in out.chunks_exact_mut(PANEL).enumerate() {
        for (input, word) in words.iter_mut().enumerate() {
            let value = |output: usize| square[input / 2 * PANEL + output] >> (16 * (input % 2)) & 0xffff;
            *word = value(2 * step) | value(2 * step + 1) << 16;
        }
    }
}
