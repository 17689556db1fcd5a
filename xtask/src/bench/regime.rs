//! What a barrier between two threads costs right now: it tells whether a virtual machine's processors sit side by side,
//! which changes what memory gives to both of them.

use std::hint::spin_loop;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Instant;

const ROUNDS: u32 = 20_000;
/// The least of so many tries is what the hardware needs; the rest is other work.
const TRIES: usize = 9;

/// Nanoseconds of one meeting of two threads.
pub fn barrier() -> f64 {
    (0..TRIES).map(|_| once()).fold(f64::INFINITY, f64::min)
}

fn once() -> f64 {
    let turn = AtomicU32::new(0);
    let wait = |until: u32| {
        while turn.load(Ordering::Acquire) != until {
            spin_loop();
        }
    };
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for round in 0..ROUNDS {
                wait(2 * round + 1);
                turn.store(2 * round + 2, Ordering::Release);
            }
        });
        // The other one is there.
        turn.store(1, Ordering::Release);
        wait(2);
        let began = Instant::now();
        for round in 1..ROUNDS {
            turn.store(2 * round + 1, Ordering::Release);
            wait(2 * round + 2);
        }
        began.elapsed().as_nanos() as f64 / f64::from(2 * (ROUNDS - 1))
    })
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_barrier_takes_some_time() {
        assert!(super::once() > 0.0);
    }
}
