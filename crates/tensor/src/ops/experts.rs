//! Mixtures of experts: which experts a row takes and with what weight, their grouped products, and the sum.

use std::ops::Range;

use super::attend::dot;
use super::linear::Linear;
use crate::tape::{self, Gradients};
use crate::{Activation, NodeId, Ops, Tensor};

/// How logits become choices.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Routing {
    /// Softmax over all experts; the chosen ones keep their share.
    Softmax,
    /// Softmax over the chosen experts only.
    SoftmaxOfChosen,
    /// The sigmoid of each chosen logit.
    Sigmoid,
    /// The same, multiplied into the expert's input instead of its output.
    SigmoidOfInput,
    /// One expert after the other (Liu et al., arXiv 2409.12136): the best of those that are left, weighted by its
    /// share among those left whose logit `s` is near the best one `m`: `(m - s) / max(|s|, m) <= 2 · jitter`.
    SparseMixer {
        /// How near.
        jitter: f32,
    },
}

/// A router's rule.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Router {
    /// How logits become weights.
    pub routing: Routing,
    /// Experts per row.
    pub top: usize,
}

/// The experts of one row, the best first, with their weights.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Choice {
    /// Expert numbers.
    pub experts: Vec<u32>,
    /// What each counts for.
    pub weights: Vec<f32>,
}

/// The feed-forward part of one expert: gated if `gate` is there.
#[derive(Clone)]
pub struct Expert {
    /// The gate's product.
    pub gate: Option<Linear>,
    /// The product up.
    pub up: Linear,
    /// The product down.
    pub down: Linear,
}

pub(crate) struct SavedWeigh {
    logits: Tensor,
    chosen: Vec<Vec<u32>>,
    weights: Vec<f32>,
    routing: Routing,
}

pub(crate) struct SavedSpread {
    x: Tensor,
    weights: Tensor,
    slots: Slots,
}

pub(crate) struct SavedMix {
    outputs: Tensor,
    weights: Tensor,
    slots: Slots,
}

/// Rows of a batch sorted by expert: the order in which experts see them.
#[derive(Clone)]
struct Slots {
    /// For each sorted place, the row and the rank of its choice.
    places: Vec<(u32, u32)>,
    /// For each expert that is used, its number and its places.
    groups: Vec<(usize, Range<usize>)>,
}

/// A batch on its way through experts.
struct Sorted {
    /// The rows as experts see them.
    x: Tensor,
    /// Which row of the batch each is.
    rows: Vec<u32>,
    /// What each choice of each row counts for.
    weights: Tensor,
    slots: Slots,
}

impl Slots {
    fn new(choices: &[Choice], experts: usize) -> Slots {
        let mut by_expert = vec![Vec::new(); experts];
        for (row, choice) in choices.iter().enumerate() {
            for (rank, expert) in choice.experts.iter().enumerate() {
                by_expert[*expert as usize].push((row as u32, rank as u32));
            }
        }
        let mut slots = Slots { places: Vec::new(), groups: Vec::new() };
        for (expert, places) in by_expert.iter().enumerate().filter(|(_, places)| !places.is_empty()) {
            let start = slots.places.len();
            slots.places.extend(places);
            slots.groups.push((expert, start..slots.places.len()));
        }
        slots
    }
}

