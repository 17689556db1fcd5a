//! Attention over the pool. Rows go over their sequence's pages together, some at a time, so that scores stay in the cache,
//! segment after segment; threads can share a row's segments, which are joined in order.
//!
//! Invariant: which pages a segment and its softmax take together depends on their numbers alone, and values are added
//! key after key, so a row's bits depend on the row, its visible range and the pages' contents alone.

use std::cell::RefCell;
use std::ops::Range;

use half::f16;
use pasture_kernels::attend::{Keys, SLOT_GROUP, Values};
use pasture_kernels::isa::fetch_far;
use pasture_kernels::{Kernels, Pool};

use super::softmax::{Softmax, Sums};
use crate::Tensor;
use crate::kv::{KvLayer, KvStorage, PAGE};
use crate::ops::attend::{AttendPlan, AttendSpan, Attention};

/// Queries at most that go over a page together: their scores and sums are to stay in the second cache.
const BLOCK: usize = 256;

/// Pages whose scores a softmax takes at once.
const PAGES: usize = 8;

/// Pages of a segment: enough that joining costs nothing beside them. A multiple of [`PAGES`].
const SEGMENT: usize = 32;

/// Pages between the one that is asked for and the one that is read.
const AHEAD: usize = 2;

/// Queries that products take in one pass over the keys.
const ONE_PASS: usize = 8;

/// Parts for each thread below which they are cut into segments.
const FEW: usize = 4;

/// Products of queries and keys that one thread is done with before another could come to help.
const ALONE: usize = 30_000;

/// Memory of one worker that lasts between dispatches.
#[derive(Default)]
struct Scratch {
    /// Scaled: `[row][head][head_dim]`.
    queries: Vec<f32>,
    /// `[row][head][key]`, of the keys of the pages at work.
    scores: Vec<f32>,
    /// Of a segment.
    part: Sums,
    /// Of all segments so far.
    whole: Sums,
    page: Page,
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
        let segments = (0..q.rows()).map(|row| work.segments(&(row..row + 1)).len()).max().unwrap_or(0);
        let part = heads_at_once(pool.threads(), q.rows() * segments, attention);
        let (parts, width) = (attention.heads / part, part * attention.head_dim);
        // Where there are few parts for a thread, one would wait for another that has one more.
        if q.rows() * parts < FEW * pool.threads() && segments > 1 {
            work.in_segments(pool, part, segments, &mut out);
        } else {
            pool.for_chunks_mut(&mut out, width, |number, out| {
                let (row, first) = (number / parts, number % parts * part);
                SCRATCH.with_borrow_mut(|scratch| work.heads(row..row + 1, first, part, out, scratch));
            });
        }
    }
    Tensor::new(q.rows(), q.cols(), out)
}

