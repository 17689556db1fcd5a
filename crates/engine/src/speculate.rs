//! Tokens that are proposed before they are chosen: where they come from, and how many pay. A step then has their rows
//! as well, and each row's logits choose a token as ever; the next row counts only where that token was the proposed one.
//!
//! Invariant: proposals change how many steps an answer takes, never a token of it. Whatever is measured here, time as
//! well, decides about rows alone.

pub(crate) mod draft;
pub(crate) mod lookup;
pub(crate) mod pace;

use std::sync::Arc;

use crate::scheduler::Ticket;
use lookup::Found;
use pace::{Costs, Kind, Pace};

/// Whether tokens are proposed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Speculation {
    /// Never.
    Off,
    /// Where the rows cost less than what they are likely to save.
    #[default]
    WhereItPays,
    /// So many wherever anything can be proposed, for tests and measurements.
    Always(usize),
}

/// A sequence for which tokens are wanted.
pub struct Wanted<'a> {
    /// Which.
    pub sequence: Ticket,
    /// Its tokens so far.
    pub ids: &'a [u32],
    /// How many at most.
    pub count: usize,
    /// Who may use what was read of it.
    pub scope: &'a Arc<str>,
    /// Seconds that reading what was not read of it yet may take.
    pub seconds: f64,
}

/// Proposes tokens by other means than the sequence's own text: a smaller model is one, tests have others.
pub trait Propose: Send {
    /// What may follow each of these; fewer tokens, or none, where it is not sure of more. None where it did not look.
    fn propose(&mut self, wanted: &[Wanted]) -> Vec<Option<Vec<u32>>>;

    /// Seconds that one more token for each of so many sequences takes, divided by their number; 0 where that is not known.
    fn token_seconds(&self, _sequences: usize) -> f64 {
        0.0
    }

    /// Bytes of keys and values of one page of tokens.
    fn page_bytes(&self) -> usize {
        0
    }

    /// All sequences together may take so many pages.
    fn limit(&mut self, _pages: usize) {}

    /// A sequence for which nothing more is wanted.
    fn end(&mut self, sequence: Ticket);

    /// All sequences are gone, whatever state they were in.
    fn clear(&mut self);
}

/// What is proposed for a sequence's next step, and how much of it was right until now.
#[derive(Clone, Debug, Default)]
pub(crate) struct Guess {
    tokens: Vec<u32>,
    kind: Option<Kind>,
    /// Tokens of these that shall have rows; the others only show whether they would have been right.
    rows: usize,
    /// Tokens that were compared.
    compared: usize,
    /// Whether a draft looked for one more and was not sure of it: that took its time as a wrong one does.
    unsure: bool,
}

impl Guess {
    /// Tokens that shall have rows.
    pub(crate) fn rows(&self) -> &[u32] {
        &self.tokens[..self.rows]
    }

    /// What asking for it tells of those who propose.
    pub(crate) fn asked(&self, pace: &mut Pace) {
        if self.unsure {
            pace.learn(Kind::Draft, false);
        }
    }

    /// Whether the next token is the proposed one.
    pub(crate) fn compare(&mut self, token: u32, pace: &mut Pace) -> bool {
        let (Some(kind), Some(&proposed)) = (self.kind, self.tokens.get(self.compared)) else { return false };
        let right = proposed == token;
        pace.learn(kind, right);
        self.compared = if right { self.compared + 1 } else { self.tokens.len() };
        right
    }
}

/// A sequence that the next step goes on with by one row.
pub(crate) struct Ready<'a> {
    pub(crate) sequence: Ticket,
    pub(crate) ids: &'a [u32],
    pub(crate) pace: &'a Pace,
    pub(crate) scope: &'a Arc<str>,
    /// Tokens that were made for it.
    pub(crate) made: usize,
    /// Proposals at most.
    pub(crate) most: usize,
}

/// The part of an answer's time, beside that of its first tokens, that a draft may take to read what stands before it.
const READING: f64 = 0.25;
/// These first tokens.
const READING_FIRST: usize = 32;
/// Steps after which a draft that was not asked is taken to cost half of what it did.
const DOUBTED: f64 = 512.0;

/// Steps without proposals after one for which memory ran out.
const PAUSE: usize = 64;

/// Proposes for all sequences of an engine.
pub(crate) struct Speculator {
    how: Speculation,
    draft: Option<Box<dyn Propose>>,
    costs: Costs,
    pause: usize,
    /// Steps for which the draft was not asked.
    unasked: u32,
}

impl Speculator {
    pub(crate) fn new(how: Speculation, draft: Option<Box<dyn Propose>>) -> Speculator {
        Speculator { how, draft, costs: Costs::default(), pause: 0, unasked: 0 }
    }

    /// Whether anything is proposed for the next step.
    pub(crate) fn begins(&mut self) -> bool {
        self.pause = self.pause.saturating_sub(1);
        self.how != Speculation::Off && self.pause == 0
    }

    /// Proposes nothing for a while.
    pub(crate) fn pause(&mut self) {
        self.pause = PAUSE;
    }

