//! Addresses of a model's parameters: slot, layer, expert, and which of a module's two tensors.

use std::fmt;

/// Where in a model a module stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Place {
    /// The slot's name.
    pub slot: &'static str,
    /// The layer, for a slot of layers.
    pub layer: Option<usize>,
    /// The expert, for a slot of experts.
    pub expert: Option<usize>,
}

/// Which tensor of a module.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Part {
    /// The factor.
    Weight,
    /// What is added.
    Bias,
}

impl Place {
    /// A slot of the whole model.
    pub fn model(slot: &'static str) -> Place {
        Place { slot, layer: None, expert: None }
    }

    /// A slot of a layer.
    pub fn layer(slot: &'static str, layer: usize) -> Place {
        Place { slot, layer: Some(layer), expert: None }
    }

    /// A slot of an expert of a layer.
    pub fn expert(slot: &'static str, layer: usize, expert: usize) -> Place {
        Place { slot, layer: Some(layer), expert: Some(expert) }
    }
}

impl Part {
    /// How its tensor's name ends.
    pub fn ending(self) -> &'static str {
        match self {
            Part::Weight => ".weight",
            Part::Bias => ".bias",
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.slot)?;
        self.layer.map_or(Ok(()), |layer| write!(f, " of layer {layer}"))?;
        self.expert.map_or(Ok(()), |expert| write!(f, " of expert {expert}"))
    }
}
