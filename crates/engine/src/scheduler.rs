//! Who runs next: sequences that wait or run, the rows of each step, and the pages that they may take.
//! Memory and text belong to the engine; here a sequence is a few counts and the names of its pages.
//!
//! Invariant: every page is free, a sequence's own, or kept under its name, and kept pages are shared by all who hold them.
//! Of those that run the oldest always advances: only younger ones give up their pages for it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

pub mod cache;
mod plan;
mod shares;
#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;

use cache::{Cache, Hit, NodeId, PageName};
pub use plan::{Admitted, Arrival, Counts, Limits, Published, Step, Ticket, TooLong, Work};
use shares::Shares;

#[derive(Clone, Debug)]
struct Sequence {
    arrival: Arrival,
    known: usize,
    held: usize,
    /// Kept pages that it holds: those from `first` on.
    nodes: VecDeque<NodeId>,
    first: usize,
    /// The page before the next one that is published.
    last: Option<NodeId>,
    /// Pages of its own, behind the kept ones.
    own: usize,
}

impl Sequence {
    /// Pages that are published, whether it still holds them or not.
    fn named(&self) -> usize {
        self.first + self.nodes.len()
    }
}

/// The sequences of one engine.
#[derive(Clone, Debug)]
pub struct Scheduler {
    limits: Limits,
    free: usize,
    next: u64,
    sequences: BTreeMap<Ticket, Sequence>,
    waiting: BTreeSet<Ticket>,
    running: BTreeSet<Ticket>,
    cache: Cache,
    shares: Shares,
    forgotten: Vec<NodeId>,
}

