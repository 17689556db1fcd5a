//! Token embeddings: rows of a table, in whatever format and layout the table has.

use crate::tape::{self, Gradients};
use crate::{Ops, Tensor, Weight};

pub(crate) struct Saved {
    table: Weight,
    ids: Vec<u32>,
}

impl Ops<'_> {
    /// One row of `table` for each id. Asserts that the ids are in the table.
    pub fn embed(&mut self, table: &Weight, ids: &[u32]) -> Tensor {
        assert!(ids.iter().all(|id| (*id as usize) < table.rows()), "an id is past the embedding table");
        let y = self.backend.embed(table, ids);
        let goes_on = self.trains(Some(table.id()));
        self.remember_if(goes_on, y, || tape::Saved::Embed(Saved { table: table.clone(), ids: ids.to_vec() }))
    }
}

impl Saved {
    pub(crate) fn backward(self, dy: &Tensor, gradients: &mut Gradients) {
        let Saved { table, ids } = self;
        if gradients.wants(table.id()) {
            let cols = table.cols();
            let sum = gradients.sum(table.id(), table.rows() * cols);
            for (at, id) in ids.iter().enumerate() {
                super::norm::add_to(&mut sum[*id as usize * cols..][..cols], dy.row(at));
            }
        }
    }
}
