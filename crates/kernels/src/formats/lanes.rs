//! Lines tried side by side: each lane is a try, and one pass over a group's values weighs all of them, so that no sum
//! runs across lanes. Invariant: a lane's result does not depend on the other lanes.

use super::search::level;

/// Tries in a pass: as many as the floats of an AVX2 vector.
pub const LANES: usize = 8;

/// One number of each try.
pub type Lanes = [f32; LANES];

/// Lines `step * code - offset`.
#[derive(Clone, Copy)]
pub struct LineLanes {
    /// Step between codes.
    pub steps: Lanes,
    /// What is subtracted.
    pub offsets: Lanes,
}

/// The weighted squared errors of a group on each line, where codes `0..=highest` lie nearest to
/// `(value + begin) * inverse`.
#[inline(always)]
pub fn errors<const G: usize>(
    values: &[f32; G],
    weights: &[f32; G],
    (begins, inverses): (&Lanes, &Lanes),
    lines: &LineLanes,
    highest: f32,
) -> Lanes {
    // Two sums for each lane, as one addition would wait for the other.
    let mut sums = [[0.0; LANES]; 2];
    for at in 0..G {
        let (value, weight) = (values[at], weights[at]);
        for (lane, sum) in sums[at % 2].iter_mut().enumerate() {
            let code = level((value + begins[lane]) * inverses[lane], 0.0, highest);
            let distance = lines.steps[lane] * code - lines.offsets[lane] - value;
            *sum += weight * (distance * distance);
        }
    }
    let [mut even, odd] = sums;
    even.iter_mut().zip(odd).for_each(|(even, odd)| *even += odd);
    even
}

/// The sums that the best line through codes takes: weighted codes, their squares, and their products with the values.
pub struct Moments {
    /// Weight times code.
    pub codes: Lanes,
    /// Weight times the code's square.
    pub squares: Lanes,
    /// Weight times code times value.
    pub products: Lanes,
}

/// The moments of codes `0..=highest` nearest to `(value + begin) * inverse`.
#[inline(always)]
pub fn moments<const G: usize>(
    values: &[f32; G],
    weights: &[f32; G],
    begin: f32,
    inverses: &Lanes,
    highest: f32,
) -> Moments {
    let mut sums = Moments { codes: [0.0; LANES], squares: [0.0; LANES], products: [0.0; LANES] };
    for at in 0..G {
        let (value, weight) = (values[at], weights[at]);
        for (lane, inverse) in inverses.iter().enumerate() {
            let code = level((value + begin) * inverse, 0.0, highest);
            let weighted = weight * code;
            sums.codes[lane] += weighted;
            sums.squares[lane] += weighted * code;
            sums.products[lane] += weighted * value;
        }
    }
    sums
}
