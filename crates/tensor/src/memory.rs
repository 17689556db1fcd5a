//! Memory of large tensors that comes back from one operation to the next: a step of tuning makes and drops gigabytes, and
//! pages that the system takes and gives anew cost as much as what is computed on them. Only a process that has had a
//! [`crate::tape::Tape`] keeps any.
//!
//! Invariant: what is kept was dropped before, so that it never adds to the most memory that a step has had by itself.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Values below which the allocator is as good.
const LARGE: usize = 1 << 18;

static KEEPS: AtomicBool = AtomicBool::new(false);
static KEPT: Mutex<BTreeMap<usize, Vec<Vec<f32>>>> = Mutex::new(BTreeMap::new());

fn kept() -> MutexGuard<'static, BTreeMap<usize, Vec<Vec<f32>>>> {
    KEPT.lock().unwrap_or_else(PoisonError::into_inner)
}

/// From now on large tensors' memory is kept.
pub(crate) fn keep() {
    KEEPS.store(true, Ordering::Relaxed);
}

/// Gives all memory that is kept back to the system, and keeps none until the next tape. For the end of a tuning run.
pub fn release() {
    KEEPS.store(false, Ordering::Relaxed);
    kept().clear();
}

/// Memory for `len` values, which are whatever was there: for results that are written whole.
pub(crate) fn taken(len: usize) -> Vec<f32> {
    if len < LARGE || !KEEPS.load(Ordering::Relaxed) {
        return vec![0.0; len];
    }
    let found = kept().get_mut(&len).and_then(Vec::pop);
    found.unwrap_or_else(|| vec![0.0; len])
}

/// Memory for `len` zeros.
pub(crate) fn zeroed(len: usize) -> Vec<f32> {
    let found = (len >= LARGE && KEEPS.load(Ordering::Relaxed)).then(|| kept().get_mut(&len).and_then(Vec::pop));
    match found.flatten() {
        Some(mut values) => {
            values.fill(0.0);
            values
        }
        None => vec![0.0; len],
    }
}

/// Takes memory back.
pub(crate) fn give(values: Vec<f32>) {
    if values.len() >= LARGE && values.len() == values.capacity() && KEEPS.load(Ordering::Relaxed) {
        kept().entry(values.len()).or_default().push(values);
    }
}
