//! The coarse operations a device must offer. Every one has a default in `reference.rs`, plain loops that are the
//! specification; a backend overrides what it does faster. Nothing here remembers anything: that is the tape's work.

use std::ops::Range;

use crate::kv::{KvFormat, KvLayer};
use crate::ops::activate::Activation;
use crate::ops::add::Factors;
use crate::ops::attend::{AttendGradients, AttendPlan, Attended, Attention};
use crate::ops::experts::{Choice, Router};
use crate::ops::head::LogitRule;
use crate::ops::linear::Linear;
use crate::ops::norm::{Norm, NormGradients};
use crate::ops::project::Epilogue;
use crate::ops::rope::RopeTable;
use crate::{Tensor, Weight, reference};

/// With which numbers the products are computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Precision {
    /// f32 throughout: what the reference implementations are compared with.
    Exact,
    /// Activations in 8 bits against quantized weights.
    Fast,
    /// Activations, gradients and weights rounded to bf16 where they are multiplied, sums in f32: for tuning.
    Bf16,
}

/// Rows of a batch that are multiplied by one weight: the unit of the grouped product.
#[derive(Clone)]
pub struct Group<'a> {
    /// Rows of the batch; the groups of a product follow each other.
    pub rows: Range<usize>,
    /// What they are multiplied by; all weights of a product have one shape.
    pub weight: &'a Weight,
}

impl<'a> Group<'a> {
    /// All rows.
    pub fn whole(x: &Tensor, weight: &'a Weight) -> Group<'a> {
        Group { rows: 0..x.rows(), weight }
    }
}

/// A device's operations. All tensors are `[tokens, features]`; shapes are checked by [`crate::Ops`] before.
pub trait Backend: Send + Sync {
    /// The name that `doctor` and errors show.
    fn name(&self) -> &'static str;

    /// With which numbers products are computed.
    fn precision(&self) -> Precision;

    /// Takes a weight's plain rows into the layout this backend computes with. `row(i)` gives the bytes of row `i`.
    fn weight<'a>(
        &self,
        format: pasture_kernels::Format,
        rows: usize,
        cols: usize,
        row: &(dyn Fn(usize) -> &'a [u8] + Sync),
    ) -> Weight {
        reference::weight(format, rows, cols, row)
    }

    /// The kernels whose layouts [`Backend::weight`] makes, where it keeps weights in this computer's memory, so that a
    /// file of packed weights can stand in for it; none where weights lie elsewhere.
    fn layouts(&self) -> Option<&'static pasture_kernels::Kernels> {
        None
    }

    /// Memory for one layer's keys and values, without pages yet.
    fn kv_layer(&self, kv_heads: usize, head_dim: usize, format: KvFormat) -> KvLayer {
        KvLayer::new(kv_heads, head_dim, format)
    }

    /// Makes room for `pages` pages. False where the memory cannot be had.
    fn kv_resize(&self, layer: &mut KvLayer, pages: usize) -> bool {
        layer.resize(pages)
    }

    /// Copies one page onto another.
    fn kv_copy_page(&self, layer: &mut KvLayer, from: u32, to: u32) {
        layer.copy_page(from, to);
    }

    /// The values of a tensor in the host's memory.
    fn download(&self, tensor: &Tensor) -> Vec<f32> {
        tensor.values().to_vec()
    }

    /// Rows of a table, one for each id.
    fn embed(&self, table: &Weight, ids: &[u32]) -> Tensor {
        reference::embed(table, ids)
    }

    /// Rows of `x` by number.
    fn gather(&self, x: &Tensor, rows: &[u32]) -> Tensor {
        reference::gather(x, rows)
    }

    /// Each `width` columns of each row normed on their own: a head's norm, or the whole row's.
    fn norm(&self, x: &Tensor, norm: &Norm, width: usize) -> Tensor {
        reference::norm(x, norm, width)
    }

    /// `y[rows] = x[rows] · weightᵀ` for each group.
    fn grouped(&self, x: &Tensor, groups: &[Group]) -> Tensor {
        reference::grouped(x, groups)
    }

    /// `dx[rows] = dy[rows] · weight` for each group: the input's gradient of [`Backend::grouped`]. Added to what is there,
    /// if anything.
    fn grouped_input(&self, dy: &Tensor, groups: &[Group], onto: Option<Tensor>) -> Tensor {
        reference::grouped_input(dy, groups, onto)
    }

    /// `y[rows] += scale · x[rows] · weightᵀ` for each group.
    fn grouped_add(&self, x: &Tensor, groups: &[Group], scale: f32, y: &mut Tensor) {
        reference::add_rows(&self.grouped(x, groups), groups, scale, y);
    }

