//! Rows of a tensor by number.

use crate::tape::{self, Gradients};
use crate::{NodeId, Ops, Tensor};

pub(crate) struct Saved {
    x: Option<NodeId>,
    x_rows: usize,
    rows: Vec<u32>,
}

impl Ops<'_> {
    /// The given rows of `x`, in the given order; a row may come more than once.
    pub fn gather(&mut self, x: &Tensor, rows: &[u32]) -> Tensor {
        assert!(rows.iter().all(|row| (*row as usize) < x.rows()));
        let y = self.backend.gather(x, rows);
        self.remember(y, || tape::Saved::Gather(Saved { x: x.node(), x_rows: x.rows(), rows: rows.to_vec() }))
    }
}

impl Saved {
    pub(crate) fn backward(self, dy: &Tensor, gradients: &mut Gradients) {
        let mut dx = Tensor::zeros(self.x_rows, dy.cols());
        for (at, row) in self.rows.iter().enumerate() {
            super::norm::add_to(dx.row_mut(*row as usize), dy.row(at));
        }
        gradients.add(self.x, dx);
    }
}
