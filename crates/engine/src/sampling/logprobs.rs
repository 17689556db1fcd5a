//! Log-probabilities of a row under the model's own logits, before any step.
//! Summed in f64 from the largest logit down, so that no exponential overflows.

use super::math::{ln, weight_sum};
use super::row::largest_index;

/// Log-probabilities asked for before the row is changed.
#[derive(Clone, Debug)]
pub struct LogProbabilities {
    /// The row's logits as they were.
    logits: Vec<f32>,
    /// The largest logit, and the logarithm of the sum of weights: added up they would lose the second.
    largest: f64,
    log_total: f64,
    top: Vec<(u32, f32)>,
}

impl LogProbabilities {
    /// The natural logarithm of the probability of `token`.
    pub fn of(&self, token: u32) -> f32 {
        (f64::from(self.logits[token as usize]) - self.largest - self.log_total) as f32
    }

    /// The most probable tokens, best first, lowest id first among equals.
    pub fn into_top(self) -> Vec<(u32, f32)> {
        self.top
    }
}

/// The log-probabilities of `logits` (all finite, at least one), with the `count` most probable tokens.
pub fn log_probabilities(logits: &[f32], count: usize) -> LogProbabilities {
    let largest = largest_index(logits).map_or(0.0, |token| logits[token]);
    let log_total = ln(weight_sum(logits, largest));
    let largest = f64::from(largest);
    let mut best: Vec<(u32, f32)> = Vec::with_capacity(count + 1);
    for (token, &logit) in logits.iter().enumerate() {
        let full = best.len() >= count;
        if full && best.last().is_none_or(|&(_, least)| logit <= least) {
            continue;
        }
        let place = best.partition_point(|&(_, other)| other >= logit);
        best.insert(place, (token as u32, logit));
        best.truncate(count);
    }
    let top = best.into_iter().map(|(token, logit)| (token, (f64::from(logit) - largest - log_total) as f32)).collect();
    LogProbabilities { logits: logits.to_vec(), largest, log_total, top }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn log_probabilities_are_right_and_safe_at_any_height() {
        for height in [0.0_f32, 1e4, -1e4, 3e38, -3e38] {
            // 1/2, 1/4, 1/4 at small heights; at huge ones f32 holds no difference of ln 2.
            let row = [height, height - 2_f32.ln(), height - 2_f32.ln()];
            let report = log_probabilities(&row, 2);
            let top: Vec<u32> = report.top.iter().map(|t| t.0).collect();
            assert_eq!(top, [0, 1]);
            let sum: f64 = (0..3).map(|t| f64::from(report.of(t)).exp()).sum();
            assert!((sum - 1.0).abs() < 1e-6, "probabilities sum to {sum} at {height}");
            if height == 0.0 {
                assert!((report.of(0) - 0.5_f32.ln()).abs() < 1e-6 && (report.of(2) - 0.25_f32.ln()).abs() < 1e-6);
            }
        }
    }

    #[test]
    fn the_top_list_is_sorted_and_as_long_as_asked() {
        let row: Vec<f32> = (0..100).map(|i| ((i * 37) % 100) as f32).collect();
        for count in [0, 1, 5, 20] {
            let top = log_probabilities(&row, count).into_top();
            assert_eq!(top.len(), count);
            assert!(top.windows(2).all(|pair| pair[0].1 > pair[1].1));
            assert!(top.iter().enumerate().all(|(rank, t)| row[t.0 as usize] == (99 - rank) as f32));
        }
        assert_eq!(log_probabilities(&[1.0, 2.0], 20).into_top().len(), 2);
    }
}
