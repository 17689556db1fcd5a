//! A smaller model that proposes: with keys and values of its own it reads what each sequence has, and says token by
//! token how it would go on, for all sequences at once.
//!
//! Invariant: a sequence's keys and values here are those of a beginning of its tokens, with tokens behind them that are
//! only proposed; these are cut off before anything is added.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use pasture_model::{Batch, Kv, Result, SequenceId};
use pasture_tensor::Tensor;
use pasture_tensor::kv::PAGE;

use super::{Propose, Wanted};
use crate::forward::{Forward, RopeRule};
use crate::scheduler::Ticket;

/// Rows that are read for one sequence before a step.
const PART: usize = 256;
/// So many rows need no thought: they come with the first token.
const TAIL: usize = 16;
/// Rows that are read before it is known what a row costs.
const FIRST: usize = 32;
/// A token that the draft itself gives less is not proposed.
const SURE: f32 = 0.3;
/// Sequences that are gone of which what was read is kept.
const GONE: usize = 8;
/// Sequences at once whose times are told apart.
const SEQUENCES: usize = 16;
/// How much one more measurement changes a time.
const NEWS: f64 = 1.0 / 8.0;

/// A model that proposes.
pub struct Draft {
    forward: Box<dyn Forward>,
    rope: RopeRule,
    kv: Kv,
    /// Entries of the vocabulary of the model that it proposes for.
    vocab: usize,
    held: HashMap<Ticket, Held>,
    /// What was read of sequences that are gone, the latest last: the next question of a conversation begins so.
    gone: Vec<Held>,
    /// Pages that all sequences together may take.
    pages: usize,
    calls: u64,
    times: Times,
}

/// What was read of a sequence.
struct Held {
    kv: SequenceId,
    ids: Vec<u32>,
    regime: u64,
    /// Who may use it.
    scope: Arc<str>,
    /// The call in which it was asked for last.
    asked: u64,
}

/// What the draft's own rows take, in seconds.
#[derive(Default)]
struct Times {
    row: Option<f64>,
    /// A proposed token, by the number of sequences.
    token: [Option<f64>; SEQUENCES],
}

impl Draft {
    /// A draft for a model of so many tokens, whose ids mean the same in both.
    pub fn new(forward: Box<dyn Forward>, vocab: usize) -> Draft {
        let (rope, kv) = (forward.rope_rule(), forward.kv());
        let (held, gone, times) = (HashMap::new(), Vec::new(), Times::default());
        Draft { forward, rope, kv, vocab, held, gone, pages: usize::MAX, calls: 0, times }
    }

    /// What was read of a gone sequence that begins as this one, if that is worth more than nothing.
    fn adopt(&mut self, wanted: &Wanted) -> Option<Held> {
        let all = self.gone.iter().enumerate().filter(|(_, gone)| gone.scope == *wanted.scope);
        let alike = all.map(|(at, gone)| (at, common(&gone.ids, wanted.ids)));
        let (at, _) = alike.filter(|(_, alike)| *alike > TAIL).max_by_key(|(_, alike)| *alike)?;
        Some(self.gone.remove(at))
    }

    /// Makes the sequence's keys and values a beginning of its tokens without the last, and says how many are unread.
    fn align(&mut self, wanted: &Wanted) -> usize {
        let regime = self.rope.regime(wanted.ids.len(), wanted.ids.len()).0;
        if !self.held.contains_key(&wanted.sequence) {
            let scope = wanted.scope.clone();
            let begins = self.adopt(wanted);
            let begins =
                begins.unwrap_or_else(|| Held { kv: self.kv.start(), ids: Vec::new(), regime, scope, asked: 0 });
            self.held.insert(wanted.sequence, begins);
        }
        let Draft { kv, held, calls, .. } = self;
        let held = held.get_mut(&wanted.sequence).expect("it was just put there");
        held.asked = *calls;
        let mut common = common(&held.ids, wanted.ids).min(wanted.ids.len() - 1);
        if held.regime != regime || !kv.can_truncate(held.kv, common) {
            common = 0;
        }
        held.regime = regime;
        if common < held.ids.len() {
            kv.truncate(held.kv, common);
            held.ids.truncate(common);
        }
        wanted.ids.len() - common
    }

    /// Reads a part of what is unread where that is worth its time; says whether what is left comes with the first token.
    fn read(&mut self, wanted: &Wanted) -> Result<bool> {
        let unread = self.align(wanted);
        if unread <= TAIL {
            return Ok(true);
        }
        let part = match self.times.row {
            Some(row) if row * unread as f64 > wanted.seconds => return Ok(false),
            Some(_) => PART.min(unread - 1),
            None => FIRST.min(unread - 1),
        };
        let begun = Instant::now();
        let from = wanted.ids.len() - unread;
        self.run(&[(wanted.sequence, &wanted.ids[from..from + part])], false)?;
        learn(&mut self.times.row, begun.elapsed().as_secs_f64() / part as f64);
        Ok(unread - part <= TAIL)
    }

    /// Runs the next tokens of some sequences; gives the logits after the last of each, if they are wanted.
    fn run(&mut self, parts: &[(Ticket, &[u32])], wanted: bool) -> Result<Tensor> {
        let (mut batch, mut rows) = (Batch::default(), Vec::new());
        for (ticket, ids) in parts {
            let held = self.held.get_mut(ticket).expect("who is run was aligned");
            let (start, known) = (held.ids.len(), held.ids.len() + ids.len());
            batch.push(held.kv, start, self.rope.length(known, known, start), ids, None);
            rows.extend(wanted.then(|| batch.ids.len() as u32 - 1));
            held.ids.extend_from_slice(ids);
        }
        self.forward.logits(&batch, &mut self.kv, &rows)
    }

