//! The feed-forward part: one product up, or a gate beside it, then one down.

use pasture_tensor::ops::project::Epilogue;
use pasture_tensor::{Activation, Linear, Norm, Ops, Tensor};

use super::Mixed;

/// A feed-forward part's weights.
pub(crate) struct Mlp {
    pub(crate) gate: Option<Linear>,
    pub(crate) up: Linear,
    pub(crate) down: Linear,
    pub(crate) activation: Activation,
}

impl Mlp {
    pub(crate) fn mix<'m>(&'m self, ops: &mut Ops, x: &Tensor, pre: Option<&Norm>) -> Mixed<'m> {
        let mut made = match &self.gate {
            Some(gate) => ops.project(x, pre, &[gate, &self.up], &Epilogue::Gated(self.activation)),
            None => ops.project(x, pre, &[&self.up], &Epilogue::Activated(self.activation)),
        };
        Mixed::Product(made.remove(0), &self.down)
    }
}
