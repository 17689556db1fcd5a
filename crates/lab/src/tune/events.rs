//! What a run tells while it goes: one value for each thing that happens. How it is shown is the caller's.

use serde::{Deserialize, Serialize};

/// What happened.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// The run begins, or goes on.
    Started {
        /// Steps that are done already.
        step: usize,
        /// Steps in all.
        steps: usize,
        /// Samples that are learned.
        samples: usize,
        /// Samples that are held out.
        held_out: usize,
        /// Values that are trained.
        trained: usize,
    },
    /// Something that the user should know.
    Note {
        /// In words.
        text: String,
    },
    /// The reference's log-probabilities are computed.
    Prepared {
        /// Samples that are done.
        done: usize,
        /// Samples in all.
        of: usize,
    },
    /// A step is done.
    Step {
        /// Its number, from 1.
        step: usize,
        /// Steps in all.
        steps: usize,
        /// The pass over the data, with its part.
        epoch: f64,
        /// The mean loss; absent where it was not finite.
        loss: Option<f64>,
        /// The norm of all gradients before the limit; absent where it was not finite.
        norm: Option<f64>,
        /// The learning rate.
        rate: f64,
        /// Whether the step was skipped, because a number was not finite.
        skipped: bool,
        /// Tokens in a second, over the last steps.
        tokens_per_second: f64,
        /// Seconds that are left, as far as can be told.
        seconds_left: f64,
    },
    /// The held-out part was measured.
    Evaluated {
        /// Steps before.
        step: usize,
        /// What was found.
        #[serde(flatten)]
        found: Found,
    },
    /// The model answered a question.
    Sample {
        /// Steps before.
        step: usize,
        /// The question.
        prompt: String,
        /// Its answer.
        text: String,
    },
    /// A checkpoint is durable.
    Saved {
        /// Steps in it.
        step: usize,
        /// Its file.
        file: String,
    },
    /// The run is over.
    Ended {
        /// Steps that were done.
        step: usize,
        /// Why.
        reason: Reason,
        /// Steps that were skipped.
        skipped: usize,
    },
}

/// Why a run is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// All steps are done.
    Done,
    /// The held-out loss did not get better.
    EarlyStop,
    /// Someone asked for it; it can go on.
    Interrupted,
}

/// One step of the log that stays: what does not depend on the clock.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Point {
    /// Mean loss; NaN where it was not finite.
    pub loss: f64,
    /// Norm of all gradients; NaN where it was not finite.
    pub norm: f64,
    /// Learning rate.
    pub rate: f64,
    /// Tokens that were run.
    pub tokens: f64,
}

/// A measurement of the held-out part.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Found {
    /// Mean loss: over targets of texts, over pairs of preferences.
    pub loss: f64,
    /// Its standard error over samples.
    pub stderr: f64,
    /// Targets of texts; samples of preferences.
    pub count: usize,
    /// The share of preferences whose better answer is ahead.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub right: Option<f64>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_measurement_is_read_again_to_its_last_bit() {
        // The usual fast reading of decimal numbers gives a neighbor of this one.
        let found = Found { loss: 6.8251953125, stderr: 0.18683474614193601, count: 15, right: None };
        let text = serde_json::to_string(&found).unwrap();
        assert_eq!(serde_json::from_str::<Found>(&text).unwrap(), found);
    }
}
