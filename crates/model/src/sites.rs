//! Where adapters may stand: the checkpoint's modules by name, with their shapes. Names are always those of the
//! family's own table, whichever file the weights came from.

use std::collections::BTreeMap;
use std::sync::Arc;

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
