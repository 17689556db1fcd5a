//! The thread that computes: takes commands, plans a step, runs it, chooses tokens, sends them.
//! One step at a time; between steps it looks whether a request was cancelled. A panic ends the answers, not the thread.

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, TryRecvError};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use pasture_model::{Batch, KeptPage, Kv};

use super::EngineCounts;
use super::answer::Sequence;
use super::verify::{Given, Verified};
use crate::error::{Error, Result};
use crate::forward::{Forward, RopeRule};
use crate::prefix;
use crate::request::Finish;
use crate::scheduler::cache::{NodeId, PageName};
use crate::scheduler::{Admitted, Arrival, Limits, Published, Scheduler, Step, Ticket, TooLong};
use crate::speculate::Speculator;

/// What the handle asks of the thread.
pub(super) enum Command {
    /// Sequences that begin together.
    Submit(Vec<Sequence>),
}

/// The thread's state.
pub(super) struct Compute {
    forward: Box<dyn Forward>,
    pub(super) kv: Kv,
    pub(super) rope: RopeRule,
    limits: Limits,
    pub(super) scheduler: Scheduler,
    pub(super) speculator: Speculator,
    pub(super) sequences: HashMap<Ticket, Sequence>,
    /// The pages that the scheduler keeps.
    kept: HashMap<NodeId, KeptPage>,
    commands: Receiver<Command>,
    pub(super) done: EngineCounts,
    counts: Arc<Mutex<EngineCounts>>,
}

impl Compute {
    pub(super) fn new(
        forward: Box<dyn Forward>,
        speculator: Speculator,
        limits: Limits,
        commands: Receiver<Command>,
        counts: Arc<Mutex<EngineCounts>>,
    ) -> Compute {
        let (kv, rope, scheduler) = (forward.kv(), forward.rope_rule(), Scheduler::new(limits));
        let (sequences, kept, done) = (HashMap::new(), HashMap::new(), EngineCounts::default());
        let mut compute =
            Compute { forward, kv, rope, limits, scheduler, speculator, sequences, kept, commands, done, counts };
        compute.tell();
        compute
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
                Ok(Command::Submit(all)) => all.into_iter().for_each(|sequence| self.submit(sequence)),
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
        self.speculator.clear();
    }

