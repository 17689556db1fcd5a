//! Attention over the pool: a piece of work is one row's query heads that share a head of keys, or a part of them; in
//! long batches it is some rows with all their heads.
//!
//! Invariant: a row's scores stand side by side for all its visible keys before the softmax, and values are added key
//! after key, so the bits depend on the row, its visible range and the pages' contents alone.

use std::cell::RefCell;
use std::ops::Range;

use half::f16;
use pasture_kernels::{Format, Kernels, Pool};

use crate::Tensor;
use crate::kv::{KvLayer, KvStorage, PAGE};
use crate::ops::attend::{AttendPlan, AttendSpan, Attention};

/// Rows that go over a page together in a long batch.
const BLOCK: usize = 8;

/// Products of queries and keys that one thread is done with before another could come to help.
const ALONE: usize = 30_000;

/// Memory of one worker that lasts between dispatches.
#[derive(Default)]
struct Scratch {
    scores: Vec<f32>,
    page: Vec<f32>,
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

/// Stores the batch's keys and values on their sequences' pages.
pub(super) fn write(kernels: &Kernels, k: &Tensor, v: &Tensor, layer: &mut KvLayer, plan: &AttendPlan) {
    let dim = layer.head_dim;
    for span in &plan.spans {
        for (at, row) in span.rows.clone().enumerate() {
            let position = span.start + at;
            let (page, slot) = (span.pages[position / PAGE], position % PAGE);
            let heads = k.row(row).chunks_exact(dim).zip(v.row(row).chunks_exact(dim));
            for (head, (key, value)) in heads.enumerate() {
                let at = layer.offset(page, head, slot);
                match &mut layer.storage {
                    KvStorage::F32 { keys, values } => {
                        keys[at..at + dim].copy_from_slice(key);
                        values[at..at + dim].copy_from_slice(value);
                    }
                    KvStorage::F16 { keys, values } => {
                        kernels.narrow(key, &mut keys[at..at + dim]);
                        kernels.narrow(value, &mut values[at..at + dim]);
                    }
                    KvStorage::Blocks { .. } => layer.write(page, head, slot, key, value),
                    KvStorage::Device(_) => panic!("a device's pages are written through its backend"),
                }
            }
        }
    }
}

/// Each query's softmax over its visible keys, and the sum of their values.
pub(super) fn attend(pool: &Pool, q: &Tensor, layer: &KvLayer, plan: &AttendPlan, attention: &Attention) -> Tensor {
    let mut out = vec![0.0; q.rows() * q.cols()];
    let work = Work { kernels: pool.kernels(), q, layer, plan, attention };
    if q.cols() > 0 && q.rows() >= BLOCK * pool.threads() * 2 {
        pool.for_chunks_mut(&mut out, BLOCK * q.cols(), |number, out| work.rows(number * BLOCK, out));
    } else if plan.visible.iter().map(ExactSizeIterator::len).sum::<usize>() * q.cols() < ALONE {
        work.rows(0, &mut out);
    } else {
        let part = heads_at_once(pool.threads(), q.rows(), attention);
        let parts = attention.heads / part;
        pool.for_chunks_mut(&mut out, part * attention.head_dim, |number, out| {
            let (row, first) = (number / parts, number % parts * part);
            SCRATCH.with_borrow_mut(|scratch| work.heads(row..row + 1, first, part, out, scratch));
        });
    }
    Tensor::new(q.rows(), q.cols(), out)
}

/// How many query heads are worked on together: all that share a head of keys, unless that leaves threads idle.
fn heads_at_once(threads: usize, rows: usize, attention: &Attention) -> usize {
    let shared = attention.heads / attention.kv_heads;
    let wanted = if threads == 1 { 1 } else { 2 * threads };
    let enough = |part: &usize| rows * (attention.heads / part) >= wanted;
    (1..=shared).rev().filter(|part| shared.is_multiple_of(*part)).find(enough).unwrap_or(1)
}

struct Work<'a> {
    kernels: &'a Kernels,
    q: &'a Tensor,
    layer: &'a KvLayer,
    plan: &'a AttendPlan<'a>,
    attention: &'a Attention,
}

