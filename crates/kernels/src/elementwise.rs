//! Elementwise loops over rows of f32 and small reductions: norms, activations, rotations, softmax.
//!
//! This file owns their meaning and their checks; `scalar` and the instruction sets own the loops. Vector versions
//! agree with the scalar ones to about 1e-6 of the largest value involved.

use crate::isa::Kernels;

/// A function of one value.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Activation {
    /// `x · sigmoid(x)`.
    Silu,
    /// `x · Φ(x)` with the error function (Hendrycks & Gimpel, arXiv 1606.08415).
    Gelu,
    /// The same by the tanh approximation.
    GeluTanh,
    /// `x · sigmoid(1.702 x)`.
    GeluQuick,
    /// `max(x, 0)`.
    Relu,
    /// `max(x, 0)²`.
    ReluSquared,
    /// `tanh(x)`.
    Tanh,
    /// `cap · tanh(x / cap)`: a soft limit.
    SoftCap(f32),
    /// `x · sigmoid(slope · x)` of `x` cut off above `limit`. What it gates counts as itself within `±limit`, plus one.
    SwishLimited {
        /// Of the sigmoid's inside.
        slope: f32,
        /// Of both factors.
        limit: f32,
    },
}

impl Activation {
    /// The value of the function.
    pub fn of(self, x: f32) -> f32 {
        match self {
            Activation::Silu => x / (1.0 + (-x).exp()),
            Activation::Gelu => {
                (f64::from(x) * 0.5 * (1.0 + erf(f64::from(x) * std::f64::consts::FRAC_1_SQRT_2))) as f32
            }
            Activation::GeluTanh => {
                let inner =
                    f64::from(x) * (2.0 / std::f64::consts::PI).sqrt() * (1.0 + 0.044_715 * f64::from(x).powi(2));
                (0.5 * f64::from(x) * (1.0 + inner.tanh())) as f32
            }
            Activation::GeluQuick => x / (1.0 + (-1.702 * x).exp()),
            Activation::Relu => x.max(0.0),
            Activation::ReluSquared => x.max(0.0) * x.max(0.0),
            Activation::Tanh => x.tanh(),
            Activation::SoftCap(cap) => cap * (x / cap).tanh(),
            Activation::SwishLimited { slope, limit } => {
                // Not `min`, which would lose a NaN.
                let x = if x > limit { limit } else { x };
                x / (1.0 + (-slope * x).exp())
            }
        }
    }

    /// What a value that is gated counts as: itself, but for limited gates.
    pub fn gated(self, up: f32) -> f32 {
        match self {
            Activation::SwishLimited { limit, .. } => up.clamp(-limit, limit) + 1.0,
            _ => up,
        }
    }
}

/// The error function to about 1e-12: its series near zero, a continued fraction of its complement beyond.
pub fn erf(x: f64) -> f64 {
    let size = x.abs();
    let value = if size < 2.5 {
        let (mut term, mut sum) = (size, size);
        for n in 1..60 {
            term *= -size * size / f64::from(n);
            sum += term / f64::from(2 * n + 1);
        }
        sum * std::f64::consts::FRAC_2_SQRT_PI
    } else if size > 6.0 {
        1.0
    } else {
        let fraction = (1..60).rev().fold(0.0, |tail, n| 0.5 * f64::from(n) / (size + tail));
        1.0 - (-size * size).exp() / ((size + fraction) * std::f64::consts::PI.sqrt())
    };
    value.copysign(x)
}

impl Kernels {
    /// `out = x / sqrt(mean(x²) + epsilon) · (weight + offset)`; no weight is a factor of one.
    pub fn rms_norm(&self, x: &[f32], weight: Option<&[f32]>, offset: f32, epsilon: f32, out: &mut [f32]) {
        check_norm(x, weight, None, out);
        let (mean, squares) = self.moments(x, false);
        (self.vector.norm)(x, mean, squares, epsilon, out);
        self.scale_columns(weight, offset, None, out);
    }

    /// `out = (x - mean(x)) / sqrt(variance(x) + epsilon) · (weight + offset) + bias`.
    pub fn layer_norm(
        &self,
        x: &[f32],
        weight: Option<&[f32]>,
        offset: f32,
        bias: Option<&[f32]>,
        epsilon: f32,
        out: &mut [f32],
    ) {
        check_norm(x, weight, bias, out);
        let (mean, squares) = self.moments(x, true);
        (self.vector.norm)(x, mean, squares, epsilon, out);
        self.scale_columns(weight, offset, bias, out);
    }

