//! Who runs next: sequences that wait, run or are parked, the rows of each step, and the pages that they may take.
//! Token ids, memory and text belong to the engine; here a sequence is a few counts.
//!
//! Invariant: pages counted here are at least those in use (a shared page counts once for each holder), and the
//! oldest sequence always advances: only younger ones give up their pages for it.

use std::collections::{BTreeMap, BTreeSet};

#[cfg(test)]
mod simulation;

/// Names a sequence; older ones are smaller.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Ticket(u64);

/// What a step and all sequences together may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Pages of keys and values.
    pub pages: usize,
    /// Tokens in a page.
    pub page_tokens: usize,
    /// Rows of one step.
    pub step_tokens: usize,
    /// Sequences that run at once; at most `step_tokens`, so that each has a row in every step.
    pub running: usize,
    /// Positions that a row sees back at most, its own with them, in every layer: pages that lie wholly before are
    /// given back after each step. None where rows see all.
    pub window: Option<usize>,
}

impl Limits {
    /// Pages at the beginning of a sequence that are given back once it holds `held` positions.
    fn released(&self, held: usize) -> usize {
        self.window.map_or(0, |window| (held + 1).saturating_sub(window) / self.page_tokens)
    }

    /// The most pages that a sequence of `tokens` has at any time on its way.
    pub fn pages_for(&self, tokens: usize) -> usize {
        let all = tokens.div_ceil(self.page_tokens);
        let seen = self.window.map(|window| window.saturating_add(self.step_tokens - 1));
        // The first and the last page may hold one position each.
        seen.map_or(all, |seen| all.min(seen.div_ceil(self.page_tokens).saturating_add(1)))
    }
}

/// A sequence as it is handed in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arrival {
    /// Tokens whose ids are known.
    pub known: usize,
    /// The most that may ever be known.
    pub longest: usize,
    /// Positions from here on are run one by one: their angles depend on how long the sequence was then.
    pub alone_from: usize,
}

/// Rows of one sequence in a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Work {
    /// Whose.
    pub ticket: Ticket,
    /// Position of the first.
    pub start: usize,
    /// How many.
    pub count: usize,
    /// Whether the last row's logits choose the next token.
    pub samples: bool,
}

/// What to run next.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Step {
    /// Sequences whose pages must be freed before the step; parked ones are gone, others start over later.
    pub dropped: Vec<Ticket>,
    /// Rows, those of one token first.
    pub work: Vec<Work>,
}

/// A sequence that can never be run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooLong {
    /// Pages that it needs at its longest.
    pub needed: usize,
    /// Pages that there are.
    pub pages: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Waiting,
    Running,
    Parked,
}

#[derive(Clone, Debug)]
struct Sequence {
    arrival: Arrival,
    known: usize,
    held: usize,
    pages: usize,
    state: State,
    /// The step in which it was parked.
    parked_at: u64,
}

/// The sequences of one engine.
#[derive(Clone, Debug)]
pub struct Scheduler {
    limits: Limits,
    free: usize,
    next: u64,
    steps: u64,
    sequences: BTreeMap<Ticket, Sequence>,
    waiting: BTreeSet<Ticket>,
    running: BTreeSet<Ticket>,
}

impl Scheduler {
    /// No sequences yet.
    ///
    /// # Panics
    /// When a limit is zero.
    pub fn new(limits: Limits) -> Self {
        assert!(limits.pages > 0 && limits.page_tokens > 0 && limits.step_tokens > 0 && limits.running > 0);
        let limits = Limits { running: limits.running.min(limits.step_tokens), ..limits };
        Self {
            limits,
            free: limits.pages,
            next: 0,
            steps: 0,
            sequences: BTreeMap::new(),
            waiting: BTreeSet::new(),
            running: BTreeSet::new(),
        }
    }

    /// Takes a sequence in; it waits for its turn.
    ///
    /// # Errors
    /// When it needs more pages at its longest than there are.
    pub fn add(&mut self, arrival: Arrival) -> Result<Ticket, TooLong> {
        assert!(0 < arrival.known && arrival.known <= arrival.longest, "a sequence has tokens, and room for them");
        let (needed, pages) = (self.limits.pages_for(arrival.longest), self.limits.pages);
        if needed > pages {
            return Err(TooLong { needed, pages });
        }
        Ok(self.insert(arrival, 0, State::Waiting))
    }

    /// Whether there are pages to go on with the first `held` positions of a parked sequence. Where pages left the
    /// window there may be fewer than it had then.
    pub fn can_resume(&self, parked: Ticket, held: usize) -> bool {
        self.pages_of(held, held) <= self.free + self.sequences[&parked].pages
    }

