//! In which order a run sees its data: the batches of an epoch are those of `data::batches`, a step takes some of them.
//! Nothing here has a state, so that a run that goes on finds its place by its step alone.

use crate::data::{self, Batching, Numbers};

/// How data becomes steps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Order {
    /// What a batch holds.
    pub batching: Batching,
    /// Batches of one step.
    pub accumulate: usize,
    /// Of the shuffles.
    pub seed: u64,
}

/// A step: batches of samples by number.
pub type Step = Vec<Vec<usize>>;

impl Order {
    /// The steps of an epoch over samples of these lengths.
    pub fn epoch(&self, lengths: &[usize], epoch: u64) -> Vec<Step> {
        let batches = data::batches(lengths, &self.batching, self.seed, epoch);
        batches.chunks(self.accumulate).map(<[Vec<usize>]>::to_vec).collect()
    }

    /// Steps of all epochs; a last part of an epoch counts by its share, and there is always one.
    pub fn steps(&self, lengths: &[usize], epochs: f64) -> usize {
        let whole = epochs.floor() as u64;
        let sum: usize = (0..whole).map(|epoch| self.epoch(lengths, epoch).len()).sum();
        let part = ((epochs - whole as f64) * self.epoch(lengths, whole).len() as f64).round() as usize;
        (sum + part).max(1)
    }
}

/// One number of two, so that neighbors share nothing.
pub fn mixed(seed: u64, number: u64) -> u64 {
    Numbers::new(seed ^ number.wrapping_mul(0x9e37_79b9_7f4a_7c15)).draw()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::Grouping;

    #[test]
    fn steps_are_counted_over_epochs_and_parts_of_them() {
        let batching = Batching { grouping: Grouping::Plain, samples_max: 2, tokens_max: usize::MAX };
        let order = Order { batching, accumulate: 2, seed: 7 };
        for (epochs, steps) in [(1.0, 3), (2.0, 6), (0.4, 1), (1.34, 4), (0.0, 1)] {
            assert_eq!(order.steps(&[3, 9, 1, 4, 4, 20, 2, 7, 5], epochs), steps, "{epochs}");
        }
    }
}
