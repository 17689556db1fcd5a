//! The thread that computes: takes commands, plans a step, runs it, chooses tokens, sends them.
//! One step at a time; between steps it looks whether a request was cancelled. A panic ends the answers, not the thread.

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, TryRecvError};
use std::time::Instant;

use pasture_model::{Batch, Kv, SequenceId};
use pasture_tensor::Adapter;

use super::answer::Sequence;
use crate::error::{Error, Result};
use crate::forward::{Forward, RopeRule};
use crate::request::Finish;
use crate::scheduler::{Arrival, Limits, Scheduler, Step, Ticket, TooLong};

/// What the handle asks of the thread.
pub(super) enum Command {
    Submit(Box<Sequence>),
    Forget(u64),
}

/// What is kept of a conversation.
struct Kept {
    ticket: Ticket,
    kv: SequenceId,
    /// Tokens whose keys and values are held.
    ids: Vec<u32>,
    /// Tokens that were known when the last of them was computed.
    known: usize,
    adapter: Option<Arc<Adapter>>,
}

/// The thread's state.
pub(super) struct Compute {
    forward: Box<dyn Forward>,
    kv: Kv,
    rope: RopeRule,
    limits: Limits,
    scheduler: Scheduler,
    sequences: HashMap<Ticket, Sequence>,
    kept: HashMap<u64, Kept>,
    commands: Receiver<Command>,
}

impl Compute {
    pub(super) fn new(forward: Box<dyn Forward>, limits: Limits, commands: Receiver<Command>) -> Compute {
        let (kv, rope, scheduler) = (forward.kv(), forward.rope_rule(), Scheduler::new(limits));
        let (sequences, kept) = (HashMap::new(), HashMap::new());
        Compute { forward, kv, rope, limits, scheduler, sequences, kept, commands }
    }

    /// Runs until the last handle is gone and the last answer ended.
    pub(super) fn run(mut self) {
        while self.take_commands() {
            let step = catch_unwind(AssertUnwindSafe(|| self.step()));
            if let Err(panic) = step {
                let said = panic.downcast_ref::<String>().map(String::as_str);
                let message = said.or(panic.downcast_ref::<&str>().copied()).unwrap_or("no message").to_owned();
                self.start_over(&Error::Panic { message });
            }
        }
    }

    /// Takes all commands; waits for one if there is nothing to do. False when nobody can send any more.
    fn take_commands(&mut self) -> bool {
        loop {
            let idle = self.scheduler.is_idle();
            let command = match idle {
                true => self.commands.recv().map_err(|_| TryRecvError::Disconnected),
                false => self.commands.try_recv(),
            };
            match command {
                Ok(Command::Submit(sequence)) => self.submit(*sequence),
                Ok(Command::Forget(prefix)) => self.forget(prefix),
                Err(TryRecvError::Empty) => return true,
                Err(TryRecvError::Disconnected) => return !idle,
            }
        }
    }

    /// After a panic nothing that was computed can be trusted.
    fn start_over(&mut self, error: &Error) {
        self.sequences.drain().for_each(|(_, sequence)| sequence.job.fail(error));
        self.kept.clear();
        self.scheduler = Scheduler::new(self.limits);
        self.kv = self.forward.kv();
    }

    fn submit(&mut self, mut sequence: Sequence) {
        // What the conversation's answer before, stopped since, has computed is of use to this one.
        self.end_cancelled();
        let prompt = sequence.ids.len();
        let arrival =
            Arrival { known: prompt, longest: sequence.job.longest, alone_from: self.rope.alone_from(prompt) };
        let ticket = match sequence.job.prefix.and_then(|prefix| self.kept.remove(&prefix)) {
            Some(kept) => self.resume(&mut sequence, kept, arrival),
            None => self.scheduler.add(arrival),
        };
        match ticket {
            Ok(ticket) => drop(self.sequences.insert(ticket, sequence)),
            Err(TooLong { needed, pages }) => sequence.job.fail(&Error::Pages { needed, pages }),
        }
    }