    /// Goes on with a parked sequence, of which the first `held` positions are kept. It is as young as a new one.
    ///
    /// # Errors
    /// As [`Scheduler::add`]; the sequence stays parked then.
    ///
    /// # Panics
    /// When [`Scheduler::can_resume`] is false.
    pub fn resume(&mut self, parked: Ticket, held: usize, arrival: Arrival) -> Result<Ticket, TooLong> {
        let old = &self.sequences[&parked];
        assert!(old.state == State::Parked && held <= old.held && held < arrival.known);
        assert!(self.can_resume(parked, held), "there are pages for what is kept");
        let ticket = self.add(arrival)?;
        self.end(parked);
        self.take(ticket, held);
        Ok(ticket)
    }

    /// A sequence that knows and holds what `parent` does. False where there are no pages for that: it then starts
    /// over when its turn comes.
    pub fn fork(&mut self, parent: Ticket) -> (Ticket, bool) {
        let parent = &self.sequences[&parent];
        let (held, arrival) = (parent.held, Arrival { known: parent.known, ..parent.arrival });
        let runs = self.running.len() < self.limits.running && self.pages_of(held, held) <= self.free;
        let ticket = self.insert(arrival, 0, if runs { State::Running } else { State::Waiting });
        if runs {
            self.take(ticket, held);
        }
        (ticket, runs)
    }

    /// Whether there is nothing to run.
    pub fn is_idle(&self) -> bool {
        self.waiting.is_empty() && self.running.is_empty()
    }

    /// Plans a step: admits whom there is room for, then one row for each sequence that lacks one, then parts of
    /// prompts, oldest first, up to the budget. When pages run out the parked are dropped, then the youngest.
    pub fn next_step(&mut self) -> Step {
        self.steps += 1;
        let mut step = Step::default();
        self.admit(&mut step);
        let mut budget = self.limits.step_tokens;
        for decode in [true, false] {
            for ticket in self.running.iter().copied().collect::<Vec<Ticket>>() {
                let sequence = &self.sequences[&ticket];
                let lacking = sequence.known - sequence.held;
                if sequence.state != State::Running || lacking == 0 || (lacking == 1) != decode || budget == 0 {
                    continue;
                }
                let alone = sequence.arrival.alone_from;
                let together = if sequence.held < alone { alone - sequence.held } else { 1 };
                let count = lacking.min(budget).min(together);
                if self.make_room(ticket, count, &mut step, &mut budget) {
                    let start = self.sequences[&ticket].held;
                    step.work.push(Work { ticket, start, count, samples: count == lacking });
                    budget -= count;
                }
            }
        }
        step
    }

    /// Counts a step's rows as held, and the pages that left the window as free: they must be given back now.
    pub fn commit(&mut self, step: &Step) {
        for work in &step.work {
            let sequence = &self.sequences[&work.ticket];
            assert_eq!(sequence.held, work.start, "a step is committed once");
            let held = work.start + work.count;
            let (had, pages) = (sequence.pages, self.pages_of(held, held));
            let sequence = self.sequence_mut(work.ticket);
            (sequence.held, sequence.pages) = (held, pages);
            self.free += had - pages;
        }
    }

    /// One more token of a sequence is known.
    pub fn grow(&mut self, ticket: Ticket) {
        let sequence = self.sequence_mut(ticket);
        assert!(sequence.known < sequence.arrival.longest, "a sequence stays within what it asked for");
        sequence.known += 1;
    }

    /// Forgets what a sequence holds from position `held` on.
    pub fn rewind(&mut self, ticket: Ticket, held: usize) {
        assert!(held <= self.sequences[&ticket].held, "a sequence is only cut shorter");
        self.give_back(ticket);
        self.take(ticket, held);
    }

    /// Frees a sequence, whatever it does.
    pub fn end(&mut self, ticket: Ticket) {
        self.give_back(ticket);
        self.waiting.remove(&ticket);
        self.running.remove(&ticket);
        self.sequences.remove(&ticket);
    }

    /// Keeps what a sequence holds while nobody needs the pages.
    pub fn park(&mut self, ticket: Ticket) {
        let held = self.sequences[&ticket].held;
        self.rewind(ticket, held);
        self.waiting.remove(&ticket);
        self.running.remove(&ticket);
        let steps = self.steps;
        let sequence = self.sequence_mut(ticket);
        (sequence.state, sequence.parked_at) = (State::Parked, steps);
    }

    /// Pages that nobody holds.
    pub fn free_pages(&self) -> usize {
        self.free
    }

    /// The limits in force.
    pub fn limits(&self) -> Limits {
        self.limits
    }

