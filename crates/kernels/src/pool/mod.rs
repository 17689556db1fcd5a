//! The thread pool: workers that spin briefly and then park, one fork-join per dispatch. Work that is cut in pieces does
//! not wait for a worker that comes late, because another program's thread may sit on its processor.
//!
//! What a dispatch does with its slices is `slices.rs`. Invariant: when a dispatch returns, or unwinds, no worker still
//! holds a reference to the closure, and none that comes later gets one; a dispatch allocates nothing.

mod dispatch;
mod slices;

use std::any::Any;
use std::cell::{Cell, UnsafeCell};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{JoinHandle, Thread};
use std::time::{Duration, Instant};

use crate::isa::Kernels;
pub use dispatch::Worker;
use dispatch::{Dispatch, Gate, Padded, wait_until};
pub use slices::{Chunks, Stripe, Stripes};

/// How long an idle worker spins before it parks. Waking a parked worker costs some 16 µs, and the pauses of a token
/// loop (sampling, the next step's plan) are shorter than this.
const SPIN: Duration = Duration::from_micros(200);

thread_local! {
    /// Set while this thread works inside a dispatch, so that a nested one runs in place instead of waiting for itself.
    static INSIDE: Cell<bool> = const { Cell::new(false) };
}

/// A closure without its type, for the time of one dispatch.
#[derive(Clone, Copy)]
struct Job {
    call: unsafe fn(*const (), Worker<'_>),
    context: *const (),
}

struct Shared {
    /// Written by the dispatching thread before the gate opens, read by workers that passed it.
    job: UnsafeCell<Option<Job>>,
    /// A [`Gate`].
    gate: Padded<AtomicU64>,
    dispatch: Dispatch,
    parked: Vec<Padded<AtomicBool>>,
    stop: AtomicBool,
    panic: Mutex<Option<Box<dyn Any + Send>>>,
}

// SAFETY: `job` is the only field that is not `Sync` by itself. It is written only by the holder of `Pool::turn`,
// before the store that opens the gate, and read only by workers that counted themselves in at that open gate; the
// holder closes the gate and writes again only after all who passed have finished. The pointer refers to a `Sync` closure.
unsafe impl Sync for Shared {}
// SAFETY: the raw pointer in `job` is only followed during the dispatch that set it, whichever thread owns `Shared`.
unsafe impl Send for Shared {}

/// A fixed team of threads. The thread that dispatches works too, as worker 0.
pub struct Pool {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
    handles: Vec<Thread>,
    turn: Mutex<()>,
    kernels: &'static Kernels,
}

impl Pool {
    /// A team of `threads` (at least one, the caller included) with the fastest kernels of this processor.
    pub fn new(threads: usize) -> Pool {
        Pool::with_kernels(threads, Kernels::get())
    }

    /// A team that computes with the given kernels, for comparing instruction sets.
    pub fn with_kernels(threads: usize, kernels: &'static Kernels) -> Pool {
        let threads = threads.max(1);
        let shared = Arc::new(Shared {
            job: UnsafeCell::new(None),
            gate: Padded(AtomicU64::new(Gate::default().0)),
            dispatch: Dispatch::new(threads),
            parked: (1..threads).map(|_| Padded(AtomicBool::new(false))).collect(),
            stop: AtomicBool::new(false),
            panic: Mutex::new(None),
        });
        let threads: Vec<_> = (1..threads)
            .map(|index| {
                let shared = Arc::clone(&shared);
                let builder = std::thread::Builder::new().name(format!("pasture-{index}"));
                builder.spawn(move || work(&shared, index)).expect("the system can start another thread")
            })
            .collect();
        let handles = threads.iter().map(|thread| thread.thread().clone()).collect();
        Pool { shared, threads, handles, turn: Mutex::new(()), kernels }
    }

    /// Workers, the dispatching thread included.
    pub fn threads(&self) -> usize {
        self.threads.len() + 1
    }

    /// The kernels this team computes with.
    pub fn kernels(&self) -> &'static Kernels {
        self.kernels
    }

    /// Runs `work` once on every worker and returns when all are done. A panic of any worker is raised again here.
    ///
    /// Inside a dispatch it runs in place with one worker.
    pub fn run<F: Fn(Worker<'_>) + Sync>(&self, work: F) {
        self.dispatch(work, true);
    }

    /// As [`Pool::run`], but on those workers only that come before the calling thread is done. For work that takes
    /// its pieces from a common store, without a barrier.
    pub(crate) fn share<F: Fn(Worker<'_>) + Sync>(&self, work: F) {
        self.dispatch(work, false);
    }

