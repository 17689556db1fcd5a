//! A flat batch: rows of several sequences behind each other. Prefill, decode, verification, training, embedding
//! and evaluation are different batches of one forward.

use std::ops::Range;
use std::sync::Arc;

use pasture_tensor::Adapter;

use crate::kv::SequenceId;

/// The rows of one sequence.
#[derive(Clone)]
pub struct Span {
    /// Whose keys and values they join.
    pub sequence: SequenceId,
    /// Rows of the batch.
    pub rows: Range<usize>,
    /// Position of the first row.
    pub start: usize,
    /// The sequence's length that selects the rotary factors: for a prompt in chunks, that of the whole prompt.
    pub rope_len: usize,
    /// What the rows take beside the weights.
    pub adapter: Option<Arc<Adapter>>,
}

/// Rows to run.
#[derive(Clone, Default)]
pub struct Batch {
    /// Token ids.
    pub ids: Vec<u32>,
    /// Sequences; their rows follow each other and cover the batch.
    pub spans: Vec<Span>,
    /// For each row, the first position it does not see (before the mask's own lower bound): its own position + 1
    /// unless rows see what follows them.
    pub reach: Vec<usize>,
    /// Segment types, for a model that has a table of them: one for each row, or none where all are of type 0.
    pub types: Vec<u32>,
    /// Layers whose outputs are wanted; 0 is the embedding, `n` the output of the n-th layer.
    pub outputs: Vec<usize>,
}

impl Batch {
    /// A batch of one sequence's next rows.
    pub fn one(sequence: SequenceId, start: usize, rope_len: usize, ids: &[u32]) -> Batch {
        let mut batch = Batch::default();
        batch.push(sequence, start, rope_len, ids, None);
        batch
    }

    /// Adds a sequence's next rows.
    pub fn push(
        &mut self,
        sequence: SequenceId,
        start: usize,
        rope_len: usize,
        ids: &[u32],
        adapter: Option<Arc<Adapter>>,
    ) {
        let first = self.ids.len();
        self.ids.extend_from_slice(ids);
        self.reach.extend((start..start + ids.len()).map(|position| position + 1));
        self.spans.push(Span { sequence, rows: first..first + ids.len(), start, rope_len, adapter });
    }

    /// Lets all rows of the last sequence see each other.
    pub fn see_all(&mut self) {
        if let Some(span) = self.spans.last() {
            self.reach[span.rows.clone()].fill(span.start + span.rows.len());
        }
    }

    /// Position and rope length of each row.
    pub fn positions(&self) -> impl Iterator<Item = (usize, usize)> + '_ {
        self.spans.iter().flat_map(|span| (0..span.rows.len()).map(move |at| (span.start + at, span.rope_len)))
    }
}
