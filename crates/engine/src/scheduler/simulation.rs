//! The scheduler under random arrivals, cancels, forks, proposals, other adapters and endings: after each step every page is
//! accounted for and holds what its name says, the budget is held, and everyone who came is served in the end.
//!
//! `PASTURE_SEEDS` says how many worlds are lived through, `PASTURE_STEPS` how many steps each.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use super::*;
use crate::sampling::random::Random;

/// The name of a page of tokens, under digests of two bits: most collide.
pub(super) fn name(root: &Arc<str>, tokens: &[u32], page_tokens: usize, page: usize) -> PageName {
    let digest = |tokens: &[u32]| {
        let mut key = [0; 32];
        key[0] = tokens.iter().fold(0u8, |sum, token| sum.wrapping_add(*token as u8)) & 3;
        key
    };
    let (start, end) = (page * page_tokens, tokens.len().min((page + 1) * page_tokens));
    let (before, key) = (digest(&tokens[..start]), digest(&tokens[..end]));
    PageName { before, key, root: Arc::clone(root).into(), tokens: tokens[start..end].into() }
}

/// The names of all pages of tokens.
pub(super) fn names(root: &Arc<str>, tokens: &[u32], page_tokens: usize) -> Vec<PageName> {
    (0..tokens.len().div_ceil(page_tokens)).map(|page| name(root, tokens, page_tokens, page)).collect()
}

#[derive(Clone)]
struct Client {
    tokens: Vec<u32>,
    /// The adapter's generation, which swaps change.
    root: Arc<str>,
    /// Tokens still to come; at zero it ends.
    left: usize,
    /// What each of its positions is to be computed from.
    origins: Vec<Origin>,
    /// What each of its positions was computed from.
    held: Vec<Origin>,
}

/// The root and all tokens up to a position, as a hash of 64 bits.
type Origin = u64;

impl Client {
    fn new(root: Arc<str>, tokens: &[u32], left: usize) -> Self {
        let (all, origins) = (Vec::new(), Vec::new());
        let mut client = Self { tokens: all, root, left, origins, held: Vec::new() };
        tokens.iter().for_each(|token| client.push(*token));
        client
    }

    fn push(&mut self, token: u32) {
        let mut hasher = DefaultHasher::new();
        match self.origins.last() {
            Some(before) => before.hash(&mut hasher),
            None => self.root.hash(&mut hasher),
        }
        token.hash(&mut hasher);
        self.tokens.push(token);
        self.origins.push(hasher.finish());
    }

    /// These rows lie behind those that it holds: they must be its own.
    fn hold(&mut self, rows: &[Origin]) {
        let start = self.held.len();
        assert_eq!(rows, &self.origins[start..start + rows.len()], "a foreign row");
        self.held.extend(rows);
    }

    /// Its positions are computed anew, from another root.
    fn restart(&mut self) {
        *self = Self::new(format!("{}x", self.root).into(), &self.tokens, self.left);
    }

    /// One that goes on with another last token, and whether it holds what this one holds.
    fn child(&self, shares: bool) -> Self {
        let mut child = self.clone();
        let last = child.tokens.pop().expect("it has tokens");
        child.origins.pop();
        child.push(last + 50);
        child.held.truncate(if shares { child.held.len() } else { 0 });
        child
    }
}

