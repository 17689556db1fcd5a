//! The last step of a search: a block's shared binary16 scales and the small numbers of its groups, moved together
//! while that lowers the weighted squared error of what will be read back. The searches that lead here stand in
//! `search.rs`. Invariant: the result is never worse than the start, and its shared scales are binary16 numbers.

use std::ops::RangeInclusive;

use half::f16;

use super::block::{each, reciprocal, sum};
use super::lanes::{self, LANES, Lanes, LineLanes};
use super::search::level;

/// How often the groups and the shared scales take turns at most.
const ROUNDS: usize = 8;

/// What a thorough search also multiplies the shared scales with before it moves them, since turns end in the nearest
/// valley: the error of normally distributed values falls by 1 (Q4_K, Q6_K) to 3 % (Q5_K), in twice the time.
const ELSEWHERE: [f32; 2] = [0.97, 1.03];

/// Below this share of a block's power its error is about that of the rounding of a binary16 scale.
const NEARLY_EXACT: f32 = 2e-7;

/// The values of a block by groups, and how much each counts.
#[derive(Clone, Copy)]
pub struct Groups<'a, const G: usize, const N: usize> {
    /// The values.
    pub values: &'a [[f32; G]; N],
    /// One weight per value, at least 0.
    pub weights: &'a [[f32; G]; N],
    /// Whether to set out from several shared scales.
    pub thorough: bool,
}

impl<const G: usize, const N: usize> Groups<'_, G, N> {
    /// Whether an error of the block tells of nothing but the rounding of a binary16 scale.
    fn nearly_exact(&self, error: f32) -> bool {
        let group = |at: usize| sum::<G>(|value| self.weights[at][value] * self.values[at][value].powi(2));
        error <= NEARLY_EXACT * (0..N).map(group).sum::<f32>()
    }

    /// The errors of group `at` on some lines.
    #[inline(always)]
    fn errors_of_lines(&self, at: usize, lines: &LineLanes, highest: f32) -> Lanes {
        let inverses = each(|lane| reciprocal(lines.steps[lane]));
        lanes::errors(&self.values[at], &self.weights[at], (&lines.offsets, &inverses), lines, highest)
    }

    /// The error of each group on its line.
    #[inline(always)]
    fn errors_of_groups(&self, lines: &Lines<N>, highest: f32) -> [f32; N] {
        let mut errors = [0.0; N];
        for (at, error) in errors.iter_mut().enumerate() {
            let (values, weights) = (&self.values[at], &self.weights[at]);
            let (step, offset) = lines.group(at);
            let inverse = reciprocal(step);
            *error = sum::<G>(|at| {
                let code = level((values[at] + offset) * inverse, 0.0, highest);
                let distance = step * code - offset - values[at];
                weights[at] * (distance * distance)
            });
        }
        errors
    }

    /// The error of group `at` under that step.
    #[inline(always)]
    fn error_of_ray(&self, at: usize, step: f32, place: &impl Fn(f32) -> f32) -> f32 {
        let (values, weights) = (&self.values[at], &self.weights[at]);
        let inverse = reciprocal(step);
        sum::<G>(|at| {
            let distance = step * place(values[at] * inverse) - values[at];
            weights[at] * distance * distance
        })
    }
}

/// Values near `scale * step * code - minimum * offset`, with `step` and `offset` whole numbers of each group.
#[derive(Clone, Copy)]
pub struct Lines<const N: usize> {
    /// The scale of the steps.
    pub scale: f32,
    /// The scale of the offsets.
    pub minimum: f32,
    /// One per group.
    pub steps: [f32; N],
    /// One per group.
    pub offsets: [f32; N],
}

impl<const N: usize> Lines<N> {
    /// What a group's codes are multiplied with, and what is subtracted.
    pub fn group(&self, at: usize) -> (f32, f32) {
        (self.scale * self.steps[at], self.minimum * self.offsets[at])
    }

    /// The steps and offsets beside those of a group; its own in the place of any out of range.
    #[inline(always)]
    fn neighbors(&self, at: usize, range: &RangeInclusive<f32>) -> (Lanes, Lanes) {
        let beside = |number: f32, by: f32| {
            if range.contains(&(number + by)) { number + by } else { number }
        };
        let places: [(f32, f32); LANES] =
            [(-1.0, -1.0), (-1.0, 0.0), (-1.0, 1.0), (0.0, -1.0), (0.0, 1.0), (1.0, -1.0), (1.0, 0.0), (1.0, 1.0)];
        (each(|lane| beside(self.steps[at], places[lane].0)), each(|lane| beside(self.offsets[at], places[lane].1)))
    }

