//! The operations a model is written in. Each file holds one operation's shape check, forward and gradient;
//! [`Ops`] runs it on a backend now, and remembers it if there is a tape.

pub mod activate;
pub mod add;
pub mod attend;
pub mod embed;
pub mod experts;
pub mod gather;
#[cfg(test)]
mod gradients;
pub mod head;
pub mod linear;
mod low_rank;
pub mod norm;
pub mod project;
pub mod replay;
pub mod rope;

use crate::tape::{Entry, Saved, Tape};
use crate::{Backend, Route, Tensor, WeightId};

/// Runs operations on a backend, with the adapters that a batch's rows take.
pub struct Ops<'a> {
    backend: &'a dyn Backend,
    routes: Vec<Route>,
    tape: Option<Tape>,
}

impl<'a> Ops<'a> {
    /// Operations that are run and forgotten.
    pub fn new(backend: &'a dyn Backend) -> Ops<'a> {
        Ops { backend, routes: Vec::new(), tape: None }
    }

    /// Operations that are remembered for a gradient.
    pub fn with_tape(backend: &'a dyn Backend, tape: Tape) -> Ops<'a> {
        Ops { backend, routes: Vec::new(), tape: Some(tape) }
    }

    /// The device.
    pub fn backend(&self) -> &'a dyn Backend {
        self.backend
    }

    /// Says which rows of the coming batch take which adapter.
    pub fn set_routes(&mut self, routes: Vec<Route>) {
        self.routes = routes;
    }

    /// The adapters of the present batch.
    pub fn routes(&self) -> &[Route] {
        &self.routes
    }

    /// Whether a gradient will be asked for.
    pub fn remembers(&self) -> bool {
        self.tape.is_some()
    }

    /// Whether parts of a forward are remembered by their inputs only and run again in the walk backwards.
    pub fn replays(&self) -> bool {
        self.tape.as_ref().is_some_and(Tape::replays)
    }

    /// The tape out, to walk backwards.
    pub fn into_tape(self) -> Option<Tape> {
        self.tape
    }

    /// Whether there is a tape that collects this weight's gradient.
    fn trains(&self, weight: Option<WeightId>) -> bool {
        self.tape.as_ref().zip(weight).is_some_and(|(tape, weight)| tape.trains(weight))
    }

    /// As [`Ops::remember`] where a gradient goes on from here; else what is made is a constant.
    fn remember_if(&mut self, goes_on: bool, made: Tensor, saved: impl FnOnce() -> Saved) -> Tensor {
        if goes_on { self.remember(made, saved) } else { made }
    }

    /// Gives `made` a node if there is a tape, with what its gradient needs.
    fn remember(&mut self, made: Tensor, saved: impl FnOnce() -> Saved) -> Tensor {
        match &mut self.tape {
            None => made,
            Some(tape) => {
                let node = tape.node();
                tape.entries.push(Entry { saved: saved(), made: node });
                made.with_node(node)
            }
        }
    }
}
