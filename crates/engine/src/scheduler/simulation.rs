//! The scheduler under random arrivals, cancels, forks, parked sequences and endings: after each step every page is
//! accounted for, the budget is held, and everyone who came is served in the end.

use super::*;
use crate::sampling::random::Random;

struct Client {
    /// Tokens still to come; at zero it ends.
    left: usize,
    parks: bool,
    forked: bool,
}

struct World {
    scheduler: Scheduler,
    random: Random,
    clients: BTreeMap<Ticket, Client>,
    parked: Vec<(Ticket, usize)>,
    served: usize,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut random = Random::new(seed);
        let mut pick = |low: u64, high: u64| low as usize + (random.uniform() * (high - low + 1) as f64) as usize;
        let window = if pick(0, 1) == 0 { Some(pick(1, 12)) } else { None };
        let limits = Limits {
            pages: pick(6, 40),
            page_tokens: pick(1, 8),
            step_tokens: pick(1, 24),
            running: pick(1, 10),
            window,
        };
        let scheduler = Scheduler::new(limits);
        Self { scheduler, random, clients: BTreeMap::new(), parked: Vec::new(), served: 0 }
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
        let alone_from = if self.pick(0, 3) == 0 { self.pick(0, longest) } else { usize::MAX };
        let arrival = Arrival { known, longest, alone_from };
        let ticket = match self.parked.pop() {
            Some((parked, held)) if self.scheduler.sequences.contains_key(&parked) && self.pick(0, 1) == 0 => {
                let held = self.pick(0, held.min(known - 1));
                let held = if self.scheduler.can_resume(parked, held) { held } else { 0 };
                self.scheduler.resume(parked, held, arrival)
            }
            _ => self.scheduler.add(arrival),
        };
        let parks = self.pick(0, 2) == 0;
        let client = Client { left: longest - known, parks, forked: false };
        self.clients.insert(ticket.expect("it fits"), client);
    }

    fn cancel(&mut self) {
        let at = self.pick(0, self.clients.len().max(1) - 1);
        if let Some(ticket) = self.clients.keys().nth(at).copied() {
            self.clients.remove(&ticket);
            self.scheduler.end(ticket);
        }
    }

    fn step(&mut self) {
        let step = self.scheduler.next_step();
        let limits = self.scheduler.limits();
        let rows: usize = step.work.iter().map(|work| work.count).sum();
        assert!(rows <= limits.step_tokens, "{rows} rows, but the budget is {}", limits.step_tokens);
        assert!(!step.work.is_empty() || self.scheduler.is_idle(), "something runs while someone waits");
        // Only a fork, which needs no work that its parent did, may run while someone older waits.
        if let Some(waits) = self.scheduler.waiting.first() {
            let younger = self.scheduler.running.iter().filter(|ticket| *ticket > waits);
            assert!(younger.clone().all(|ticket| self.clients[ticket].forked), "nobody is let in out of turn");
        }
        self.parked.retain(|(ticket, _)| !step.dropped.contains(ticket));
        self.scheduler.commit(&step);
        self.check();
        for work in step.work.iter().filter(|work| work.samples) {
            let forks = self.clients.len() < 30 && self.pick(0, 9) == 0;
            let client = self.clients.get_mut(&work.ticket).expect("who runs is a client");
            if client.left == 0 {
                let parks = client.parks;
                self.clients.remove(&work.ticket);
                self.served += 1;
                match parks {
                    true => {
                        self.scheduler.park(work.ticket);
                        self.parked.push((work.ticket, work.start + work.count));
                    }
                    false => self.scheduler.end(work.ticket),
                }
                continue;
            }
            client.left -= 1;
            let left = client.left;
            if forks {
                let (ticket, _) = self.scheduler.fork(work.ticket);
                self.clients.insert(ticket, Client { left, parks: false, forked: true });
                self.scheduler.grow(ticket);
            }
            self.scheduler.grow(work.ticket);
        }
    }

    fn check(&self) {
        let scheduler = &self.scheduler;
        let held: usize = scheduler.sequences.values().map(|sequence| sequence.pages).sum();
        assert_eq!(scheduler.free + held, scheduler.limits.pages, "every page is accounted for");
        for (ticket, sequence) in &scheduler.sequences {
            let pages = scheduler.pages_of(sequence.held, sequence.held);
            assert_eq!(sequence.pages, pages, "{ticket:?} counts the pages it fills");
            assert!(pages <= scheduler.limits.pages_for(sequence.held), "never more than it may need");
            assert!(sequence.held <= sequence.known && sequence.known <= sequence.arrival.longest);
            let lists = (scheduler.waiting.contains(ticket), scheduler.running.contains(ticket));
            assert_eq!(lists, (sequence.state == State::Waiting, sequence.state == State::Running));
        }
        let listed = scheduler.waiting.len() + scheduler.running.len();
        assert_eq!(listed, self.clients.len(), "all who wait or run are clients");
    }
}

fn live(seed: u64) {
    let mut world = World::new(seed);
    for _ in 0..200 {
        match world.pick(0, 9) {
            0..=2 if world.clients.len() < 40 => world.arrive(),
            3 => world.cancel(),
            _ => {}
        }
        world.step();
    }
    // Nobody new comes, and all who are there come to their end.
    let mut steps = 0;
    while !world.scheduler.is_idle() {
        world.step();
        steps += 1;
        assert!(steps < 200_000, "{} clients starve", world.clients.len());
    }
    assert!(world.clients.is_empty() && world.served > 0);
}

#[test]
fn every_page_is_accounted_for_and_everyone_is_served() {
    for seed in 0..120 {
        assert!(std::panic::catch_unwind(|| live(seed)).is_ok(), "seed {seed}");
    }
}
