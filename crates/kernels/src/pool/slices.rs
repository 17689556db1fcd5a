//! Safe sharing of slices among workers: each piece is handed out exactly once, so no two workers hold one place.
//!
//! Pieces are row ranges ([`Chunks`]) or column ranges of a row-major matrix ([`Stripes`]).

use std::marker::PhantomData;
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::{Pool, Worker};

/// A slice cut into chunks, each of which one worker claims.
pub struct Chunks<'a, T> {
    start: *mut T,
    len: usize,
    chunk: usize,
    next: AtomicUsize,
    slice: PhantomData<&'a mut [T]>,
}

// SAFETY: `claim` hands each chunk out once (one atomic counter), so threads never share a `T` through this.
unsafe impl<T: Send> Sync for Chunks<'_, T> {}
// SAFETY: it owns the exclusive borrow of a slice, which may move to another thread if `T` may.
unsafe impl<T: Send> Send for Chunks<'_, T> {}

impl<'a, T> Chunks<'a, T> {
    /// Cuts `slice` into chunks of `chunk` values; the last may be shorter.
    pub fn new(slice: &'a mut [T], chunk: usize) -> Chunks<'a, T> {
        assert!(chunk > 0, "chunks hold at least one value");
        let (start, len) = (slice.as_mut_ptr(), slice.len());
        Chunks { start, len, chunk, next: AtomicUsize::new(0), slice: PhantomData }
    }

    /// How many chunks there are.
    pub fn count(&self) -> usize {
        self.len.div_ceil(self.chunk)
    }

    /// The next chunk with its number, for the caller alone.
    #[allow(clippy::mut_from_ref, reason = "the counter gives each part to one caller only")]
    pub fn claim(&self) -> Option<(usize, &'a mut [T])> {
        // Looking first keeps the counter from creeping towards its end in a loop that asks again and again.
        if self.next.load(Ordering::Relaxed) >= self.count() {
            return None;
        }
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let start = number.checked_mul(self.chunk).filter(|start| *start < self.len)?;
        let len = self.chunk.min(self.len - start);
        // SAFETY: `start + len <= self.len`, and the counter gave `number` to no one else, so this range is unshared
        // for as long as the borrow of the whole slice lasts.
        Some((number, unsafe { std::slice::from_raw_parts_mut(self.start.add(start), len) }))
    }
}

/// A row-major matrix cut into column ranges, each of which one worker claims.
pub struct Stripes<'a, T> {
    start: *mut T,
    rows: usize,
    width: usize,
    stripe: usize,
    next: AtomicUsize,
    slice: PhantomData<&'a mut [T]>,
}

// SAFETY: `claim` hands each column range out once (one atomic counter), so threads never share a `T` through this.
unsafe impl<T: Send> Sync for Stripes<'_, T> {}
// SAFETY: it owns the exclusive borrow of a slice, which may move to another thread if `T` may.
unsafe impl<T: Send> Send for Stripes<'_, T> {}

impl<'a, T> Stripes<'a, T> {
    /// Cuts a matrix of rows of `width` values into column ranges of `stripe`; the last may be narrower.
    pub fn new(matrix: &'a mut [T], width: usize, stripe: usize) -> Stripes<'a, T> {
        assert!(width > 0 && stripe > 0, "rows and stripes hold at least one value");
        assert!(matrix.len().is_multiple_of(width), "{} values are not rows of {width}", matrix.len());
        let rows = matrix.len() / width;
        Stripes { start: matrix.as_mut_ptr(), rows, width, stripe, next: AtomicUsize::new(0), slice: PhantomData }
    }

    /// How many stripes there are.
    pub fn count(&self) -> usize {
        self.width.div_ceil(self.stripe)
    }

    /// The next stripe with its number, for the caller alone.
    pub fn claim(&self) -> Option<(usize, Stripe<'a, T>)> {
        if self.next.load(Ordering::Relaxed) >= self.count() {
            return None;
        }
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let first = number.checked_mul(self.stripe).filter(|first| *first < self.width)?;
        let cols = self.stripe.min(self.width - first);
        // SAFETY: `first < width`, so the pointer stays inside the matrix, or at its end when there are no rows.
        let start = unsafe { self.start.add(if self.rows == 0 { 0 } else { first }) };
        Some((number, Stripe { start, rows: self.rows, width: self.width, first, cols, slice: PhantomData }))
    }
}

/// A column range of a row-major matrix that belongs to one worker.
pub struct Stripe<'a, T> {
    start: *mut T,
    rows: usize,
    width: usize,
    first: usize,
    cols: usize,
    slice: PhantomData<&'a mut [T]>,
}

