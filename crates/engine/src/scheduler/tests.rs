//! The scheduler by small examples.

use super::*;

fn scheduler(pages: usize, step_tokens: usize) -> Scheduler {
    Scheduler::new(Limits {
        pages,
        cached: pages,
        page_tokens: 4,
        step_tokens,
        prompt_tokens: step_tokens,
        running: 8,
        window: None,
        proposal_rows: 6,
    })
}

fn arrival(known: usize, longest: usize) -> Arrival {
    let (owner, names) = (0, Vec::new());
    Arrival { known, longest, alone_from: usize::MAX, owner, names, cacheable: 0 }
}

/// Runs a step and lets every sequence that samples grow; gives (ticket, start, count) of each part.
fn run(scheduler: &mut Scheduler) -> Vec<(u64, usize, usize)> {
    let step = scheduler.next_step(&[]);
    scheduler.commit(&step);
    scheduler.settle(&step);
    step.work.iter().filter(|work| work.samples).for_each(|work| scheduler.grow(work.ticket));
    step.work.iter().map(|work| (work.ticket.0, work.start, work.count)).collect()
}

#[test]
fn single_rows_come_before_parts_of_prompts_within_the_budget() {
    let mut scheduler = scheduler(100, 8);
    scheduler.add(arrival(3, 50)).expect("it fits");
    assert_eq!(run(&mut scheduler), [(0, 0, 3)]);
    scheduler.add(arrival(20, 50)).expect("it fits");
    scheduler.add(arrival(2, 50)).expect("it fits");
    assert_eq!(run(&mut scheduler), [(0, 3, 1), (1, 0, 7)]);
    assert_eq!(run(&mut scheduler), [(0, 4, 1), (1, 7, 7)]);
    assert_eq!(run(&mut scheduler), [(0, 5, 1), (1, 14, 6), (2, 0, 1)]);
    assert_eq!(run(&mut scheduler), [(0, 6, 1), (1, 20, 1), (2, 1, 1)]);
}

#[test]
fn the_youngest_gives_up_its_pages_and_starts_over() {
    let mut scheduler = scheduler(4, 16);
    let old = scheduler.add(arrival(7, 16)).expect("it fits");
    let young = scheduler.add(arrival(7, 12)).expect("it fits");
    assert_eq!(run(&mut scheduler), [(0, 0, 7), (1, 0, 7)]);
    assert_eq!(run(&mut scheduler), [(0, 7, 1), (1, 7, 1)]);
    let step = scheduler.next_step(&[]);
    assert_eq!(step.dropped, [young]);
    assert_eq!(step.work, [Work { ticket: old, start: 8, count: 1, samples: true, proposed: 0 }]);
    scheduler.commit(&step);
    scheduler.settle(&step);
    scheduler.end(old);
    assert_eq!(scheduler.next_step(&[]).work, [Work { ticket: young, start: 0, count: 9, samples: true, proposed: 0 }]);
}

#[test]
fn proposals_fill_a_step_and_take_nothing_from_anybody() {
    let mut scheduler = scheduler(4, 16);
    let one = scheduler.add(arrival(5, 16)).expect("it fits");
    assert_eq!(run(&mut scheduler), [(0, 0, 5)]);
    assert_eq!(scheduler.proposal_rows(), 5);
    let other = scheduler.add(arrival(2, 8)).expect("it fits");
    // Six rows at most: one and its proposals beside two of a prompt.
    let mut step = scheduler.next_step(&[(one, 9), (other, 9)]);
    let counts: Vec<_> = step.work.iter().map(|work| (work.ticket, work.count, work.proposed)).collect();
    assert_eq!(counts, [(one, 4, 3), (other, 2, 0)]);
    assert_eq!(scheduler.counts().free, 0, "the third page of one is for proposals");
    // Two of three were wrong: with them their page goes.
    scheduler.verify(&mut step.work[0], 2);
    scheduler.grow(one);
    scheduler.grow(one);
    scheduler.commit(&step);
    scheduler.settle(&step);
    scheduler.grow(other);
    assert_eq!((scheduler.sequences[&one].held, scheduler.counts().free), (7, 1));
    // Only the free page is for proposals, and nobody gives up one for them.
    let step = scheduler.next_step(&[(one, 9), (other, 9)]);
    let counts: Vec<_> = step.work.iter().map(|work| (work.ticket, work.count, work.proposed)).collect();
    assert_eq!(counts, [(one, 5, 4), (other, 1, 0)]);
}

#[test]
fn a_sequence_that_can_never_fit_is_refused_with_numbers() {
    let mut scheduler = scheduler(4, 16);
    assert_eq!(scheduler.add(arrival(2, 17)), Err(TooLong { needed: 5, pages: 4 }));
    assert!(scheduler.add(arrival(2, 16)).is_ok());
}

#[test]
fn prompts_come_one_after_the_other_and_leave_others_their_pace() {
    let limits = Limits { prompt_tokens: 4, ..scheduler(20, 32).limits() };
    let mut scheduler = Scheduler::new(limits);
    for known in [6, 6, 2, 2, 2] {
        scheduler.add(arrival(known, 20)).expect("it fits");
    }
    // One alone may have more than is gathered; no other joins it.
    assert_eq!(run(&mut scheduler), [(0, 0, 6)]);
    assert_eq!(run(&mut scheduler), [(0, 6, 1), (1, 0, 4)]);
    // Short ones are gathered.
    assert_eq!(run(&mut scheduler), [(0, 7, 1), (1, 4, 2), (2, 0, 2)]);
    assert_eq!(run(&mut scheduler), [(0, 8, 1), (1, 6, 1), (2, 2, 1), (3, 0, 2), (4, 0, 2)]);
}

