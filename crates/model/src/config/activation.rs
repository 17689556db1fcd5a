//! Activations under the names that configurations give them.

use pasture_files::error::quoted;
use pasture_files::nearest::by_nearness;
use pasture_tensor::Activation;

use super::Config;
use crate::error::Result;

/// Name and function.
const ACTIVATIONS: &[(&str, Activation)] = &[
    ("silu", Activation::Silu),
    ("swish", Activation::Silu),
    ("gelu", Activation::Gelu),
    ("gelu_pytorch_tanh", Activation::GeluTanh),
    ("gelu_new", Activation::GeluTanh),
    ("gelu_fast", Activation::GeluTanh),
    ("quick_gelu", Activation::GeluQuick),
    ("relu", Activation::Relu),
    ("relu2", Activation::ReluSquared),
    ("tanh", Activation::Tanh),
];

/// The usual name of an activation.
pub(crate) fn activation_name(activation: Activation) -> Option<&'static str> {
    ACTIVATIONS.iter().find(|(_, found)| *found == activation).map(|(name, _)| *name)
}

impl Config {
    /// The activation that a key names, else the reference's.
    pub fn activation(&self, path: &str, default: &str) -> Result<Activation> {
        let name = self.or(path, default.to_owned())?;
        let unknown = || {
            let known = by_nearness(&name, ACTIVATIONS.iter().map(|(known, _)| *known));
            self.fault(
                path,
                format!("is {}, which is no activation known here; known are {}", quoted(&name), known.join(", ")),
            )
        };
        ACTIVATIONS.iter().find(|(known, _)| *known == name).map(|(_, found)| *found).ok_or_else(unknown)
    }
}