    /// About the same lines under other shared scales.
    fn under(&self, scale: f32, minimum: f32, range: &RangeInclusive<f32>) -> Lines<N> {
        Lines {
            scale: self.scale * scale,
            minimum: self.minimum * minimum,
            steps: self.steps.map(|step| level(step / scale, *range.start(), *range.end())),
            offsets: self.offsets.map(|offset| level(offset / minimum, *range.start(), *range.end())),
        }
    }

    /// A group's codes `0..=highest`.
    pub fn codes<const G: usize>(&self, at: usize, values: &[f32; G], highest: f32) -> [u8; G] {
        let (step, offset) = self.group(at);
        let codes = place_on_line(values, step, offset, highest);
        each(|at| codes[at] as u8)
    }
}

#[inline(always)]
fn place_on_line<const G: usize>(values: &[f32; G], step: f32, offset: f32, highest: f32) -> [f32; G] {
    let inverse = reciprocal(step);
    each(|at| level((values[at] + offset) * inverse, 0.0, highest))
}

/// Moves `start` (the numbers of a group within `range`) while that lowers the error of codes `0..=highest`.
#[inline(always)]
pub fn lines<const G: usize, const N: usize>(
    groups: Groups<'_, G, N>,
    start: Lines<N>,
    highest: f32,
    range: &RangeInclusive<f32>,
) -> Lines<N> {
    let mut best = Lines { scale: to_half(start.scale), minimum: to_half(start.minimum), ..start };
    let mut best_error = f32::INFINITY;
    let [low, high] = ELSEWHERE;
    for (scale, minimum) in [(1.0, 1.0), (low, 1.0), (high, 1.0), (1.0, low), (1.0, high)] {
        let (found, error) = settle_lines(groups, start.under(scale, minimum, range), highest, range);
        if error < best_error {
            (best, best_error) = (found, error);
        }
        if !groups.thorough || groups.nearly_exact(best_error) {
            break;
        }
    }
    best
}

#[inline(always)]
fn settle_lines<const G: usize, const N: usize>(
    groups: Groups<'_, G, N>,
    start: Lines<N>,
    highest: f32,
    range: &RangeInclusive<f32>,
) -> (Lines<N>, f32) {
    let mut best = Lines { scale: to_half(start.scale), minimum: to_half(start.minimum), ..start };
    let mut errors = groups.errors_of_groups(&best, highest);
    for _ in 0..ROUNDS {
        if range.start() < range.end() {
            for (at, lowest) in errors.iter_mut().enumerate() {
                let (steps, offsets) = best.neighbors(at, range);
                let lines =
                    LineLanes { steps: steps.map(|it| best.scale * it), offsets: offsets.map(|it| best.minimum * it) };
                for (lane, found) in groups.errors_of_lines(at, &lines, highest).into_iter().enumerate() {
                    if found < *lowest {
                        (*lowest, best.steps[at], best.offsets[at]) = (found, steps[lane], offsets[lane]);
                    }
                }
            }
        }
        let moved = refit_lines(groups, &best, highest);
        let found = groups.errors_of_groups(&moved, highest);
        if found.iter().sum::<f32>() < errors.iter().sum::<f32>() {
            (best, errors) = (moved, found);
        } else {
            break;
        }
    }
    (best, errors.iter().sum())
}

/// The shared scales that fit the codes that `lines` gives, by the two normal equations of the block.
#[inline(always)]
fn refit_lines<const G: usize, const N: usize>(groups: Groups<'_, G, N>, lines: &Lines<N>, highest: f32) -> Lines<N> {
    let (mut sum_pp, mut sum_po, mut sum_oo, mut sum_px, mut sum_ox) = (0.0, 0.0, 0.0, 0.0, 0.0);
    for at in 0..N {
        let (values, weights) = (&groups.values[at], &groups.weights[at]);
        let (step, offset) = lines.group(at);
        let codes = place_on_line(values, step, offset, highest);
        let (step, offset) = (lines.steps[at], lines.offsets[at]);
        sum_pp += step * step * sum::<G>(|at| weights[at] * codes[at] * codes[at]);
        sum_po -= step * offset * sum::<G>(|at| weights[at] * codes[at]);
        sum_oo += offset * offset * sum::<G>(|at| weights[at]);
        sum_px += step * sum::<G>(|at| weights[at] * codes[at] * values[at]);
        sum_ox -= offset * sum::<G>(|at| weights[at] * values[at]);
    }
    let determinant = sum_pp * sum_oo - sum_po * sum_po;
    if determinant <= 0.0 {
        let scale = if sum_oo == 0.0 && sum_pp > 0.0 { sum_px / sum_pp } else { lines.scale };
        return Lines { scale: to_half(scale), ..*lines };
    }
    let scale = (sum_px * sum_oo - sum_ox * sum_po) / determinant;
    let minimum = (sum_ox * sum_pp - sum_px * sum_po) / determinant;
    Lines { scale: to_half(scale), minimum: to_half(minimum), ..*lines }
}

