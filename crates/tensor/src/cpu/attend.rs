//! Attention over the pool. Rows of a sequence go over its pages together, some pages at a time, with the softmax as far
//! as it has come (Milakov and Gimelshein, arXiv 1805.02867): scores stay in the cache, however many keys there are.
//!
//! Invariant: which pages a softmax takes together depends on their numbers alone, and values are added key after key,
//! so a row's bits depend on the row, its visible range and the pages' contents alone.

use std::cell::RefCell;
use std::ops::Range;

use half::f16;
use pasture_kernels::attend::{Keys, SLOT_GROUP, Values};
use pasture_kernels::isa::fetch;
use pasture_kernels::{Kernels, Pool};

use crate::Tensor;
use crate::kv::{KvLayer, KvStorage, PAGE};
use crate::ops::attend::{AttendPlan, AttendSpan, Attention};

/// Queries at most that go over a page together: their scores and sums are to stay in the second cache.
const BLOCK: usize = 256;

/// Pages whose scores a softmax takes at once.
const PAGES: usize = 8;

/// Pages between the one that is asked for and the one that is read.
const AHEAD: usize = 2;

/// Queries that products take in one pass over the keys.
const ONE_PASS: usize = 8;

/// Products of queries and keys that one thread is done with before another could come to help.
const ALONE: usize = 30_000;

/// Memory of one worker that lasts between dispatches.
#[derive(Default)]
struct Scratch {
    /// Scaled: `[row][head][head_dim]`.
    queries: Vec<f32>,
    /// `[row][head][key]`, of the keys of the pages at work.
    scores: Vec<f32>,
    /// `[row][head]`.
    softmax: Vec<Softmax>,
    /// Values times weights, as queries.
    sums: Vec<f32>,
    page: Page,
}

/// A query's softmax as far as it has come: the largest score, and the sum of the powers of e by which the others are
/// below it.
#[derive(Clone, Copy)]
struct Softmax {
    largest: f32,
    sum: f32,
}

/// A page that was read.
#[derive(Default)]
struct Page {
    values: Vec<f32>,
    panels: Vec<f32>,
}

/// What is kept of a token.
#[derive(Clone, Copy)]
enum Part {
    Keys,
    Values,
}

impl Part {
    fn of<'a, T>(self, keys: &'a [T], values: &'a [T]) -> &'a [T] {
        match self {
            Part::Keys => keys,
            Part::Values => values,
        }
    }
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

/// Stores the batch's keys and values on their sequences' pages.
pub(super) fn write(kernels: &Kernels, k: &Tensor, v: &Tensor, layer: &mut KvLayer, plan: &AttendPlan) {
    let (dim, mut narrow) = (layer.head_dim, Vec::new());
    for span in &plan.spans {
        for (at, row) in span.rows.clone().enumerate() {
            let position = span.start + at;
            let (page, slot) = (span.pages[position / PAGE], position % PAGE);
            let heads = k.row(row).chunks_exact(dim).zip(v.row(row).chunks_exact(dim));
            for (head, (key, value)) in heads.enumerate() {
                let (at, places) = (layer.offset(page, head, slot), layer.key_places(page, head, slot));
                match &mut layer.storage {
                    KvStorage::F16 { keys, values } => {
                        narrow.resize(dim, f16::ZERO);
                        kernels.narrow(key, &mut narrow);
                        places.zip(&narrow).for_each(|(place, key)| keys[place] = *key);
                        kernels.narrow(value, &mut values[at..at + dim]);
                    }
                    _ => layer.write(page, head, slot, key, value),
                }
            }
        }
    }
}

/// Each query's softmax over its visible keys, and the sum of their values.
pub(super) fn attend(pool: &Pool, q: &Tensor, layer: &KvLayer, plan: &AttendPlan, attention: &Attention) -> Tensor {
    let mut out = vec![0.0; q.rows() * q.cols()];
    let work = Work { kernels: pool.kernels(), q, layer, plan, attention };
    let shared = attention.heads / attention.kv_heads;
    let together = (q.rows() / (4 * pool.threads())).min((BLOCK / shared).max(1));
    if q.cols() > 0 && together > 1 {
        pool.for_chunks_mut(&mut out, together * q.cols(), |number, out| work.rows(number * together, out));
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
    let enough = |part: &usize| rows * (attention.heads / part) >= threads;
    (1..=shared).rev().filter(|part| shared.is_multiple_of(*part)).find(enough).unwrap_or(1)
}

/// Rows of one sequence, with some heads that share a head of keys.
struct Block<'a> {
    /// The sequence's pages, and the numbers of those that any row sees.
    pages: &'a [u32],
    numbers: Range<usize>,
    /// Head of keys.
    head: usize,
    /// Positions that each row sees.
    visible: &'a [Range<usize>],
    /// Query heads of each row.
    count: usize,
}

impl Block<'_> {
    fn queries(&self) -> usize {
        self.visible.len() * self.count
    }

    /// From a query's scores to the next one's: an odd number of cache lines, which keeps the same key's scores out of
    /// each other's cache sets.
    fn stride(&self) -> usize {
        self.numbers.len() * PAGE + SLOT_GROUP
    }

