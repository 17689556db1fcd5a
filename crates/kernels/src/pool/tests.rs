//! The pool's claims: every piece once, panics travel, a barrier separates, nested dispatches do not wait.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;

fn check_teams(check: impl Fn(&Pool)) {
    for threads in [1, 2, 3, 5] {
        check(&Pool::new(threads));
    }
}

#[test]
fn every_worker_runs_once() {
    check_teams(|pool| {
        for _ in 0..200 {
            let seen: Vec<AtomicUsize> = (0..pool.threads()).map(|_| AtomicUsize::new(0)).collect();
            pool.run(|worker| {
                assert_eq!(worker.count(), seen.len());
                seen[worker.index()].fetch_add(1, Ordering::Relaxed);
            });
            assert!(seen.iter().all(|count| count.load(Ordering::Relaxed) == 1));
        }
    });
}

#[test]
fn a_parked_team_wakes() {
    let pool = Pool::new(3);
    for _ in 0..5 {
        std::thread::sleep(SPIN * 20);
        let sum = AtomicUsize::new(0);
        pool.run(|_| _ = sum.fetch_add(1, Ordering::Relaxed));
        assert_eq!(sum.load(Ordering::Relaxed), 3);
    }
}

#[test]
fn a_claim_is_given_once_and_again_after_a_barrier() {
    check_teams(|pool| {
        let first: Vec<AtomicUsize> = (0..37).map(|_| AtomicUsize::new(0)).collect();
        pool.run(|worker| {
            for round in 1..=3 {
                while let Some(number) = worker.claim(first.len()) {
                    first[number].fetch_add(1, Ordering::Relaxed);
                }
                worker.barrier();
                assert!(first.iter().all(|count| count.load(Ordering::Relaxed) == round));
                worker.barrier();
            }
        });
    });
}

#[test]
fn chunks_and_stripes_cover_everything_once() {
    check_teams(|pool| {
        for (len, chunk) in [(0, 3), (1, 3), (7, 3), (9, 3), (100, 1)] {
            let mut data = vec![0_usize; len];
            pool.for_chunks_mut(&mut data, chunk, |number, part| {
                part.iter_mut().enumerate().for_each(|(i, value)| *value += number * chunk + i + 1);
            });
            assert_eq!(data, (1..=len).collect::<Vec<_>>());
        }
        for (rows, width, stripe) in [(0, 4, 2), (1, 5, 2), (3, 16, 16), (4, 33, 16)] {
            let mut data = vec![0_usize; rows * width];
            pool.for_stripes_mut(&mut data, width, stripe, |number, mut part| {
                assert_eq!(part.first(), number * stripe);
                for row in 0..part.rows() {
                    let first = part.first();
                    part.row(row).iter_mut().enumerate().for_each(|(i, v)| *v += row * width + first + i + 1);
                }
            });
            assert_eq!(data, (1..=rows * width).collect::<Vec<_>>());
        }
    });
}

#[test]
fn what_was_prepared_is_seen_by_all() {
    check_teams(|pool| {
        for round in 0..100 {
            let mut data = vec![0_usize; 50];
            let wrong = AtomicUsize::new(0);
            let check = |_: Worker<'_>, all: &[usize]| {
                let expected = all.iter().enumerate().all(|(i, value)| *value == i / 7 + round);
                _ = wrong.fetch_add(usize::from(!expected), Ordering::Relaxed);
            };
            pool.prepare_then(&mut data, 7, |number, part| part.fill(number + round), check);
            assert_eq!(wrong.load(Ordering::Relaxed), 0);
        }
    });
}

#[test]
fn a_nested_dispatch_runs_in_place() {
    check_teams(|pool| {
        let sum = AtomicUsize::new(0);
        pool.run(|_| {
            pool.run(|inner| {
                assert_eq!(inner.count(), 1);
                inner.barrier();
                sum.fetch_add(1, Ordering::Relaxed);
            });
        });
        assert_eq!(sum.load(Ordering::Relaxed), pool.threads());
    });
}

fn message(pool: &Pool, work: impl Fn(Worker<'_>) + Sync) -> String {
    let payload = catch_unwind(AssertUnwindSafe(|| pool.run(work))).expect_err("the dispatch panics");
    let text = payload.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| payload.downcast_ref::<String>().cloned()).expect("a panic has a text")
}

#[test]
fn a_panic_travels_and_the_team_lives_on() {
    check_teams(|pool| {
        for culprit in 0..pool.threads() {
            let plain = message(pool, |worker| assert!(worker.index() != culprit, "worker failed"));
            assert_eq!(plain, "worker failed");
            let waiting = message(pool, |worker| {
                assert!(worker.index() != culprit, "worker failed");
                worker.barrier();
            });
            assert_eq!(waiting, "worker failed");
            let sum = AtomicUsize::new(0);
            pool.run(|worker| {
                worker.barrier();
                sum.fetch_add(1, Ordering::Relaxed);
            });
            assert_eq!(sum.load(Ordering::Relaxed), pool.threads());
        }
    });
}

#[test]
fn leaving_before_a_barrier_is_an_error_not_a_hang() {
    let pool = Pool::new(3);
    let text = message(&pool, |worker| {
        if worker.index() != 1 {
            worker.barrier()
        }
    });
    assert!(text.contains("left the dispatch"), "{text}");
}

#[test]
fn a_team_that_parks_between_dispatches_always_wakes() {
    // Pauses around the time that workers spin, so that they park while a dispatch begins.
    let pool = Pool::new(4);
    for round in 0..400 {
        std::thread::sleep(super::SPIN * (round % 3));
        let sum = AtomicUsize::new(0);
        pool.run(|_| _ = sum.fetch_add(1, Ordering::Relaxed));
        assert_eq!(sum.load(Ordering::Relaxed), pool.threads());
    }
}

#[test]
fn shared_work_is_done_whoever_comes() {
    check_teams(|pool| {
        for round in 0..300 {
            let mut data = vec![0_usize; 17];
            pool.for_chunks_mut(&mut data, 2, |number, part| part.fill(number + round));
            assert!(data.iter().enumerate().all(|(at, value)| *value == at / 2 + round));
            let failed = catch_unwind(AssertUnwindSafe(|| {
                pool.prepare_then(&mut data, 3, |number, _| assert!(number != 4, "piece failed"), |_, _| ());
            }));
            let payload = failed.expect_err("the dispatch panics");
            assert_eq!(payload.downcast_ref::<&str>(), Some(&"piece failed"));
        }
    });
}