#[test]
fn a_window_bounds_the_pages_of_a_long_sequence() {
    let limits = Limits { pages: 6, cached: 6, window: Some(6), proposal_rows: 0, ..scheduler(6, 8).limits() };
    let mut scheduler = Scheduler::new(limits);
    // 6 + 8 - 1 positions may lie on 5 pages.
    assert_eq!((limits.pages_for(8), limits.pages_for(1000)), (2, 5));
    let ticket = scheduler.add(arrival(30, 100)).expect("it fits");
    for _ in 0..70 {
        run(&mut scheduler);
        let sequence = &scheduler.sequences[&ticket];
        assert_eq!(scheduler.free + sequence.own, 6);
        assert!(sequence.held < 20 || sequence.own <= 3, "{} pages for a window of 6", sequence.own);
    }
    assert!(scheduler.sequences[&ticket].held > 60);
}

#[test]
fn rows_of_changing_angles_run_alone() {
    let mut scheduler = scheduler(10, 16);
    scheduler.add(Arrival { alone_from: 5, ..arrival(7, 16) }).expect("it fits");
    assert_eq!(run(&mut scheduler), [(0, 0, 5)]);
    assert_eq!(run(&mut scheduler), [(0, 5, 1)]);
    assert_eq!(run(&mut scheduler), [(0, 6, 1)]);
}

#[test]
fn a_fork_without_pages_waits_and_starts_over() {
    let mut scheduler = scheduler(4, 16);
    let parent = scheduler.add(arrival(5, 8)).expect("it fits");
    run(&mut scheduler);
    let (child, shares) = scheduler.fork(parent);
    let (late, late_shares) = scheduler.fork(parent);
    assert!(shares && !late_shares);
    assert_eq!(scheduler.sequences[&late].held, 0);
    scheduler.grow(child);
    assert_eq!(run(&mut scheduler), [(0, 5, 1), (1, 5, 2)]);
}

/// An arrival whose pages have names; the digest of a page is its last token, so that many are alike.
fn named(owner: u64, tokens: &[u32], longest: usize) -> Arrival {
    let names = super::simulation::names(&"all".into(), tokens, 4);
    Arrival { known: tokens.len(), longest, alone_from: usize::MAX, owner, names, cacheable: usize::MAX }
}

/// Publishes what is full.
fn publish(scheduler: &mut Scheduler, step: &Step, tokens: &[u32]) {
    for work in &step.work {
        while let Some(page) = scheduler.unnamed(work.ticket) {
            let name = super::simulation::name(&"all".into(), tokens, 4, page);
            scheduler.publish(work.ticket, name);
        }
    }
}

#[test]
fn who_begins_as_another_waits_for_its_pages_and_computes_only_the_rest() {
    let tokens: Vec<u32> = (0..14).collect();
    let mut scheduler = scheduler(100, 6);
    let first = scheduler.add(named(1, &tokens, 20)).expect("it fits");
    let second = scheduler.add(named(2, &tokens, 20)).expect("it fits");
    let other = scheduler.add(named(3, &[9, 9], 20)).expect("it fits");
    let mut ran = Vec::new();
    for _ in 0..4 {
        let step = scheduler.next_step(&[]);
        scheduler.commit(&step);
        publish(&mut scheduler, &step, &tokens);
        scheduler.settle(&step);
        ran.push(step.work.iter().map(|work| (work.ticket, work.start, work.count)).collect::<Vec<_>>());
    }
    assert_eq!(ran[0], [(first, 0, 6)]);
    assert_eq!(ran[1], [(other, 0, 2), (first, 6, 4)], "who had less comes first");
    // All but the last token's page are known once the first has run them.
    let rows: usize = ran.concat().iter().filter(|part| part.0 == second).map(|part| part.2).sum();
    assert_eq!(rows, 2);
    assert_eq!(scheduler.counts().held, 3 + 2 + 1, "three pages are shared");
    for ticket in [first, second, other] {
        scheduler.end(ticket);
    }
    assert_eq!(scheduler.counts(), Counts { free: 97, cached: 3, ..Counts::default() });
}

#[test]
fn an_owner_with_many_prompts_makes_no_other_wait() {
    let mut scheduler = Scheduler::new(Limits { running: 2, ..scheduler(100, 8).limits() });
    let of = |owner: u64| Arrival { owner, ..arrival(16, 18) };
    let many: Vec<Ticket> = (0..6).map(|_| scheduler.add(of(1)).expect("it fits")).collect();
    assert_eq!(run(&mut scheduler), [(0, 0, 8)]);
    let one = scheduler.add(of(2)).expect("it fits");
    // Two places are taken; the next that is free goes to the owner who has none.
    scheduler.end(many[1]);
    assert_eq!(run(&mut scheduler), [(0, 8, 8)]);
    assert_eq!(run(&mut scheduler), [(0, 16, 1), (one.0, 0, 7)]);
}