    /// Begins with what is kept, as far as the tokens are the same; the prompt's last row is always run.
    fn resume(
        &mut self,
        sequence: &mut Sequence,
        kept: Kept,
        arrival: Arrival,
    ) -> std::result::Result<Ticket, TooLong> {
        let same_adapter = match (&kept.adapter, &sequence.job.adapter) {
            (None, None) => true,
            (Some(old), Some(new)) => Arc::ptr_eq(old, new),
            _ => false,
        };
        let ids = &sequence.ids;
        let mut held = ids[..ids.len() - 1].iter().zip(&kept.ids).take_while(|(new, old)| new == old).count();
        if !same_adapter || !self.rope.shares(kept.known, ids.len()) {
            held = 0;
        }
        // What the next row sees may have left the window, or its pages may be another's by now.
        if !self.kv.can_truncate(kept.kv, held) || !self.scheduler.can_resume(kept.ticket, held) {
            held = 0;
        }
        let ticket = self.scheduler.resume(kept.ticket, held, arrival);
        match ticket {
            Ok(_) => {
                self.kv.truncate(kept.kv, held);
                (sequence.kv, sequence.cached) = (Some(kept.kv), held);
            }
            Err(_) => {
                self.scheduler.end(kept.ticket);
                self.kv.end(kept.kv);
            }
        }
        ticket
    }

    fn forget(&mut self, prefix: u64) {
        if let Some(kept) = self.kept.remove(&prefix) {
            self.scheduler.end(kept.ticket);
            self.kv.end(kept.kv);
        }
    }

    fn end_cancelled(&mut self) {
        let cancelled = self.sequences.iter().filter(|(_, sequence)| sequence.job.cancelled());
        for ticket in cancelled.map(|(ticket, _)| *ticket).collect::<Vec<Ticket>>() {
            self.finish(ticket, Finish::Cancelled);
        }
    }

    fn step(&mut self) {
        self.end_cancelled();
        let step = self.scheduler.next_step();
        self.free(&step.dropped);
        if step.work.is_empty() {
            assert!(self.scheduler.is_idle(), "someone waits, so something runs");
            return;
        }
        match self.run_step(&step) {
            Ok(chosen) => {
                self.scheduler.commit(&step);
                self.release(&step);
                for (ticket, logits) in chosen {
                    self.choose(ticket, logits);
                }
            }
            Err(error) => self.recover(&step, &error),
        }
    }

    /// Gives back the pages that left the window of what is now committed.
    fn release(&mut self, step: &Step) {
        for work in &step.work {
            if let Some(kv) = self.sequences.get(&work.ticket).and_then(|sequence| sequence.kv) {
                self.kv.release(kv, work.start + work.count);
            }
        }
    }

    /// A step failed: nothing of it counts. Where memory ran out the youngest of several answers gives way, else all
    /// of the step end with the error.
    fn recover(&mut self, step: &Step, error: &Error) {
        for work in &step.work {
            let kv = self.sequences.get(&work.ticket).and_then(|sequence| sequence.kv);
            let kv = kv.filter(|kv| self.kv.len(*kv) > work.start);
            kv.into_iter().for_each(|kv| self.kv.truncate(kv, work.start));
        }
        let no_memory = matches!(error, Error::Model(error) if matches!(**error, pasture_model::Error::Memory { .. }));
        match step.work.iter().map(|work| work.ticket).max().filter(|_| no_memory) {
            Some(youngest) => self.fail(youngest, error),
            None => step.work.iter().for_each(|work| self.fail(work.ticket, error)),
        }
    }

    /// Frees the keys and values of sequences that start over, and of conversations that are no longer kept.
    fn free(&mut self, dropped: &[Ticket]) {
        for ticket in dropped {
            match self.sequences.get_mut(ticket) {
                Some(sequence) => {
                    sequence.cached = 0;
                    sequence.kv.take().into_iter().for_each(|kv| self.kv.end(kv));
                }
                None => {
                    let Compute { kept, kv, .. } = self;
                    kept.retain(|_, kept| {
                        let stays = kept.ticket != *ticket;
                        if !stays {
                            kv.end(kept.kv);
                        }
                        stays
                    });
                }
            }
        }
    }