impl Ops<'_> {
    /// `Σ weight · expert(x)` over the experts that the router's logits choose for each row.
    pub fn experts(
        &mut self,
        x: &Tensor,
        logits: &Tensor,
        router: &Router,
        experts: &[Expert],
        activation: Activation,
    ) -> Tensor {
        let Sorted { x: sorted, rows, weights, slots } = self.sort(x, logits, router, experts.len());
        let part = |of: fn(&Expert) -> &Linear| -> Vec<_> {
            slots.groups.iter().map(|(expert, rows)| (rows.clone(), of(&experts[*expert]))).collect()
        };
        let up = self.grouped_linear(&sorted, &part(|expert| &expert.up), &rows);
        let hidden = if experts[0].gate.is_some() {
            let gates = part(|expert| expert.gate.as_ref().expect("all or none are gated"));
            let gate = self.grouped_linear(&sorted, &gates, &rows);
            self.gate(&gate, &up, activation)
        } else {
            self.activate(&up, activation)
        };
        let outputs = self.grouped_linear(&hidden, &part(|expert| &expert.down), &rows);
        self.mix(&outputs, &weights, slots)
    }

    /// The same with experts that are fetched when their turn comes, one at a time, and only the chosen ones. Not for a
    /// tape, which would keep them all.
    ///
    /// # Errors
    /// The first that `fetch` gives.
    pub fn fetched_experts<E>(
        &mut self,
        x: &Tensor,
        logits: &Tensor,
        router: &Router,
        count: usize,
        activation: Activation,
        mut fetch: impl FnMut(usize) -> Result<Expert, E>,
    ) -> Result<Tensor, E> {
        assert!(!self.remembers(), "a tape would keep every expert");
        let Sorted { x: sorted, rows, weights, slots } = self.sort(x, logits, router, count);
        let mut outputs = Tensor::zeros(rows.len(), x.cols());
        for (expert, places) in &slots.groups {
            let Expert { gate, up, down } = fetch(*expert)?;
            let (all, rows) = (0..places.len(), &rows[places.clone()]);
            let values = sorted.values()[places.start * x.cols()..places.end * x.cols()].to_vec();
            let part = Tensor::new(places.len(), x.cols(), values);
            let up = self.grouped_linear(&part, &[(all.clone(), &up)], rows);
            let hidden = match &gate {
                Some(gate) => {
                    let gate = self.grouped_linear(&part, &[(all.clone(), gate)], rows);
                    self.gate(&gate, &up, activation)
                }
                None => self.activate(&up, activation),
            };
            let made = self.grouped_linear(&hidden, &[(all, &down)], rows);
            for (at, place) in places.clone().enumerate() {
                outputs.row_mut(place).copy_from_slice(made.row(at));
            }
        }
        Ok(self.mix(&outputs, &weights, slots))
    }

    /// Chooses experts for each row, and puts the rows in the order in which experts see them.
    fn sort(&mut self, x: &Tensor, logits: &Tensor, router: &Router, count: usize) -> Sorted {
        assert_eq!((logits.rows(), logits.cols()), (x.rows(), count));
        assert!((1..=count).contains(&router.top));
        let choices = self.backend.route(logits, router);
        let slots = Slots::new(&choices, count);
        let weights = self.weigh(logits, router, &choices);
        let rows: Vec<u32> = slots.places.iter().map(|(row, _)| *row).collect();
        let (x, weights) = match router.routing {
            Routing::SigmoidOfInput => {
                let ones = Tensor::new(weights.rows(), weights.cols(), vec![1.0; weights.values().len()]);
                (self.spread(x, &weights, &slots), ones)
            }
            _ => (self.gather(x, &rows), weights),
        };
        Sorted { x, rows, weights, slots }
    }

    fn weigh(&mut self, logits: &Tensor, router: &Router, choices: &[Choice]) -> Tensor {
        let weights: Vec<f32> = choices.iter().flat_map(|choice| choice.weights.iter().copied()).collect();
        let tensor = Tensor::new(logits.rows(), router.top, weights.clone());
        let routing = router.routing;
        self.remember(tensor, || {
            let chosen = choices.iter().map(|choice| choice.experts.clone()).collect();
            tape::Saved::Weigh(SavedWeigh { logits: logits.clone(), chosen, weights, routing })
        })
    }

    /// Each sorted place's row of `x` times its weight.
    fn spread(&mut self, x: &Tensor, weights: &Tensor, slots: &Slots) -> Tensor {
        let mut y = Tensor::zeros(slots.places.len(), x.cols());
        for (place, (row, rank)) in slots.places.iter().enumerate() {
            let weight = weights.row(*row as usize)[*rank as usize];
            super::attend::axpy(y.row_mut(place), weight, x.row(*row as usize));
        }
        let saved = || SavedSpread { x: x.clone(), weights: weights.clone(), slots: slots.clone() };
        self.remember(y, || tape::Saved::Spread(saved()))
    }

    /// Adds each sorted output, times its weight, to its row. A row's experts are added in the order of its choice,
    /// so that the sum does not depend on its neighbors.
    fn mix(&mut self, outputs: &Tensor, weights: &Tensor, slots: Slots) -> Tensor {
        let mut ordered: Vec<(u32, u32, usize)> =
            slots.places.iter().enumerate().map(|(place, (row, rank))| (*row, *rank, place)).collect();
        ordered.sort_unstable();
        let mut y = Tensor::zeros(weights.rows(), outputs.cols());
        for (row, rank, place) in ordered {
            let weight = weights.row(row as usize)[rank as usize];
            super::attend::axpy(y.row_mut(row as usize), weight, outputs.row(place));
        }
        self.remember(y, || tape::Saved::Mix(SavedMix { outputs: outputs.clone(), weights: weights.clone(), slots }))
    }
}

