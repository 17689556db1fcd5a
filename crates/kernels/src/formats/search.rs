//! Least-squares searches for a block's scale: try several scales around the obvious one, keep the best.
//! No layouts here. Invariant: every returned level lies in the asked range, whatever the values (NaN included).
//!
//! With levels `l`, weights `w` and values `x`, the best scale is `sum(w x l) / sum(w l l)` and lowers the error
//! by `sum(w x l)^2 / sum(w l l)`; with an offset the same holds for the two unknowns of a straight line.

use super::block::{each, extreme, sum};
use super::lanes::{self, LANES, Lanes, LineLanes};
use super::settle::Lines;

/// Below this magnitude a group counts as zero.
pub const ZERO_GROUP: f32 = 1e-15;

/// Adding and subtracting it rounds to the nearest integer, ties to even: floats around it are 1 apart.
const ROUNDING: f32 = 12_582_912.0;

/// The nearest integer, ties to even, between `low` and `high`; `low` for NaN.
#[inline(always)]
pub fn level(value: f32, low: f32, high: f32) -> f32 {
    (value.max(low).min(high) + ROUNDING) - ROUNDING
}

/// The scales that a search tries: `count` of them, `highest level + first + step * i` levels across the range.
#[derive(Clone, Copy)]
pub struct Tries {
    /// Offset of the first try, in levels.
    pub first: f32,
    /// Distance between tries, in levels.
    pub step: f32,
    /// How many tries.
    pub count: usize,
}

/// The tries of the formats with an offset, where importance is known.
pub const FINE_TRIES: Tries = Tries { first: -0.9, step: 0.05, count: 37 };

/// Values near `scale * level - offset`.
pub struct Line {
    /// Step between levels, at least 0.
    pub scale: f32,
    /// What is subtracted, at least 0.
    pub offset: f32,
}

/// The line `scale * level - offset` with levels `0..=highest` that is nearest to `values`.
#[inline(always)]
pub fn line<const N: usize>(values: &[f32; N], weights: &[f32; N], highest: f32, tries: Tries) -> Line {
    let lowest = values.iter().copied().fold(0.0, f32::min);
    let range = values.iter().copied().fold(lowest, f32::max) - lowest;
    if range <= 0.0 {
        return Line { scale: 0.0, offset: -lowest };
    }
    let sum_w = sum::<N>(|at| weights[at]);
    let sum_wx = sum::<N>(|at| weights[at] * values[at]);
    let costs = |inverses: &Lanes, lines: &LineLanes| {
        lanes::errors(values, weights, (&[-lowest; LANES], inverses), lines, highest)
    };
    let (mut scale, mut minimum) = (range / highest, lowest);
    let plain = LineLanes { steps: [scale; LANES], offsets: [-lowest; LANES] };
    let mut best_cost = costs(&[highest / range; LANES], &plain)[0];
    for first in (0..tries.count).step_by(LANES) {
        let inverses: Lanes = each(|lane| (tries.first + tries.step * (first + lane) as f32 + highest) / range);
        let sums = lanes::moments(values, weights, -lowest, &inverses, highest);
        let mut lines = LineLanes { steps: [0.0; LANES], offsets: [0.0; LANES] };
        let mut is_line = [false; LANES];
        for (lane, is_line) in is_line.iter_mut().enumerate().take(tries.count - first) {
            let (sum_wl, sum_wll, sum_wxl) = (sums.codes[lane], sums.squares[lane], sums.products[lane]);
            let determinant = sum_w * sum_wll - sum_wl * sum_wl;
            *is_line = determinant > 0.0;
            let slope = (sum_w * sum_wxl - sum_wx * sum_wl) / determinant;
            let intercept = (sum_wll * sum_wx - sum_wl * sum_wxl) / determinant;
            // The offset is stored unsigned: the best line through zero instead.
            let is_above = intercept > 0.0;
            lines.steps[lane] = if is_above { sum_wxl / sum_wll } else { slope };
            lines.offsets[lane] = if is_above { 0.0 } else { -intercept };
        }
        for (lane, cost) in costs(&inverses, &lines).into_iter().enumerate() {
            if is_line[lane] && cost < best_cost {
                (best_cost, scale, minimum) = (cost, lines.steps[lane], -lines.offsets[lane]);
            }
        }
    }
    Line { scale, offset: -minimum }
}

/// The line of each group, its step and its offset as whole numbers up to `highest_step` under two shared scales.
#[inline(always)]
pub fn shared_lines<const G: usize, const N: usize>(
    groups: &[[f32; G]; N],
    weights: &[[f32; G]; N],
    highest: f32,
    tries: Tries,
    highest_step: f32,
) -> Lines<N> {
    let (mut steps, mut offsets, mut totals) = ([0.0; N], [0.0; N], [0.0; N]);
    for at in 0..N {
        let found = line(&groups[at], &weights[at], highest, tries);
        (steps[at], offsets[at]) = (found.scale, found.offset);
        totals[at] = sum::<G>(|value| weights[at][value]);
    }
    let steps = unsigned(&steps, &totals, highest_step);
    let offsets = unsigned(&offsets, &totals, highest_step);
    Lines { scale: steps.scale, minimum: offsets.scale, steps: steps.levels, offsets: offsets.levels }
}