    /// Where a page's scores begin among a query's.
    fn column(&self, number: usize) -> usize {
        (number - self.numbers.start) * PAGE
    }

    /// Which of a row's scores count.
    fn visible_scores(&self, row: usize) -> Range<usize> {
        let pages = self.numbers.start * PAGE..self.numbers.end * PAGE;
        let column = |position: usize| position.clamp(pages.start, pages.end) - pages.start;
        column(self.visible[row].start)..column(self.visible[row].end)
    }
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
        let visible = &self.plan.visible[rows.clone()];
        let (low, high) =
            visible.iter().fold((usize::MAX, 0), |(low, high), row| (low.min(row.start), high.max(row.end)));
        let all = low.min(high) / PAGE..high.div_ceil(PAGE);
        let head = first / (attention.heads / attention.kv_heads);
        let mut block = Block { pages: self.span(rows.start).pages, numbers: all.clone(), head, visible, count };
        let Scratch { queries, scores, softmax, sums, page } = scratch;
        queries.clear();
        softmax.clear();
        for row in rows {
            queries.extend(self.q.row(row)[first * dim..][..count * dim].iter().map(|x| x * attention.scale));
            softmax.extend((first..first + count).map(|head| self.softmax(head)));
        }
        sums.clear();
        sums.resize(queries.len(), 0.0);
        while !block.numbers.is_empty() {
            block.numbers.end = block.numbers.end.min((block.numbers.start / PAGES + 1) * PAGES);
            self.score(&block, queries, scores, page);
            self.weigh(&block, scores, softmax, sums);
            self.mix(&block, scores, sums, page);
            block.numbers = block.numbers.end..all.end;
        }
        for (at, (sums, softmax)) in sums.chunks_exact(count * dim).zip(softmax.chunks_exact(count)).enumerate() {
            let out = &mut out[at * self.q.cols()..][..count * dim];
            for ((out, sums), softmax) in out.chunks_exact_mut(dim).zip(sums.chunks_exact(dim)).zip(softmax) {
                let share = if visible[at].is_empty() { 0.0 } else { 1.0 / softmax.sum };
                out.iter_mut().zip(sums).for_each(|(out, sum)| *out = share * sum);
            }
        }
    }

    /// The products of queries and the keys of whole pages: those of keys that a row does not see are not used.
    fn score(&self, block: &Block<'_>, queries: &[f32], scores: &mut Vec<f32>, page: &mut Page) {
        let (dim, stride, count) = (self.attention.head_dim, block.stride(), block.count);
        if scores.len() < block.queries() * stride {
            scores.resize(block.queries() * stride, 0.0);
        }
        for number in block.numbers.clone() {
            let mut seeing = (0..block.visible.len()).filter(|at| sees(&block.visible[*at], number));
            let (Some(from), last) = (seeing.next(), seeing.next_back()) else { continue };
            let seeing = from * count..(last.unwrap_or(from) + 1) * count;
            let many = seeing.len() > ONE_PASS;
            self.fetch_after(block, number, Part::Keys);
            let keys = self.keys(block.pages[number], block.head, many, page);
            let scores = &mut scores[seeing.start * stride + block.column(number)..];
            self.kernels.page_scores(&queries[seeing.start * dim..seeing.end * dim], keys, dim, scores, stride);
        }
    }

    /// Adds the pages' values, times their weights, to `sums`.
    fn mix(&self, block: &Block<'_>, weights: &[f32], sums: &mut [f32], page: &mut Page) {
        let (dim, stride, count) = (self.attention.head_dim, block.stride(), block.count);
        for number in block.numbers.clone() {
            self.fetch_after(block, number, Part::Values);
            let values = self.values(block.pages[number], block.head, block.queries() > ONE_PASS, page);
            let mut rest = block.visible;
            while let Some(visible) = rest.first() {
                // Rows that see the same of the page go over it together.
                let slots = within_page(visible, number);
                let alike = rest.iter().take_while(|visible| within_page(visible, number) == slots).count();
                let from = (block.visible.len() - rest.len()) * count;
                rest = &rest[alike..];
                if !slots.is_empty() {
                    let weights = &weights[from * stride + block.column(number) + slots.start..];
                    let sums = &mut sums[from * dim..(from + alike * count) * dim];
                    self.kernels.page_mix(weights, stride, values, slots, dim, sums);
                }
            }
        }
    }

    fn span(&self, row: usize) -> &AttendSpan<'_> {
        let at = self.plan.spans.partition_point(|span| span.rows.end <= row);
        &self.plan.spans[at]
    }

    /// A head's softmax before the first key: its sink alone.
    fn softmax(&self, head: usize) -> Softmax {
        match &self.attention.sinks {
            Some(sinks) => Softmax { largest: sinks.values()[head], sum: 1.0 },
            None => Softmax { largest: f32::NEG_INFINITY, sum: 0.0 },
        }
    }

    /// Makes weights of the scores that count: powers of e of what they are below the largest so far. Where a larger one
    /// comes, what was summed with the one before becomes less.
    fn weigh(&self, block: &Block<'_>, scores: &mut [f32], softmax: &mut [Softmax], sums: &mut [f32]) {
        let queries = scores.chunks_exact_mut(block.stride()).zip(sums.chunks_exact_mut(self.attention.head_dim));
        for (number, ((scores, sums), softmax)) in queries.zip(softmax).enumerate() {
            let scores = &mut scores[block.visible_scores(number / block.count)];
            if scores.is_empty() {
                continue;
            }
            if let Some(cap) = self.attention.softcap {
                self.kernels.activate(pasture_kernels::elementwise::Activation::SoftCap(cap), scores);
            }
            let largest = self.kernels.maximum(scores).max(softmax.largest);
            if largest > softmax.largest && softmax.sum > 0.0 {
                let factor = (softmax.largest - largest).exp();
                softmax.sum *= factor;
                self.kernels.scale(sums, factor);
            }
            softmax.largest = largest;
            softmax.sum += self.kernels.exp_sum(scores, largest);
        }
    }

    /// A page's keys of one head; widened where there are many queries.
    fn keys<'s>(&'s self, page: u32, head: usize, many: bool, scratch: &'s mut Page) -> Keys<'s> {
        let range = self.range(page, head);
        match &self.layer.storage {
            KvStorage::F32 { keys, .. } => Keys::F32(&keys[range]),
            KvStorage::F16 { keys, .. } if many => {
                scratch.panels.resize(range.len(), 0.0);
                self.kernels.widen(&keys[range], &mut scratch.panels);
                Keys::F32(&scratch.panels)
            }
            KvStorage::F16 { keys, .. } => Keys::F16(&keys[range]),
            KvStorage::Blocks { format, keys, .. } => {
                let Page { values, panels } = scratch;
                values.resize(range.len(), 0.0);
                panels.resize(range.len(), 0.0);
                let stored = &keys[format.row_bytes(range.start)..format.row_bytes(range.end)];
                self.kernels.decode(*format, stored, values);
                self.kernels.page_panels(values, self.layer.head_dim, panels);
                Keys::F32(panels)
            }
            KvStorage::Device(_) => panic!("a device's pages are read through its backend"),
        }
    }

    /// A page's values of one head; widened where there are many queries.
    fn values<'s>(&'s self, page: u32, head: usize, many: bool, scratch: &'s mut Page) -> Values<'s> {
        let (range, scratch) = (self.range(page, head), &mut scratch.values);
        scratch.resize(range.len(), 0.0);
        match &self.layer.storage {
            KvStorage::F32 { values, .. } => return Values::F32(&values[range]),
            KvStorage::F16 { values, .. } if many => self.kernels.widen(&values[range], scratch),
            KvStorage::F16 { values, .. } => return Values::F16(&values[range]),
            KvStorage::Blocks { format, values, .. } => {
                let stored = &values[format.row_bytes(range.start)..format.row_bytes(range.end)];
                self.kernels.decode(*format, stored, scratch);
            }
            KvStorage::Device(_) => panic!("a device's pages are read through its backend"),
        }
        Values::F32(scratch)
    }

    /// Asks for what is read a little later than these keys or values: the pages' keys come first, then their values.
    fn fetch_after(&self, block: &Block<'_>, number: usize, part: Part) {
        let Range { start, end } = block.numbers;
        let (number, part) = match (number + AHEAD, part) {
            (later, part) if later < end => (later, part),
            (later, Part::Keys) => (start + (later - end), Part::Values),
            (later, Part::Values) => (later, Part::Keys),
        };
        if let Some(page) = block.pages.get(number) {
            self.fetch(*page, block.head, part);
        }
    }

    /// Asks for a page's keys or values of one head: pages lie apart, so a processor does not see the next one coming.
    fn fetch(&self, page: u32, head: usize, part: Part) {
        let range = self.range(page, head);
        match &self.layer.storage {
            KvStorage::F32 { keys, values } => fetch(&part.of(keys, values)[range]),
            KvStorage::F16 { keys, values } => fetch(&part.of(keys, values)[range]),
            KvStorage::Blocks { format, keys, values } => {
                fetch(&part.of(keys, values)[format.row_bytes(range.start)..format.row_bytes(range.end)]);
            }
            KvStorage::Device(_) => {}
        }
    }

    fn range(&self, page: u32, head: usize) -> Range<usize> {
        let at = self.layer.offset(page, head, 0);
        at..at + PAGE * self.layer.head_dim
    }
}

/// Whether any key of page `number` is visible.
fn sees(visible: &Range<usize>, number: usize) -> bool {
    visible.start < (number + 1) * PAGE && visible.end > number * PAGE && !visible.is_empty()
}

/// The visible slots of page `number` of a sequence.
fn within_page(visible: &Range<usize>, number: usize) -> Range<usize> {
    let first = number * PAGE;
    let slot = |position: usize| position.clamp(first, first + PAGE) - first;
    slot(visible.start)..slot(visible.end)
}
