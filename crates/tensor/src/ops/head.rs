//! The output head: logits for asked rows, and the loss of known targets in row chunks, so that `[tokens, vocab]`
//! is never held.

use super::activate::derivative;
use super::linear::Linear;
use crate::backend::{Backend, Group};
use crate::tape::{self, Gradients};
use crate::{Activation, Ops, Tensor};

/// Rows of logits that are held at once.
const CHUNK: usize = 64;

/// What follows the head's product.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct LogitRule {
    /// Multiplies the logits.
    pub scale: Option<f32>,
    /// Then limits them softly.
    pub softcap: Option<f32>,
}

impl LogitRule {
    fn apply(&self, logit: f32) -> f32 {
        let logit = self.scale.map_or(logit, |scale| logit * scale);
        self.softcap.map_or(logit, |cap| Activation::SoftCap(cap).of(logit))
    }

    fn slope(&self, raw: f32) -> f32 {
        let scale = self.scale.unwrap_or(1.0);
        scale * self.softcap.map_or(1.0, |cap| derivative(Activation::SoftCap(cap), raw * scale))
    }
}

pub(crate) struct Saved {
    x: Tensor,
    linear: Linear,
    rule: LogitRule,
    targets: Vec<Option<u32>>,
}

impl Ops<'_> {
    /// Logits `[rows, vocab]` of normed rows.
    pub fn logits(&mut self, x: &Tensor, linear: &Linear, rule: LogitRule) -> Tensor {
        let mut y = self.linear(x, linear);
        if let Some(scale) = rule.scale {
            y = self.scale(&y, &super::add::Factors::All(scale));
        }
        match rule.softcap {
            Some(cap) => self.activate(&y, Activation::SoftCap(cap)),
            None => y,
        }
    }

    /// The sum of `-log p(target)` over the rows that have a target, as a single value.
    pub fn head_loss(&mut self, x: &Tensor, linear: &Linear, rule: LogitRule, targets: &[Option<u32>]) -> Tensor {
        assert_eq!(targets.len(), x.rows());
        let mut sum = 0.0_f64;
        for start in (0..x.rows()).step_by(CHUNK) {
            let chunk = start..(start + CHUNK).min(x.rows());
            let raw = raw_logits(self.backend, x, linear, chunk.clone());
            for (row, target) in raw.values().chunks_exact(raw.cols()).zip(&targets[chunk]) {
                if let Some(target) = target {
                    let logit = f64::from(rule.apply(row[*target as usize]));
                    sum += log_sum(row.iter().map(|raw| rule.apply(*raw))) - logit;
                }
            }
        }
        let loss = Tensor::new(1, 1, vec![sum as f32]);
        self.remember(loss, || {
            let (x, linear, targets) = (x.clone(), linear.clone(), targets.to_vec());
            tape::Saved::HeadLoss(Box::new(Saved { x, linear, rule, targets }))
        })
    }
}

fn raw_logits(backend: &dyn Backend, x: &Tensor, linear: &Linear, rows: std::ops::Range<usize>) -> Tensor {
    let values = x.values()[rows.start * x.cols()..rows.end * x.cols()].to_vec();
    let part = Tensor::new(rows.len(), x.cols(), values);
    let mut y = backend.grouped(&part, &[Group { rows: 0..part.rows(), weight: &linear.weight }]);
    if let Some(bias) = &linear.bias {
        (0..y.rows()).for_each(|row| super::norm::add_to(y.row_mut(row), bias.values()));
    }
    y
}

/// `log Σ exp` in f64, safe against overflow.
fn log_sum(logits: impl Iterator<Item = f32> + Clone) -> f64 {
    let largest = f64::from(logits.clone().fold(f32::NEG_INFINITY, f32::max));
    largest + logits.map(|logit| (f64::from(logit) - largest).exp()).sum::<f64>().ln()
}

impl Saved {
    /// `dlogit = softmax(logit) - [target]`, chunk by chunk, with the logits computed again.
    pub(crate) fn backward(self, backend: &dyn Backend, dy: &Tensor, gradients: &mut Gradients) {
        let Saved { x, linear, rule, targets } = self;
        let seed = dy.values()[0];
        let weight = &linear.weight;
        let mut dx = Tensor::zeros(x.rows(), x.cols());
        for start in (0..x.rows()).step_by(CHUNK) {
            let chunk = start..(start + CHUNK).min(x.rows());
            let mut slopes = raw_logits(backend, &x, &linear, chunk.clone());
            for (at, target) in targets[chunk.clone()].iter().enumerate() {
                slope(slopes.row_mut(at), *target, rule, seed);
            }
            if gradients.wants(weight.id()) {
                let part =
                    Tensor::new(chunk.len(), x.cols(), x.values()[start * x.cols()..chunk.end * x.cols()].to_vec());
                let sum = gradients.sum(weight.id(), weight.rows() * weight.cols());
                backend.outer(&slopes, &part, 0..chunk.len(), sum);
            }
            if let Some(bias) = linear.bias.as_ref().filter(|bias| gradients.wants(bias.id())) {
                let sum = gradients.sum(bias.id(), bias.values().len());
                (0..slopes.rows()).for_each(|row| super::norm::add_to(sum, slopes.row(row)));
            }
            let part = backend.grouped_input(&slopes, &[Group { rows: 0..chunk.len(), weight }]);
            dx.values_mut()[start * x.cols()..chunk.end * x.cols()].copy_from_slice(part.values());
        }
        gradients.add(x.node(), dx);
    }
}

/// Turns a row of raw logits into their gradient.
fn slope(row: &mut [f32], target: Option<u32>, rule: LogitRule, seed: f32) {
    let Some(target) = target else { return row.fill(0.0) };
    let log_sum = log_sum(row.iter().map(|raw| rule.apply(*raw)));
    for (at, raw) in row.iter_mut().enumerate() {
        let share = (f64::from(rule.apply(*raw)) - log_sum).exp() as f32;
        let hit = f32::from(at == target as usize);
        *raw = seed * (share - hit) * rule.slope(*raw);
    }
}
