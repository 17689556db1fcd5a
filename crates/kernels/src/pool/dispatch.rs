//! The state of one dispatch: who may enter, who has arrived, who has finished, which work is claimed. Safe code only.
//!
//! Invariant: a barrier either releases every worker or unwinds every worker that waits at it.

use std::panic::resume_unwind;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

/// A value on cache lines of its own, so that neighbors do not slow each other.
#[repr(align(128))]
pub(super) struct Padded<T>(pub T);

/// A dispatch's number, whether workers may still enter it, and how many have: one word, so that entering and closing
/// cannot miss each other.
#[derive(Clone, Copy, Default)]
pub(super) struct Gate(pub u64);

impl Gate {
    /// Set while workers may enter.
    pub const OPEN: u64 = 1 << 31;

    /// The open gate of the next dispatch.
    pub fn next(self) -> Gate {
        Gate((self.number().wrapping_add(1)) << 32 | Gate::OPEN)
    }

    pub fn number(self) -> u64 {
        self.0 >> 32
    }

    /// Workers that have entered.
    pub fn passed(self) -> usize {
        (self.0 & (Gate::OPEN - 1)) as usize
    }

    /// Counts this worker in, unless the gate has closed, or belongs to another dispatch by now.
    pub fn enter(mut self, gate: &AtomicU64) -> bool {
        let number = self.number();
        while self.0 & Gate::OPEN != 0 && self.number() == number {
            match gate.compare_exchange_weak(self.0, self.0 + 1, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => return true,
                Err(now) => self = Gate(now),
            }
        }
        false
    }
}

/// The panic of a worker whose barrier can no longer open.
pub(super) struct Abandoned;

/// Counters that all workers of one dispatch share.
pub(super) struct Dispatch {
    count: usize,
    next: Padded<AtomicUsize>,
    arrived: Padded<AtomicUsize>,
    generation: Padded<AtomicUsize>,
    finished: Padded<AtomicUsize>,
    panicked: AtomicBool,
}

impl Dispatch {
    pub(super) const fn new(count: usize) -> Dispatch {
        Dispatch {
            count,
            next: Padded(AtomicUsize::new(0)),
            arrived: Padded(AtomicUsize::new(0)),
            generation: Padded(AtomicUsize::new(0)),
            finished: Padded(AtomicUsize::new(0)),
            panicked: AtomicBool::new(false),
        }
    }

    /// Prepares for the next dispatch. No worker may be inside one.
    pub(super) fn reset(&self) {
        self.next.0.store(0, Ordering::Relaxed);
        self.arrived.0.store(0, Ordering::Relaxed);
        self.finished.0.store(0, Ordering::Relaxed);
        self.panicked.store(false, Ordering::Relaxed);
    }

    pub(super) fn finish(&self) {
        self.finished.0.fetch_add(1, Ordering::AcqRel);
    }

    pub(super) fn note_panic(&self) {
        self.panicked.store(true, Ordering::Release);
    }

    pub(super) fn has_panicked(&self) -> bool {
        self.panicked.load(Ordering::Acquire)
    }

    pub(super) fn finished(&self) -> usize {
        self.finished.0.load(Ordering::Acquire)
    }
}

/// One member of the team during one dispatch.
#[derive(Clone, Copy)]
pub struct Worker<'a> {
    index: usize,
    dispatch: &'a Dispatch,
}

impl<'a> Worker<'a> {
    pub(super) fn new(index: usize, dispatch: &'a Dispatch) -> Worker<'a> {
        Worker { index, dispatch }
    }

    /// This worker's number, below [`Worker::count`].
    pub fn index(&self) -> usize {
        self.index
    }

    /// How many workers run this dispatch.
    pub fn count(&self) -> usize {
        self.dispatch.count
    }

    /// The next number below `limit` that no worker has claimed since the dispatch, or its last barrier, began.
    pub fn claim(&self, limit: usize) -> Option<usize> {
        let number = self.dispatch.next.0.fetch_add(1, Ordering::Relaxed);
        (number < limit).then_some(number)
    }

    /// Waits until `done`, which other workers of this dispatch bring about, or unwinds if one of them panicked.
    pub(super) fn wait_for(&self, done: impl Fn() -> bool) {
        wait_until(|| done() || self.dispatch.has_panicked());
        if !done() {
            resume_unwind(Box::new(Abandoned));
        }
    }

    /// Waits until every worker is here. What any did before is visible to all after, and claims start again at zero.
    ///
    /// Panics where it can never open, because a worker panicked or has already returned.
    pub fn barrier(&self) {
        let dispatch = self.dispatch;
        let generation = dispatch.generation.0.load(Ordering::Acquire);
        if dispatch.arrived.0.fetch_add(1, Ordering::AcqRel) + 1 == dispatch.count {
            dispatch.arrived.0.store(0, Ordering::Relaxed);
            dispatch.next.0.store(0, Ordering::Relaxed);
            dispatch.generation.0.store(generation.wrapping_add(1), Ordering::Release);
            return;
        }
        let open = || dispatch.generation.0.load(Ordering::Acquire) != generation;
        let hopeless = || dispatch.finished.0.load(Ordering::Acquire) > 0 || dispatch.has_panicked();
        wait_until(|| open() || hopeless());
        if !open() {
            // A panic elsewhere is the one to report; otherwise the closure itself is wrong.
            if dispatch.has_panicked() {
                resume_unwind(Box::new(Abandoned));
            }
            panic!("a worker left the dispatch while another waited at a barrier");
        }
    }
}

/// Spins until `done`, giving the processor away now and then once it takes long: a neighbor may have preempted the
/// thread that is waited for.
pub(super) fn wait_until(done: impl Fn() -> bool) {
    let mut spins = 0_u32;
    while !done() {
        spins = spins.saturating_add(1);
        if spins > 4_000 {
            std::thread::yield_now();
        } else {
            std::hint::spin_loop();
        }
    }
}