    fn submit(&mut self, mut sequence: Sequence) {
        // What the conversation's answer before, stopped since, has computed is of use to this one.
        self.end_cancelled();
        let (prompt, job) = (sequence.ids.len(), &sequence.job);
        let (regime, cacheable) = self.rope.regime(prompt, prompt);
        let root = prefix::root(&job.scope, job.adapter.as_ref(), regime);
        let arrival = Arrival {
            known: prompt,
            longest: job.longest,
            alone_from: self.rope.alone_from(prompt),
            owner: job.owner,
            names: prefix::names(&root, &sequence.ids, self.limits.page_tokens),
            cacheable,
        };
        match self.scheduler.add(arrival) {
            Ok(ticket) => {
                sequence.root = root;
                self.sequences.insert(ticket, sequence);
            }
            Err(TooLong { needed, pages }) => sequence.job.fail(&Error::Pages { needed, pages }),
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
        let proposals = self.propose();
        // What proposing takes is not the step's: a draft measures its own time.
        let begun = Instant::now();
        let mut step = self.scheduler.next_step(&proposals);
        self.prepare(&step);
        if step.work.is_empty() {
            assert!(self.scheduler.is_idle(), "someone waits, so something runs");
            self.tell();
            return;
        }
        match self.run_step(&step) {
            Ok(mut logits) => {
                self.done.steps += 1;
                self.done.rows += step.work.iter().map(|work| work.count as u64).sum::<u64>();
                self.time(&step, begun);
                let given = self.verify(&mut step, &mut logits);
                self.scheduler.commit(&step);
                self.publish(&step);
                self.scheduler.settle(&step);
                self.release(&step);
                // Before the events: who has an answer finds it counted.
                self.tell();
                for (ticket, given) in given {
                    match given {
                        Given::Logits(logits) => self.choose(ticket, logits),
                        Given::Verified(verified) => self.say(ticket, verified),
                    }
                }
            }
            Err(error) => self.recover(&step, &error),
        }
        self.tell();
    }

    /// Says what is held and what was done.
    fn tell(&mut self) {
        self.done.now = self.scheduler.counts();
        *self.counts.lock().unwrap_or_else(PoisonError::into_inner) = self.done;
    }

    /// Frees the keys and values of sequences that start over, lets others begin with kept pages, and forgets pages.
    fn prepare(&mut self, step: &Step) {
        self.done.preempted += step.dropped.len() as u64;
        for ticket in &step.dropped {
            let kv = self.sequences.get_mut(ticket).and_then(|sequence| sequence.kv.take());
            kv.into_iter().for_each(|kv| self.kv.end(kv));
            self.speculator.end(*ticket);
        }
        for Admitted { ticket, hit, held } in &step.admitted {
            let nodes = hit.nodes.iter().chain(hit.part.as_ref().map(|(node, _)| node));
            let pages: Vec<&KeptPage> = nodes.map(|node| &self.kept[node]).collect();
            let sequence = self.sequences.get_mut(ticket).expect("who is let in is a sequence");
            sequence.kv = Some(self.kv.start_with(&pages, *held));
            if sequence.cached.is_none() {
                sequence.cached = Some(*held);
                self.done.cached_tokens += *held as u64;
            }
        }
        self.forget(&step.forgotten);
    }

    fn forget(&mut self, nodes: &[NodeId]) {
        for node in nodes {
            self.kept.remove(node).into_iter().for_each(|page| self.kv.drop_kept(page));
        }
    }

    /// Keeps the pages that a step has filled, under the names of what they hold.
    fn publish(&mut self, step: &Step) {
        for work in &step.work {
            while let Some(page) = self.scheduler.unnamed(work.ticket) {
                let Some(sequence) = self.sequences.get(&work.ticket) else { break };
                let name = self.name(work.ticket, sequence, page, (page + 1) * self.limits.page_tokens);
                let kv = sequence.kv.expect("who ran has keys and values");
                match self.scheduler.publish(work.ticket, name) {
                    Published::New(node) => {
                        let kept = self.kv.keep(kv, page).expect("no group gave back a page that was just filled");
                        self.kept.insert(node, kept);
                    }
                    Published::Same(node) => self.kv.adopt(kv, page, &self.kept[&node]),
                    Published::Not => {}
                }
            }
        }
    }

    /// The name of a sequence's page that ends at `end`.
    fn name(&self, ticket: Ticket, sequence: &Sequence, page: usize, end: usize) -> PageName {
        let before = page.checked_sub(1).map(|before| self.scheduler.name(ticket, before));
        prefix::name(&sequence.root, before, &sequence.ids[page * self.limits.page_tokens..end])
    }

    /// Keeps the last page of a sequence that ends, although it is not full.
    fn publish_rest(&mut self, ticket: Ticket, sequence: &Sequence) {
        let Some(kv) = sequence.kv else { return };
        let held = self.kv.len(kv);
        let page = held / self.limits.page_tokens;
        if held.is_multiple_of(self.limits.page_tokens) || !self.scheduler.is_named_to(ticket, page) {
            return;
        }
        let name = self.name(ticket, sequence, page, held);
        if let Some(node) = self.scheduler.publish_part(ticket, name) {
            let kept = self.kv.keep(kv, page).expect("no group gave back the last page");
            self.kept.insert(node, kept);
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
        let speculated = step.work.iter().any(|work| work.proposed > 0);
        let no_memory = matches!(error, Error::Model(error) if matches!(**error, pasture_model::Error::Memory { .. }));
        match step.work.iter().map(|work| work.ticket).max().filter(|_| no_memory) {
            // Without the rows of proposals it may do.
            Some(_) if speculated => self.speculator.pause(),
            Some(youngest) => self.fail(youngest, error),
            None => step.work.iter().for_each(|work| self.fail(work.ticket, error)),
        }
    }

    /// Runs the rows of a step; gives the logits that choose tokens: of each sequence that does, the last row of those
    /// that are known and the rows of its proposals.
    fn run_step(&mut self, step: &Step) -> Result<Vec<f32>> {
        let (mut batch, mut rows) = (Batch::default(), Vec::new());
        let now = Instant::now();
        for work in &step.work {
            let sequence = self.sequences.get_mut(&work.ticket).expect("who runs is a sequence");
            sequence.start_clock(now);
            sequence.cached.get_or_insert(0);
            let kv = *sequence.kv.get_or_insert_with(|| self.kv.start());
            let length = self.rope.length(sequence.job.prompt, sequence.ids.len(), work.start);
            let known = &sequence.ids[work.start..work.start + work.count - work.proposed];
            let ids = [known, &sequence.guess.rows()[..work.proposed]].concat();
            batch.push(kv, work.start, length, &ids, sequence.job.adapter.clone());
            if work.samples {
                let end = batch.ids.len() as u32;
                rows.extend(end - 1 - work.proposed as u32..end);
            }
        }
        Ok(self.forward.logits(&batch, &mut self.kv, &rows)?.into_values())
    }

    /// Chooses a sequence's next token, and the first ones of the answers that share its prompt.
    fn choose(&mut self, ticket: Ticket, logits: &mut [f32]) {
        let Some(sequence) = self.sequences.get_mut(&ticket) else { return };
        let (parent, others) = (sequence.kv, sequence.split());
        for mut other in others {
            let (fork, shares) = self.scheduler.fork(ticket);
            let forgotten = self.scheduler.forgotten();
            self.forget(&forgotten);
            other.kv = parent.filter(|_| shares).map(|parent| self.kv.fork(parent));
            self.sequences.insert(fork, other);
            self.choose_one(fork, &mut logits.to_vec());
        }
        self.choose_one(ticket, logits);
    }

    fn choose_one(&mut self, ticket: Ticket, logits: &mut [f32]) {
        let Some(sequence) = self.sequences.get_mut(&ticket) else { return };
        let verified = Verified::of(sequence, std::iter::once(logits));
        (0..verified.goes_on()).for_each(|_| self.scheduler.grow(ticket));
        self.say(ticket, verified);
    }

    /// Sends the tokens that were chosen, and does what follows from the last of them.
    fn say(&mut self, ticket: Ticket, verified: Verified) {
        let Some(sequence) = self.sequences.get_mut(&ticket) else { return };
        verified.pieces.into_iter().for_each(|piece| sequence.tell(piece));
        match verified.end {
            Ok(Some(finish)) => self.finish(ticket, finish),
            Err(error) => self.fail(ticket, &error),
            Ok(None) => {
                let Some(sequence) = self.sequences.get_mut(&ticket) else { return };
                if self.rope.restarts(sequence.ids.len()) {
                    self.scheduler.restart(ticket);
                    sequence.kv.iter().for_each(|kv| self.kv.truncate(*kv, 0));
                    let (regime, _) = self.rope.regime(sequence.job.prompt, sequence.ids.len());
                    sequence.root = prefix::root(&sequence.job.scope, sequence.job.adapter.as_ref(), regime);
                }
            }
        }
    }

    /// Ends an answer; what was computed is kept as long as nobody needs the pages.
    fn finish(&mut self, ticket: Ticket, finish: Finish) {
        let Some(mut sequence) = self.sequences.remove(&ticket) else { return };
        self.publish_rest(ticket, &sequence);
        self.scheduler.end(ticket);
        self.speculator.end(ticket);
        sequence.kv.take().into_iter().for_each(|kv| self.kv.end(kv));
        self.tell();
        sequence.finish(finish, Instant::now());
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
            self.speculator.end(ticket);
            sequence.kv.into_iter().for_each(|kv| self.kv.end(kv));
        }
        job.fail(error);
    }
}
