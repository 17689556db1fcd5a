//! Tokens that are proposed before they are chosen: where they come from, and how many pay. A step then has their rows
//! as well, and each row's logits choose a token as ever; the next row counts only where that token was the proposed one.
//!
//! Invariant: proposals change how many steps an answer takes, never a token of it. Whatever is measured here, time as
//! well, decides about rows alone.

pub(crate) mod lookup;
pub(crate) mod pace;

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
}

/// Proposes tokens by other means than the sequence's own text: a smaller model is one, tests have others.
pub trait Propose: Send {
    /// What may follow each of these; fewer tokens, or none, where it has none.
    fn propose(&mut self, wanted: &[Wanted]) -> Vec<Vec<u32>>;

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
}

impl Guess {
    /// Tokens that shall have rows.
    pub(crate) fn rows(&self) -> &[u32] {
        &self.tokens[..self.rows]
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
    /// Proposals at most.
    pub(crate) most: usize,
}

/// Steps without proposals after one for which memory ran out.
const PAUSE: usize = 64;

/// Proposes for all sequences of an engine.
pub(crate) struct Speculator {
    how: Speculation,
    draft: Option<Box<dyn Propose>>,
    costs: Costs,
    pause: usize,
}

impl Speculator {
    pub(crate) fn new(how: Speculation, draft: Option<Box<dyn Propose>>) -> Speculator {
        Speculator { how, draft, costs: Costs::default(), pause: 0 }
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
        let cost = self.costs.of(ready.len());
        let rows = |kind: Kind, ready: &Ready, running: usize| match self.how {
            Speculation::Off => 0,
            Speculation::WhereItPays => ready.pace.count(kind, cost, running, ready.most),
            Speculation::Always(count) => count.min(ready.most),
        };
        let look = |ready: &Ready, others: usize| {
            let found = lookup::find(ready.ids)?;
            let (kind, rows) = (found.kind(), rows(found.kind(), ready, others));
            // One token more shows for nothing whether proposals would have been right.
            let tokens = Found::tokens(&found, ready.ids, rows.max(1));
            Some(Guess { tokens, kind: Some(kind), rows, compared: 0 })
        };
        let Some(draft) = &mut self.draft else {
            return ready.iter().map(|one| look(one, ready.len()).unwrap_or_default()).collect();
        };
        // A long text that comes again needs no model.
        let own = |one: &Ready| look(one, ready.len()).filter(|guess| guess.kind == Some(Kind::Long) && guess.rows > 0);
        let mut guesses: Vec<Option<Guess>> = ready.iter().map(own).collect();
        let left = || ready.iter().enumerate();
        let wanted: Vec<(usize, Wanted)> = left()
            .filter(|(at, _)| guesses[*at].is_none())
            .map(|(at, one)| {
                let count = rows(Kind::Draft, one, ready.len());
                (at, Wanted { sequence: one.sequence, ids: one.ids, count })
            })
            .filter(|(_, wanted)| wanted.count > 0)
            .collect();
        let (places, wanted): (Vec<usize>, Vec<Wanted>) = wanted.into_iter().unzip();
        if !wanted.is_empty() {
            let proposed = draft.propose(&wanted);
            for ((at, wanted), mut tokens) in places.into_iter().zip(&wanted).zip(proposed) {
                tokens.truncate(wanted.count);
                guesses[at] = Some(Guess { rows: tokens.len(), tokens, kind: Some(Kind::Draft), compared: 0 });
            }
        }
        guesses.into_iter().map(Option::unwrap_or_default).collect()
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