impl SavedWeigh {
    pub(crate) fn backward(self, dy: &Tensor, gradients: &mut Gradients) {
        let SavedWeigh { logits, chosen, weights, routing } = self;
        let top = dy.cols();
        let mut dx = Tensor::zeros(logits.rows(), logits.cols());
        for (row, experts) in chosen.iter().enumerate() {
            let (weights, dw) = (&weights[row * top..][..top], dy.row(row));
            let mean = dot(weights, dw);
            let dx = dx.row_mut(row);
            if routing == Routing::Softmax {
                let shares = softmax(logits.row(row));
                dx.iter_mut().zip(&shares).for_each(|(dx, share)| *dx = -share * mean);
            }
            if let Routing::SparseMixer { jitter } = routing {
                // Each choice is a softmax of its own, over the logits that are near its best.
                for ((_, shares), slope) in
                    sparse_mixer(logits.row(row), jitter, top).iter().zip(weights.iter().zip(dw))
                {
                    dx.iter_mut().zip(shares).for_each(|(dx, share)| *dx -= share * slope.0 * slope.1);
                }
            }
            for ((expert, weight), dw) in experts.iter().zip(weights).zip(dw) {
                dx[*expert as usize] += match routing {
                    Routing::Softmax | Routing::SparseMixer { .. } => weight * dw,
                    Routing::SoftmaxOfChosen => weight * (dw - mean),
                    Routing::Sigmoid | Routing::SigmoidOfInput => weight * (1.0 - weight) * dw,
                };
            }
        }
        gradients.add(logits.node(), dx);
    }
}

impl SavedSpread {
    pub(crate) fn backward(self, dy: &Tensor, gradients: &mut Gradients) {
        let SavedSpread { x, weights, slots } = self;
        let mut dx = Tensor::zeros(x.rows(), x.cols());
        let mut d_weights = Tensor::zeros(weights.rows(), weights.cols());
        for (place, (row, rank)) in slots.places.iter().enumerate() {
            let (row, rank) = (*row as usize, *rank as usize);
            super::attend::axpy(dx.row_mut(row), weights.row(row)[rank], dy.row(place));
            d_weights.row_mut(row)[rank] = dot(x.row(row), dy.row(place));
        }
        gradients.add(x.node(), dx);
        gradients.add(weights.node(), d_weights);
    }
}