    /// Runs the rows of a step; gives the logits of each sequence that now chooses a token.
    fn run_step(&mut self, step: &Step) -> Result<Vec<(Ticket, Vec<f32>)>> {
        let (mut batch, mut tickets, mut rows) = (Batch::default(), Vec::new(), Vec::new());
        let now = Instant::now();
        for work in &step.work {
            let sequence = self.sequences.get_mut(&work.ticket).expect("who runs is a sequence");
            sequence.start_clock(now);
            let kv = *sequence.kv.get_or_insert_with(|| self.kv.start());
            let length = self.rope.length(sequence.job.prompt, sequence.ids.len(), work.start);
            let ids = &sequence.ids[work.start..work.start + work.count];
            batch.push(kv, work.start, length, ids, sequence.job.adapter.clone());
            if work.samples {
                tickets.push(work.ticket);
                rows.push(batch.ids.len() as u32 - 1);
            }
        }
        let logits = self.forward.logits(&batch, &mut self.kv, &rows)?;
        Ok(match tickets.as_slice() {
            // The usual step: a row as long as the vocabulary is not copied.
            [ticket] => vec![(*ticket, logits.into_values())],
            _ => tickets.into_iter().enumerate().map(|(at, ticket)| (ticket, logits.row(at).to_vec())).collect(),
        })
    }

    /// Chooses a sequence's next token, and the first ones of the answers that share its prompt.
    fn choose(&mut self, ticket: Ticket, mut logits: Vec<f32>) {
        let Some(sequence) = self.sequences.get_mut(&ticket) else { return };
        let (parent, others) = (sequence.kv, sequence.split());
        for mut other in others {
            let (fork, shares) = self.scheduler.fork(ticket);
            other.kv = parent.filter(|_| shares).map(|parent| self.kv.fork(parent));
            self.sequences.insert(fork, other);
            self.choose_one(fork, &mut logits.clone());
        }
        self.choose_one(ticket, &mut logits);
    }

    fn choose_one(&mut self, ticket: Ticket, logits: &mut [f32]) {
        let Some(sequence) = self.sequences.get_mut(&ticket) else { return };
        match sequence.choose(logits, Instant::now()) {
            Ok(Some(finish)) => self.finish(ticket, finish),
            Err(error) => self.fail(ticket, &error),
            Ok(None) => {
                self.scheduler.grow(ticket);
                let sequence = &self.sequences[&ticket];
                if self.rope.restarts(sequence.ids.len()) {
                    self.scheduler.rewind(ticket, 0);
                    sequence.kv.iter().for_each(|kv| self.kv.truncate(*kv, 0));
                }
            }
        }
    }

    /// Ends an answer; its conversation keeps what was computed.
    fn finish(&mut self, ticket: Ticket, finish: Finish) {
        let Some(mut sequence) = self.sequences.remove(&ticket) else { return };
        sequence.finish(finish, Instant::now());
        match (sequence.kv, sequence.job.prefix) {
            (Some(kv), Some(prefix)) if sequence.answer == 0 => {
                self.forget(prefix);
                self.scheduler.park(ticket);
                sequence.ids.truncate(self.kv.len(kv));
                let known = sequence.ids.len().max(sequence.job.prompt);
                let adapter = sequence.job.adapter.clone();
                self.kept.insert(prefix, Kept { ticket, kv, ids: sequence.ids, known, adapter });
            }
            (kv, _) => {
                self.scheduler.end(ticket);
                kv.into_iter().for_each(|kv| self.kv.end(kv));
            }
        }
    }

    /// Ends all answers of a request with an error.
    fn fail(&mut self, ticket: Ticket, error: &Error) {
        let Some(failed) = self.sequences.get(&ticket) else { return };
        let job = failed.job.clone();
        let same = |sequence: &Sequence| Arc::ptr_eq(&sequence.job, &job);
        let of_job = self.sequences.iter().filter(|(_, sequence)| same(sequence)).map(|(ticket, _)| *ticket);
        for ticket in of_job.collect::<Vec<Ticket>>() {
            let Some(sequence) = self.sequences.remove(&ticket) else { continue };
            self.scheduler.end(ticket);
            sequence.kv.into_iter().for_each(|kv| self.kv.end(kv));
        }
        job.fail(error);
    }
}