    /// `y = x · weightᵀ + scale · narrow · otherᵀ`: a weight's product with an adapter's second one.
    fn product_beside(&self, x: &Tensor, weight: &Weight, narrow: &Tensor, other: &Weight, scale: f32) -> Tensor {
        reference::product_beside(self, x, weight, (narrow, other, scale))
    }

    /// `dx = dy · weight + narrow · other`: the input's gradient of [`Backend::product_beside`], the factor in `narrow`.
    /// Added to what is there, if anything.
    fn input_beside(&self, dy: &Tensor, weight: &Weight, beside: (&Tensor, &Weight), onto: Option<Tensor>) -> Tensor {
        reference::input_beside(self, dy, weight, beside, onto)
    }

    /// `dyᵀ · x` over the given rows, `[dy.cols, x.cols]` added to `sum`: a weight's gradient.
    fn outer(&self, dy: &Tensor, x: &Tensor, rows: Range<usize>, sum: &mut [f32]) {
        reference::outer(dy, x, rows, sum);
    }

    /// The gradients of both factors of [`Backend::gate`].
    fn gate_backward(&self, gate: &Tensor, up: &Tensor, dy: &Tensor, activation: Activation) -> [Tensor; 2] {
        reference::gate_backward(gate, up, dy, activation)
    }

    /// The input's gradient of [`Backend::norm`], and if the norm is trained the sums that are the gradients of its
    /// factors and biases.
    fn norm_backward(&self, x: &Tensor, dy: &Tensor, norm: &Norm, width: usize, trained: bool) -> NormGradients {
        reference::norm_backward(x, dy, norm, width, trained)
    }

    /// The logarithm of the softmax's share of each row's target in raw logits; with `slopes` the logits become its
    /// gradient.
    fn target_logs(&self, raw: &mut Tensor, targets: &[u32], rule: LogitRule, slopes: bool) -> Vec<f64> {
        reference::target_logs(raw, targets, rule, slopes)
    }

    /// Rotates each head's leading dimensions by the table's angles.
    fn rope(&self, x: &Tensor, head_dim: usize, table: &RopeTable) -> Tensor {
        reference::rope(x, head_dim, table)
    }

    /// An activation of each value.
    fn activate(&self, x: &Tensor, activation: Activation) -> Tensor {
        reference::activate(x, activation)
    }

    /// `activation(gate) · up`.
    fn gate(&self, gate: &Tensor, up: &Tensor, activation: Activation) -> Tensor {
        reference::gate(gate, up, activation)
    }

    /// `a + scale · b`.
    fn add(&self, a: &Tensor, b: &Tensor, scale: f32) -> Tensor {
        reference::add(a, b, scale)
    }

    /// Each row of `x` times its factor.
    fn scale(&self, x: &Tensor, factors: &Factors) -> Tensor {
        reference::scale(x, factors)
    }

    /// Each value held within `-limit..=limit`.
    fn clamp(&self, x: &Tensor, limit: f32) -> Tensor {
        reference::clamp(x, limit)
    }

    /// Writes the new keys and values to their pages, then lets each query row look at its visible keys.
    fn attend(
        &self,
        q: &Tensor,
        k: &Tensor,
        v: &Tensor,
        layer: &mut KvLayer,
        plan: &AttendPlan,
        attention: &Attention,
    ) -> Tensor {
        reference::write_kv(k, v, layer, plan);
        reference::attend(q, layer, plan, attention)
    }

    /// The gradients of [`Backend::attend`] for whole sequences, with `q`, `k` and `v` as they went in.
    fn attend_backward(&self, past: &Attended, dy: &Tensor) -> AttendGradients {
        reference::attend_backward(past, dy)
    }

    /// Which experts each row takes, from the router's logits.
    fn route(&self, logits: &Tensor, router: &Router) -> Vec<Choice> {
        reference::route(logits, router)
    }

    /// Does pieces of work that do not depend on each other, side by side where the host has threads for it.
    fn together(&self, pieces: &mut [&mut (dyn FnMut() + Send)]) {
        pieces.iter_mut().for_each(|piece| piece());
    }

    /// One norm, one preparation of the input, several products and what follows them in one dispatch; None where
    /// the backend has no fused form, so that the plain operations are composed.
    fn project(
        &self,
        x: &Tensor,
        norm: Option<&Norm>,
        linears: &[&Linear],
        epilogue: &Epilogue,
    ) -> Option<Vec<Tensor>> {
        let _ = (x, norm, linears, epilogue);
        None
    }

    /// `stream + scale · (x · weightᵀ + bias)` in one dispatch; None as for [`Backend::project`].
    fn project_add(&self, x: &Tensor, linear: &Linear, scale: f32, stream: &Tensor) -> Option<Tensor> {
        let _ = (x, linear, scale, stream);
        None
    }
}