    fn insert(&mut self, arrival: Arrival, held: usize, state: State) -> Ticket {
        let ticket = Ticket(self.next);
        self.next += 1;
        let sequence = Sequence { arrival, known: arrival.known, held, pages: 0, state, parked_at: 0 };
        self.sequences.insert(ticket, sequence);
        match state {
            State::Waiting => self.waiting.insert(ticket),
            State::Running => self.running.insert(ticket),
            State::Parked => unreachable!("a sequence is parked after it ran"),
        };
        ticket
    }

    /// Pages of a sequence that ran up to `end` since it held `held` positions.
    fn pages_of(&self, held: usize, end: usize) -> usize {
        end.div_ceil(self.limits.page_tokens).saturating_sub(self.limits.released(held))
    }

    /// Lets a sequence without pages hold `held` positions; the pages are known to be free.
    fn take(&mut self, ticket: Ticket, held: usize) {
        let pages = self.pages_of(held, held);
        self.free -= pages;
        let sequence = self.sequence_mut(ticket);
        (sequence.held, sequence.pages) = (held, pages);
    }

    fn give_back(&mut self, ticket: Ticket) {
        let sequence = self.sequence_mut(ticket);
        let pages = std::mem::take(&mut sequence.pages);
        sequence.held = 0;
        self.free += pages;
    }

    /// Lets those who wait run, strictly in their order, while all that run could take their known tokens and one more.
    fn admit(&mut self, step: &mut Step) {
        while self.running.len() < self.limits.running {
            let Some(&ticket) = self.waiting.first() else { return };
            let lacks = |ticket: &Ticket| {
                let sequence = &self.sequences[ticket];
                self.limits.pages_for((sequence.known + 1).min(sequence.arrival.longest)).saturating_sub(sequence.pages)
            };
            let wanted = lacks(&ticket) + self.running.iter().map(lacks).sum::<usize>();
            while self.free < wanted {
                let Some(victim) = self.spare(ticket) else { break };
                self.drop_pages(victim, step);
            }
            // Alone it may run whatever else holds: all pages are its own then.
            if self.free < wanted && !self.running.is_empty() {
                return;
            }
            self.waiting.remove(&ticket);
            self.running.insert(ticket);
            self.sequence_mut(ticket).state = State::Running;
        }
    }

    /// Pages that can be had without stopping anyone: the longest parked, else those of the youngest that waits.
    fn spare(&self, but: Ticket) -> Option<Ticket> {
        let parked = self.sequences.iter().filter(|(_, sequence)| sequence.state == State::Parked);
        let longest = parked.min_by_key(|(ticket, sequence)| (sequence.parked_at, **ticket)).map(|(ticket, _)| *ticket);
        let waits = || self.waiting.iter().rev().find(|ticket| **ticket != but && self.sequences[ticket].pages > 0);
        longest.or_else(|| waits().copied())
    }

    /// Takes the pages for `count` more rows. False where the sequence had to give up its own instead.
    fn make_room(&mut self, ticket: Ticket, count: usize, step: &mut Step, budget: &mut usize) -> bool {
        let sequence = &self.sequences[&ticket];
        let pages = self.pages_of(sequence.held, sequence.held + count);
        let more = pages.saturating_sub(sequence.pages);
        while self.free < more {
            let victim = self.spare(ticket).or(self.running.last().copied()).expect("the sequence itself runs");
            self.drop_pages(victim, step);
            if let Some(at) = step.work.iter().position(|work| work.ticket == victim) {
                *budget += step.work.remove(at).count;
            }
            if victim == ticket {
                return false;
            }
        }
        self.free -= more;
        self.sequence_mut(ticket).pages += more;
        true
    }

    /// Takes a sequence's pages away: a parked one is gone, another waits and starts over.
    fn drop_pages(&mut self, ticket: Ticket, step: &mut Step) {
        step.dropped.push(ticket);
        self.give_back(ticket);
        if self.sequences[&ticket].state == State::Parked {
            self.sequences.remove(&ticket);
            return;
        }
        self.running.remove(&ticket);
        self.waiting.insert(ticket);
        self.sequence_mut(ticket).state = State::Waiting;
    }

