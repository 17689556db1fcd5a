//! The output head: logits for asked rows, and the loss of known targets in row chunks, so that `[tokens, vocab]`
//! is never held.

use super::activate::derivative;
use super::linear::Linear;
use crate::backend::{Backend, Group};
use crate::tape::{self, Gradients};
use crate::{Activation, Ops, Tensor};

/// Rows of logits that are held at once, at least.
const CHUNK: usize = 64;

/// Logits that are held at once, where that is more rows: the weight passes once for all of them.
const HELD: usize = 32 << 20;

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
    /// Where the head is frozen: the gradient of each row's log probability, made while its logits were there.
    slopes: Option<Tensor>,
    /// Whether the value was the negative sum of all rows, or one log probability for each.
    summed: bool,
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
        let (logs, saved) = self.target_logs(x, linear, rule, targets);
        let loss = Tensor::new(1, 1, vec![-logs.iter().sum::<f64>() as f32]);
        self.remember(loss, || tape::Saved::HeadLoss(Box::new(Saved { summed: true, ..saved })))
    }

    /// `log p(target)` of each row, `[rows, 1]`; zero where a row has no target. Sums over a sequence's rows are its log
    /// probability: what preference losses are made of.
    pub fn target_logprobs(&mut self, x: &Tensor, linear: &Linear, rule: LogitRule, targets: &[Option<u32>]) -> Tensor {
        let (logs, saved) = self.target_logs(x, linear, rule, targets);
        let logs = Tensor::new(x.rows(), 1, logs.into_iter().map(|log| log as f32).collect());
        self.remember(logs, || tape::Saved::HeadLoss(Box::new(saved)))
    }

    /// The logarithm of each row's target's share, and where a gradient will be asked for and the head is frozen, each
    /// row's gradient: the logits are then made once.
    fn target_logs(&self, x: &Tensor, linear: &Linear, rule: LogitRule, targets: &[Option<u32>]) -> (Vec<f64>, Saved) {
        assert_eq!(targets.len(), x.rows());
        let trains = |tape: &tape::Tape| {
            tape.trains(linear.weight.id()) || linear.bias.as_ref().is_some_and(|bias| tape.trains(bias.id()))
        };
        let frozen = self.tape.as_ref().is_some_and(|tape| !trains(tape));
        let mut slopes = frozen.then(|| Tensor::zeros(x.rows(), x.cols()));
        let mut logs = vec![0.0; x.rows()];
        for rows in chunks(targets, linear.weight.rows()) {
            let mut raw = raw_logits(self.backend, x, linear, &rows);
            let found = self.backend.target_logs(&mut raw, &targets_of(targets, &rows), rule, frozen);
            rows.iter().zip(found).for_each(|(row, log)| logs[*row] = log);
            if let Some(slopes) = &mut slopes {
                let part = self.backend.grouped_input(&raw, &[Group::whole(&raw, &linear.weight)], None);
                rows.iter().enumerate().for_each(|(at, row)| slopes.row_mut(*row).copy_from_slice(part.row(at)));
            }
        }
        let (x, linear, targets) = (x.clone(), linear.clone(), targets.to_vec());
        (logs, Saved { x, linear, rule, targets, slopes, summed: false })
    }
}

/// The rows with a target, as many at once as the logits' memory allows.
fn chunks(targets: &[Option<u32>], vocab: usize) -> Vec<Vec<usize>> {
    let rows: Vec<usize> = (0..targets.len()).filter(|row| targets[*row].is_some()).collect();
    let most = (HELD / vocab.max(1)).clamp(CHUNK, 8 * CHUNK);
    // Chunks of about one size, so that one's memory serves the next.
    let chunk = rows.len().div_ceil(rows.len().div_ceil(most).max(1));
    rows.chunks(chunk.max(1)).map(<[usize]>::to_vec).collect()
}