struct World {
    scheduler: Scheduler,
    random: Random,
    clients: BTreeMap<Ticket, Client>,
    /// What the kept pages hold.
    kept: HashMap<NodeId, Vec<Origin>>,
    generation: usize,
    served: usize,
    hits: usize,
    accepted: usize,
    /// Whether new ones come.
    open: bool,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut random = Random::new(seed);
        let mut pick = |low: u64, high: u64| low as usize + (random.uniform() * (high - low + 1) as f64) as usize;
        let window = if pick(0, 2) == 0 { Some(pick(1, 12)) } else { None };
        let pages = pick(6, 40);
        let limits = Limits {
            pages,
            cached: pick(0, pages as u64),
            page_tokens: pick(1, 8),
            step_tokens: pick(1, 24),
            prompt_tokens: pick(1, 24),
            running: pick(1, 10),
            window,
            proposal_rows: pick(0, 16),
        };
        let scheduler = Scheduler::new(limits);
        let (clients, kept) = (BTreeMap::new(), HashMap::new());
        Self { scheduler, random, clients, kept, generation: 0, served: 0, hits: 0, accepted: 0, open: true }
    }

    fn pick(&mut self, low: usize, high: usize) -> usize {
        low + (self.random.uniform() * (high - low + 1) as f64) as usize
    }

    fn arrive(&mut self) {
        let limits = self.scheduler.limits();
        // A window lets a sequence become longer than all pages.
        let endless = limits.pages_for(usize::MAX / 2) <= limits.pages;
        let most = limits.pages * limits.page_tokens * if endless { 3 } else { 1 };
        let longest = self.pick(1, most);
        let known = self.pick(1, longest);
        // Few beginnings, so that many prompts share one.
        let (line, turn) = (self.pick(0, 2) as u32, self.pick(0, longest));
        let tokens: Vec<u32> = (0..known).map(|at| line + u32::from(at >= turn) * 7 + at as u32 % 5).collect();
        let (owner, cacheable) =
            (self.pick(0, 3) as u64, if self.pick(0, 3) == 0 { self.pick(0, longest) } else { usize::MAX });
        let root: Arc<str> = format!("{}-{}", owner % 2, self.generation).into();
        let alone_from = if self.pick(0, 3) == 0 { self.pick(0, longest) } else { usize::MAX };
        let names = names(&root, &tokens, limits.page_tokens);
        let arrival = Arrival { known, longest, alone_from, owner, names, cacheable };
        let ticket = self.scheduler.add(arrival).expect("it fits");
        self.clients.insert(ticket, Client::new(root, &tokens, longest - known));
    }

    fn too_long(&mut self) {
        let limits = self.scheduler.limits();
        let longest = (limits.pages + 1) * limits.page_tokens;
        let (names, cacheable) = (Vec::new(), usize::MAX);
        let arrival = Arrival { known: 1, longest, alone_from: usize::MAX, owner: 9, names, cacheable };
        match self.scheduler.add(arrival) {
            Err(TooLong { needed, pages }) => assert!(needed > pages && pages == limits.pages),
            Ok(ticket) => self.scheduler.end(ticket),
        }
    }

    fn cancel(&mut self) {
        let at = self.pick(0, self.clients.len().max(1) - 1);
        if let Some(ticket) = self.clients.keys().nth(at).copied() {
            self.end(ticket);
        }
    }

    /// Ends a client, whose last page is kept.
    fn end(&mut self, ticket: Ticket) {
        let client = self.clients.remove(&ticket).expect("who ends is a client");
        let size = self.scheduler.limits().page_tokens;
        let page = client.held.len() / size;
        if !client.held.len().is_multiple_of(size) && self.scheduler.is_named_to(ticket, page) {
            let name = name(&client.root, &client.tokens[..client.held.len()], size, page);
            if let Some(node) = self.scheduler.publish_part(ticket, name) {
                self.kept.insert(node, client.held[page * size..].to_vec());
            }
        }
        self.scheduler.end(ticket);
    }

    fn prepare(&mut self, step: &Step) {
        let size = self.scheduler.limits().page_tokens;
        for ticket in &step.dropped {
            self.clients.get_mut(ticket).expect("who is dropped is a client").held.clear();
        }
        for Admitted { ticket, hit, held } in &step.admitted {
            let client = self.clients.get_mut(ticket).expect("who is let in is a client");
            assert!(client.held.is_empty() && *held < client.tokens.len());
            for (at, node) in hit.nodes.iter().enumerate() {
                assert_eq!(self.kept[node].len(), size, "page {at} is full");
                client.hold(&self.kept[node]);
            }
            hit.part.iter().for_each(|(node, count)| client.hold(&self.kept[node][..*count]));
            assert_eq!(client.held.len(), *held);
            self.hits += held;
        }
        step.forgotten.iter().for_each(|node| drop(self.kept.remove(node)));
    }

    /// A number of proposals for each who is likely to go on by one row, and for some others.
    fn propose(&mut self) -> Vec<(Ticket, usize)> {
        let counts = self.clients.keys().map(|ticket| (*ticket, (self.random.uniform() * 10.0) as usize));
        counts.filter(|(_, count)| *count < 7).collect()
    }

    /// Some of a work's proposals come to be, the others are taken back; the answer may end with any of them.
    fn verify(&mut self, work: &mut Work) -> bool {
        let (kept, ends) = (self.pick(1, 1 + work.proposed), self.pick(0, 9) == 0);
        let client = self.clients.get_mut(&work.ticket).expect("who runs is a client");
        let tokens = kept - usize::from(ends);
        assert!(tokens <= client.left, "it stays within what it asked for");
        client.left -= tokens;
        for _ in 0..tokens {
            client.push(client.tokens.len() as u32 % 5);
            self.scheduler.grow(work.ticket);
        }
        self.accepted += kept - 1;
        self.scheduler.verify(work, kept);
        ends
    }

    fn compute(&mut self, step: &mut Step) -> (Vec<Ticket>, Vec<Ticket>) {
        let (mut verified, mut ended) = (Vec::new(), Vec::new());
        for work in &mut step.work {
            if work.proposed > 0 {
                verified.push(work.ticket);
                ended.extend(self.verify(work).then_some(work.ticket));
            }
            let client = self.clients.get_mut(&work.ticket).expect("who runs is a client");
            assert_eq!(client.held.len(), work.start);
            client.held.extend(&client.origins[work.start..work.start + work.count]);
        }
        self.scheduler.commit(step);
        let size = self.scheduler.limits().page_tokens;
        for work in &step.work {
            while let Some(page) = self.scheduler.unnamed(work.ticket) {
                let client = &self.clients[&work.ticket];
                let name = name(&client.root, &client.tokens, size, page);
                let rows = client.held[page * size..(page + 1) * size].to_vec();
                match self.scheduler.publish(work.ticket, name) {
                    Published::New(node) => drop(self.kept.insert(node, rows)),
                    Published::Same(node) => assert_eq!(self.kept[&node], rows, "the same name, the same page"),
                    Published::Not => {}
                }
            }
        }
        self.scheduler.settle(step);
        (verified, ended)
    }

    fn step(&mut self) {
        let proposals = self.propose();
        let mut step = self.scheduler.next_step(&proposals);
        let limits = self.scheduler.limits();
        let rows: usize = step.work.iter().map(|work| work.count).sum();
        assert!(rows <= limits.step_tokens, "{rows} rows, but the budget is {}", limits.step_tokens);
        assert!(!step.work.is_empty() || self.scheduler.is_idle(), "something runs while someone waits");
        self.prepare(&step);
        let proposed: usize = step.work.iter().map(|work| work.proposed).sum();
        assert!(proposed == 0 || rows <= limits.proposal_rows, "{rows} rows with {proposed} proposals");
        let (verified, ended) = self.compute(&mut step);
        self.check();
        self.served += ended.len();
        ended.into_iter().for_each(|ticket| self.end(ticket));
        for work in step.work.iter().filter(|work| work.samples && !verified.contains(&work.ticket)) {
            let forks = self.open && self.clients.len() < 30 && self.pick(0, 9) == 0;
            let client = self.clients.get_mut(&work.ticket).expect("who runs is a client");
            if client.left == 0 {
                self.end(work.ticket);
                self.served += 1;
                continue;
            }
            let next = client.tokens.len() as u32 % 5;
            client.left -= 1;
            client.push(next);
            if forks {
                let (ticket, shares) = self.scheduler.fork(work.ticket);
                let child = client.child(shares);
                self.clients.insert(ticket, child);
                self.scheduler.grow(ticket);
                self.scheduler.forgotten().iter().for_each(|node| drop(self.kept.remove(node)));
            }
            self.scheduler.grow(work.ticket);
            if self.open && self.pick(0, 60) == 0 {
                // As where a sequence crosses to other angles.
                self.scheduler.restart(work.ticket);
                let client = self.clients.get_mut(&work.ticket).expect("who runs is a client");
                client.restart();
            }
        }
    }

    fn check(&self) {
        let scheduler = &self.scheduler;
        let own: usize = scheduler.sequences.values().map(|sequence| sequence.own).sum();
        assert_eq!(
            scheduler.free + own + scheduler.cache.kept(),
            scheduler.limits.pages,
            "every page is accounted for"
        );
        assert!(scheduler.cache.kept() == self.kept.len(), "what is kept is known");
        let mut holders: Vec<(NodeId, usize)> = scheduler.cache.holders().collect();
        holders.sort_unstable();
        assert_eq!(scheduler.sequences.len(), self.clients.len(), "all who are there are clients");
        let (mut waiting, mut running) = (scheduler.waiting.iter().peekable(), scheduler.running.iter().peekable());
        for ((ticket, sequence), (client_ticket, client)) in scheduler.sequences.iter().zip(&self.clients) {
            assert_eq!(ticket, client_ticket);
            let end = sequence.held.div_ceil(scheduler.limits.page_tokens);
            let begin = sequence.named().max(scheduler.limits.released(sequence.held));
            assert_eq!(sequence.own, end.saturating_sub(begin), "{ticket:?} counts the pages it fills");
            assert!(sequence.held <= sequence.known && sequence.known <= sequence.arrival.longest);
            let lists = (waiting.next_if_eq(&ticket), running.next_if_eq(&ticket));
            assert!(lists.0.is_some() != lists.1.is_some(), "{ticket:?} waits or runs");
            for node in &sequence.nodes {
                let at = holders.binary_search_by_key(node, |(node, _)| *node).expect("a page that is held is kept");
                let others = holders[at].1.checked_sub(1);
                holders[at].1 = others.expect("every holder is counted");
            }
            assert_eq!(client.held.len(), sequence.held);
        }
        assert!(holders.iter().all(|(_, left)| *left == 0), "only holders are counted: {holders:?}");
        assert_eq!((waiting.next(), running.next()), (None, None), "all who wait or run are there");
    }
}

