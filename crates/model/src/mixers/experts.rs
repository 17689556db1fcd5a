//! The mixture of experts: a router's logits, the experts they choose for each row, and a part that all rows share.

use pasture_tensor::ops::experts::{Expert, Router};
use pasture_tensor::{Activation, Linear, Norm, Ops, Tensor};

use super::{Mixed, Mlp};
use crate::decoder::Step;
use crate::expert_cache::OnDisk;

/// Where a mixture's experts are.
pub(crate) enum Held {
    InMemory(Vec<Expert>),
    OnDisk(OnDisk),
}

/// A mixture's weights.
pub(crate) struct Experts {
    pub(crate) layer: usize,
    pub(crate) router: Linear,
    pub(crate) rule: Router,
    pub(crate) experts: Held,
    pub(crate) activation: Activation,
    pub(crate) shared: Option<Mlp>,
}

impl Experts {
    pub(crate) fn mix<'m>(&'m self, ops: &mut Ops, x: &Tensor, pre: Option<&Norm>, step: &mut Step) -> Mixed<'m> {
        let normed = pre.map(|norm| ops.norm(x, norm));
        let x = normed.as_ref().unwrap_or(x);
        let logits = ops.linear(x, &self.router);
        step.routers.push((self.layer, logits.clone()));
        let chosen = match &self.experts {
            Held::InMemory(experts) => ops.experts(x, &logits, &self.rule, experts, self.activation),
            Held::OnDisk(disk) => {
                let fetch = |expert| disk.fetch(expert);
                let made = ops.fetched_experts(x, &logits, &self.rule, disk.experts.len(), self.activation, fetch);
                // The forward ends with the fault after this layer.
                made.unwrap_or_else(|fault| {
                    step.fault.get_or_insert(fault);
                    Tensor::zeros(x.rows(), x.cols())
                })
            }
        };
        Mixed::Done(match self.shared.as_ref().map(|shared| shared.mix(ops, x, None)) {
            None => chosen,
            Some(Mixed::Product(inner, down)) => ops.project_add(&inner, down, 1.0, &chosen),
            Some(Mixed::Done(y)) => ops.add(&chosen, &y, 1.0),
        })
    }
}
