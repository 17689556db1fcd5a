//! Proposed tokens within a step: asking for them, and finding out which were right. Where they come from and how many
//! pay is `speculate.rs`'s matter.
//!
//! Invariant: a token is chosen from the logits after exactly the tokens before it, by the sequence's own sampler, once.

use std::time::Instant;

use super::answer::Sequence;
use super::compute::Compute;
use crate::error::Error;
use crate::forward::RopeRule;
use crate::request::{Finish, Piece};
use crate::scheduler::{Step, Ticket};
use crate::speculate::Ready;

/// What a step gives a sequence that chooses.
pub(super) enum Given<'a> {
    /// The logits of its next token.
    Logits(&'a mut [f32]),
    /// Tokens that were chosen with proposals behind them.
    Verified(Verified),
}

/// Tokens that were chosen in one step, and are to be sent.
pub(super) struct Verified {
    pub(super) pieces: Vec<Piece>,
    /// Why the answer ends with the last, if it does, or why none could be chosen after it.
    pub(super) end: Result<Option<Finish>, Error>,
}

impl Verified {
    /// Chooses from one row after the other, while each token is the one whose row is next.
    pub(super) fn of<'a>(sequence: &mut Sequence, rows: impl Iterator<Item = &'a mut [f32]>) -> Verified {
        let (now, mut verified) = (Instant::now(), Verified { pieces: Vec::new(), end: Ok(None) });
        for row in rows {
            match sequence.choose(row, now) {
                Ok(chosen) => {
                    verified.pieces.push(chosen.piece);
                    verified.end = Ok(chosen.finish);
                    if chosen.finish.is_some() || !chosen.expected {
                        break;
                    }
                }
                Err(error) => {
                    verified.end = Err(error);
                    break;
                }
            }
        }
        verified
    }

    /// Tokens after which the sequence goes on: the scheduler counts them as known.
    pub(super) fn goes_on(&self) -> usize {
        self.pieces.len() - usize::from(matches!(self.end, Ok(Some(_))))
    }
}

impl Compute {
    /// Asks for proposals for the sequences that go on by one row; says how many each has.
    pub(super) fn propose(&mut self) -> Vec<(Ticket, usize)> {
        self.sequences.values_mut().for_each(|sequence| sequence.guess = Default::default());
        let spare = self.scheduler.proposal_rows();
        if !self.speculator.begins() || spare == 0 {
            return Vec::new();
        }
        let goes_on = |sequence: &&Sequence| {
            sequence.is_single() && sequence.kv.is_some_and(|kv| self.kv.len(kv) + 1 == sequence.ids.len())
        };
        let sequences = self.sequences.iter().filter(|(_, sequence)| goes_on(sequence));
        let mut tickets: Vec<Ticket> = sequences.map(|(ticket, _)| *ticket).collect();
        tickets.sort_unstable();
        let each = spare.div_ceil(tickets.len().max(1));
        let ready = tickets.iter().map(|ticket| {
            let sequence = &self.sequences[ticket];
            let known = sequence.ids.len();
            let longest = sequence.job.longest.saturating_sub(known + 1);
            // Rows of one step have the angles of one length.
            let most = match self.rope {
                RopeRule::Switch(original) if known <= original => (original - known).min(longest),
                RopeRule::Grows(_) => self.rope.alone_from(sequence.job.prompt).saturating_sub(known).min(longest),
                _ => longest,
            };
            Ready {
                sequence: *ticket,
                ids: &sequence.ids,
                pace: &sequence.pace,
                scope: &sequence.job.scope,
                made: known.saturating_sub(sequence.job.prompt),
                most: most.min(each),
            }
        });
        let guesses = self.speculator.guess(&ready.collect::<Vec<_>>());
        let mut proposals = Vec::new();
        for (ticket, guess) in tickets.into_iter().zip(guesses) {
            let Some(sequence) = self.sequences.get_mut(&ticket) else { continue };
            guess.asked(&mut sequence.pace);
            match guess.rows().len() {
                0 => sequence.pace.rest(),
                count => proposals.push((ticket, count)),
            }
            sequence.guess = guess;
        }
        proposals
    }

    /// Notes how long a step took in which every sequence went on by one row and its proposals.
    pub(super) fn time(&mut self, step: &Step, begun: Instant) {
        if step.work.iter().all(|work| work.samples && work.count == 1 + work.proposed) {
            let proposed = step.work.iter().map(|work| work.proposed).sum();
            self.speculator.learn(step.work.len(), proposed, begun.elapsed().as_secs_f64());
        }
    }

    /// Finds out which proposals of a step were right, and takes the others back as if they had never been run. Gives
    /// what each sequence that chooses goes on with.
    pub(super) fn verify<'a>(&mut self, step: &mut Step, logits: &'a mut [f32]) -> Vec<(Ticket, Given<'a>)> {
        let choosing = step.work.iter().filter(|work| work.samples).map(|work| 1 + work.proposed).sum::<usize>();
        let vocab = logits.len() / choosing.max(1);
        let (mut rest, mut given) = (logits, Vec::new());
        for work in step.work.iter_mut().filter(|work| work.samples) {
            let (rows, after) = rest.split_at_mut((1 + work.proposed) * vocab);
            rest = after;
            let Some(sequence) = self.sequences.get_mut(&work.ticket) else { continue };
            if work.proposed == 0 {
                given.push((work.ticket, Given::Logits(rows)));
                continue;
            }
            let verified = Verified::of(sequence, rows.chunks_mut(vocab));
            // The last token's own row is another step's.
            let kept = verified.pieces.len().max(1);
            sequence.speculated.0 += work.proposed;
            sequence.speculated.1 += kept - 1;
            self.done.proposed_tokens += work.proposed as u64;
            self.done.accepted_tokens += kept as u64 - 1;
            (0..verified.goes_on()).for_each(|_| self.scheduler.grow(work.ticket));
            let kv = sequence.kv.expect("who ran has keys and values");
            self.kv.truncate(kv, work.start + kept);
            self.scheduler.verify(work, kept);
            given.push((work.ticket, Given::Verified(verified)));
        }
        given
    }
}