impl Work<'_> {
    /// All heads of the rows from `first` on, as many as `out` has room for.
    fn rows(&self, first: usize, out: &mut [f32]) {
        let (cols, attention) = (self.q.cols(), self.attention);
        if cols == 0 {
            return;
        }
        let shared = attention.heads / attention.kv_heads;
        let (mut start, end) = (first, first + out.len() / cols);
        while start < end {
            // The rows of one sequence share its pages.
            let stop = end.min(self.span(start).rows.end);
            let out = &mut out[(start - first) * cols..(stop - first) * cols];
            for head in (0..attention.heads).step_by(shared) {
                let part = &mut out[head * attention.head_dim..];
                SCRATCH.with_borrow_mut(|scratch| self.heads(start..stop, head, shared, part, scratch));
            }
            start = stop;
        }
    }

    /// `count` query heads from `first` on, which share one head of keys, of rows of one sequence. A row's results
    /// begin in `out` one row of the batch after the other.
    fn heads(&self, rows: Range<usize>, first: usize, count: usize, out: &mut [f32], scratch: &mut Scratch) {
        let (attention, dim) = (self.attention, self.attention.head_dim);
        let (span, visible) = (self.span(rows.start), &self.plan.visible[rows.clone()]);
        let head = first / (attention.heads / attention.kv_heads);
        let (low, high) =
            visible.iter().fold((usize::MAX, 0), |(low, high), row| (low.min(row.start), high.max(row.end)));
        // Scores of whole pages: those of keys that a row does not see are computed and not used.
        let pages = low.min(high) / PAGE..high.div_ceil(PAGE);
        let (start, stride) = (pages.start * PAGE, pages.len() * PAGE);
        let Scratch { scores, page } = scratch;
        if scores.len() < rows.len() * count * stride {
            scores.resize(rows.len() * count * stride, 0.0);
        }
        for number in pages.clone() {
            let keys = self.page(span.pages[number], head, Kind::Keys, page);
            for (at, row) in rows.clone().enumerate().filter(|(at, _)| sees(&visible[*at], number)) {
                let queries = &self.q.row(row)[first * dim..][..count * dim];
                let scores = &mut scores[at * count * stride + number * PAGE - start..];
                self.kernels.page_scores(queries, keys, dim, scores, stride);
            }
        }
        for (number, scores) in scores.chunks_exact_mut(stride.max(1)).take(rows.len() * count).enumerate() {
            let visible = &visible[number / count];
            if !visible.is_empty() {
                self.softmax(first + number % count, &mut scores[visible.start - start..visible.end - start]);
            }
        }
        for number in pages {
            let values = self.page(span.pages[number], head, Kind::Values, page);
            for (at, visible) in visible.iter().enumerate().filter(|(_, visible)| sees(visible, number)) {
                let slots = within_page(visible, number);
                let weights = &scores[at * count * stride + number * PAGE + slots.start - start..];
                let out = &mut out[at * self.q.cols()..][..count * dim];
                self.kernels.page_mix(weights, stride, values, slots, dim, out);
            }
        }
    }

    fn span(&self, row: usize) -> &AttendSpan<'_> {
        let at = self.plan.spans.partition_point(|span| span.rows.end <= row);
        &self.plan.spans[at]
    }

    /// Products of one head's query and its keys to shares that sum to one, less what the sink takes.
    fn softmax(&self, head: usize, scores: &mut [f32]) {
        let attention = self.attention;
        self.kernels.scale(scores, attention.scale);
        if let Some(cap) = attention.softcap {
            self.kernels.activate(pasture_kernels::elementwise::Activation::SoftCap(cap), scores);
        }
        let sink = attention.sinks.as_ref().map(|sinks| sinks.values()[head]);
        let largest = self.kernels.maximum(scores).max(sink.unwrap_or(f32::NEG_INFINITY));
        let sum = self.kernels.exp_sum(scores, largest) + sink.map_or(0.0, |sink| (sink - largest).exp());
        self.kernels.scale(scores, 1.0 / sum);
    }

    /// A page's keys or values of one head as f32, `[PAGE][head_dim]`.
    fn page<'s>(&'s self, page: u32, head: usize, kind: Kind, scratch: &'s mut Vec<f32>) -> &'s [f32] {
        let at = self.layer.offset(page, head, 0);
        let range = at..at + PAGE * self.layer.head_dim;
        match (&self.layer.storage, kind) {
            (KvStorage::F32 { keys, .. }, Kind::Keys) => &keys[range],
            (KvStorage::F32 { values, .. }, Kind::Values) => &values[range],
            (KvStorage::F16 { keys, .. }, Kind::Keys) => self.widen(&keys[range], scratch),
            (KvStorage::F16 { values, .. }, Kind::Values) => self.widen(&values[range], scratch),
            (KvStorage::Blocks { format, keys, .. }, Kind::Keys) => self.decode(*format, keys, range, scratch),
            (KvStorage::Blocks { format, values, .. }, Kind::Values) => self.decode(*format, values, range, scratch),
            (KvStorage::Device(_), _) => panic!("a device's pages are read through its backend"),
        }
    }

    fn widen<'s>(&self, page: &[f16], scratch: &'s mut Vec<f32>) -> &'s [f32] {
        scratch.resize(page.len(), 0.0);
        self.kernels.widen(page, scratch);
        scratch
    }

    /// The values of that range.
    fn decode<'s>(&self, format: Format, stored: &[u8], range: Range<usize>, scratch: &'s mut Vec<f32>) -> &'s [f32] {
        scratch.resize(range.len(), 0.0);
        self.kernels.decode(format, &stored[format.row_bytes(range.start)..format.row_bytes(range.end)], scratch);
        scratch
    }
}

#[derive(Clone, Copy)]
enum Kind {
    Keys,
    Values,
}

/// Whether any key of page `number` is visible.
fn sees(visible: &Range<usize>, number: usize) -> bool {
    visible.start < (number + 1) * PAGE && visible.end > number * PAGE && !visible.is_empty()
}

/// The visible slots of page `number` of a sequence.
fn within_page(visible: &Range<usize>, number: usize) -> Range<usize> {
    let first = number * PAGE;
    visible.start.max(first) - first..visible.end.min(first + PAGE) - first
}
