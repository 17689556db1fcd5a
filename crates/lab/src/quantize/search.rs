//! The fewest bits with which a model still says what it said: sizes are tried and measured, half of what is left each
//! time.

use crate::change::Result;

/// Sizes between which the search goes, in bits for each weight. The ladder of formats ends with 8.5.
const RANGE: [f64; 2] = [2.0, 8.6];
/// How far apart the last two sizes are.
const CLOSE: f64 = 0.1;

/// What a size came to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Tried {
    /// So many nats of divergence.
    Diverges(f64),
    /// The formats take more bits than that.
    TooSmall,
}

/// What was found.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Least {
    /// Bits for each weight.
    pub bits: f64,
    /// The divergence there.
    pub divergence: f64,
    /// Sizes that were tried.
    pub tries: usize,
}

/// The least size in bits for each weight whose divergence, as `attempt` measures it, is at most `highest`, to within a
/// tenth of a bit; `Err` within the result is the divergence of the largest size where that is too high.
///
/// # Errors
/// Those of `attempt`.
pub fn least_bits(
    highest: f64,
    attempt: &mut dyn FnMut(f64) -> Result<Tried>,
) -> Result<std::result::Result<Least, f64>> {
    let [mut low, mut high] = RANGE;
    let mut found = match attempt(high)? {
        Tried::Diverges(divergence) if divergence <= highest => Least { bits: high, divergence, tries: 1 },
        Tried::Diverges(divergence) => return Ok(Err(divergence)),
        Tried::TooSmall => return Ok(Err(f64::INFINITY)),
    };
    while high - low > CLOSE {
        let middle = f64::midpoint(low, high);
        found.tries += 1;
        match attempt(middle)? {
            Tried::Diverges(divergence) if divergence <= highest => {
                high = middle;
                found = Least { bits: middle, divergence, ..found };
            }
            _ => low = middle,
        }
    }
    Ok(Ok(found))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A model whose divergence halves with each bit, and that needs 3 bits at least.
    fn attempt(bits: f64) -> Result<Tried> {
        Ok(if bits < 3.0 { Tried::TooSmall } else { Tried::Diverges(0.5_f64.powf(bits)) })
    }

    #[test]
    fn the_least_size_is_found() {
        for (highest, wanted) in [(0.01, 6.64), (0.04, 4.64), (0.125, 3.0), (0.9, 3.0)] {
            let found = least_bits(highest, &mut attempt).expect("it is measured").expect("it is reached");
            assert!(found.divergence <= highest && found.bits - wanted < 0.11 && found.bits >= wanted, "{found:?}");
            assert_eq!(found.divergence, 0.5_f64.powf(found.bits), "what is told is what was measured there");
            assert!(found.tries < 10);
        }
    }

    #[test]
    fn what_no_size_reaches_is_told() {
        let told = least_bits(1e-4, &mut attempt).expect("it is measured").expect_err("8.6 bits are not enough");
        assert!((told - 0.5_f64.powf(8.6)).abs() < 1e-12);
    }
}