    fn dispatch<F: Fn(Worker<'_>) + Sync>(&self, work: F, all: bool) {
        if self.threads.is_empty() || INSIDE.get() {
            let alone = Dispatch::new(1);
            work(Worker::new(0, &alone));
            return;
        }
        let _turn = hold(&self.turn);
        let shared = &*self.shared;
        shared.dispatch.reset();
        let job = Job { call: call::<F>, context: (&raw const work).cast() };
        // SAFETY: the turn is ours, the gate is closed and all who passed have finished, so no worker reads `job`.
        unsafe { *shared.job.get() = Some(job) };
        let closed = Gate(shared.gate.0.load(Ordering::Relaxed));
        shared.gate.0.store(closed.next().0, Ordering::SeqCst);
        for (parked, handle) in shared.parked.iter().zip(&self.handles) {
            if parked.0.swap(false, Ordering::SeqCst) {
                handle.unpark();
            }
        }
        INSIDE.set(true);
        let result = catch_unwind(AssertUnwindSafe(|| work(Worker::new(0, &shared.dispatch))));
        INSIDE.set(false);
        shared.finish(result);
        if all {
            wait_until(|| Gate(shared.gate.0.load(Ordering::Acquire)).passed() == self.threads.len());
        }
        let passed = Gate(shared.gate.0.fetch_and(!Gate::OPEN, Ordering::AcqRel)).passed();
        wait_until(|| shared.dispatch.finished() == passed + 1);
        if shared.dispatch.has_panicked() {
            let payload = hold(&shared.panic).take();
            resume_unwind(payload.expect("the worker that panicked left its payload first"));
        }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        // Nobody dispatches any more: the gate's number moves, so that workers look up, and it stays closed.
        let closed = Gate(self.shared.gate.0.load(Ordering::Relaxed));
        self.shared.gate.0.store(closed.next().0 & !Gate::OPEN, Ordering::SeqCst);
        for handle in &self.handles {
            handle.unpark();
        }
        for thread in self.threads.drain(..) {
            // A worker catches every panic of its jobs, so there is nothing to learn from the result.
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn finish(&self, result: Result<(), Box<dyn Any + Send>>) {
        if let Err(payload) = result {
            // A worker that gave up at a barrier must not hide the panic that made it give up.
            let mut kept = hold(&self.panic);
            if kept.as_ref().is_none_or(|kept| kept.is::<dispatch::Abandoned>()) {
                *kept = Some(payload);
            }
            self.dispatch.note_panic();
        }
        self.dispatch.finish();
    }
}

/// A lock whose poisoning means nothing: what it guards is valid at every point of a panic.
fn hold<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Gives a closure its type back.
///
/// # Safety
/// `context` points to a live `F`.
unsafe fn call<F: Fn(Worker<'_>) + Sync>(context: *const (), worker: Worker<'_>) {
    // SAFETY: the caller's promise.
    let work = unsafe { &*context.cast::<F>() };
    work(worker);
}

fn work(shared: &Shared, index: usize) {
    INSIDE.set(true);
    let mut seen = Gate::default();
    loop {
        seen = await_gate(shared, index, seen);
        if shared.stop.load(Ordering::SeqCst) {
            return;
        }
        if !seen.enter(&shared.gate.0) {
            continue;
        }
        // SAFETY: we passed the open gate, so the dispatcher has written `job` and will not touch it before we finish.
        let job = unsafe { *shared.job.get() }.expect("a gate opens only after a job was written");
        let worker = Worker::new(index, &shared.dispatch);
        // SAFETY: `run` keeps the closure alive until every worker has finished.
        let result = catch_unwind(AssertUnwindSafe(|| unsafe { (job.call)(job.context, worker) }));
        shared.finish(result);
    }
}

/// Waits until the gate is another than `seen`: spins, then parks.
fn await_gate(shared: &Shared, index: usize, seen: Gate) -> Gate {
    let parked = &shared.parked[index - 1].0;
    let start = Instant::now();
    loop {
        for _ in 0..64 {
            let gate = Gate(shared.gate.0.load(Ordering::Acquire));
            if gate.number() != seen.number() {
                return gate;
            }
            std::hint::spin_loop();
        }
        if start.elapsed() < SPIN {
            continue;
        }
        // The dispatcher moves the gate and then looks at `parked`; we set `parked` and then look at the gate. In
        // the single order of these four one of us sees the other, so no wake-up is lost. A slow dispatcher may take
        // the flag back for a dispatch we have finished long ago, so it is set again before each look.
        loop {
            parked.store(true, Ordering::SeqCst);
            if Gate(shared.gate.0.load(Ordering::SeqCst)).number() != seen.number() {
                break;
            }
            std::thread::park();
        }
        parked.store(false, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests;
