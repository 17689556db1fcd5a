//! Exponential and logarithm in plain arithmetic, and nothing else.
//! The platform's own `exp` and `ln` differ in the last bit from system to system;
//! these use only IEEE operations in a fixed order, so that a seed draws the same tokens everywhere.

const LOG2_E: f32 = std::f32::consts::LOG2_E;
// ln 2 in two parts: the first has few bits, so that `n * LN2_HIGH` is exact.
const LN2_HIGH: f32 = 0.693_359_4;
const LN2_LOW: f32 = -2.121_944_4e-4;
/// Adding and subtracting 1.5 * 2^23 rounds an f32 to the nearest whole number.
const ROUND: f32 = 12_582_912.0;
/// Below this e^x is no normal f32; such a weight is taken as zero.
const UNDERFLOW: f32 = -87.3;

/// e^x for x <= 0 (a logit minus the row's largest), to about one unit in the last place; 0 below -87.3.
///
/// The polynomial is the usual degree-5 minimax fit on ±ln 2 / 2 (Cephes `expf`). No branch, so that a loop
/// over it becomes vector code.
#[inline]
pub fn exp(x: f32) -> f32 {
    let inside = if x > UNDERFLOW { x.min(88.0) } else { UNDERFLOW };
    let shifted = inside * LOG2_E + ROUND;
    let n = shifted - ROUND;
    let r = inside - n * LN2_HIGH - n * LN2_LOW;
    let mut p = 1.987_569_1e-4_f32;
    p = p * r + 1.398_199_9e-3;
    p = p * r + 8.333_452e-3;
    p = p * r + 4.166_579_6e-2;
    p = p * r + 1.666_666_5e-1;
    p = p * r + 0.5;
    let y = p * r * r + r + 1.0;
    let whole = (shifted.to_bits() as i32).wrapping_sub(ROUND.to_bits() as i32);
    let scale = f32::from_bits(((whole + 127) << 23) as u32);
    if x > UNDERFLOW { y * scale } else { 0.0 }
}

/// ln x for a positive normal x, to about 1e-15 relative.
pub fn ln(x: f64) -> f64 {
    debug_assert!(x.is_normal() && x > 0.0, "ln of {x}");
    let bits = x.to_bits();
    let mut exponent = ((bits >> 52) & 0x7ff) as i64 - 1023;
    let mut mantissa = f64::from_bits((bits & ((1 << 52) - 1)) | (1023 << 52));
    if mantissa > std::f64::consts::SQRT_2 {
        mantissa *= 0.5;
        exponent += 1;
    }
    // ln m = 2 artanh((m - 1) / (m + 1)); |s| <= 0.172, so s^23 / 23 is below 1e-18.
    let s = (mantissa - 1.0) / (mantissa + 1.0);
    let square = s * s;
    let mut sum = 0.0;
    for k in (0..=10).rev() {
        sum = sum * square + 1.0 / f64::from(2 * k + 1);
    }
    2.0 * s * sum + exponent as f64 * std::f64::consts::LN_2
}

/// Sum of e^(logit - largest) over `logits`, in eight fixed lanes of f64.
pub fn weight_sum(logits: &[f32], largest: f32) -> f64 {
    const LANES: usize = 8;
    let mut lanes = [0.0_f64; LANES];
    let (chunks, rest) = logits.as_chunks::<LANES>();
    for chunk in chunks {
        let weights = chunk.map(|logit| exp(logit - largest));
        for (lane, weight) in lanes.iter_mut().zip(weights) {
            *lane += f64::from(weight);
        }
    }
    let tail: f64 = rest.iter().map(|&logit| f64::from(exp(logit - largest))).sum();
    lanes.iter().sum::<f64>() + tail
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exp_is_within_two_units_of_the_platforms() {
        for step in 0..87_000 {
            let x = -(step as f32) * 0.001;
            let (ours, theirs) = (f64::from(exp(x)), f64::from(x).exp());
            assert!((ours - theirs).abs() <= 2.5e-7 * theirs, "exp({x}) = {ours}, not {theirs}");
        }
        assert_eq!(exp(0.0), 1.0);
        assert_eq!(exp(f32::NEG_INFINITY), 0.0);
        assert_eq!(exp(-1000.0), 0.0);
    }

    #[test]
    fn ln_is_within_a_few_units_of_the_platforms() {
        for x in [1.0, 2.0, 0.5, 1e-300, 1e300, 3.7, 0.1, 64.0, 1.414, 262_144.0, 1.000_000_1] {
            let wanted = f64::ln(x);
            assert!((ln(x) - wanted).abs() <= 1e-15 + 4e-16 * wanted.abs(), "ln({x}) = {}, not {wanted}", ln(x));
        }
    }

    #[test]
    fn a_weight_sum_counts_every_lane_and_the_rest() {
        for length in [1, 7, 8, 9, 31, 1000] {
            let row = vec![2.5_f32; length];
            assert_eq!(weight_sum(&row, 2.5), length as f64);
        }
    }
}