    fn sequence_mut(&mut self, ticket: Ticket) -> &mut Sequence {
        self.sequences.get_mut(&ticket).expect("a ticket is used until its sequence ends")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scheduler(pages: usize, step_tokens: usize) -> Scheduler {
        Scheduler::new(Limits { pages, page_tokens: 4, step_tokens, running: 8, window: None })
    }

    fn arrival(known: usize, longest: usize) -> Arrival {
        Arrival { known, longest, alone_from: usize::MAX }
    }

    /// Runs a step and lets every sequence that samples grow; gives (ticket, start, count) of each part.
    fn run(scheduler: &mut Scheduler) -> Vec<(u64, usize, usize)> {
        let step = scheduler.next_step();
        scheduler.commit(&step);
        step.work.iter().filter(|work| work.samples).for_each(|work| scheduler.grow(work.ticket));
        step.work.iter().map(|work| (work.ticket.0, work.start, work.count)).collect()
    }

    #[test]
    fn single_rows_come_before_parts_of_prompts_within_the_budget() {
        let mut scheduler = scheduler(100, 8);
        scheduler.add(arrival(3, 50)).unwrap();
        assert_eq!(run(&mut scheduler), [(0, 0, 3)]);
        scheduler.add(arrival(20, 50)).unwrap();
        scheduler.add(arrival(2, 50)).unwrap();
        assert_eq!(run(&mut scheduler), [(0, 3, 1), (1, 0, 7)]);
        assert_eq!(run(&mut scheduler), [(0, 4, 1), (1, 7, 7)]);
        assert_eq!(run(&mut scheduler), [(0, 5, 1), (1, 14, 6), (2, 0, 1)]);
        assert_eq!(run(&mut scheduler), [(0, 6, 1), (1, 20, 1), (2, 1, 1)]);
    }

    #[test]
    fn the_youngest_gives_up_its_pages_and_starts_over() {
        let mut scheduler = scheduler(4, 16);
        let old = scheduler.add(arrival(7, 16)).unwrap();
        let young = scheduler.add(arrival(7, 12)).unwrap();
        assert_eq!(run(&mut scheduler), [(0, 0, 7), (1, 0, 7)]);
        assert_eq!(run(&mut scheduler), [(0, 7, 1), (1, 7, 1)]);
        let step = scheduler.next_step();
        assert_eq!(step.dropped, [young]);
        assert_eq!(step.work, [Work { ticket: old, start: 8, count: 1, samples: true }]);
        scheduler.commit(&step);
        scheduler.end(old);
        assert_eq!(scheduler.next_step().work, [Work { ticket: young, start: 0, count: 9, samples: true }]);
    }

    #[test]
    fn a_sequence_that_can_never_fit_is_refused_with_numbers() {
        let mut scheduler = scheduler(4, 16);
        assert_eq!(scheduler.add(arrival(2, 17)), Err(TooLong { needed: 5, pages: 4 }));
        assert!(scheduler.add(arrival(2, 16)).is_ok());
    }

    #[test]
    fn a_parked_sequence_is_kept_until_its_pages_are_needed() {
        let mut scheduler = scheduler(4, 16);
        let first = scheduler.add(arrival(8, 16)).unwrap();
        run(&mut scheduler);
        scheduler.park(first);
        assert_eq!((scheduler.free_pages(), scheduler.is_idle()), (2, true));
        let again = scheduler.resume(first, 6, arrival(9, 16)).unwrap();
        assert_eq!(run(&mut scheduler), [(again.0, 6, 3)]);
        scheduler.park(again);
        scheduler.add(arrival(12, 16)).unwrap();
        assert_eq!(scheduler.next_step().dropped, [again]);
    }

    #[test]
    fn a_window_bounds_the_pages_of_a_long_sequence() {
        let limits = Limits { pages: 6, page_tokens: 4, step_tokens: 8, running: 8, window: Some(6) };
        let mut scheduler = Scheduler::new(limits);
        // 6 + 8 - 1 positions may lie on 5 pages.
        assert_eq!((limits.pages_for(8), limits.pages_for(1000)), (2, 5));
        let ticket = scheduler.add(arrival(30, 100)).unwrap();
        for _ in 0..70 {
            run(&mut scheduler);
            let sequence = &scheduler.sequences[&ticket];
            assert_eq!(scheduler.free_pages() + sequence.pages, 6);
            assert!(sequence.held < 20 || sequence.pages <= 3, "{} pages for a window of 6", sequence.pages);
        }
        assert!(scheduler.sequences[&ticket].held > 60);
    }

    #[test]
    fn rows_of_changing_angles_run_alone() {
        let mut scheduler = scheduler(10, 16);
        scheduler.add(Arrival { alone_from: 5, ..arrival(7, 16) }).unwrap();
        assert_eq!(run(&mut scheduler), [(0, 0, 5)]);
        assert_eq!(run(&mut scheduler), [(0, 5, 1)]);
        assert_eq!(run(&mut scheduler), [(0, 6, 1)]);
    }

    #[test]
    fn a_fork_without_pages_waits_and_starts_over() {
        let mut scheduler = scheduler(4, 16);
        let parent = scheduler.add(arrival(5, 8)).unwrap();
        run(&mut scheduler);
        let (child, shares) = scheduler.fork(parent);
        let (late, late_shares) = scheduler.fork(parent);
        assert!(shares && !late_shares);
        assert_eq!(scheduler.sequences[&late].held, 0);
        scheduler.grow(child);
        assert_eq!(run(&mut scheduler), [(0, 5, 1), (1, 5, 2)]);
    }
}
