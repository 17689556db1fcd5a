//! What a forward remembers for its gradient: a closed list of coarse operations, walked backwards.
//!
//! Each operation's gradient stands beside its forward in `ops/`; an operation without one does not compile.

use std::collections::{HashMap, HashSet};

use crate::ops::{activate, add, attend, embed, experts, gather, head, linear, norm, replay, rope};
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
    Spread(experts::SavedSpread),
    Mix(experts::SavedMix),
    HeadLoss(Box<head::Saved>),
    Replay(replay::Saved),
}

/// Remembers a forward.
pub struct Tape {
    next: u64,
    pub(crate) entries: Vec<Entry>,
    trainable: HashSet<WeightId>,
    replays: bool,
}

impl Tape {
    /// An empty tape that will collect gradients of the given weights.
    pub fn new(trainable: impl IntoIterator<Item = WeightId>) -> Tape {
        crate::memory::keep();
        Tape { next: 0, entries: Vec::new(), trainable: trainable.into_iter().collect(), replays: false }
    }

    /// The same tape, remembering parts of a forward (a decoder's layers) by their inputs only: they are run once more
    /// in the walk backwards. Less memory for about a third more time; the gradients have the same bits.
    pub fn replaying(self) -> Tape {
        Tape { replays: true, ..self }
    }

    pub(crate) fn replays(&self) -> bool {
        self.replays
    }

    pub(crate) fn trains(&self, weight: WeightId) -> bool {
        self.trainable.contains(&weight)
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
        self.backward_from(backend, vec![(loss, Tensor::new(1, 1, vec![seed]))])
    }

    /// Walks backwards from several values of this tape whose gradients are known, each in its value's shape: log
    /// probabilities of a preference loss, logits of routers. Asserts that the values were computed with this tape.
    pub fn backward_from(self, backend: &dyn Backend, seeds: Vec<(&Tensor, Tensor)>) -> Gradients {
        let named = |(value, seed): (&Tensor, Tensor)| {
            assert_eq!((value.rows(), value.cols()), (seed.rows(), seed.cols()), "a gradient has its value's shape");
            (value.node().expect("a value computed with this tape has a node"), seed)
        };
        self.walk(backend, seeds.into_iter().map(named).collect())
    }

    pub(crate) fn walk(mut self, backend: &dyn Backend, seeds: Vec<(NodeId, Tensor)>) -> Gradients {
        let trainable = std::mem::take(&mut self.trainable);
        let mut gradients = Gradients { nodes: HashMap::new(), weights: HashMap::new(), trainable };
        self.walk_into(backend, seeds, &mut gradients);
        gradients
    }

    /// Adds what this tape's values pass on to `gradients`, whose nodes are this tape's.
    pub(crate) fn walk_into(self, backend: &dyn Backend, seeds: Vec<(NodeId, Tensor)>, gradients: &mut Gradients) {
        seeds.into_iter().for_each(|(node, seed)| gradients.add(Some(node), seed));
        for Entry { saved, made } in self.entries.into_iter().rev() {
            if let Saved::Replay(saved) = saved {
                saved.backward(backend, gradients);
                continue;
            }
            let Some(dy) = gradients.take(backend, made) else { continue };
            saved.backward(backend, &dy, gradients);
        }
    }
}

impl Saved {
    fn backward(self, backend: &dyn Backend, dy: &Tensor, gradients: &mut Gradients) {
        match self {
            Saved::Embed(saved) => saved.backward(dy, gradients),
            Saved::Gather(saved) => saved.backward(dy, gradients),
            Saved::Norm(saved) => saved.backward(backend, dy, gradients),
            Saved::Linear(saved) => saved.backward(backend, dy, gradients),
            Saved::Rope(saved) => saved.backward(backend, dy, gradients),
            Saved::Activate(saved) => saved.backward(dy, gradients),
            Saved::Gate(saved) => saved.backward(backend, dy, gradients),
            Saved::Add(saved) => saved.backward(dy, gradients),
            Saved::Scale(saved) => saved.backward(dy, gradients),
            Saved::Clamp(saved) => saved.backward(dy, gradients),
            Saved::Attend(saved) => saved.backward(backend, dy, gradients),
            Saved::Weigh(saved) => saved.backward(dy, gradients),
            Saved::Spread(saved) => saved.backward(dy, gradients),
            Saved::Mix(saved) => saved.backward(dy, gradients),
            Saved::HeadLoss(saved) => saved.backward(backend, dy, gradients),
            // It has several outputs, so its gradients are taken one by one.
            Saved::Replay(saved) => saved.backward(backend, gradients),
        }
    }
}

/// What a walk backwards collects.
pub struct Gradients {
    /// What has reached each value, in order; summed when all of it is there.
    nodes: HashMap<NodeId, Vec<Tensor>>,
    weights: HashMap<WeightId, Vec<f32>>,
    trainable: HashSet<WeightId>,
}

impl Gradients {
    /// The gradient of a trainable weight, in the weight's own shape; None where nothing reached it.
    pub fn weight(&self, id: WeightId) -> Option<&[f32]> {
        self.weights.get(&id).map(Vec::as_slice)
    }

    /// Takes the gradient of a trainable weight out; None where nothing reached it.
    pub fn take_weight(&mut self, id: WeightId) -> Option<Vec<f32>> {
        self.weights.remove(&id)
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

    /// Runs a walk over another tape's nodes that adds to the same weights.
    pub(crate) fn apart<T>(&mut self, walk: impl FnOnce(&mut Gradients) -> T) -> T {
        let nodes = std::mem::take(&mut self.nodes);
        let result = walk(self);
        self.nodes = nodes;
        result
    }

    pub(crate) fn take(&mut self, backend: &dyn Backend, node: NodeId) -> Option<Tensor> {
        self.nodes.remove(&node)?.into_iter().reduce(|sum, part| backend.add(&sum, &part, 1.0))
    }

    /// Takes out what has reached a value so far, or a part of it, for an operation that adds its own part to it. It must
    /// come back by [`Gradients::add`]. None where nothing has, or where it is another value's gradient too.
    pub(crate) fn lend(&mut self, node: Option<NodeId>) -> Option<Tensor> {
        self.nodes.get_mut(&node?)?.pop_if(|part| part.is_alone())
    }

    /// Adds to the gradient of an operation's input; constants are passed over.
    pub(crate) fn add(&mut self, input: Option<NodeId>, gradient: Tensor) {
        if let Some(node) = input {
            self.nodes.entry(node).or_default().push(gradient);
        }
    }
}
