//! Attention of a batch's rows over the keys of their own sequences (Vaswani et al., arXiv 1706.03762), with grouped
//! key/value heads, soft caps and sinks. Where the keys are kept is `kv.rs`; which are visible is said by the plan.

use std::ops::Range;

use crate::kv::KvLayer;
use crate::tape::{self, Gradients};
use crate::{Backend, Ops, Tensor, Vector};

/// The shape of an attention.
#[derive(Clone)]
pub struct Attention {
    /// Heads of queries.
    pub heads: usize,
    /// Heads of keys and values; each serves `heads / kv_heads` query heads.
    pub kv_heads: usize,
    /// Values per head.
    pub head_dim: usize,
    /// Multiplies each product of a query and a key.
    pub scale: f32,
    /// Soft limit of the scores: `cap · tanh(score / cap)`.
    pub softcap: Option<f32>,
    /// One score per head that takes weight and gives no value.
    pub sinks: Option<Vector>,
}

/// The rows of one sequence in a batch.
#[derive(Clone)]
pub struct AttendSpan<'a> {
    /// Rows of the batch.
    pub rows: Range<usize>,
    /// Position of the first row in its sequence.
    pub start: usize,
    /// Pages of the sequence, in order.
    pub pages: &'a [u32],
}

/// Which keys each row of a batch looks at.
pub struct AttendPlan<'a> {
    /// Sequences; their rows follow each other and cover the batch.
    pub spans: Vec<AttendSpan<'a>>,
    /// For each row, the visible positions of its sequence.
    pub visible: Vec<Range<usize>>,
}

/// An attention over whole sequences that was run.
pub struct Attended {
    /// Queries `[rows, heads · head_dim]`.
    pub q: Tensor,
    /// Keys `[rows, kv_heads · head_dim]`.
    pub k: Tensor,
    /// Values, as keys.
    pub v: Tensor,
    /// Rows of each sequence, which begins with its first.
    pub spans: Vec<Range<usize>>,
    /// For each row, the visible positions of its sequence.
    pub visible: Vec<Range<usize>>,
    /// The shape.
    pub attention: Attention,
}

/// Gradients of an attention's inputs, in their shapes.
pub struct AttendGradients {
    /// Of the queries.
    pub q: Tensor,
    /// Of the keys.
    pub k: Tensor,
    /// Of the values.
    pub v: Tensor,
    /// Of the sinks: one for each head.
    pub sinks: Vec<f32>,
}

pub(crate) struct Saved(Attended);

impl Ops<'_> {
    /// Writes `k` and `v` `[rows, kv_heads · head_dim]` to the sequences' pages, then lets each row of `q`
    /// `[rows, heads · head_dim]` look at its visible keys. With a tape, sequences must begin in this batch.
    pub fn attend(
        &mut self,
        q: &Tensor,
        k: &Tensor,
        v: &Tensor,
        layer: &mut KvLayer,
        plan: &AttendPlan,
        attention: &Attention,
    ) -> Tensor {
        check(q, k, v, plan, attention);
        let y = self.backend.attend(q, k, v, layer, plan, attention);
        self.remember(y, || {
            assert!(plan.spans.iter().all(|span| span.start == 0), "a gradient needs whole sequences");
            tape::Saved::Attend(Box::new(Saved(Attended {
                q: q.clone(),
                k: k.clone(),
                v: v.clone(),
                spans: plan.spans.iter().map(|span| span.rows.clone()).collect(),
                visible: plan.visible.clone(),
                attention: attention.clone(),
            })))
        })
    }
}

fn check(q: &Tensor, k: &Tensor, v: &Tensor, plan: &AttendPlan, attention: &Attention) {
    let rows = q.rows();
    assert_eq!(q.cols(), attention.heads * attention.head_dim);
    assert_eq!((k.rows(), k.cols()), (rows, attention.kv_heads * attention.head_dim));
    assert_eq!((v.rows(), v.cols()), (rows, attention.kv_heads * attention.head_dim));
    assert!(attention.heads.is_multiple_of(attention.kv_heads));
    assert_eq!(plan.visible.len(), rows);
    assert_eq!(plan.spans.iter().map(|span| span.rows.len()).sum::<usize>(), rows);
}

impl Attention {
    /// The score of a product of query and key.
    pub fn score(&self, product: f32) -> f32 {
        let score = product * self.scale;
        self.softcap.map_or(score, |cap| cap * (score / cap).tanh())
    }

    /// The score's derivative by the product, given the score.
    fn score_slope(&self, score: f32) -> f32 {
        self.scale * self.softcap.map_or(1.0, |cap| 1.0 - (score / cap) * (score / cap))
    }
}

impl Saved {
    pub(crate) fn backward(self, backend: &dyn Backend, dy: &Tensor, gradients: &mut Gradients) {
        let Saved(past) = self;
        let found = backend.attend_backward(&past, dy);
        if let Some(sinks) = past.attention.sinks.as_ref().filter(|sinks| gradients.wants(sinks.id())) {
            super::norm::add_to(gradients.sum(sinks.id(), past.attention.heads), &found.sinks);
        }
        gradients.add(past.q.node(), found.q);
        gradients.add(past.k.node(), found.k);
        gradients.add(past.v.node(), found.v);
    }
}

