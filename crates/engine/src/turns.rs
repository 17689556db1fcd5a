//! Several models on one processor: their engines take turns, step by step, in the order in which they come.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

/// The order of those who want a processor. Clones are the same order.
#[derive(Clone, Debug, Default)]
pub struct Turns(Arc<Order>);

#[derive(Debug, Default)]
struct Order {
    numbers: Mutex<Numbers>,
    moved: Condvar,
}

#[derive(Debug, Default)]
struct Numbers {
    /// The number that the next one draws.
    next: u64,
    /// Whose turn it is.
    now: u64,
}

/// The processor is its holder's.
pub struct Turn(Arc<Order>);

impl Turns {
    /// Waits until it is the caller's turn. The next one's begins when the value is dropped.
    pub fn take(&self) -> Turn {
        let mut numbers = self.0.lock();
        let mine = numbers.next;
        numbers.next += 1;
        while numbers.now != mine {
            numbers = self.0.moved.wait(numbers).unwrap_or_else(PoisonError::into_inner);
        }
        Turn(self.0.clone())
    }
}

impl Order {
    fn lock(&self) -> MutexGuard<'_, Numbers> {
        self.numbers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.0.lock().now += 1;
        self.0.moved.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_has_two_turns_while_another_waits() {
        let (turns, order) = (Turns::default(), Arc::new(Mutex::new(Vec::new())));
        let first = turns.take();
        let threads: Vec<_> = (0..3)
            .map(|at| {
                // Each has drawn its number before the next begins.
                let drawn = turns.0.lock().next;
                let (others, order) = (turns.clone(), order.clone());
                let thread = std::thread::spawn(move || {
                    let _turn = others.take();
                    order.lock().unwrap_or_else(PoisonError::into_inner).push(at);
                });
                while turns.0.lock().next == drawn {
                    std::thread::yield_now();
                }
                thread
            })
            .collect();
        drop(first);
        threads.into_iter().for_each(|thread| thread.join().expect("it had its turn"));
        assert_eq!(*order.lock().unwrap_or_else(PoisonError::into_inner), [0, 1, 2]);
    }
}