/// Values near `scale * step * level`, with `step` a whole number of each group.
#[derive(Clone, Copy)]
pub struct Rays<const N: usize> {
    /// The scale of the steps.
    pub scale: f32,
    /// One per group.
    pub steps: [f32; N],
}

impl<const N: usize> Rays<N> {
    /// About the same rays under another shared scale.
    fn under(&self, scale: f32, range: &RangeInclusive<f32>) -> Rays<N> {
        let steps = self.steps.map(|step| level(step / scale, *range.start(), *range.end()));
        Rays { scale: self.scale * scale, steps }
    }
}

/// Moves each of `starts` (the number of a group within `range`) while that lowers the error of the levels that
/// `place` gives, and keeps the best. Later starts are for blocks that the first fits but for the rounding of its
/// scale, such as blocks of one value.
#[inline(always)]
pub fn rays<const G: usize, const N: usize>(
    groups: Groups<'_, G, N>,
    starts: &[Rays<N>],
    range: &RangeInclusive<f32>,
    place: impl Fn(f32) -> f32,
) -> Rays<N> {
    let mut best = Rays { scale: 0.0, steps: [*range.start(); N] };
    let mut best_error = f32::INFINITY;
    for start in starts {
        for factor in [1.0, ELSEWHERE[0], ELSEWHERE[1]] {
            let (found, error) = settle_rays(groups, start.under(factor, range), range, &place);
            if error < best_error {
                (best, best_error) = (found, error);
            }
            if !groups.thorough || groups.nearly_exact(best_error) {
                break;
            }
        }
        if !groups.nearly_exact(best_error) {
            break;
        }
    }
    best
}

#[inline(always)]
fn settle_rays<const G: usize, const N: usize>(
    groups: Groups<'_, G, N>,
    start: Rays<N>,
    range: &RangeInclusive<f32>,
    place: &impl Fn(f32) -> f32,
) -> (Rays<N>, f32) {
    let mut best = Rays { scale: to_half(start.scale), ..start };
    let mut errors: [f32; N] = each(|at| groups.error_of_ray(at, best.scale * best.steps[at], place));
    for _ in 0..ROUNDS {
        for (at, lowest) in errors.iter_mut().enumerate() {
            for step in around(best.steps[at], range) {
                let found = groups.error_of_ray(at, best.scale * step, place);
                if found < *lowest {
                    (*lowest, best.steps[at]) = (found, step);
                }
            }
        }
        let moved = Rays { scale: refit_ray(groups, &best, place), ..best };
        let found: [f32; N] = each(|at| groups.error_of_ray(at, moved.scale * moved.steps[at], place));
        if found.iter().sum::<f32>() < errors.iter().sum::<f32>() {
            (best, errors) = (moved, found);
        } else {
            break;
        }
    }
    (best, errors.iter().sum())
}

/// The shared scale that fits the levels that `rays` gives; none is made where there was none.
#[inline(always)]
fn refit_ray<const G: usize, const N: usize>(
    groups: Groups<'_, G, N>,
    rays: &Rays<N>,
    place: &impl Fn(f32) -> f32,
) -> f32 {
    let (mut sum_wxl, mut sum_wll) = (0.0, 0.0);
    for at in 0..N {
        let (values, weights, step) = (&groups.values[at], &groups.weights[at], rays.steps[at]);
        let levels = place_on_ray(values, rays.scale * step, place);
        sum_wxl += step * sum::<G>(|at| weights[at] * values[at] * levels[at]);
        sum_wll += step * step * sum::<G>(|at| weights[at] * levels[at] * levels[at]);
    }
    if rays.scale == 0.0 || sum_wll <= 0.0 { rays.scale } else { to_half(sum_wxl / sum_wll) }
}

#[inline(always)]
fn place_on_ray<const G: usize>(values: &[f32; G], step: f32, place: &impl Fn(f32) -> f32) -> [f32; G] {
    let inverse = reciprocal(step);
    each(|at| place(values[at] * inverse))
}

/// The neighbors of a whole number, and itself, within `range`.
#[inline(always)]
fn around(number: f32, range: &RangeInclusive<f32>) -> impl Iterator<Item = f32> {
    let (low, high) = (*range.start(), *range.end());
    [-1.0, 0.0, 1.0].into_iter().map(move |by| number + by).filter(move |found| low <= *found && *found <= high)
}

#[inline(always)]
fn to_half(value: f32) -> f32 {
    f16::from_f32(value).to_f32()
}
