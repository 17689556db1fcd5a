//! Activations, alone or as the gate of another value.

pub use pasture_kernels::elementwise::Activation;
use pasture_kernels::elementwise::erf;

use crate::tape::{self, Gradients};
use crate::{Backend, Ops, Tensor};

/// The derivative of an activation.
pub(crate) fn derivative(activation: Activation, x: f32) -> f32 {
    match activation {
        Activation::Silu => sigmoid(x) * (1.0 + x * (1.0 - sigmoid(x))),
        Activation::Gelu => normal_cdf(x) + x * (-0.5 * x * x).exp() * INVERSE_ROOT_2_PI,
        Activation::GeluTanh => {
            let t = tanh_inner(x).tanh();
            let inner = ROOT_2_OVER_PI * (1.0 + 3.0 * CUBIC * x * x);
            0.5 * (1.0 + t) + 0.5 * x * (1.0 - t * t) * inner
        }
        Activation::GeluQuick => {
            let s = sigmoid(1.702 * x);
            s + 1.702 * x * s * (1.0 - s)
        }
        Activation::Relu => f32::from(x > 0.0),
        Activation::ReluSquared => 2.0 * x.max(0.0),
        Activation::Tanh => 1.0 - x.tanh() * x.tanh(),
        Activation::SoftCap(cap) => 1.0 - (x / cap).tanh() * (x / cap).tanh(),
        Activation::SwishLimited { limit, .. } if x > limit => 0.0,
        Activation::SwishLimited { slope, .. } => {
            let s = sigmoid(slope * x);
            s + slope * x * s * (1.0 - s)
        }
    }
}

/// The derivative of what a gated value counts as.
pub(crate) fn gated_slope(activation: Activation, up: f32) -> f32 {
    match activation {
        Activation::SwishLimited { limit, .. } => f32::from(up.abs() <= limit),
        _ => 1.0,
    }
}

const ROOT_2_OVER_PI: f32 = 0.797_884_6;
const INVERSE_ROOT_2_PI: f32 = 0.398_942_3;
const CUBIC: f32 = 0.044_715;

fn tanh_inner(x: f32) -> f32 {
    ROOT_2_OVER_PI * (x + CUBIC * x * x * x)
}

fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + (-x).exp())
}

/// The normal distribution function, from the error function in f64.
fn normal_cdf(x: f32) -> f32 {
    (0.5 * (1.0 + erf(f64::from(x) / std::f64::consts::SQRT_2))) as f32
}

pub(crate) struct Saved {
    x: Tensor,
    activation: Activation,
}

pub(crate) struct SavedGate {
    gate: Tensor,
    up: Tensor,
    activation: Activation,
}

impl Ops<'_> {
    /// The activation of each value.
    pub fn activate(&mut self, x: &Tensor, activation: Activation) -> Tensor {
        let y = self.backend.activate(x, activation);
        self.remember(y, || tape::Saved::Activate(Saved { x: x.clone(), activation }))
    }

    /// `activation(gate) · up` (Shazeer, arXiv 2002.05202).
    pub fn gate(&mut self, gate: &Tensor, up: &Tensor, activation: Activation) -> Tensor {
        assert_eq!((gate.rows(), gate.cols()), (up.rows(), up.cols()));
        let y = self.backend.gate(gate, up, activation);
        self.remember(y, || tape::Saved::Gate(SavedGate { gate: gate.clone(), up: up.clone(), activation }))
    }
}

impl Saved {
    pub(crate) fn backward(self, dy: &Tensor, gradients: &mut Gradients) {
        let dx = self.x.values().iter().zip(dy.values()).map(|(x, dy)| dy * derivative(self.activation, *x)).collect();
        gradients.add(self.x.node(), Tensor::new(dy.rows(), dy.cols(), dx));
    }
}

impl SavedGate {
    pub(crate) fn backward(self, backend: &dyn Backend, dy: &Tensor, gradients: &mut Gradients) {
        let SavedGate { gate, up, activation } = self;
        let [d_gate, d_up] = backend.gate_backward(&gate, &up, dy, activation);
        gradients.add(gate.node(), d_gate);
        gradients.add(up.node(), d_up);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_derivative_is_the_slope_of_its_function() {
        let all = [
            Activation::Silu,
            Activation::Gelu,
            Activation::GeluTanh,
            Activation::GeluQuick,
            Activation::Relu,
            Activation::ReluSquared,
            Activation::Tanh,
            Activation::SoftCap(3.0),
            Activation::SwishLimited { slope: 1.702, limit: 2.0 },
        ];
        for activation in all {
            for x in [-3.0_f32, -0.7, 0.3, 1.1, 4.0] {
                let slope = (activation.of(x + 1e-2) - activation.of(x - 1e-2)) / 2e-2;
                assert!((slope - derivative(activation, x)).abs() < 1e-3, "{activation:?} at {x}");
            }
        }
    }
}