    /// What a norm subtracts of its values, zero where it is not centered; and the sum of squares of what is left.
    pub fn moments(&self, x: &[f32], centered: bool) -> (f32, f32) {
        let mean = if centered { (self.vector.sum)(x) / x.len() as f32 } else { 0.0 };
        (mean, (self.vector.sum_squares)(x, mean))
    }

    fn scale_columns(&self, weight: Option<&[f32]>, offset: f32, bias: Option<&[f32]>, out: &mut [f32]) {
        if let Some(weight) = weight {
            (self.vector.multiply)(out, weight, offset);
        }
        if let Some(bias) = bias {
            (self.vector.add)(out, 1.0, bias);
        }
    }

    /// `x = activation(x)`.
    pub fn activate(&self, activation: Activation, x: &mut [f32]) {
        (self.vector.activate)(activation, x);
    }

    /// `gate = activation(gate) · activation.gated(up)` (Shazeer, arXiv 2002.05202).
    pub fn gate(&self, activation: Activation, gate: &mut [f32], up: &[f32]) {
        assert_eq!(gate.len(), up.len(), "a gate and what it gates have one length");
        (self.vector.activate)(activation, gate);
        match activation {
            Activation::SwishLimited { .. } => {
                gate.iter_mut().zip(up).for_each(|(gate, up)| *gate *= activation.gated(*up))
            }
            _ => (self.vector.multiply)(gate, up, 0.0),
        }
    }

    /// Rotates the pairs `(head[i], head[i + pairs])` by angles whose cosines and sines are given, one per pair.
    /// What lies beyond `2 · pairs` stays.
    pub fn rope(&self, head: &mut [f32], cos: &[f32], sin: &[f32]) {
        assert_eq!(cos.len(), sin.len(), "one cosine and one sine per pair");
        assert!(head.len() >= 2 * cos.len(), "a head of {} has no {} pairs", head.len(), cos.len());
        let (first, rest) = head.split_at_mut(cos.len());
        (self.vector.rotate)(first, &mut rest[..cos.len()], cos, sin);
    }

    /// `x = exp(x - max(x)) / Σ exp(x - max(x))`. An empty row stays empty.
    pub fn softmax(&self, x: &mut [f32]) {
        let largest = (self.vector.maximum)(x);
        let sum = (self.vector.exp_sum)(x, largest);
        (self.vector.scale)(x, 1.0 / sum);
    }

    /// `x = exp(x - shift)`, where no value is above `shift`; gives the sum.
    pub fn exp_sum(&self, x: &mut [f32], shift: f32) -> f32 {
        (self.vector.exp_sum)(x, shift)
    }

    /// The largest value; minus infinity for none.
    pub fn maximum(&self, x: &[f32]) -> f32 {
        (self.vector.maximum)(x)
    }

    /// `out += scale · x`.
    pub fn add(&self, out: &mut [f32], scale: f32, x: &[f32]) {
        assert_eq!(out.len(), x.len(), "rows that are added have one length");
        (self.vector.add)(out, scale, x);
    }

    /// `out *= x`.
    pub fn multiply(&self, out: &mut [f32], x: &[f32]) {
        assert_eq!(out.len(), x.len(), "rows that are multiplied have one length");
        (self.vector.multiply)(out, x, 0.0);
    }

    /// `x *= scale`.
    pub fn scale(&self, x: &mut [f32], scale: f32) {
        (self.vector.scale)(x, scale);
    }
}

fn check_norm(x: &[f32], weight: Option<&[f32]>, bias: Option<&[f32]>, out: &[f32]) {
    assert_eq!(x.len(), out.len(), "a norm keeps the row's length");
    assert!(weight.is_none_or(|weight| weight.len() == x.len()), "a norm has one factor per column");
    assert!(bias.is_none_or(|bias| bias.len() == x.len()), "a norm has one bias per column");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_error_function_has_its_known_values() {
        for (x, expected) in
            [(0.0, 0.0), (0.5, 0.520_499_877_8), (1.0, 0.842_700_792_9), (2.5, 0.999_593_048), (-3.0, -0.999_977_909_5)]
        {
            assert!((erf(x) - expected).abs() < 1e-9, "erf({x}) is {}", erf(x));
        }
    }
}
