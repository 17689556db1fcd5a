//! What tuning calls by name: the checkpoint's modules, beside which adapters may stand, and its parameters. Names are
//! always those of the family's own table, whichever file the weights came from.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use pasture_tensor::WeightId;

use crate::names::Names;
use crate::spec::Spec;

/// All modules of a model.
#[derive(Clone, Debug, Default)]
pub struct Sites {
    modules: BTreeMap<Arc<str>, Module>,
    gguf: GgufNames,
}

/// How GGUF files call a model of this kind, and the modules of it.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct GgufNames {
    /// Values of `general.architecture`.
    pub(crate) words: &'static [&'static str],
    /// The names in the family's own checkpoints, from which those of GGUF follow.
    pub(crate) own: Option<fn(&Spec) -> Names>,
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

    pub(crate) fn gguf(&self) -> GgufNames {
        self.gguf
    }

    /// The same sites in a model that GGUF files call so.
    pub(crate) fn called(&mut self, words: &'static [&'static str], own: fn(&Spec) -> Names) {
        self.gguf = GgufNames { words, own: Some(own) };
    }

    pub(crate) fn add(&mut self, name: Arc<str>, module: Module) {
        self.modules.insert(name, module);
    }
}