    /// Token after token for all of these, until each has what is wanted or the draft is not sure.
    fn go_on(&mut self, wanted: &[Wanted], mut open: Vec<usize>, proposed: &mut [Vec<u32>]) -> Result<()> {
        let begun = Instant::now();
        let (sequences, mut made) = (open.len(), 0);
        while !open.is_empty() {
            let next: Vec<(Ticket, &[u32])> = open
                .iter()
                .map(|at| {
                    let (wanted, proposed) = (&wanted[*at], &proposed[*at]);
                    let unread = &wanted.ids[self.held[&wanted.sequence].ids.len().min(wanted.ids.len())..];
                    (wanted.sequence, proposed.last().map_or(unread, std::slice::from_ref))
                })
                .collect();
            let logits = self.run(&next, true)?;
            made += open.len();
            let chosen: Vec<(usize, Option<u32>)> =
                open.iter().enumerate().map(|(row, at)| (*at, self.choose(logits.row(row)))).collect();
            chosen.iter().for_each(|(at, token)| proposed[*at].extend(*token));
            let goes_on =
                |(at, token): &(usize, Option<u32>)| token.is_some() && proposed[*at].len() < wanted[*at].count;
            open = chosen.iter().filter(|one| goes_on(one)).map(|(at, _)| *at).collect();
        }
        if let Some(time) = sequences.checked_sub(1).and_then(|at| self.times.token.get_mut(at)) {
            learn(time, begun.elapsed().as_secs_f64() / made as f64);
        }
        Ok(())
    }

    /// The most probable token, where the draft is sure enough of it.
    fn choose(&self, logits: &[f32]) -> Option<u32> {
        let (token, largest) = logits
            .iter()
            .enumerate()
            .fold((0, f32::NEG_INFINITY), |best, (at, logit)| if *logit > best.1 { (at, *logit) } else { best });
        let sum: f32 = logits.iter().map(|logit| (logit - largest).exp()).sum();
        (token < self.vocab && sum * SURE <= 1.0).then_some(token as u32)
    }

    /// Whether there is room for a sequence: those that were not asked for the longest give way.
    fn has_room(&mut self, wanted: &Wanted) -> bool {
        let (longest, vocab) = (wanted.ids.len() + wanted.count, self.forward.vocab());
        let known = self.held.get(&wanted.sequence).map_or(0, |held| held.ids.len()).min(wanted.ids.len());
        if longest > self.forward.context() || wanted.ids[known..].iter().any(|id| *id as usize >= vocab) {
            return false;
        }
        let others = |draft: &Draft| -> usize {
            let others = draft.held.iter().filter(|(ticket, _)| **ticket != wanted.sequence).map(|(_, held)| held);
            others.chain(&draft.gone).map(|held| held.ids.len().div_ceil(PAGE)).sum()
        };
        while others(self) + longest.div_ceil(PAGE) > self.pages {
            if !self.gone.is_empty() {
                let oldest = self.gone.remove(0);
                self.kv.end(oldest.kv);
                continue;
            }
            let idle = self.held.iter().filter(|(ticket, held)| held.asked < self.calls && **ticket != wanted.sequence);
            let Some(ticket) = idle.min_by_key(|(ticket, held)| (held.asked, **ticket)).map(|(ticket, _)| *ticket)
            else {
                return false;
            };
            self.held.remove(&ticket).into_iter().for_each(|held| self.kv.end(held.kv));
        }
        true
    }

    fn try_propose(&mut self, wanted: &[Wanted]) -> Result<Vec<Option<Vec<u32>>>> {
        let (mut proposed, mut open) = (vec![Vec::new(); wanted.len()], Vec::new());
        for (at, one) in wanted.iter().enumerate() {
            if one.count > 0 && self.has_room(one) && self.read(one)? {
                open.push(at);
            }
        }
        let asked = open.clone();
        self.go_on(wanted, open, &mut proposed)?;
        for &at in &asked {
            // Later steps begin with these tokens, whatever becomes of the proposed ones.
            self.kv.release(self.held[&wanted[at].sequence].kv, wanted[at].ids.len());
        }
        let all = proposed.into_iter().enumerate();
        Ok(all.map(|(at, tokens)| asked.contains(&at).then_some(tokens)).collect())
    }
}

/// How many tokens two sequences begin with alike.
fn common(one: &[u32], other: &[u32]) -> usize {
    one.iter().zip(other).take_while(|(one, other)| one == other).count()
}

fn learn(time: &mut Option<f64>, seconds: f64) {
    *time = Some(time.map_or(seconds, |time| time + NEWS * (seconds - time)));
}

impl Propose for Draft {
    fn propose(&mut self, wanted: &[Wanted]) -> Vec<Option<Vec<u32>>> {
        self.calls += 1;
        // Without memory, or with a model that cannot go on, there are no proposals: an answer needs none.
        self.try_propose(wanted).unwrap_or_else(|_| {
            self.clear();
            vec![None; wanted.len()]
        })
    }

    fn token_seconds(&self, sequences: usize) -> f64 {
        let times = &self.times.token[..sequences.clamp(1, SEQUENCES)];
        times.iter().rev().find_map(|time| *time).unwrap_or(0.0)
    }

    fn page_bytes(&self) -> usize {
        self.forward.page_bytes()
    }

    fn limit(&mut self, pages: usize) {
        self.pages = pages;
    }

    fn end(&mut self, sequence: Ticket) {
        self.gone.extend(self.held.remove(&sequence));
        if self.gone.len() > GONE {
            let oldest = self.gone.remove(0);
            self.kv.end(oldest.kv);
        }
    }

    fn clear(&mut self) {
        self.held.clear();
        self.gone.clear();
        self.kv = self.forward.kv();
    }
}
