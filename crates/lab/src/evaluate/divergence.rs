//! How far a model's predictions are from its parent's, over the same tokens: both run window by window, and their logits
//! meet a few rows at a time. Nothing of the size `[tokens, vocabulary]` is held or written.

use pasture_model::{Batch, Kv, SequenceId};
use pasture_tensor::Tensor;

use super::error::{Error, Result};
use super::likelihood::{Ask, Normal, normal};
use super::subject::{ROWS, Subject};

/// What was found at each scored token.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Differences {
    /// KL(parent ‖ model) in nats.
    pub kl: Vec<f32>,
    /// Whether both think the same token the most probable.
    pub agree: Vec<bool>,
    /// Log-probability of the token itself, in the parent.
    pub parent: Vec<f32>,
    /// Log-probability of the token itself, in the model.
    pub model: Vec<f32>,
}

/// Compares the predictions of a model with its parent's over windows. `watch` is told the windows that are done and
/// says whether to go on.
///
/// # Errors
/// When the vocabularies differ, or a model cannot be run.
pub fn differences(
    parent: &Subject,
    model: &Subject,
    windows: &[Ask],
    watch: &mut dyn FnMut(usize) -> bool,
) -> Result<Differences> {
    if parent.vocab() != model.vocab() {
        let what = format!(
            "the parent's vocabulary has {} entries and the model's {}, so their predictions have no divergence",
            parent.vocab(),
            model.vocab()
        );
        return Err(Error::Unlike { what });
    }
    let mut found = Differences::default();
    let (mut of_parent, mut of_model) = (Side::new(parent), Side::new(model));
    for (number, window) in windows.iter().enumerate() {
        if !watch(number) {
            return Ok(found);
        }
        let inputs = &window.ids[..window.ids.len() - 1];
        let first = inputs.len() - window.scored;
        let mut start = 0;
        of_parent.begin();
        of_model.begin();
        for part in inputs.chunks(ROWS) {
            let hidden = [of_parent.forward(part, start, inputs.len())?, of_model.forward(part, start, inputs.len())?];
            let rows: Vec<usize> = (start.max(first)..start + part.len()).collect();
            for rows in rows.chunks(parent.logits_rows()) {
                let of_part: Vec<u32> = rows.iter().map(|row| (row - start) as u32).collect();
                let logits = [parent.logits(&hidden[0], &of_part)?, model.logits(&hidden[1], &of_part)?];
                let pairs = logits[0].chunks(parent.vocab()).zip(logits[1].chunks(parent.vocab()));
                for (row, (parent, model)) in rows.iter().zip(pairs) {
                    found.push(parent, model, window.ids[row + 1] as usize);
                }
            }
            start += part.len();
        }
        of_parent.end();
        of_model.end();
    }
    watch(windows.len());
    Ok(found)
}

impl Differences {
    fn push(&mut self, parent: &[f32], model: &[f32], token: usize) {
        let (of_parent, of_model) = (normal(parent), normal(model));
        self.kl.push(kl(parent, &of_parent, model, &of_model) as f32);
        self.agree.push(of_parent.best == of_model.best);
        self.parent.push((f64::from(parent[token]) - of_parent.log_sum) as f32);
        self.model.push((f64::from(model[token]) - of_model.log_sum) as f32);
    }
}

/// KL(parent ‖ model) of one row. It is never below zero; what rounding leaves there is zero.
fn kl(parent: &[f32], of_parent: &Normal, model: &[f32], of_model: &Normal) -> f64 {
    let terms = parent.iter().zip(model).map(|(parent, model)| {
        let log = f64::from(*parent) - of_parent.log_sum;
        let probability = log.exp();
        if probability == 0.0 { 0.0 } else { probability * (log - (f64::from(*model) - of_model.log_sum)) }
    });
    let sum: f64 = terms.sum();
    // A comparison and not `max`, which would hide what is no number.
    if sum < 0.0 { 0.0 } else { sum }
}

/// One model with the sequence it runs.
struct Side<'s> {
    subject: &'s Subject,
    kv: Kv,
    sequence: Option<SequenceId>,
}

impl<'s> Side<'s> {
    fn new(subject: &'s Subject) -> Side<'s> {
        Side { subject, kv: subject.memory(), sequence: None }
    }

    fn begin(&mut self) {
        self.sequence = Some(self.kv.start());
    }

    fn end(&mut self) {
        self.sequence.take().into_iter().for_each(|sequence| self.kv.end(sequence));
    }

    fn forward(&mut self, ids: &[u32], start: usize, rope_len: usize) -> Result<Tensor> {
        let sequence = self.sequence.expect("a window has begun");
        let mut batch = Batch::default();
        batch.push(sequence, start, rope_len, ids, self.subject.adapter().cloned());
        self.subject.hidden(&batch, &mut self.kv)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn divergence_is_that_of_its_definition() {
        let mut found = Differences::default();
        found.push(&[1.0, 2.0, 0.0], &[1.0, 2.0, 0.0], 0);
        found.push(&[0.0, 1.0, -1e30], &[1.0, 0.0, 5.0], 1);
        assert_eq!((found.kl[0], found.agree[0]), (0.0, true));
        // p = (0.26894, 0.73106, 0), q = softmax(1, 0, 5)
        let q = |logit: f64| logit - (1f64.exp() + 1.0 + 5f64.exp()).ln();
        let (a, b) = (0.268_941_421_369_995_1_f64, 0.731_058_578_630_004_9_f64);
        let wanted = a * (a.ln() - q(1.0)) + b * (b.ln() - q(0.0));
        assert!((f64::from(found.kl[1]) - wanted).abs() < 1e-6, "{} {wanted}", found.kl[1]);
        assert!(!found.agree[1] && (f64::from(found.parent[1]) - b.ln()).abs() < 1e-6);
        found.push(&[f32::NAN, 0.0, 0.0], &[0.0, 0.0, 0.0], 1);
        assert!(found.kl[2].is_nan(), "what is no number is not hidden");
    }
}