// SAFETY: a stripe is an exclusive borrow of its places, like `&mut [T]`.
unsafe impl<T: Send> Send for Stripe<'_, T> {}

impl<T> Stripe<'_, T> {
    /// The first column.
    pub fn first(&self) -> usize {
        self.first
    }

    /// How many columns.
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// How many rows the matrix has.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// The stripe's part of a row.
    pub fn row(&mut self, row: usize) -> &mut [T] {
        assert!(row < self.rows, "row {row} of {}", self.rows);
        // SAFETY: row and columns are inside the matrix, no other stripe has these columns, and `&mut self` keeps two
        // rows from being held at once.
        unsafe { std::slice::from_raw_parts_mut(self.start.add(row * self.width), self.cols) }
    }

    /// The stripe's part of each of some rows.
    pub fn rows_mut(&mut self, rows: Range<usize>) -> impl Iterator<Item = &mut [T]> {
        assert!(rows.end <= self.rows, "rows {rows:?} of {}", self.rows);
        let (start, width, cols) = (self.start, self.width, self.cols);
        // SAFETY: rows and columns are inside the matrix, no other stripe has these columns, each row is given out once, and
        // `&mut self` is held as long as any of them.
        rows.map(move |row| unsafe { std::slice::from_raw_parts_mut(start.add(row * width), cols) })
    }
}

impl Pool {
    /// Calls `work` once for each chunk of `data`, with its number.
    pub fn for_chunks_mut<T: Send>(&self, data: &mut [T], chunk: usize, work: impl Fn(usize, &mut [T]) + Sync) {
        let chunks = Chunks::new(data, chunk);
        self.share(|_| {
            while let Some((number, chunk)) = chunks.claim() {
                work(number, chunk);
            }
        });
    }

    /// Calls `work` once for each column range of a row-major matrix.
    pub fn for_stripes_mut<T: Send>(
        &self,
        matrix: &mut [T],
        width: usize,
        stripe: usize,
        work: impl Fn(usize, Stripe<'_, T>) + Sync,
    ) {
        let stripes = Stripes::new(matrix, width, stripe);
        self.share(|_| {
            while let Some((number, stripe)) = stripes.claim() {
                work(number, stripe);
            }
        });
    }

    /// One dispatch of two phases: every chunk of `data` is prepared by one worker, then, once all are, the workers read
    /// all of it. A worker may come when all is prepared, or when all is over.
    pub fn prepare_then<T: Send + Sync>(
        &self,
        data: &mut [T],
        chunk: usize,
        prepare: impl Fn(usize, &mut [T]) + Sync,
        then: impl Fn(Worker<'_>, &[T]) + Sync,
    ) {
        let chunks = Chunks::new(data, chunk);
        let (prepared, count) = (AtomicUsize::new(0), chunks.count());
        self.share(|worker| {
            while let Some((number, chunk)) = chunks.claim() {
                prepare(number, chunk);
                prepared.fetch_add(1, Ordering::Release);
            }
            worker.wait_for(|| prepared.load(Ordering::Acquire) == count);
            // SAFETY: every chunk was claimed, prepared and let go of before it was counted, and `Chunks` hands none out
            // again, so from here on no exclusive reference into the slice exists.
            let all = unsafe { std::slice::from_raw_parts(chunks.start, chunks.len) };
            then(worker, all);
        });
    }
}
