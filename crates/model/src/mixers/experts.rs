//! The mixture of experts: a router's logits, and the experts they choose for each row.

use pasture_tensor::ops::experts::{Expert, Router};
use pasture_tensor::{Activation, Linear, Norm, Ops, Tensor};

use super::Mixed;
use crate::decoder::Step;

/// A mixture's weights.
pub(crate) struct Experts {
    pub(crate) layer: usize,
    pub(crate) router: Linear,
    pub(crate) rule: Router,
    pub(crate) experts: Vec<Expert>,
    pub(crate) activation: Activation,
}

impl Experts {
    pub(crate) fn mix<'m>(&'m self, ops: &mut Ops, x: &Tensor, pre: Option<&Norm>, step: &mut Step) -> Mixed<'m> {
        let normed = pre.map(|norm| ops.norm(x, norm));
        let x = normed.as_ref().unwrap_or(x);
        let logits = ops.linear(x, &self.router);
        step.routers.push((self.layer, logits.clone()));
        Mixed::Done(ops.experts(x, &logits, &self.rule, &self.experts, self.activation))
    }
}
