//! What tuning calls by name: the checkpoint's modules, beside which adapters may stand, and its parameters. Names are
//! always those of the family's own table, whichever file the weights came from.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use pasture_tensor::WeightId;

/// All modules of a model.
#[derive(Clone, Debug, Default)]
pub struct Sites {
    modules: BTreeMap<Arc<str>, Module>,
}

/// One module: a whole tensor of the checkpoint, fused or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Module {
    /// Rows of the whole tensor.
    pub outputs: usize,
    /// Its columns.
    pub inputs: usize,
    /// Whether rows of a batch reach it as they are, so that an adapter can stand beside it.
    pub kind: Kind,
}

/// One weight of a model that a gradient may be asked for. A tied one is a parameter once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parameter {
    /// The checkpoint's tensor.
    pub tensor: String,
    /// Rows of it that the weight is: not all of a fused tensor, and of a stacked one those of one expert.
    pub rows: Range<usize>,
    /// The name of its gradient.
    pub weight: WeightId,
}

/// How rows reach a module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// All rows, in the batch's order.
    Dense,
    /// Rows sorted by expert.
    Expert,
    /// Only the rows whose logits are wanted.
    Head,
}

impl Sites {
    /// The module of that name.
    pub fn get(&self, module: &str) -> Option<&Module> {
        self.modules.get(module)
    }

    /// All modules by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Module)> {
        self.modules.iter().map(|(name, module)| (&**name, module))
    }

    pub(crate) fn add(&mut self, name: Arc<str>, module: Module) {
        self.modules.insert(name, module);
    }
}
