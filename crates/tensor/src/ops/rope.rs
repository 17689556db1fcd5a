//! Rotary positions (Su et al., arXiv 2104.09864): each head's leading dimensions turn in pairs `(i, i + half)` by
//! angles from a table. Which angles a position has is the model's business.

use std::sync::Arc;

use crate::tape::{self, Gradients};
use crate::{Backend, NodeId, Ops, Tensor};

/// Cosines and sines for each row of a batch, `[rows, half]` each, with the attention factor multiplied in.
#[derive(Clone)]
pub struct RopeTable {
    /// Pairs per head; `2 · half` leading dimensions turn, the rest stay.
    pub half: usize,
    /// Cosines.
    pub cos: Arc<Vec<f32>>,
    /// Sines.
    pub sin: Arc<Vec<f32>>,
}

impl RopeTable {
    /// The table that turns back: its sines change sign.
    pub fn inverse(&self) -> RopeTable {
        let sin = self.sin.iter().map(|sin| -sin).collect();
        RopeTable { half: self.half, cos: self.cos.clone(), sin: Arc::new(sin) }
    }
}

pub(crate) struct Saved {
    x: Option<NodeId>,
    head_dim: usize,
    table: RopeTable,
}

impl Ops<'_> {
    /// Turns each head of each row by that row's angles.
    pub fn rope(&mut self, x: &Tensor, head_dim: usize, table: &RopeTable) -> Tensor {
        assert!(x.cols().is_multiple_of(head_dim) && 2 * table.half <= head_dim);
        assert_eq!(table.cos.len(), x.rows() * table.half, "one angle for each row and pair");
        let y = self.backend.rope(x, head_dim, table);
        self.remember(y, || tape::Saved::Rope(Saved { x: x.node(), head_dim, table: table.clone() }))
    }
}

impl Saved {
    /// The transpose of a rotation is the rotation back; the attention factor multiplies both.
    pub(crate) fn backward(self, backend: &dyn Backend, dy: &Tensor, gradients: &mut Gradients) {
        gradients.add(self.x, backend.rope(dy, self.head_dim, &self.table.inverse()));
    }
}
