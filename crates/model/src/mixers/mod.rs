//! What stands in a branch: attention, a feed-forward part, experts. Each takes the normed stream and ends, where it
//! can, before its last product, so that product and residual sum are one dispatch.

mod attention;
mod experts;
mod mlp;

pub(crate) use attention::{Attention, QkNorms};
pub(crate) use experts::{Experts, Held};
pub(crate) use mlp::Mlp;

use pasture_tensor::{Linear, Norm, Ops, Tensor};

use crate::decoder::Step;
use crate::kv::Kv;

/// A mixer with its weights.
pub(crate) enum Mixer {
    Attention(Box<Attention>),
    Mlp(Mlp),
    Experts(Experts),
}

/// Where keys and values go.
pub(crate) enum Pages<'k> {
    /// To their sequences, for later batches.
    Kept(&'k mut Kv),
    /// To pages that last for one layer: the batch's sequences begin in it and end with it.
    Fresh,
}

/// What a mixer leaves for the branch to finish.
pub(crate) enum Mixed<'m> {
    /// A last product of these rows.
    Product(Tensor, &'m Linear),
    /// Nothing.
    Done(Tensor),
}

impl Mixer {
    /// Mixes `x`, normed by `pre` first.
    pub(crate) fn mix<'m>(
        &'m self,
        ops: &mut Ops,
        x: &Tensor,
        pre: Option<&Norm>,
        step: &mut Step,
        pages: &mut Pages,
    ) -> Mixed<'m> {
        match self {
            Mixer::Attention(attention) => attention.mix(ops, x, pre, step, pages),
            Mixer::Mlp(mlp) => mlp.mix(ops, x, pre),
            Mixer::Experts(experts) => experts.mix(ops, x, pre, step),
        }
    }
}