fn live(seed: u64, steps: usize) -> (usize, usize) {
    let mut world = World::new(seed);
    for _ in 0..steps {
        match world.pick(0, 19) {
            0..=5 if world.clients.len() < 40 => world.arrive(),
            6 => world.cancel(),
            7 => world.generation += usize::from(world.pick(0, 4) == 0),
            8 => world.too_long(),
            _ => {}
        }
        world.step();
    }
    // Nobody new comes, and all who are there come to their end.
    world.open = false;
    let mut steps = 0;
    while !world.scheduler.is_idle() {
        world.step();
        steps += 1;
        assert!(steps < 200_000, "{} clients starve", world.clients.len());
    }
    assert!(world.clients.is_empty() && world.served > 0);
    (world.hits, world.accepted)
}

#[test]
fn every_page_is_accounted_for_and_everyone_is_served() {
    let number =
        |name: &str, usual: usize| std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(usual);
    let (seeds, steps) = (number("PASTURE_SEEDS", 60), number("PASTURE_STEPS", 200));
    let (next, hits, accepted) = (AtomicU64::new(0), AtomicUsize::new(0), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds as u64 {
                        break;
                    }
                    let lived = std::panic::catch_unwind(|| live(seed, steps));
                    let (found, right) = lived.unwrap_or_else(|_| panic!("seed {seed}"));
                    hits.fetch_add(found, Ordering::Relaxed);
                    accepted.fetch_add(right, Ordering::Relaxed);
                }
            });
        }
    });
    assert!(hits.into_inner() > 0 && accepted.into_inner() > 0, "kept pages and proposals were of use");
}
