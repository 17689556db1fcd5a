//! Plain elementwise loops. What they mean is said in `elementwise.rs`.

use crate::elementwise::Activation;

pub(super) fn sum(x: &[f32]) -> f32 {
    x.iter().sum()
}

pub(super) fn sum_squares(x: &[f32], mean: f32) -> f32 {
    x.iter().map(|x| (x - mean) * (x - mean)).sum()
}

/// `out = (x - mean) / sqrt(squares / len + epsilon)`.
pub(super) fn norm(x: &[f32], mean: f32, squares: f32, epsilon: f32, out: &mut [f32]) {
    let factor = norm_factor(x.len(), squares, epsilon);
    for (out, x) in out.iter_mut().zip(x) {
        *out = (x - mean) * factor;
    }
}

pub(crate) fn norm_factor(len: usize, squares: f32, epsilon: f32) -> f32 {
    1.0 / (squares / len as f32 + epsilon).sqrt()
}

/// `out *= x + offset`.
pub(super) fn multiply(out: &mut [f32], x: &[f32], offset: f32) {
    for (out, x) in out.iter_mut().zip(x) {
        *out *= x + offset;
    }
}

pub(super) fn add(out: &mut [f32], scale: f32, x: &[f32]) {
    for (out, x) in out.iter_mut().zip(x) {
        *out += scale * x;
    }
}

pub(super) fn scale(x: &mut [f32], scale: f32) {
    x.iter_mut().for_each(|x| *x *= scale);
}

pub(super) fn activate(activation: Activation, x: &mut [f32]) {
    x.iter_mut().for_each(|x| *x = activation.of(*x));
}

pub(super) fn rotate(first: &mut [f32], second: &mut [f32], cos: &[f32], sin: &[f32]) {
    for (((first, second), cos), sin) in first.iter_mut().zip(second).zip(cos).zip(sin) {
        (*first, *second) = (*first * cos - *second * sin, *second * cos + *first * sin);
    }
}

pub(super) fn maximum(x: &[f32]) -> f32 {
    x.iter().copied().fold(f32::NEG_INFINITY, f32::max)
}

/// `x = exp(x - shift)`; gives the sum.
pub(super) fn exp_sum(x: &mut [f32], shift: f32) -> f32 {
    let mut sum = 0.0;
    for x in x {
        *x = (*x - shift).exp();
        sum += *x;
    }
    sum
}