    /// What is proposed for each of these, which run in one step.
    pub(crate) fn guess(&mut self, ready: &[Ready]) -> Vec<Guess> {
        let (running, how) = (ready.len(), self.how);
        let (cost, plain) = (self.costs.of(running), self.costs.plain(running));
        // A draft's token costs its own time as well as its row.
        let token = self.draft.as_ref().map_or(0.0, |draft| draft.token_seconds(running));
        // A figure from a busy moment is doubted again, or the draft would never be asked any more.
        let token = token * DOUBTED / (DOUBTED + f64::from(self.unasked));
        let drafted = cost + plain.map_or(0.0, |plain| token / plain) as f32;
        let rows = |kind: Kind, ready: &Ready| match how {
            Speculation::Off => 0,
            Speculation::WhereItPays => {
                let cost = if kind == Kind::Draft { drafted } else { cost };
                ready.pace.count(kind, cost, running, ready.most)
            }
            Speculation::Always(count) => count.min(ready.most),
        };
        let look = |ready: &Ready| {
            let found = lookup::find(ready.ids)?;
            let (kind, rows) = (found.kind(), rows(found.kind(), ready));
            // One token more shows for nothing whether proposals would have been right.
            let tokens = Found::tokens(&found, ready.ids, rows.max(1));
            Some(Guess { tokens, kind: Some(kind), rows, ..Guess::default() })
        };
        let Some(draft) = &mut self.draft else {
            return ready.iter().map(|one| look(one).unwrap_or_default()).collect();
        };
        // A long text that comes again needs no model.
        let own = |one: &Ready| look(one).filter(|guess| guess.kind == Some(Kind::Long) && guess.rows > 0);
        let mut guesses: Vec<Option<Guess>> = ready.iter().map(own).collect();
        let left = ready.iter().enumerate().filter(|(at, _)| guesses[*at].is_none());
        let wanted = left.map(|(at, one)| {
            let seconds = match (how, plain) {
                (Speculation::Always(_), _) | (_, None) => f64::INFINITY,
                (_, Some(plain)) => READING * plain * (READING_FIRST + one.made) as f64 / running as f64,
            };
            let Ready { sequence, ids, scope, .. } = *one;
            (at, Wanted { sequence, ids, count: rows(Kind::Draft, one), scope, seconds })
        });
        let (places, wanted): (Vec<usize>, Vec<Wanted>) = wanted.filter(|(_, wanted)| wanted.count > 0).unzip();
        self.unasked = if wanted.is_empty() { self.unasked.saturating_add(1) } else { 0 };
        let mut unsure = vec![false; ready.len()];
        if !wanted.is_empty() {
            let proposed = draft.propose(&wanted);
            for ((at, wanted), tokens) in places.into_iter().zip(&wanted).zip(proposed) {
                let Some(mut tokens) = tokens else { continue };
                tokens.truncate(wanted.count);
                unsure[at] = tokens.len() < wanted.count;
                let found = Guess { rows: tokens.len(), tokens, kind: Some(Kind::Draft), ..Guess::default() };
                guesses[at] = Some(found).filter(|guess| guess.rows > 0);
            }
        }
        // Where the draft says nothing, a short text that comes again may do.
        let guesses = ready.iter().zip(guesses).zip(unsure);
        let last = |((one, guess), unsure): ((&Ready, Option<Guess>), bool)| Guess {
            unsure,
            ..guess.or_else(|| look(one)).unwrap_or_default()
        };
        guesses.map(last).collect()
    }

    /// Learns what a step of so many sequences took, with so many proposed tokens.
    pub(crate) fn learn(&mut self, sequences: usize, proposed: usize, seconds: f64) {
        self.costs.learn(sequences, proposed, seconds);
    }

    /// A sequence is gone, or starts over.
    pub(crate) fn end(&mut self, sequence: Ticket) {
        self.draft.iter_mut().for_each(|draft| draft.end(sequence));
    }

    /// All sequences are gone.
    pub(crate) fn clear(&mut self) {
        self.draft.iter_mut().for_each(|draft| draft.clear());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use crate::scheduler::{Arrival, Limits, Scheduler};

    fn ticket() -> Ticket {
        let limits = Limits {
            pages: 1,
            cached: 0,
            page_tokens: 32,
            step_tokens: 16,
            prompt_tokens: 16,
            running: 1,
            window: None,
            proposal_rows: 16,
        };
        let (known, longest, alone_from) = (1, 2, usize::MAX);
        let arrival = Arrival { known, longest, alone_from, owner: 0, names: Vec::new(), cacheable: 0 };
        Scheduler::new(limits).add(arrival).expect("it fits")
    }

    /// A draft of which a token takes so many seconds.
    struct Takes(f64);

    impl Propose for Takes {
        fn propose(&mut self, wanted: &[Wanted]) -> Vec<Option<Vec<u32>>> {
            assert!(wanted.iter().all(|wanted| wanted.seconds > 0.0 && wanted.seconds.is_finite()));
            wanted.iter().map(|wanted| Some(vec![7; wanted.count])).collect()
        }

        fn token_seconds(&self, _: usize) -> f64 {
            self.0
        }

        fn end(&mut self, _: Ticket) {}

        fn clear(&mut self) {}
    }

    #[test]
    fn a_draft_is_asked_where_its_own_time_leaves_something_to_gain() {
        let (scope, sequence): (Arc<str>, _) = ("".into(), ticket());
        // A step takes 10 ms, a row of it a tenth.
        for (token_seconds, wanted) in [(0.0001, 3..=15), (0.002, 1..=4), (0.02, 0..=0)] {
            let mut speculator = Speculator::new(Speculation::WhereItPays, Some(Box::new(Takes(token_seconds))));
            (0..8).for_each(|_| speculator.learn(1, 0, 0.010));
            (0..60).for_each(|_| speculator.learn(1, 4, 0.014));
            let pace = Pace::default();
            let mut guess = || {
                let (ids, most) = (&[1, 2, 3][..], 15);
                let ready = Ready { sequence, ids, pace: &pace, scope: &scope, made: 0, most };
                speculator.guess(&[ready]).remove(0).rows().len()
            };
            let rows = guess();
            assert!(wanted.contains(&rows), "{token_seconds} s a token: {rows} rows");
            // What a busy moment told is doubted after a while.
            assert!(rows > 0 || (0..4000).any(|_| guess() > 0), "{token_seconds} s a token: never asked again");
        }
    }
}