impl SavedMix {
    pub(crate) fn backward(self, dy: &Tensor, gradients: &mut Gradients) {
        let SavedMix { outputs, weights, slots } = self;
        let mut d_outputs = Tensor::zeros(outputs.rows(), outputs.cols());
        let mut d_weights = Tensor::zeros(weights.rows(), weights.cols());
        for (place, (row, rank)) in slots.places.iter().enumerate() {
            let (row, rank) = (*row as usize, *rank as usize);
            super::attend::axpy(d_outputs.row_mut(place), weights.row(row)[rank], dy.row(row));
            d_weights.row_mut(row)[rank] = dot(outputs.row(place), dy.row(row));
        }
        let (outputs, weights): (Option<NodeId>, Option<NodeId>) = (outputs.node(), weights.node());
        gradients.add(outputs, d_outputs);
        gradients.add(weights, d_weights);
    }
}

/// How unevenly routers use their experts (Fedus et al., arXiv 2101.03961, over all layers as one), from the logits
/// `[rows, experts]` of every router of a forward: `experts · Σ (share of choices) · (mean share of softmax)`, and its
/// gradient by each router's logits. The seeds of a walk backwards, known before anything is run again.
pub fn balance(routers: &[&Tensor], top: usize) -> (f32, Vec<Tensor>) {
    let Some(experts) = routers.first().map(|logits| logits.cols()) else { return (0.0, Vec::new()) };
    let rows: f64 = routers.iter().map(|logits| logits.rows() as f64).sum();
    let (mut counts, mut means) = (vec![0.0_f64; experts], vec![0.0_f64; experts]);
    let router = Router { routing: Routing::SoftmaxOfChosen, top };
    let mut shares = Vec::new();
    for logits in routers {
        assert_eq!(logits.cols(), experts, "all routers choose among as many experts");
        for choice in crate::reference::route(logits, &router) {
            choice.experts.iter().for_each(|expert| counts[*expert as usize] += 1.0 / rows);
        }
        shares.push((0..logits.rows()).map(|row| softmax(logits.row(row))).collect::<Vec<_>>());
    }
    for share in shares.iter().flatten() {
        means.iter_mut().zip(share).for_each(|(mean, share)| *mean += f64::from(*share) / rows);
    }
    let scale = experts as f64;
    let loss = scale * counts.iter().zip(&means).map(|(count, mean)| count * mean).sum::<f64>();
    let slopes: Vec<f32> = counts.iter().map(|count| (scale * count / rows) as f32).collect();
    let gradient = |(logits, shares): (&&Tensor, &Vec<Vec<f32>>)| {
        let mut dx = Tensor::zeros(logits.rows(), experts);
        for (row, share) in shares.iter().enumerate() {
            let mean = dot(share, &slopes);
            let dx = dx.row_mut(row).iter_mut().zip(share).zip(&slopes);
            dx.for_each(|((dx, share), slope)| *dx = share * (slope - mean));
        }
        dx
    };
    (loss as f32, routers.iter().zip(&shares).map(gradient).collect())
}

/// The choices of [`Routing::SparseMixer`]: each expert with the shares of all experts among which it was chosen.
pub(crate) fn sparse_mixer(logits: &[f32], jitter: f32, top: usize) -> Vec<(u32, Vec<f32>)> {
    let mut left = logits.to_vec();
    let choose = |_| {
        let (mut best, mut largest) = (0, f32::NEG_INFINITY);
        for (at, logit) in left.iter().enumerate() {
            if *logit > largest {
                (best, largest) = (at, *logit);
            }
        }
        let far = |logit: f32| (largest - logit) / logit.abs().max(largest) > 2.0 * jitter;
        let near: Vec<f32> = left.iter().map(|logit| if far(*logit) { f32::NEG_INFINITY } else { *logit }).collect();
        left[best] = f32::NEG_INFINITY;
        (best as u32, softmax(&near))
    };
    (0..top).map(choose).collect()
}

/// Shares that sum to one.
pub(crate) fn softmax(logits: &[f32]) -> Vec<f32> {
    let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let powers: Vec<f32> = logits.iter().map(|logit| (logit - largest).exp()).collect();
    let sum: f32 = powers.iter().sum();
    powers.iter().map(|power| power / sum).collect()
}