/// One row's one head; gradients are added to the head's columns. With `p` the softmax of the scores `s`:
/// `dv += pᵀ dy`, `dp = dy vᵀ`, `ds = p · (dp - Σ p dp)`, `dq += ds k`, `dk += dsᵀ q`. Returns that of the head's sink.
pub(crate) fn head_backward(
    past: &Attended,
    dy: &Tensor,
    (head, row): (usize, usize),
    keys: &Range<usize>,
    (dq, dk, dv): (&mut [f32], &mut Part, &mut Part),
) -> f32 {
    let Attended { q, k, v, attention, .. } = past;
    let dim = attention.head_dim;
    let kv = head / (attention.heads / attention.kv_heads) * dim;
    let of = head * dim..(head + 1) * dim;
    let (query, dy) = (&q.row(row)[of.clone()], &dy.row(row)[of.clone()]);
    let scores: Vec<f32> = keys.clone().map(|key| attention.score(dot(query, &k.row(key)[kv..kv + dim]))).collect();
    let sink = attention.sinks.as_ref().map(|sinks| sinks.values()[head]);
    let largest = scores.iter().copied().chain(sink).fold(f32::NEG_INFINITY, f32::max);
    let sum: f32 = scores.iter().copied().chain(sink).map(|score| (score - largest).exp()).sum();
    let weights: Vec<f32> = scores.iter().map(|score| (score - largest).exp() / sum).collect();
    let slopes: Vec<f32> = keys.clone().map(|key| dot(dy, &v.row(key)[kv..kv + dim])).collect();
    let mean: f32 = weights.iter().zip(&slopes).map(|(weight, slope)| weight * slope).sum();
    for (at, key) in keys.clone().enumerate() {
        let ds = weights[at] * (slopes[at] - mean) * attention.score_slope(scores[at]);
        axpy(dv.row(key), weights[at], dy);
        axpy(dq, ds, &k.row(key)[kv..kv + dim]);
        axpy(dk.row(key), ds, query);
    }
    sink.map_or(0.0, |sink| -(sink - largest).exp() / sum * mean)
}

/// One head's columns of a sequence's rows.
pub(crate) struct Part {
    /// The sequence's first row.
    pub(crate) first: usize,
    pub(crate) cols: usize,
    pub(crate) values: Vec<f32>,
}

impl Part {
    pub(crate) fn zeros(rows: &Range<usize>, cols: usize) -> Part {
        Part { first: rows.start, cols, values: vec![0.0; rows.len() * cols] }
    }

    /// A row of the batch.
    pub(crate) fn row(&mut self, row: usize) -> &mut [f32] {
        &mut self.values[(row - self.first) * self.cols..][..self.cols]
    }

    /// Copies a row of the batch to the part's columns of it.
    fn put(&self, row: usize, to: &mut [f32], col: usize) {
        to[col..col + self.cols].copy_from_slice(&self.values[(row - self.first) * self.cols..][..self.cols]);
    }
}

/// Gradients of one head of keys in one sequence, with those of the query heads that share it.
pub(crate) struct HeadGradients {
    pub(crate) q: Vec<Part>,
    pub(crate) k: Part,
    pub(crate) v: Part,
    pub(crate) sinks: Vec<f32>,
}

/// All heads of queries that share head `kv` of keys, over a sequence's rows.
pub(crate) fn group_backward(past: &Attended, dy: &Tensor, span: &Range<usize>, kv: usize) -> HeadGradients {
    let (dim, shared) = (past.attention.head_dim, past.attention.heads / past.attention.kv_heads);
    let (mut k, mut v) = (Part::zeros(span, dim), Part::zeros(span, dim));
    let mut q: Vec<Part> = (0..shared).map(|_| Part::zeros(span, dim)).collect();
    let mut sinks = vec![0.0; shared];
    for row in span.clone() {
        let keys = span.start + past.visible[row].start..span.start + past.visible[row].end;
        for (at, (q, sink)) in q.iter_mut().zip(&mut sinks).enumerate() {
            *sink += head_backward(past, dy, (kv * shared + at, row), &keys, (q.row(row), &mut k, &mut v));
        }
    }
    HeadGradients { q, k, v, sinks }
}

/// All heads of all sequences, put together in order; `matrix` makes one of so many columns, row by row.
pub(crate) fn joined(
    past: &Attended,
    parts: &[HeadGradients],
    matrix: impl Fn(usize, &(dyn Fn(usize, &mut [f32]) + Sync)) -> Tensor,
) -> AttendGradients {
    let Attention { heads, kv_heads, head_dim: dim, .. } = past.attention;
    let shared = heads / kv_heads;
    let of_row = |row: usize| {
        let span = past.spans.partition_point(|span| span.end <= row);
        parts[span * kv_heads..(span + 1) * kv_heads].iter().enumerate()
    };
    let mut sinks = vec![0.0; heads];
    for (number, part) in parts.iter().enumerate() {
        super::norm::add_to(&mut sinks[number % kv_heads * shared..][..shared], &part.sinks);
    }
    AttendGradients {
        q: matrix(heads * dim, &|row, out| {
            for (kv, part) in of_row(row) {
                part.q.iter().enumerate().for_each(|(at, q)| q.put(row, out, (kv * shared + at) * dim));
            }
        }),
        k: matrix(kv_heads * dim, &|row, out| of_row(row).for_each(|(kv, part)| part.k.put(row, out, kv * dim))),
        v: matrix(kv_heads * dim, &|row, out| of_row(row).for_each(|(kv, part)| part.v.put(row, out, kv * dim))),
        sinks,
    }
}

pub(crate) fn dot(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

pub(crate) fn axpy(sum: &mut [f32], scale: f32, x: &[f32]) {
    sum.iter_mut().zip(x).for_each(|(sum, x)| *sum += scale * x);
}