fn raw_logits(backend: &dyn Backend, x: &Tensor, linear: &Linear, rows: &[usize]) -> Tensor {
    let part = rows_of(x, rows);
    let mut y = backend.grouped(&part, &[Group { rows: 0..part.rows(), weight: &linear.weight }]);
    if let Some(bias) = &linear.bias {
        (0..y.rows()).for_each(|row| super::norm::add_to(y.row_mut(row), bias.values()));
    }
    y
}

fn rows_of(x: &Tensor, rows: &[usize]) -> Tensor {
    let values = rows.iter().flat_map(|row| x.row(*row)).copied().collect();
    Tensor::new(rows.len(), x.cols(), values)
}

fn targets_of(targets: &[Option<u32>], rows: &[usize]) -> Vec<u32> {
    rows.iter().map(|row| targets[*row].expect("only rows with a target are taken")).collect()
}

/// The logarithm of the target's share of a row of raw logits, in f64 and safe against overflow. With `slopes` the row
/// becomes its gradient: `[target] - softmax(logit)`, through the rule.
pub(crate) fn row_logs(row: &mut [f32], target: u32, rule: LogitRule, slopes: bool) -> f64 {
    let logits = || row.iter().map(|raw| rule.apply(*raw));
    let largest = f64::from(logits().fold(f32::NEG_INFINITY, f32::max));
    let log_sum = largest + logits().map(|logit| (f64::from(logit) - largest).exp()).sum::<f64>().ln();
    let log = f64::from(rule.apply(row[target as usize])) - log_sum;
    if slopes {
        for (at, raw) in row.iter_mut().enumerate() {
            let share = (f64::from(rule.apply(*raw)) - log_sum).exp() as f32;
            *raw = (f32::from(at == target as usize) - share) * rule.slope(*raw);
        }
    }
    log
}

impl Saved {
    /// `dlogit = [target] - softmax(logit)` for a log probability. With a head that is trained the logits are made again,
    /// chunk by chunk.
    pub(crate) fn backward(self, backend: &dyn Backend, dy: &Tensor, gradients: &mut Gradients) {
        let summed = self.summed;
        let seed = |row: usize| if summed { -dy.values()[0] } else { dy.values()[row] };
        let dx = match self.slopes {
            Some(mut slopes) => {
                (0..slopes.rows()).for_each(|row| slopes.row_mut(row).iter_mut().for_each(|slope| *slope *= seed(row)));
                slopes
            }
            None => self.again(backend, seed, gradients),
        };
        gradients.add(self.x.node(), dx);
    }

    fn again(&self, backend: &dyn Backend, seed: impl Fn(usize) -> f32, gradients: &mut Gradients) -> Tensor {
        let Saved { x, linear, rule, targets, .. } = self;
        let weight = &linear.weight;
        let mut dx = Tensor::zeros(x.rows(), x.cols());
        for rows in chunks(targets, weight.rows()) {
            let mut slopes = raw_logits(backend, x, linear, &rows);
            backend.target_logs(&mut slopes, &targets_of(targets, &rows), *rule, true);
            for (at, row) in rows.iter().enumerate() {
                let seed = seed(*row);
                slopes.row_mut(at).iter_mut().for_each(|slope| *slope *= seed);
            }
            let whole = 0..rows.len();
            if gradients.wants(weight.id()) {
                let sum = gradients.sum(weight.id(), weight.rows() * weight.cols());
                backend.outer(&slopes, &rows_of(x, &rows), whole.clone(), sum);
            }
            if let Some(bias) = linear.bias.as_ref().filter(|bias| gradients.wants(bias.id())) {
                let sum = gradients.sum(bias.id(), bias.values().len());
                (0..slopes.rows()).for_each(|row| super::norm::add_to(sum, slopes.row(row)));
            }
            let part = backend.grouped_input(&slopes, &[Group { rows: whole, weight }], None);
            rows.iter().enumerate().for_each(|(at, row)| dx.row_mut(*row).copy_from_slice(part.row(at)));
        }
        dx
    }
}
