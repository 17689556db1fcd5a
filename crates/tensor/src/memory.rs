//! Memory of large tensors that comes back from one operation to the next: a step of tuning makes and drops gigabytes, and
//! new pages cost as much as what is computed on them. Only a process that has had a [`crate::tape::Tape`] keeps any.
//!
//! Invariant: new memory is asked for only after as much that is kept was given back, so a step's peak stays its own.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Values below which the allocator is as good.
const LARGE: usize = 1 << 18;

/// Memory that is larger by no more than this part of a size serves that size too.
const NEAR: usize = 64;

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
    found(len).unwrap_or_else(|| vec![0.0; len])
}

/// Memory for `len` zeros.
pub(crate) fn zeroed(len: usize) -> Vec<f32> {
    match found(len) {
        Some(mut values) => {
            values.fill(0.0);
            values
        }
        None => vec![0.0; len],
    }
}

/// Kept memory of about that size. Where there is none, as much of other sizes is given back as will be asked for.
fn found(len: usize) -> Option<Vec<f32>> {
    if len < LARGE || !KEEPS.load(Ordering::Relaxed) {
        return None;
    }
    let mut kept = kept();
    if let Some(values) = take_near(&mut kept, len) {
        return Some(values);
    }
    let mut missing = len;
    while missing > 0 {
        // The next larger, or else the largest.
        let size = kept.range(len..).next().or_else(|| kept.iter().next_back()).map(|(size, _)| *size);
        let Some(size) = size else { break };
        drop(take(&mut kept, size));
        missing = missing.saturating_sub(size);
    }
    None
}

/// The smallest that serves, cut to size.
fn take_near(kept: &mut BTreeMap<usize, Vec<Vec<f32>>>, len: usize) -> Option<Vec<f32>> {
    let size = *kept.range(len..=len + len / NEAR).next()?.0;
    let mut values = take(kept, size)?;
    values.truncate(len);
    Some(values)
}

fn take(kept: &mut BTreeMap<usize, Vec<Vec<f32>>>, size: usize) -> Option<Vec<f32>> {
    let all = kept.get_mut(&size)?;
    let values = all.pop();
    if all.is_empty() {
        kept.remove(&size);
    }
    values
}

/// Takes memory back.
pub(crate) fn give(values: Vec<f32>) {
    if values.len() >= LARGE && KEEPS.load(Ordering::Relaxed) {
        put_back(&mut kept(), values);
    }
}

/// At its own size, if it is not much larger than what was asked of it.
fn put_back(kept: &mut BTreeMap<usize, Vec<Vec<f32>>>, mut values: Vec<f32>) {
    let (len, size) = (values.len(), values.capacity());
    if size <= len + len / NEAR {
        values.resize(size, 0.0);
        kept.entry(size).or_default().push(values);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_comes_back_by_size_and_other_sizes_make_room() {
        let mut kept = BTreeMap::from([(8, vec![vec![1.0; 8], vec![2.0; 8]]), (4, vec![vec![3.0; 4]])]);
        assert_eq!(take_near(&mut kept, 8), Some(vec![2.0; 8]));
        assert_eq!(take_near(&mut kept, 5), None);
        assert_eq!(take(&mut kept, 8), Some(vec![1.0; 8]));
        assert_eq!(kept.len(), 1, "a size without memory is forgotten");
        kept.insert(640, vec![vec![4.0; 640]]);
        let near = take_near(&mut kept, 631).expect("a little more serves");
        assert_eq!((near.len(), near.capacity()), (631, 640));
        put_back(&mut kept, near);
        assert_eq!(kept.get(&640).map(|all| all[0].len()), Some(640), "it comes back at its own size");
        let loose = Vec::with_capacity(9000);
        put_back(&mut kept, loose);
        assert!(!kept.contains_key(&9000), "what is mostly empty is not kept");
        keep();
        give(vec![7.0; LARGE]);
        assert_eq!(zeroed(LARGE).len(), LARGE);
        assert!(zeroed(LARGE).iter().all(|value| *value == 0.0));
        release();
        assert!(taken(LARGE).iter().all(|value| *value == 0.0));
    }
}