/// Values near `scale * level`, with levels `-half..half`.
pub struct Ray<const N: usize> {
    /// Step between levels, of either sign.
    pub scale: f32,
    /// `-half..half`, kept as floats for sums.
    pub levels: [f32; N],
}

/// The scale with levels `-half..half` that is nearest to `values`: its sign gives the extreme value level `-half`.
#[inline(always)]
pub fn ray<const N: usize>(values: &[f32; N], weights: &[f32; N], half: f32) -> Ray<N> {
    let extreme = extreme(values);
    if extreme.abs() < ZERO_GROUP {
        return Ray { scale: 0.0, levels: [0.0; N] };
    }
    let mut best = Ray { scale: -extreme / half, levels: [0.0; N] };
    let mut best_gain = f32::NEG_INFINITY;
    // The plain scale first, so that a tie keeps it.
    for attempt in std::iter::once(0).chain((-9..=9).filter(|&attempt| attempt != 0)) {
        let inverse = -(half + 0.1 * attempt as f32) / extreme;
        let levels: [f32; N] = each(|at| level(inverse * values[at], -half, half - 1.0));
        let sum_wxl = sum::<N>(|at| weights[at] * values[at] * levels[at]);
        let sum_wll = sum::<N>(|at| weights[at] * levels[at] * levels[at]);
        if sum_wll > 0.0 && sum_wxl * sum_wxl > best_gain * sum_wll {
            best_gain = sum_wxl / sum_wll * sum_wxl;
            best = Ray { scale: sum_wxl / sum_wll, levels };
        } else if attempt == 0 {
            best.levels = levels;
        }
    }
    best
}

/// The scale with levels `0..=highest` that is nearest to values that are at least 0, by tries and then by
/// moving single levels.
#[inline(always)]
pub fn unsigned<const N: usize>(values: &[f32; N], weights: &[f32; N], highest: f32) -> Ray<N> {
    let largest = values.iter().copied().fold(0.0, f32::max);
    if largest < ZERO_GROUP {
        return Ray { scale: 0.0, levels: [0.0; N] };
    }
    let place = |inverse: f32| -> [f32; N] { each(|at| level(inverse * values[at], 0.0, highest)) };
    let mut levels = place(highest / largest);
    let mut best_cost = f32::INFINITY;
    for attempt in std::iter::once(0).chain((-4..=4).filter(|&attempt| attempt != 0)) {
        let inverse = (highest + 0.1 * attempt as f32) / largest;
        let tried = place(inverse);
        let distance = |at: usize| values[at] - tried[at] / inverse;
        let cost = sum::<N>(|at| weights[at] * distance(at) * distance(at));
        if cost < best_cost {
            (best_cost, levels) = (cost, tried);
        }
    }
    refine(values, weights, levels, 0.0, highest)
}

/// Moves single levels while that lowers the error, at most five times over, and gives the scale that fits them.
#[inline(always)]
pub fn refine<const N: usize>(
    values: &[f32; N],
    weights: &[f32; N],
    mut levels: [f32; N],
    low: f32,
    high: f32,
) -> Ray<N> {
    let mut sum_wxl = sum::<N>(|at| weights[at] * values[at] * levels[at]);
    let mut sum_wll = sum::<N>(|at| weights[at] * levels[at] * levels[at]);
    for _ in 0..5 {
        let mut moved = false;
        for at in 0..N {
            let (weight, value, old) = (weights[at], values[at], levels[at]);
            let rest_wxl = sum_wxl - weight * value * old;
            let rest_wll = sum_wll - weight * old * old;
            if rest_wxl <= 0.0 || rest_wll <= 0.0 {
                continue;
            }
            let found = level(value * rest_wll / rest_wxl, low, high);
            let found_wxl = rest_wxl + weight * value * found;
            let found_wll = rest_wll + weight * found * found;
            if found != old && found_wxl * found_wxl * sum_wll > sum_wxl * sum_wxl * found_wll {
                (levels[at], sum_wxl, sum_wll) = (found, found_wxl, found_wll);
                moved = true;
            }
        }
        if !moved {
            break;
        }
    }
    Ray { scale: if sum_wll > 0.0 { sum_wxl / sum_wll } else { 0.0 }, levels }
}

/// Weights of a block's values: the importance, raised where values are large against `mean_square`.
#[inline(always)]
pub fn importance_weights<const N: usize>(importance: &[f32; N], values: &[f32; N], mean_square: f32) -> [f32; N] {
    each(|at| importance[at] * (mean_square + values[at] * values[at]).sqrt())
}
