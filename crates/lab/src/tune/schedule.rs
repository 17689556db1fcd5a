//! The learning rate of each step, as a share of the largest.

use super::recipe::Schedule;

/// A schedule with its lengths in steps.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rates {
    /// Its shape.
    pub schedule: Schedule,
    /// Steps in which it grows.
    pub warmup: usize,
    /// All steps.
    pub steps: usize,
    /// The share of steps at the end in which `wsd` falls.
    pub decay: f64,
    /// The share at the end.
    pub min: f64,
}

impl Rates {
    /// The share of the largest rate at a step, which counts from 0.
    pub fn at(&self, step: usize) -> f64 {
        if step < self.warmup {
            return (step + 1) as f64 / (self.warmup + 1) as f64;
        }
        let falls_from = match self.schedule {
            Schedule::Constant => return 1.0,
            Schedule::Cosine | Schedule::Linear => self.warmup,
            Schedule::Wsd => (self.steps - (self.decay * self.steps as f64).round() as usize).max(self.warmup),
        };
        if step <= falls_from {
            return 1.0;
        }
        let part = ((step - falls_from) as f64 / (self.steps - falls_from).max(1) as f64).min(1.0);
        let share = match self.schedule {
            Schedule::Cosine => 0.5 * (1.0 + (std::f64::consts::PI * part).cos()),
            _ => 1.0 - part,
        };
        self.min + (1.0 - self.min) * share
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_grow_stay_and_fall() {
        let rates = |schedule| Rates { schedule, warmup: 4, steps: 20, decay: 0.25, min: 0.0 };
        for (schedule, step, wanted) in [
            (Schedule::Cosine, 0, 0.2),
            (Schedule::Cosine, 3, 0.8),
            (Schedule::Cosine, 4, 1.0),
            (Schedule::Cosine, 12, 0.5),
            (Schedule::Linear, 12, 0.5),
            (Schedule::Constant, 19, 1.0),
            (Schedule::Wsd, 15, 1.0),
            (Schedule::Wsd, 16, 0.8),
            (Schedule::Wsd, 19, 0.2),
        ] {
            let found = rates(schedule).at(step);
            assert!((found - wanted).abs() < 1e-12, "{schedule:?} at {step}: {found}");
        }
        let low = Rates { min: 0.1, ..rates(Schedule::Cosine) };
        assert!((low.at(20) - 0.1).abs() < 1e-12);
    }
}
