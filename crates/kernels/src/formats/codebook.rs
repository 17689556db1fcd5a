//! Blocks whose sixteen codes stand for unevenly spaced levels under a scale: the search for that scale, and nearest
//! levels. No layouts here; the levels of each format stand in its file.

use super::block::{each, extreme, sum};
use super::search::ZERO_GROUP;

/// The levels of IQ4_NL and IQ4_XS, ascending: denser around zero, as weights are.
pub const NONLINEAR: [i8; 16] = [-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113];

/// How far the tries go to either side of the obvious scale, in levels.
const TRIES: i32 = 7;

/// The level nearest to `value` and its code. Half way between two levels counts as the upper one.
#[inline(always)]
pub fn nearest(value: f32) -> (f32, u8) {
    let mut code = 0;
    for pair in NONLINEAR.windows(2) {
        code += u8::from(value >= f32::from(i16::from(pair[0]) + i16::from(pair[1])) / 2.0);
    }
    (f32::from(NONLINEAR[usize::from(code)]), code)
}

/// The scale under which the levels are nearest to the values, by weighted squares.
#[inline(always)]
pub fn scale(values: &[f32; 32], weights: &[f32; 32]) -> f32 {
    let extreme = extreme(values);
    if extreme.abs() < ZERO_GROUP {
        return 0.0;
    }
    let lowest = f32::from(NONLINEAR[0]);
    let mut best = 0.0;
    let mut best_gain = 0.0;
    let mut attempt = |inverse: f32| {
        let levels = each::<f32, 32>(|at| nearest(inverse * values[at]).0);
        let sum_wxl = sum::<32>(|at| weights[at] * values[at] * levels[at]);
        let sum_wll = sum::<32>(|at| weights[at] * levels[at] * levels[at]);
        if sum_wll > 0.0 && sum_wxl * sum_wxl > best_gain * sum_wll {
            best = sum_wxl / sum_wll;
            best_gain = best * sum_wxl;
        }
    };
    attempt(-lowest / extreme);
    for offset in -TRIES..=TRIES {
        attempt((lowest + offset as f32) / extreme);
    }
    best
}