impl Scheduler {
    /// No sequences yet.
    ///
    /// # Panics
    /// When a limit is zero.
    pub fn new(limits: Limits) -> Self {
        assert!(limits.pages > 0 && limits.page_tokens > 0 && limits.step_tokens > 0 && limits.running > 0);
        assert!(limits.prompt_tokens > 0);
        let limits = Limits { running: limits.running.min(limits.step_tokens), ..limits };
        Self {
            limits,
            free: limits.pages,
            next: 0,
            sequences: BTreeMap::new(),
            waiting: BTreeSet::new(),
            running: BTreeSet::new(),
            cache: Cache::default(),
            shares: Shares::default(),
            forgotten: Vec::new(),
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
        Ok(self.insert(arrival))
    }

    /// A sequence that knows and holds what `parent` does. False where there are no pages for that: it then starts
    /// over when its turn comes.
    pub fn fork(&mut self, parent: Ticket) -> (Ticket, bool) {
        let parent = self.sequences[&parent].clone();
        let runs = self.running.len() < self.limits.running && self.find_pages(parent.own);
        let arrival = Arrival { known: parent.known, ..parent.arrival };
        let ticket = self.insert(arrival);
        if runs {
            self.run(ticket);
            self.free -= parent.own;
            parent.nodes.iter().for_each(|node| self.cache.hold(*node));
            let child = self.sequence_mut(ticket);
            (child.held, child.own, child.last) = (parent.held, parent.own, parent.last);
            (child.nodes, child.first) = (parent.nodes, parent.first);
        }
        (ticket, runs)
    }

    /// Whether there is nothing to run.
    pub fn is_idle(&self) -> bool {
        self.waiting.is_empty() && self.running.is_empty()
    }

    /// Plans a step: admits whom there is room for, then one row for each sequence that lacks one, then parts of
    /// prompts up to their budget, first of the owner who has had least. When pages run out kept pages are forgotten, then
    /// the youngest give up theirs. What is left is filled with proposed tokens, of which each sequence has so many.
    pub fn next_step(&mut self, proposals: &[(Ticket, usize)]) -> Step {
        self.cache.tick();
        let mut step = Step::default();
        while self.cache.idle() > self.limits.cached {
            self.forget();
        }
        self.admit(&mut step);
        let (mut budget, mut prompts) = (self.limits.step_tokens, 0);
        for decode in [true, false] {
            let mut order: Vec<Ticket> = self.running.iter().copied().collect();
            if !decode {
                order.sort_by_key(|ticket| (self.shares.rows(self.sequences[ticket].arrival.owner), *ticket));
            }
            let is_alone = step.work.is_empty();
            for ticket in order {
                let sequence = &self.sequences[&ticket];
                let lacking = sequence.known - sequence.held;
                let of_prompts = if decode { usize::MAX } else { self.limits.prompt_tokens.saturating_sub(prompts) };
                let is_next = self.running.contains(&ticket) && lacking > 0 && (lacking == 1) == decode;
                if !is_next || budget == 0 || of_prompts == 0 {
                    continue;
                }
                let alone = sequence.arrival.alone_from;
                let together = if sequence.held < alone { alone - sequence.held } else { 1 };
                let most = if is_alone && prompts == 0 { budget } else { of_prompts.min(budget) };
                let count = lacking.min(most).min(together);
                if self.make_room(ticket, count, &mut step, &mut budget) {
                    let start = self.sequences[&ticket].held;
                    step.work.push(Work { ticket, start, count, samples: count == lacking, proposed: 0 });
                    budget -= count;
                    prompts += if decode { 0 } else { count };
                }
            }
        }
        self.add_proposals(proposals, &mut step);
        step.forgotten = self.forgotten();
        step
    }

    /// Rows of proposed tokens that the next step may have room for.
    pub fn proposal_rows(&self) -> usize {
        let lacking = |ticket: &Ticket| self.sequences[ticket].known - self.sequences[ticket].held;
        let rows = self.running.iter().map(lacking).sum();
        self.limits.proposal_rows.min(self.limits.step_tokens).saturating_sub(rows)
    }

    /// Says how many of a step's rows hold tokens that came to be. The others count as never run, but for their owner.
    pub fn verify(&mut self, work: &mut Work, kept: usize) {
        assert!(work.count - work.proposed <= kept && kept <= work.count, "only proposals may be wrong");
        let owner = self.sequences[&work.ticket].arrival.owner;
        self.shares.take(owner, work.count - kept);
        (work.count, work.proposed) = (kept, 0);
    }

    /// Counts a step's rows as held. Its full pages may be published then, and [`Scheduler::settle`] comes last.
    pub fn commit(&mut self, step: &Step) {
        for work in &step.work {
            let sequence = self.sequence_mut(work.ticket);
            assert_eq!(sequence.held, work.start, "a step is committed once");
            assert_eq!(work.proposed, 0, "what is proposed is verified before it counts");
            sequence.held = work.start + work.count;
            let owner = sequence.arrival.owner;
            self.shares.take(owner, work.count);
        }
    }

    /// The next page of a sequence that is full and has no name yet.
    pub fn unnamed(&self, ticket: Ticket) -> Option<usize> {
        let sequence = &self.sequences[&ticket];
        let page = sequence.named();
        let end = (page + 1) * self.limits.page_tokens;
        (end <= sequence.held && end <= sequence.arrival.cacheable).then_some(page)
    }

    /// Whether the pages of a sequence before the `page`-th are published, and no more.
    pub fn is_named_to(&self, ticket: Ticket, page: usize) -> bool {
        self.sequences[&ticket].named() == page
    }

    /// The name under which a page was published.
    pub fn name(&self, ticket: Ticket, page: usize) -> &PageName {
        &self.sequences[&ticket].arrival.names[page]
    }

    /// Keeps the page that [`Scheduler::unnamed`] gave under a name.
    pub fn publish(&mut self, ticket: Ticket, name: PageName) -> Published {
        let page = self.unnamed(ticket).expect("a full page without a name");
        let last = self.sequences[&ticket].last;
        let gone = page > 0 && !last.is_some_and(|last| self.cache.contains(last));
        if gone {
            // What stands before it left the window and is forgotten: nobody could find it.
            self.sequence_mut(ticket).arrival.cacheable = 0;
            return Published::Not;
        }
        let known = self.cache.child(last, &name);
        let node = known.unwrap_or_else(|| self.cache.insert(last, name.clone()));
        self.cache.hold(node);
        let sequence = self.sequence_mut(ticket);
        if sequence.arrival.names.get(page) != Some(&name) {
            sequence.arrival.names.truncate(page);
            sequence.arrival.names.push(name);
        }
        (sequence.own, sequence.last) = (sequence.own - 1, Some(node));
        sequence.nodes.push_back(node);
        match known {
            Some(node) => {
                self.free += 1;
                Published::Same(node)
            }
            None => Published::New(node),
        }
    }

    /// Keeps the last page of a sequence, which is not full, when the sequence is about to end. None where it is kept
    /// already, or cannot be found again.
    pub fn publish_part(&mut self, ticket: Ticket, name: PageName) -> Option<NodeId> {
        let sequence = &self.sequences[&ticket];
        let (page, last) = (sequence.named(), sequence.last);
        let lies = sequence.held / self.limits.page_tokens == page && sequence.own == 1;
        let found = page == 0 || last.is_some_and(|last| self.cache.contains(last));
        if !lies || !found || sequence.held > sequence.arrival.cacheable || self.cache.child(last, &name).is_some() {
            return None;
        }
        self.sequence_mut(ticket).own = 0;
        Some(self.cache.insert(last, name))
    }

    /// Counts the pages that left a step's windows as free: they must be given back now.
    pub fn settle(&mut self, step: &Step) {
        for work in &step.work {
            let Some(held) = self.sequences.get(&work.ticket).map(|sequence| sequence.held) else { continue };
            let (released, end) = (self.limits.released(held), held.div_ceil(self.limits.page_tokens));
            let sequence = self.sequence_mut(work.ticket);
            let own = end.saturating_sub(sequence.named().max(released));
            let more = sequence.own - own;
            sequence.own = own;
            let gone = released.saturating_sub(sequence.first).min(sequence.nodes.len());
            let gone: Vec<NodeId> = sequence.nodes.drain(..gone).collect();
            sequence.first += gone.len();
            gone.into_iter().for_each(|node| self.cache.release(node));
            self.free += more;
        }
    }

    /// One more token of a sequence is known.
    pub fn grow(&mut self, ticket: Ticket) {
        let sequence = self.sequence_mut(ticket);
        assert!(sequence.known < sequence.arrival.longest, "a sequence stays within what it asked for");
        sequence.known += 1;
    }

    /// Forgets all that a sequence holds, and the names of its pages: what it computes from now on is different.
    pub fn restart(&mut self, ticket: Ticket) {
        self.give_back(ticket);
        self.sequence_mut(ticket).arrival.names.clear();
    }

    /// Frees a sequence, whatever it does.
    pub fn end(&mut self, ticket: Ticket) {
        self.give_back(ticket);
        self.waiting.remove(&ticket);
        let ran = self.running.remove(&ticket);
        if let Some(sequence) = self.sequences.remove(&ticket) {
            let owner = sequence.arrival.owner;
            if ran {
                self.shares.stop(owner);
            }
            self.shares.leave(owner);
        }
    }

    /// What is held, and by how many.
    pub fn counts(&self) -> Counts {
        let (free, cached) = (self.free, self.cache.idle());
        let held = self.limits.pages - free - cached;
        Counts { free, cached, held, waiting: self.waiting.len(), running: self.running.len() }
    }

    /// The limits in force.
    pub fn limits(&self) -> Limits {
        self.limits
    }

    /// Kept pages that are kept no longer, since the last call.
    pub fn forgotten(&mut self) -> Vec<NodeId> {
        std::mem::take(&mut self.forgotten)
    }

    /// Takes a sequence in, to wait.
    fn insert(&mut self, arrival: Arrival) -> Ticket {
        let ticket = Ticket(self.next);
        self.next += 1;
        let (known, owner) = (arrival.known, arrival.owner);
        let nodes = VecDeque::new();
        let sequence = Sequence { arrival, known, held: 0, nodes, first: 0, last: None, own: 0 };
        self.sequences.insert(ticket, sequence);
        self.shares.enter(owner);
        self.waiting.insert(ticket);
        ticket
    }

    /// Lets one that waits run.
    fn run(&mut self, ticket: Ticket) {
        self.waiting.remove(&ticket);
        self.running.insert(ticket);
        self.shares.begin(self.sequences[&ticket].arrival.owner);
    }

    fn give_back(&mut self, ticket: Ticket) {
        let sequence = self.sequence_mut(ticket);
        let (nodes, own) = (std::mem::take(&mut sequence.nodes), std::mem::take(&mut sequence.own));
        (sequence.held, sequence.first, sequence.last) = (0, 0, None);
        nodes.into_iter().for_each(|node| self.cache.release(node));
        self.free += own;
    }

    /// Forgets a page that nobody holds.
    fn forget(&mut self) -> bool {
        let Some(node) = self.cache.evict() else { return false };
        self.forgotten.push(node);
        self.free += 1;
        true
    }

    /// Whether so many pages are free, if need be after kept ones were forgotten.
    fn find_pages(&mut self, pages: usize) -> bool {
        while self.free < pages {
            if !self.forget() {
                return false;
            }
        }
        true
    }

    /// Lets those who wait run while all that run could take their known tokens and one more: first of the owner who has
    /// least, and of each owner the oldest. Who needs what another computes just now waits for it.
    fn admit(&mut self, step: &mut Step) {
        let mut passed: BTreeSet<Ticket> = BTreeSet::new();
        while self.running.len() < self.limits.running {
            let waiting = self.waiting.iter().filter(|ticket| !passed.contains(*ticket));
            let rank = |ticket: &&Ticket| (self.shares.rank(self.sequences[ticket].arrival.owner), **ticket);
            let Some(&ticket) = waiting.min_by_key(rank) else { return };
            let hit = self.hit(ticket);
            if self.comes(ticket, hit.nodes.len()) {
                passed.insert(ticket);
                continue;
            }
            let lacks = |ticket: &Ticket| {
                let sequence = &self.sequences[ticket];
                let most = self.limits.pages_for((sequence.known + 1).min(sequence.arrival.longest));
                most.saturating_sub(sequence.own + sequence.nodes.len())
            };
            let wanted = lacks(&ticket) + self.running.iter().map(lacks).sum::<usize>();
            let idle = hit.nodes.iter().filter(|node| self.cache.is_idle(**node)).count();
            let taken = hit.nodes.len() - idle;
            let available = self.free + self.cache.idle() + taken.min(lacks(&ticket));
            // Alone it may run whatever else is kept: all pages are its own then.
            if available < wanted && !self.running.is_empty() {
                return;
            }
            self.begin(ticket, hit, step);
        }
    }

    /// What is known of a sequence that waits. Its last row is always run.
    fn hit(&self, ticket: Ticket) -> Hit {
        let Sequence { arrival, known, .. } = &self.sequences[&ticket];
        let limit = (known - 1).min(arrival.cacheable).min(arrival.alone_from);
        self.cache.find(&arrival.names, self.limits.page_tokens, limit)
    }

    /// Whether the page after `pages` ones is being computed by another, so that it is soon known.
    fn comes(&self, ticket: Ticket, pages: usize) -> bool {
        let Sequence { arrival, known, .. } = &self.sequences[&ticket];
        let end = (pages + 1) * self.limits.page_tokens;
        let Some(name) = arrival.names.get(pages).filter(|_| end < *known && end <= arrival.cacheable) else {
            return false;
        };
        self.running.iter().any(|other| {
            let other = &self.sequences[other];
            other.held < end && end <= other.arrival.cacheable && other.arrival.names.get(pages) == Some(name)
        })
    }

    /// Lets a sequence run, beginning with what is known.
    fn begin(&mut self, ticket: Ticket, hit: Hit, step: &mut Step) {
        hit.nodes.iter().for_each(|node| self.cache.hold(*node));
        // What is known of a page in part is copied, to a page of its own.
        let part = hit.part.filter(|_| self.find_pages(1));
        let (hit, own) = (Hit { part, ..hit }, usize::from(part.is_some()));
        self.free -= own;
        let held = hit.nodes.len() * self.limits.page_tokens + part.map_or(0, |(_, tokens)| tokens);
        let released = self.limits.released(held).min(hit.nodes.len());
        hit.nodes[..released].iter().for_each(|node| self.cache.release(*node));
        let sequence = self.sequence_mut(ticket);
        (sequence.held, sequence.first, sequence.last) = (held, released, hit.nodes.last().copied());
        sequence.nodes = hit.nodes[released..].iter().copied().collect();
        sequence.own = own;
        self.run(ticket);
        if held > 0 {
            step.admitted.push(Admitted { ticket, hit, held });
        }
    }

    /// Takes the pages for `count` more rows. False where the sequence had to give up its own instead.
    fn make_room(&mut self, ticket: Ticket, count: usize, step: &mut Step, budget: &mut usize) -> bool {
        let sequence = &self.sequences[&ticket];
        let end = (sequence.held + count).div_ceil(self.limits.page_tokens);
        let pages = end.saturating_sub(sequence.named().max(self.limits.released(sequence.held)));
        let more = pages.saturating_sub(sequence.own);
        while self.free < more {
            if self.forget() {
                continue;
            }
            let victim = self.running.last().copied().expect("the sequence itself runs");
            self.drop_pages(victim, step);
            if let Some(at) = step.work.iter().position(|work| work.ticket == victim) {
                *budget += step.work.remove(at).count;
            }
            if victim == ticket {
                return false;
            }
        }
        self.free -= more;
        self.sequence_mut(ticket).own += more;
        true
    }

    /// Fills a step with rows of proposed tokens, when all else has its rows and pages: they take none from anybody, and
    /// no kept page is forgotten for them.
    fn add_proposals(&mut self, proposals: &[(Ticket, usize)], step: &mut Step) {
        let rows: usize = step.work.iter().map(|work| work.count).sum();
        let mut spare = self.limits.proposal_rows.min(self.limits.step_tokens).saturating_sub(rows);
        let single = |work: &&mut Work| work.samples && work.count == 1;
        for work in step.work.iter_mut().filter(single) {
            let Some((_, proposed)) = proposals.iter().find(|(ticket, _)| *ticket == work.ticket) else { continue };
            let sequence = &self.sequences[&work.ticket];
            let end = work.start + 1;
            // One more token than is proposed may come to be.
            let longest = sequence.arrival.longest.saturating_sub(sequence.known + 1);
            let together = sequence.arrival.alone_from.saturating_sub(end);
            let begin = sequence.named().max(self.limits.released(work.start));
            let fit = (begin + sequence.own + self.free) * self.limits.page_tokens - end;
            let count = (*proposed).min(spare).min(longest).min(together).min(fit);
            let pages = (end + count).div_ceil(self.limits.page_tokens) - begin;
            let more = pages.saturating_sub(sequence.own);
            self.free -= more;
            self.sequence_mut(work.ticket).own += more;
            (work.count, work.proposed) = (1 + count, count);
            spare -= count;
        }
    }

    /// Takes a sequence's pages away: it waits and starts over, with those of its pages that are still kept then.
    fn drop_pages(&mut self, ticket: Ticket, step: &mut Step) {
        let before = step.admitted.len();
        step.admitted.retain(|admitted| admitted.ticket != ticket);
        if step.admitted.len() == before {
            step.dropped.push(ticket);
        }
        self.give_back(ticket);
        self.running.remove(&ticket);
        self.waiting.insert(ticket);
        self.shares.stop(self.sequences[&ticket].arrival.owner);
    }

    fn sequence_mut(&mut self, ticket: Ticket) -> &mut Sequence {
        self.sequences.get_mut(&ticket).expect("a ticket is used until its sequence ends")
    }
}
