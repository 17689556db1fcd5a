//! What a forward remembers for its gradient: a closed list of coarse operations, walked backwards.
//!
//! Each operation's gradient stands beside its forward in `ops/`; an operation without one does not compile.

use std::collections::{HashMap, HashSet};

use crate::ops::{activate, add, attend, embed, experts, gather, head, linear, norm, rope};
use crate::{Backend, NodeId, Tensor, WeightId};

/// One remembered operation: what its gradient needs, and the node it made.
pub(crate) struct Entry {
    pub(crate) saved: Saved,
    pub(crate) made: NodeId,
}

/// The closed list.
pub(crate) enum Saved {
    Embed(embed::Saved),
    Gather(gather::Saved),
    Norm(norm::Saved),
    Linear(linear::Saved),
    Rope(rope::Saved),
    Activate(activate::Saved),
    Gate(activate::SavedGate),
    Add(add::Saved),
    Scale(add::SavedScale),
    Clamp(add::SavedClamp),
    Attend(Box<attend::Saved>),
    Weigh(experts::SavedWeigh),
    Mix(experts::SavedMix),
    HeadLoss(Box<head::Saved>),
}

/// Remembers a forward.
pub struct Tape {
    next: u64,
    pub(crate) entries: Vec<Entry>,
    trainable: HashSet<WeightId>,
}

impl Tape {
    /// An empty tape that will collect gradients of the given weights.
    pub fn new(trainable: impl IntoIterator<Item = WeightId>) -> Tape {
        Tape { next: 0, entries: Vec::new(), trainable: trainable.into_iter().collect() }
    }

    /// Adds a weight to those whose gradients are collected.
    pub fn train(&mut self, weight: WeightId) {
        self.trainable.insert(weight);
    }

    pub(crate) fn node(&mut self) -> NodeId {
        self.next += 1;
        NodeId(self.next)
    }

    /// Walks backwards from `loss` (a single value), whose gradient is `seed`.
    pub fn backward(self, backend: &dyn Backend, loss: &Tensor, seed: f32) -> Gradients {
        let loss = loss.node().expect("a loss computed with this tape has a node");
        self.walk(backend, vec![(loss, Tensor::new(1, 1, vec![seed]))])
    }

    /// Walks backwards from values whose gradients are given.
    pub(crate) fn walk(self, backend: &dyn Backend, seeds: Vec<(NodeId, Tensor)>) -> Gradients {
        let mut gradients = Gradients { nodes: HashMap::new(), weights: HashMap::new(), trainable: self.trainable };
        seeds.into_iter().for_each(|(node, seed)| gradients.add(Some(node), seed));
        for entry in self.entries.into_iter().rev() {
            let Some(dy) = gradients.take(entry.made) else { continue };
            match entry.saved {
                Saved::Embed(saved) => saved.backward(&dy, &mut gradients),
                Saved::Gather(saved) => saved.backward(&dy, &mut gradients),
                Saved::Norm(saved) => saved.backward(&dy, &mut gradients),
                Saved::Linear(saved) => saved.backward(backend, &dy, &mut gradients),
                Saved::Rope(saved) => saved.backward(backend, &dy, &mut gradients),
                Saved::Activate(saved) => saved.backward(&dy, &mut gradients),
                Saved::Gate(saved) => saved.backward(&dy, &mut gradients),
                Saved::Add(saved) => saved.backward(&dy, &mut gradients),
                Saved::Scale(saved) => saved.backward(&dy, &mut gradients),
                Saved::Clamp(saved) => saved.backward(&dy, &mut gradients),
                Saved::Attend(saved) => saved.backward(&dy, &mut gradients),
                Saved::Weigh(saved) => saved.backward(&dy, &mut gradients),
                Saved::Mix(saved) => saved.backward(&dy, &mut gradients),
                Saved::HeadLoss(saved) => saved.backward(backend, &dy, &mut gradients),
            }
        }
        gradients
    }
}

/// What a walk backwards collects.
pub struct Gradients {
    nodes: HashMap<NodeId, Tensor>,
    weights: HashMap<WeightId, Vec<f32>>,
    trainable: HashSet<WeightId>,
}

impl Gradients {
    /// The gradient of a trainable weight, in the weight's own shape; None where nothing reached it.
    pub fn weight(&self, id: WeightId) -> Option<&[f32]> {
        self.weights.get(&id).map(Vec::as_slice)
    }

    pub(crate) fn wants(&self, id: WeightId) -> bool {
        self.trainable.contains(&id)
    }

    /// The sum to which a trainable weight's gradient is added.
    pub(crate) fn sum(&mut self, id: WeightId, len: usize) -> &mut [f32] {
        let sum = self.weights.entry(id).or_insert_with(|| vec![0.0; len]);
        assert_eq!(sum.len(), len, "a weight keeps its shape");
        sum
    }

    pub(crate) fn take(&mut self, node: NodeId) -> Option<Tensor> {
        self.nodes.remove(&node)
    }

    /// Adds to the gradient of an operation's input; constants are passed over.
    pub(crate) fn add(&mut self, input: Option<NodeId>, gradient: Tensor) {
        let Some(node) = input else { return };
        match self.nodes.entry(node) {
            std::collections::hash_map::Entry::Vacant(empty) => {
                empty.insert(gradient);
            }
            std::collections::hash_map::Entry::Occupied(mut sum) => {
                let sum = sum.get_mut().values_mut();
                sum.iter_mut().zip(gradient.values()).for_each(|(sum, g)| *sum += g);
            }
        }
    }
}