/// How many query heads are worked on together: all that share a head of keys, unless that leaves threads idle.
fn heads_at_once(threads: usize, pieces: usize, attention: &Attention) -> usize {
    let shared = attention.heads / attention.kv_heads;
    let enough = |part: &usize| pieces * (attention.heads / part) >= threads;
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
        self.begin(&rows, first, count, &mut scratch.whole);
        self.scale(&rows, first, count, &mut scratch.queries);
        for segment in self.segments(&rows) {
            self.segment(rows.clone(), first, count, segment, scratch);
            let Scratch { part, whole, .. } = scratch;
            whole.join(part.softmax.iter().copied(), &part.values);
        }
        self.finish(&scratch.whole, &rows, count, out);
    }

    /// Each row's heads, `count` at once, with the segments of each shared by the threads.
    fn in_segments(&self, pool: &Pool, count: usize, segments: usize, out: &mut [f32]) {
        let (parts, values) = (self.attention.heads / count, count * self.attention.head_dim);
        // Of each row, part and segment: the values, then the largest scores, then the sums.
        let mut seen = vec![0.0; self.q.rows() * parts * segments * (values + 2 * count)];
        let place = |number: usize| (number / segments / parts, number / segments % parts * count);
        pool.for_chunks_mut(&mut seen, values + 2 * count, |number, out| {
            let ((row, first), segment) = (place(number), number % segments);
            let segment = self.segments(&(row..row + 1)).start + segment;
            SCRATCH.with_borrow_mut(|scratch| {
                self.scale(&(row..row + 1), first, count, &mut scratch.queries);
                self.segment(row..row + 1, first, count, segment, scratch);
                let (sums, rest) = out.split_at_mut(values);
                sums.copy_from_slice(&scratch.part.values);
                let (largest, sum) = rest.split_at_mut(count);
                for ((softmax, largest), sum) in scratch.part.softmax.iter().zip(largest).zip(sum) {
                    (*largest, *sum) = (softmax.largest, softmax.sum);
                }
            });
        });
        let mut whole = Sums::default();
        for (number, (seen, out)) in
            seen.chunks_exact(segments * (values + 2 * count)).zip(out.chunks_exact_mut(values)).enumerate()
        {
            let (row, first) = place(number * segments);
            self.begin(&(row..row + 1), first, count, &mut whole);
            for seen in seen.chunks_exact(values + 2 * count) {
                let (sums, rest) = seen.split_at(values);
                let softmax = rest[..count].iter().zip(&rest[count..]);
                whole.join(softmax.map(|(largest, sum)| Softmax { largest: *largest, sum: *sum }), sums);
            }
            self.finish(&whole, &(row..row + 1), count, out);
        }
    }

    /// What heads have seen before the first key: their sinks.
    fn begin(&self, rows: &Range<usize>, first: usize, count: usize, whole: &mut Sums) {
        let heads = rows.clone().flat_map(|_| first..first + count);
        whole.begin(heads.map(|head| self.softmax(head)), rows.len() * count * self.attention.head_dim);
    }

    /// The results of what heads have seen.
    fn finish(&self, whole: &Sums, rows: &Range<usize>, count: usize, out: &mut [f32]) {
        let dim = self.attention.head_dim;
        let of_rows = whole.values.chunks_exact(count * dim).zip(whole.softmax.chunks_exact(count));
        for (at, (sums, softmax)) in of_rows.enumerate() {
            let out = &mut out[at * self.q.cols()..][..count * dim];
            for ((out, sums), softmax) in out.chunks_exact_mut(dim).zip(sums.chunks_exact(dim)).zip(softmax) {
                let share = if self.plan.visible[rows.start + at].is_empty() { 0.0 } else { 1.0 / softmax.sum };
                out.iter_mut().zip(sums).for_each(|(out, sum)| *out = share * sum);
            }
        }
    }

    /// Numbers of the pages that any of some rows sees.
    fn pages(&self, rows: &Range<usize>) -> Range<usize> {
        let visible = self.plan.visible[rows.clone()].iter();
        let (low, high) = visible.fold((usize::MAX, 0), |(low, high), row| (low.min(row.start), high.max(row.end)));
        low.min(high) / PAGE..high.div_ceil(PAGE)
    }

    /// Numbers of the segments that any of some rows sees.
    fn segments(&self, rows: &Range<usize>) -> Range<usize> {
        let pages = self.pages(rows);
        pages.start / SEGMENT..pages.end.div_ceil(SEGMENT)
    }

    /// The heads' queries, scaled.
    fn scale(&self, rows: &Range<usize>, first: usize, count: usize, queries: &mut Vec<f32>) {
        let Attention { head_dim, scale, .. } = self.attention;
        queries.clear();
        for row in rows.clone() {
            queries.extend(self.q.row(row)[first * head_dim..][..count * head_dim].iter().map(|x| x * scale));
        }
    }

    /// What heads, whose queries are there, see of one segment alone, if anything: `part` of the scratch memory.
    fn segment(&self, rows: Range<usize>, first: usize, count: usize, segment: usize, scratch: &mut Scratch) {
        let pages = self.pages(&rows);
        let all = pages.start.max(segment * SEGMENT)..pages.end.min((segment + 1) * SEGMENT);
        let head = first / (self.attention.heads / self.attention.kv_heads);
        let visible = &self.plan.visible[rows.clone()];
        let mut block = Block { pages: self.span(rows.start).pages, numbers: all.clone(), head, visible, count };
        let Scratch { queries, scores, part, page, .. } = scratch;
        part.begin((0..block.queries()).map(|_| Softmax::NONE), queries.len());
        while !block.numbers.is_empty() {
            block.numbers.end = block.numbers.end.min((block.numbers.start / PAGES + 1) * PAGES);
            self.score(&block, queries, scores, page);
            self.weigh(&block, scores, &mut part.softmax, &mut part.values);
            self.mix(&block, scores, &mut part.values, page);
            block.numbers = block.numbers.end..all.end;
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
            None => Softmax::NONE,
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

    /// Asks for a page's keys or values of one head: pages lie apart, so a processor does not see the next one coming. With
    /// so many lines at once the nearest cache would be waited for.
    fn fetch(&self, page: u32, head: usize, part: Part) {
        let range = self.range(page, head);
        match &self.layer.storage {
            KvStorage::F32 { keys, values } => fetch_far(&part.of(keys, values)[range]),
            KvStorage::F16 { keys, values } => fetch_far(&part.of(keys, values)[range]),
            KvStorage::Blocks { format, keys, values } => {
                fetch_far(&part.of(keys, values)[format.row_bytes(range.start)..format.row_bytes(range.end)]);
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
