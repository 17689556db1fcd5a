//! Parts of a forward that are remembered by their input alone: the walk backwards runs them again, with a tape of their
//! own, so that what is held at once is one part's memory (Chen et al., arXiv 1604.06174).

use std::sync::Arc;

use crate::tape::{self, Gradients, Tape};
use crate::{Backend, NodeId, Ops, Route, Tensor};

/// A part of a forward: some outputs of one input. Run again, it gives the same bits.
pub type Part = dyn Fn(&mut Ops, &Tensor) -> Vec<Tensor> + Send + Sync;

pub(crate) struct Saved {
    x: Tensor,
    part: Arc<Part>,
    routes: Vec<Route>,
    outputs: Vec<NodeId>,
}

impl Ops<'_> {
    /// Runs a part. A tape that replays remembers only its input; any other remembers the operations in it.
    pub fn part(&mut self, x: &Tensor, part: Arc<Part>) -> Vec<Tensor> {
        let Some(mut outer) = self.tape.take_if(|tape| tape.replays()) else { return part(self, x) };
        // Operations with a tape may be composed otherwise than without one, so the first run has one too.
        self.tape = Some(Tape::new([]));
        let outputs = part(self, x);
        let outputs: Vec<Tensor> = outputs.into_iter().map(|output| output.with_node(outer.node())).collect();
        let nodes = outputs.iter().filter_map(Tensor::node).collect();
        let saved = Saved { x: x.clone(), part, routes: self.routes.clone(), outputs: nodes };
        let last = outputs.last().and_then(Tensor::node).expect("a part has an output");
        outer.entries.push(tape::Entry { saved: tape::Saved::Replay(saved), made: last });
        self.tape = Some(outer);
        outputs
    }
}

impl Saved {
    /// Runs the part again and walks back through it.
    pub(crate) fn backward(self, backend: &dyn Backend, gradients: &mut Gradients) {
        let Saved { x, part, routes, outputs } = self;
        let seeds: Vec<Option<Tensor>> = outputs.iter().map(|output| gradients.take(backend, *output)).collect();
        if seeds.iter().all(Option::is_none) {
            return;
        }
        let mut tape = Tape::new([]);
        let input = tape.node();
        let mut ops = Ops::with_tape(backend, tape);
        ops.set_routes(routes);
        let outputs = part(&mut ops, &x.clone().with_node(input));
        let tape = ops.into_tape().expect("it was given one");
        let seeds = outputs.iter().zip(seeds).filter_map(|(output, seed)| Some((output.node()?, seed?))).collect();
        drop(outputs);
        let dx = gradients.apart(|gradients| {
            tape.walk_into(backend, seeds, gradients);
            gradients.take(backend, input)
        });
        if let Some(dx) = dx {
            gradients.add(x.node(), dx);
        }
    }
}
