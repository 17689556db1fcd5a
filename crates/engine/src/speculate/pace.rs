//! How many proposed tokens pay: for each sequence how often such proposals were right, for the engine what their rows
//! cost here, measured. Figures decide about rows alone, so that a clock may be read for them.

/// Where a proposal comes from, and so how far it is trusted before anything is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Two tokens stood before.
    Pair,
    /// Three or four.
    Triple,
    /// More.
    Long,
    /// Another model says so.
    Draft,
}

/// Shares of right tokens that are taken for granted at first, by kind.
const AT_FIRST: [f32; 4] = [0.2, 0.4, 0.6, 0.6];
/// How much one more token changes a share.
const NEWS: f32 = 1.0 / 12.0;
/// How fast a draft that is not asked is trusted again, in steps: nothing else tells whether the text has changed.
const FORGETS: f32 = 1.0 / 256.0;

/// How often the proposals for one sequence were right, by kind.
#[derive(Clone, Debug)]
pub(crate) struct Pace {
    shares: [f32; 4],
}

impl Default for Pace {
    fn default() -> Pace {
        Pace { shares: AT_FIRST }
    }
}

impl Pace {
    /// A proposed token was right, or not.
    pub(crate) fn learn(&mut self, kind: Kind, right: bool) {
        let share = &mut self.shares[kind as usize];
        *share += NEWS * (f32::from(u8::from(right)) - *share);
    }

    /// A step went by for which nothing was proposed.
    pub(crate) fn rest(&mut self) {
        let at = Kind::Draft as usize;
        self.shares[at] += FORGETS * (AT_FIRST[at] - self.shares[at]);
    }

    /// How many tokens of a kind are worth their rows, beside `sequences` that a step gives a token each. `cost` is that
    /// of a row, in steps.
    pub(crate) fn count(&self, kind: Kind, cost: f32, sequences: usize, most: usize) -> usize {
        let (mut right, mut tokens, mut time) = (1.0, sequences as f32, 1.0);
        for count in 0..most {
            right *= self.shares[kind as usize];
            // A row pays while it brings more tokens for its time than all before it.
            if right * time <= cost * tokens {
                return count;
            }
            tokens += right;
            time += cost;
        }
        most
    }
}

/// Steps of more sequences are not filled with proposals, and not timed.
const SEQUENCES: usize = 16;
/// What a row is taken to cost at first, in steps.
const COST: f32 = 0.1;
/// Steps without proposals that are timed before any are made.
const TIMED: u32 = 3;

/// What rows of proposed tokens cost, measured.
#[derive(Clone, Debug)]
pub(crate) struct Costs([Cost; SEQUENCES]);

#[derive(Clone, Copy, Debug)]
struct Cost {
    /// Seconds of a step without proposals, and how many were timed.
    plain: f64,
    timed: u32,
    /// One more row, in plain steps.
    row: f32,
}

impl Default for Costs {
    fn default() -> Costs {
        Costs([Cost { plain: 0.0, timed: 0, row: COST }; SEQUENCES])
    }
}

impl Costs {
    /// What a row costs beside so many sequences, in steps; more than anything can be worth where that is not known yet.
    pub(crate) fn of(&self, sequences: usize) -> f32 {
        let cost = self.0.get(sequences.wrapping_sub(1)).filter(|cost| cost.timed >= TIMED);
        cost.map_or(f32::INFINITY, |cost| cost.row)
    }

    /// Seconds of a step of so many sequences without proposals, where that is known.
    pub(crate) fn plain(&self, sequences: usize) -> Option<f64> {
        let cost = self.0.get(sequences.wrapping_sub(1)).filter(|cost| cost.timed >= TIMED && cost.plain > 0.0);
        cost.map(|cost| cost.plain)
    }

    /// Learns from a step of so many sequences with so many proposed tokens.
    pub(crate) fn learn(&mut self, sequences: usize, proposed: usize, seconds: f64) {
        let Some(cost) = self.0.get_mut(sequences.wrapping_sub(1)) else { return };
        if proposed == 0 {
            cost.timed = (cost.timed + 1).min(12);
            cost.plain += (seconds - cost.plain) / f64::from(cost.timed);
            // A figure from a busy moment is doubted again, or proposals would never come back.
            cost.row += (COST - cost.row) / 512.0;
        } else if cost.timed > 0 && cost.plain > 0.0 {
            let row = (seconds / cost.plain - 1.0) / proposed as f64;
            cost.row += (row.clamp(0.0, 1.0) as f32 - cost.row) / 8.0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pace(share: f32) -> Pace {
        Pace { shares: [share; 4] }
    }

    #[test]
    fn more_is_proposed_where_it_is_right_and_cheap_and_nothing_where_it_does_not_pay() {
        for (share, cost, sequences, wanted) in [
            (0.95, 0.05, 1, 15..=15),
            (0.5, 0.05, 1, 2..=4),
            (0.5, 0.35, 1, 1..=1),
            (0.3, 0.35, 1, 0..=0),
            (0.04, 0.05, 1, 0..=0),
            // A row is dearer beside others, whose tokens it delays.
            (0.5, 0.05, 8, 1..=1),
            (0.9, f32::INFINITY, 1, 0..=0),
        ] {
            let count = pace(share).count(Kind::Pair, cost, sequences, 15);
            assert!(wanted.contains(&count), "{share} right, a row {cost}, {sequences} sequences: {count}");
        }
    }

    #[test]
    fn shares_follow_what_was_right() {
        let mut pace = Pace::default();
        (0..40).for_each(|_| pace.learn(Kind::Pair, true));
        (0..40).for_each(|_| pace.learn(Kind::Draft, false));
        assert!(pace.shares[Kind::Pair as usize] > 0.9 && pace.shares[Kind::Draft as usize] < 0.1);
        assert_eq!(pace.shares[Kind::Long as usize], AT_FIRST[Kind::Long as usize]);
        (0..400).for_each(|_| pace.rest());
        assert!(pace.shares[Kind::Draft as usize] > 0.4, "it is tried again");
    }

    #[test]
    fn costs_are_those_of_the_machine() {
        let mut costs = Costs::default();
        assert_eq!(costs.of(1), f32::INFINITY, "nothing is known yet");
        (0..10).for_each(|_| costs.learn(1, 0, 0.010));
        (0..60).for_each(|_| costs.learn(1, 4, 0.014));
        assert!((costs.of(1) - 0.1).abs() < 0.01);
        (0..60).for_each(|_| costs.learn(1, 4, 0.030));
        assert!((costs.of(1) - 0.5).abs() < 0.01);
        assert_eq!((costs.of(2), costs.of(0), costs.of(99)), (f32::INFINITY, f32::INFINITY, f32::INFINITY));
    }
}
