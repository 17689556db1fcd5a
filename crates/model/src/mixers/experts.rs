//! The mixture of experts: a router's logits, the experts they choose for each row, and a part that all rows share.

use pasture_tensor::ops::experts::{Expert, Router};
use pasture_tensor::{Activation, Linear, Norm, Ops, Tensor};

use super::{Mixed, Mlp};
use crate::decoder::Step;

/// A mixture's weights.
pub(crate) struct Experts {
    pub(crate) layer: usize,
    pub(crate) router: Linear,
    pub(crate) rule: Router,
    pub(crate) experts: Vec<Expert>,
    pub(crate) activation: Activation,
    pub(crate) shared: Option<Mlp>,
}

impl Experts {
    pub(crate) fn mix<'m>(&'m self, ops: &mut Ops, x: &Tensor, pre: Option<&Norm>, step: &mut Step) -> Mixed<'m> {
        let normed = pre.map(|norm| ops.norm(x, norm));
        let x = normed.as_ref().unwrap_or(x);
        let logits = ops.linear(x, &self.router);
        step.routers.push((self.layer, logits.clone()));
        let chosen = ops.experts(x, &logits, &self.rule, &self.experts, self.activation);
        Mixed::Done(match self.shared.as_ref().map(|shared| shared.mix(ops, x, None)) {
            None => chosen,
            Some(Mixed::Product(inner, down)) => ops.project_add(&inner, down, 1.0, &chosen),
            Some(Mixed::Done(y)) => ops.add(&chosen, &y, 1.0),
        })
    }
}
