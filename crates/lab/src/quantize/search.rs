//! The fewest bits with which a model still says what it said: sizes are tried and measured, half of what is left each
//! time.

use crate::change::Result;

/// Sizes between which the search goes, in bits for each weight. The ladder of formats ends with 8.5.
const RANGE: [f64; 2] = [2.0, 8.6];
/// How far apart the last two sizes are.
const CLOSE: f64 = 0.1;

/// The least size in bits for each weight, to within a tenth of a bit, whose divergence is at most `highest`, and the
/// divergence there. Where that is above `highest`, so is that of the largest size. `attempt` measures a size; one for
/// which no formats are small enough diverges without end.
///
/// # Errors
/// Those of `attempt`.
pub fn least_bits(highest: f64, attempt: &mut dyn FnMut(f64) -> Result<f64>) -> Result<(f64, f64)> {
    let [mut low, high] = RANGE;
    let mut found = (high, attempt(high)?);
    while found.1 <= highest && found.0 - low > CLOSE {
        let middle = f64::midpoint(low, found.0);
        match attempt(middle)? {
            divergence if divergence <= highest => found = (middle, divergence),
            _ => low = middle,
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A model whose divergence halves with each bit, and that needs 3 bits at least.
    fn attempt(bits: f64) -> Result<f64> {
        Ok(if bits < 3.0 { f64::INFINITY } else { 0.5_f64.powf(bits) })
    }

    #[test]
    fn the_least_size_is_found() {
        for (highest, wanted) in [(0.01, 6.64), (0.04, 4.64), (0.125, 3.0), (0.9, 3.0)] {
            let mut tries = 0;
            let mut counted = |bits| {
                tries += 1;
                attempt(bits)
            };
            let (bits, divergence) = least_bits(highest, &mut counted).expect("it is measured");
            assert!(divergence <= highest && bits >= wanted && bits - wanted < 0.11, "{bits} for {highest}");
            assert_eq!(divergence, 0.5_f64.powf(bits), "what is told is what was measured there");
            assert_eq!(tries, 8);
        }
    }

    #[test]
    fn what_no_size_reaches_is_told() {
        assert_eq!(least_bits(1e-4, &mut attempt).expect("it is measured"), (8.6, 0.5_f64.powf(8.6)));
    }
}
