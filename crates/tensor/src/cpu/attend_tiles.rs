//! Attention of whole sequences in bf16 tiles, for tuning: one head of keys by one thread, blocks of queries over the keys
//! that any of them sees. Scores, softmax and sums are f32. Its gradient is `attend_backward.rs`.

use std::cell::RefCell;
use std::ops::Range;

use pasture_kernels::elementwise::Activation;
use pasture_kernels::gemm::small::{Columns, Rows, View, multiply, steps};
use pasture_kernels::pool::Stripe;
use pasture_kernels::{Kernels, Pool};

use crate::ops::attend::{AttendPlan, Attention};
use crate::{Tensor, memory};

/// Queries of a block.
pub(super) const BLOCK: usize = 64;

/// Keys begin at a whole panel.
const PANEL: usize = 16;

/// Some columns of some rows.
pub(super) fn view<'a>(tensor: &'a Tensor, rows: &Range<usize>, cols: Range<usize>) -> View<'a> {
    let values = &tensor.values()[rows.start * tensor.cols() + cols.start..];
    View { values, stride: tensor.cols(), rows: rows.len(), cols: cols.len() }
}

/// The keys that any of some rows sees, from a whole panel on; None where none sees any.
pub(super) fn seen(visible: &[Range<usize>]) -> Option<Range<usize>> {
    let ranges = visible.iter().filter(|range| !range.is_empty());
    let (low, high) = ranges.fold((usize::MAX, 0), |(low, high), range| (low.min(range.start), high.max(range.end)));
    (high > 0).then(|| low / PANEL * PANEL..high)
}

/// Scores of a row's products.
pub(super) fn scores(kernels: &Kernels, attention: &Attention, products: &mut [f32]) {
    kernels.scale(products, attention.scale);
    if let Some(cap) = attention.softcap {
        kernels.activate(Activation::SoftCap(cap), products);
    }
}

/// Scores of one head as powers of e; gives their sum with the head's sink, and the sink's own power.
pub(super) fn powers(kernels: &Kernels, attention: &Attention, head: usize, scores: &mut [f32]) -> (f32, f32) {
    let sink = attention.sinks.as_ref().map(|sinks| sinks.values()[head]);
    let largest = kernels.maximum(scores).max(sink.unwrap_or(f32::NEG_INFINITY));
    let own = sink.map_or(0.0, |sink| (sink - largest).exp());
    (kernels.exp_sum(scores, largest) + own, own)
}

/// The visible part of a row over the keys `seen`; the rest of it becomes zeros.
pub(super) fn visible_of<'l>(line: &'l mut [f32], visible: &Range<usize>, seen: &Range<usize>) -> &'l mut [f32] {
    let place = |position: usize| position.clamp(seen.start, seen.end) - seen.start;
    let (first, end) = (place(visible.start), place(visible.end.max(visible.start)));
    line[..first].fill(0.0);
    line[end..].fill(0.0);
    &mut line[first..end]
}

/// What goes in.
struct Work<'a> {
    kernels: &'a Kernels,
    q: &'a Tensor,
    k: &'a Tensor,
    v: &'a Tensor,
    plan: &'a AttendPlan<'a>,
    attention: &'a Attention,
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

/// Memory of one thread that lasts between dispatches.
#[derive(Default)]
struct Scratch {
    /// Keys as columns of the scores, values as columns along k.
    keys: Columns,
    values: Columns,
    rows: Rows,
    shares: Vec<f32>,
    sums: Vec<f32>,
}

/// Each query's softmax over its visible keys, and the sum of their values. All sequences begin in this batch.
pub(super) fn attend(
    pool: &Pool,
    (q, k, v): (&Tensor, &Tensor, &Tensor),
    plan: &AttendPlan,
    attention: &Attention,
) -> Tensor {
    let work = Work { kernels: pool.kernels(), q, k, v, plan, attention };
    let mut out = memory::taken(q.rows() * q.cols());
    let shared = attention.heads / attention.kv_heads;
    // Heads that share keys pack them once, unless threads would be idle.
    let some = if attention.kv_heads < 2 * pool.threads() { 1 } else { shared };
    pool.for_stripes_mut(&mut out, q.cols(), some * attention.head_dim, |number, mut stripe| {
        SCRATCH.with_borrow_mut(|scratch| {
            let heads = number * some..(number + 1) * some;
            plan.spans.iter().for_each(|span| work.heads(&span.rows, heads.clone(), scratch, &mut stripe));
        });
    });
    Tensor::new(q.rows(), q.cols(), out)
}

impl Work<'_> {
    /// Some heads of queries that share a head of keys, over a sequence's rows.
    fn heads(&self, span: &Range<usize>, heads: Range<usize>, scratch: &mut Scratch, out: &mut Stripe<'_, f32>) {
        let (dim, shared) = (self.attention.head_dim, self.attention.heads / self.attention.kv_heads);
        let kv = heads.start / shared;
        let of = kv * dim..(kv + 1) * dim;
        scratch.keys.turn(self.kernels, view(self.k, span, of.clone()));
        scratch.values.pack(self.kernels, view(self.v, span, of));
        for (at, head) in heads.enumerate() {
            for first in span.clone().step_by(BLOCK) {
                let rows = first..(first + BLOCK).min(span.end);
                self.block(&rows, (head, at * dim..(at + 1) * dim), scratch, out);
            }
        }
    }

    /// Some rows of one head of queries, whose results are some columns of the stripe.
    fn block(
        &self,
        rows: &Range<usize>,
        (head, cols): (usize, Range<usize>),
        scratch: &mut Scratch,
        out: &mut Stripe<'_, f32>,
    ) {
        let (kernels, dim, visible) = (self.kernels, cols.len(), &self.plan.visible[rows.clone()]);
        let Some(seen) = seen(visible) else {
            return rows.clone().for_each(|row| out.row(row)[cols.clone()].fill(0.0));
        };
        let (width, whole) = (seen.len(), 0..dim);
        let Scratch { keys, values, rows: side, shares, sums } = scratch;
        shares.resize(rows.len() * width, 0.0);
        sums.resize(rows.len() * dim, 0.0);
        side.pack(kernels, view(self.q, rows, head * dim..(head + 1) * dim));
        multiply(kernels, side, (keys, seen.clone(), steps(&whole)), (shares, width), false);
        let share = |(line, visible): (&mut [f32], &Range<usize>)| match visible_of(line, visible, &seen) {
            [] => 0.0,
            line => {
                scores(kernels, self.attention, line);
                1.0 / powers(kernels, self.attention, head, line).0
            }
        };
        let parts: Vec<f32> = shares.chunks_exact_mut(width).zip(visible).map(share).collect();
        side.pack(kernels, View { values: shares, stride: width, rows: rows.len(), cols: width });
        multiply(kernels, side, (values, whole, steps(&seen)), (sums, dim), false);
        for ((row, part), sums) in rows.clone().zip(parts).zip(sums.chunks_exact(dim)) {
            out.row(row)[cols.clone()].iter_mut().zip(sums).for_each(|(out, sum)| *out = part * sum);
        }
    }
}
