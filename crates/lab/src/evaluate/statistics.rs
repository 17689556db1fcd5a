//! Statistics of samples: standard errors as lm-evaluation-harness gives them, seeded bootstraps, and tests of pairs.
//! The same numbers and the same seed give the same result on every machine.

/// Resamples of a bootstrap.
pub const RESAMPLES: usize = 10_000;

/// The seed where nobody chose one: that of lm-evaluation-harness.
pub const SEED: u64 = 1234;

/// The mean; zero of nothing.
pub fn mean(values: &[f64]) -> f64 {
    if values.is_empty() { 0.0 } else { values.iter().sum::<f64>() / values.len() as f64 }
}

/// The standard error of the mean, from the sample's deviation (n - 1); none of fewer than two values.
pub fn mean_stderr(values: &[f64]) -> Option<f64> {
    let count = values.len() as f64;
    let middle = mean(values);
    let squares: f64 = values.iter().map(|value| (value - middle).powi(2)).sum();
    (values.len() > 1).then(|| (squares / (count - 1.0)).sqrt() / count.sqrt())
}

/// SplitMix64: fast, and good enough to draw samples with.
#[derive(Clone, Debug)]
pub struct Draws(u64);

impl Draws {
    /// Draws from a seed.
    pub fn new(seed: u64) -> Draws {
        Draws(seed)
    }

    /// A number below `end`, which is not zero.
    pub fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^= bits >> 31;
        ((u128::from(bits) * end as u128) >> 64) as usize
    }
}

/// What resampling says of a statistic.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bootstrap {
    /// Deviation of the statistic over the resamples.
    pub stderr: f64,
    /// Its 2.5th and 97.5th percentile.
    pub interval: (f64, f64),
    /// Share of resamples below zero, half of those at zero counted.
    pub below_zero: f64,
}

/// Resamples `count` units with repetition and takes `statistic` of the chosen ones; none of fewer than two units.
pub fn bootstrap(count: usize, seed: u64, statistic: &mut dyn FnMut(&[usize]) -> f64) -> Option<Bootstrap> {
    if count < 2 {
        return None;
    }
    let mut draws = Draws::new(seed);
    let mut chosen = vec![0; count];
    let mut values: Vec<f64> = (0..RESAMPLES)
        .map(|_| {
            chosen.iter_mut().for_each(|place| *place = draws.below(count));
            statistic(&chosen)
        })
        .collect();
    values.sort_by(f64::total_cmp);
    let middle = mean(&values);
    let squares: f64 = values.iter().map(|value| (value - middle).powi(2)).sum();
    let at = |share: f64| values[((values.len() - 1) as f64 * share).round() as usize];
    let below = values.iter().filter(|value| **value < 0.0).count() as f64;
    let at_zero = values.iter().filter(|value| **value == 0.0).count() as f64;
    Some(Bootstrap {
        stderr: (squares / (values.len() - 1) as f64).sqrt(),
        interval: (at(0.025), at(0.975)),
        below_zero: (below + at_zero / 2.0) / values.len() as f64,
    })
}

/// McNemar's exact test: the chance of pairs that differ being split at least so unevenly if neither side were better.
pub fn mcnemar(only_first: u64, only_second: u64) -> f64 {
    let (count, fewer) = (only_first + only_second, only_first.min(only_second));
    if count == 0 {
        return 1.0;
    }
    // ln C(count, k), from one to the next.
    let (mut log, mut tail) = (-(count as f64) * std::f64::consts::LN_2, 0.0);
    for k in 0..=fewer {
        tail += f64::exp(log);
        log += ((count - k) as f64).ln() - ((k + 1) as f64).ln();
    }
    (2.0 * tail).min(1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn standard_errors_are_those_of_the_sample() {
        // numpy: std(ddof=1) / sqrt(n)
        assert!((mean_stderr(&[1.0, 0.0, 1.0, 1.0]).unwrap() - 0.25).abs() < 1e-12);
        assert_eq!((mean_stderr(&[1.0]), mean(&[])), (None, 0.0));
    }

    #[test]
    fn mcnemar_is_the_binomial_test() {
        // scipy.stats.binomtest(k, n, 0.5).pvalue
        for (a, b, p) in [(0, 0, 1.0), (1, 0, 1.0), (5, 0, 0.0625), (2, 10, 0.038574218750), (7, 7, 1.0)] {
            assert!((mcnemar(a, b) - p).abs() < 1e-9, "{a} {b}: {}", mcnemar(a, b));
        }
        assert!(mcnemar(4000, 5000) < 1e-20);
    }

    #[test]
    fn a_bootstrap_finds_the_standard_error_of_a_mean() {
        let values: Vec<f64> = (0..200).map(|at| f64::from(at % 7)).collect();
        let of = |chosen: &[usize]| mean(&chosen.iter().map(|at| values[*at]).collect::<Vec<_>>());
        let found = bootstrap(values.len(), SEED, &mut { of }).unwrap();
        let wanted = mean_stderr(&values).unwrap();
        assert!((found.stderr / wanted - 1.0).abs() < 0.03, "{found:?}");
        assert!(found.interval.0 < mean(&values) && mean(&values) < found.interval.1);
        assert_eq!(Some(found), bootstrap(values.len(), SEED, &mut { of }));
        assert_eq!(bootstrap(1, SEED, &mut |_| 0.0), None);
    }
}
