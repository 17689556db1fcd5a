//! Attention of a batch's rows over the keys of their own sequences (Vaswani et al., arXiv 1706.03762), with grouped
//! key/value heads, soft caps and sinks. Where the keys are kept is `kv.rs`; which are visible is said by the plan.

use std::ops::Range;

use crate::kv::KvLayer;
use crate::tape::{self, Gradients};
use crate::{Ops, Tensor, Vector};

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

pub(crate) struct Saved {
    q: Tensor,
    k: Tensor,
    v: Tensor,
    spans: Vec<Range<usize>>,
    visible: Vec<Range<usize>>,
    attention: Attention,
}

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
            tape::Saved::Attend(Box::new(Saved {
                q: q.clone(),
                k: k.clone(),
                v: v.clone(),
                spans: plan.spans.iter().map(|span| span.rows.clone()).collect(),
                visible: plan.visible.clone(),
                attention: attention.clone(),
            }))
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
    /// With `p` the softmax of the scores `s`: `dv += pᵀ dy`, `dp = dy vᵀ`, `ds = p · (dp - Σ p dp)`,
    /// `dq += ds k`, `dk += dsᵀ q`.
    pub(crate) fn backward(self, dy: &Tensor, gradients: &mut Gradients) {
        let Saved { q, k, v, spans, visible, attention } = &self;
        let mut dq = Tensor::zeros(q.rows(), q.cols());
        let mut dk = Tensor::zeros(k.rows(), k.cols());
        let mut dv = Tensor::zeros(v.rows(), v.cols());
        let mut d_sinks = vec![0.0; attention.heads];
        for span in spans {
            for row in span.clone() {
                let keys = span.start + visible[row].start..span.start + visible[row].end;
                for (head, d_sink) in d_sinks.iter_mut().enumerate() {
                    *d_sink += head_backward(attention, head, row, &keys, (q, k, v, dy), (&mut dq, &mut dk, &mut dv));
                }
            }
        }
        if let Some(sinks) = attention.sinks.as_ref().filter(|sinks| gradients.wants(sinks.id())) {
            super::norm::add_to(gradients.sum(sinks.id(), attention.heads), &d_sinks);
        }
        gradients.add(q.node(), dq);
        gradients.add(k.node(), dk);
        gradients.add(v.node(), dv);
    }
}

/// One row's one head. Returns the gradient of the head's sink.
fn head_backward(
    attention: &Attention,
    head: usize,
    row: usize,
    keys: &Range<usize>,
    (q, k, v, dy): (&Tensor, &Tensor, &Tensor, &Tensor),
    (dq, dk, dv): (&mut Tensor, &mut Tensor, &mut Tensor),
) -> f32 {
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
        axpy(&mut dv.row_mut(key)[kv..kv + dim], weights[at], dy);
        axpy(&mut dq.row_mut(row)[of.clone()], ds, &k.row(key)[kv..kv + dim]);
        axpy(&mut dk.row_mut(key)[kv..kv + dim], ds, query);
    }
    sink.map_or(0.0, |sink| -(sink - largest).exp() / sum * mean)
}

pub(crate) fn dot(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

pub(crate) fn axpy(sum: &mut [f32], scale: f32, x: &[f32]) {
    sum.iter_mut().zip(x).for_each(|(sum, x)| *sum += scale * x);
}
