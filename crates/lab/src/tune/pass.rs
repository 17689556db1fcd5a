//! One pass of texts through the model: their log-probabilities, or a loss of these with its gradients. Texts share a
//! batch as spans that do not see each other, without padding.

use std::sync::Arc;

use pasture_model::{Batch, Decoder};
use pasture_tensor::kv::KvFormat;
use pasture_tensor::tape::{Gradients, Tape};
use pasture_tensor::{Adapter, Backend, Ops, Tensor, WeightId};

use super::error::Result;
use crate::data::Example;

/// A model with what its rows take.
#[derive(Clone)]
pub struct Pass<'a> {
    /// The model.
    pub decoder: &'a Decoder,
    /// What computes.
    pub backend: &'a dyn Backend,
    /// The adapter, if any.
    pub adapter: Option<&'a Arc<Adapter>>,
    /// Whether layers are run a second time for their gradients.
    pub recompute: bool,
}

/// Texts as one batch, and the rows that predict something.
struct Laid {
    batch: Batch,
    kv: pasture_model::Kv,
    /// For each text, its rows that have a target.
    rows: Vec<Vec<u32>>,
    targets: Vec<Vec<u32>>,
}

impl Pass<'_> {
    fn tape(&self, train: Vec<WeightId>) -> Tape {
        let tape = Tape::new(train);
        if self.recompute { tape.replaying() } else { tape }
    }

    fn lay(&self, texts: &[&Example]) -> Laid {
        let mut kv = self.decoder.kv(self.backend, KvFormat::F32);
        let (mut batch, mut rows, mut targets) = (Batch::default(), Vec::new(), Vec::new());
        for text in texts {
            let first = batch.ids.len();
            batch.push(kv.start(), 0, text.ids.len(), &text.ids, self.adapter.cloned());
            let learned: Vec<usize> = (1..text.ids.len()).filter(|at| text.trained[*at]).collect();
            rows.push(learned.iter().map(|at| (first + at - 1) as u32).collect());
            targets.push(learned.iter().map(|at| text.ids[*at]).collect());
        }
        Laid { batch, kv, rows, targets }
    }

    /// The negative log-probability of rows' targets, as a single value.
    fn loss(&self, ops: &mut Ops, hidden: &Tensor, rows: &[u32], targets: &[u32]) -> Result<Tensor> {
        let head = self.decoder.head().zip(self.decoder.spec().head.as_ref());
        let (head, spec) = head.ok_or(pasture_model::Error::NoHead)?;
        let chosen = ops.gather(hidden, rows);
        let targets: Vec<Option<u32>> = targets.iter().copied().map(Some).collect();
        Ok(ops.head_loss(&chosen, head, spec.rule, &targets))
    }

    /// The sum of negative log-probabilities over the targets of each text.
    ///
    /// # Errors
    /// When the model cannot run the texts.
    pub fn losses(&self, texts: &[&Example]) -> Result<Vec<f64>> {
        let Laid { batch, mut kv, rows, targets } = self.lay(texts);
        let mut ops = Ops::new(self.backend);
        let hidden = self.decoder.forward(&mut ops, &batch, &mut kv)?;
        let each = rows.iter().zip(&targets);
        each.map(|(rows, targets)| Ok(f64::from(self.loss(&mut ops, &hidden.rows, rows, targets)?.values()[0])))
            .collect()
    }

    /// The sum over all targets of all texts, and the gradients of that sum times `seed`.
    ///
    /// # Errors
    /// When the model cannot run the texts.
    pub fn sum(&self, texts: &[&Example], train: Vec<WeightId>, seed: f32) -> Result<(f64, Gradients)> {
        let Laid { batch, mut kv, rows, targets } = self.lay(texts);
        let mut ops = Ops::with_tape(self.backend, self.tape(train));
        let hidden = self.decoder.forward(&mut ops, &batch, &mut kv)?;
        let loss = self.loss(&mut ops, &hidden.rows, &rows.concat(), &targets.concat())?;
        let tape = ops.into_tape().expect("these operations have a tape");
        let gradients = tape.backward(self.backend, &loss, seed);
        Ok((f64::from(loss.values()[0]), gradients))
    }

    /// Each text's own sum, and the gradients of a loss of these: `slopes` says from the sums how the loss changes with
    /// each.
    ///
    /// # Errors
    /// When the model cannot run the texts.
    pub fn each<T>(
        &self,
        texts: &[&Example],
        train: Vec<WeightId>,
        slopes: impl FnOnce(&[f64]) -> (T, Vec<f32>),
    ) -> Result<(T, Gradients)> {
        let Laid { batch, mut kv, rows, targets } = self.lay(texts);
        let mut ops = Ops::with_tape(self.backend, self.tape(train));
        let hidden = self.decoder.forward(&mut ops, &batch, &mut kv)?;
        let each = rows.iter().zip(&targets);
        let sums: Vec<Tensor> =
            each.map(|(rows, targets)| self.loss(&mut ops, &hidden.rows, rows, targets)).collect::<Result<_>>()?;
        let values: Vec<f64> = sums.iter().map(|sum| f64::from(sum.values()[0])).collect();
        let (made, slopes) = slopes(&values);
        let tape = ops.into_tape().expect("these operations have a tape");
        let seeds = sums.iter().zip(slopes).map(|(sum, slope)| (sum, Tensor::new(1, 1, vec![slope])));
        Ok((made, tape.backward_from(self.backend, seeds.collect())))
    }
}
