//! Norms: RMS (Zhang & Sennrich, arXiv 1910.07467) and layer norm (Ba et al., arXiv 1607.06450), over a whole row
//! or over each head of it.

use crate::tape::{self, Gradients};
use crate::{Backend, Ops, Tensor, Vector};

/// A norm and its parameters.
#[derive(Clone)]
pub struct Norm {
    /// Whether the mean is subtracted first.
    pub centered: bool,
    /// Factor for each column; none is a factor of one.
    pub weight: Option<Vector>,
    /// Added after the factor.
    pub bias: Option<Vector>,
    /// Added to the mean of squares.
    pub eps: f32,
    /// Added to the stored factor. Some checkpoints store `weight - 1`, so an all-zero norm is the identity.
    pub offset: f32,
}

impl Norm {
    /// The factor of column `col`.
    pub fn factor(&self, col: usize) -> f32 {
        self.weight.as_ref().map_or(1.0, |weight| weight.values()[col] + self.offset)
    }
}

/// What a norm passes back.
pub struct NormGradients {
    /// The gradient of its input.
    pub x: Tensor,
    /// Of its factors, summed over rows.
    pub weights: Vec<f32>,
    /// Of its biases.
    pub biases: Vec<f32>,
}

pub(crate) struct Saved {
    x: Tensor,
    norm: Norm,
    width: usize,
}

impl Ops<'_> {
    /// Norms each row of `x`.
    pub fn norm(&mut self, x: &Tensor, norm: &Norm) -> Tensor {
        self.norm_heads(x, norm, x.cols())
    }

    /// Norms each `width` columns of each row on their own, with one set of `width` parameters.
    pub fn norm_heads(&mut self, x: &Tensor, norm: &Norm, width: usize) -> Tensor {
        assert!(x.cols().is_multiple_of(width), "heads of {width} in rows of {}", x.cols());
        assert!(norm.weight.as_ref().is_none_or(|weight| weight.values().len() == width));
        let y = self.backend.norm(x, norm, width);
        let parameters = [&norm.weight, &norm.bias].map(|vector| vector.as_ref().map(Vector::id));
        let goes_on = x.node().is_some() || parameters.into_iter().any(|parameter| self.trains(parameter));
        self.remember_if(goes_on, y, || tape::Saved::Norm(Saved { x: x.clone(), norm: norm.clone(), width }))
    }
}

impl Saved {
    pub(crate) fn backward(self, backend: &dyn Backend, dy: &Tensor, gradients: &mut Gradients) {
        let Saved { x, norm, width } = self;
        let wanted = |vector: &Option<Vector>| vector.as_ref().is_some_and(|vector| gradients.wants(vector.id()));
        let trained = wanted(&norm.weight) || wanted(&norm.bias);
        let found = backend.norm_backward(&x, dy, &norm, width, trained);
        for (parameter, sum) in [(&norm.weight, found.weights), (&norm.bias, found.biases)] {
            if let Some(parameter) = parameter.as_ref().filter(|parameter| gradients.wants(parameter.id())) {
                add_to(gradients.sum(parameter.id(), width), &sum);
            }
        }
        gradients.add(x.node(), found.x);
    }
}

/// The gradient of one row's input, and its part of the sums of the factors' and the biases' gradients.
///
/// With `n` the normed value and `g = dy · factor`: `dx = (g - mean(g) - n · mean(g · n)) / deviation`, where the mean of
/// `g` is taken only if the norm is centered.
pub(crate) fn row_backward(x: &[f32], dy: &[f32], norm: &Norm, dx: &mut [f32], sums: Option<[&mut [f32]; 2]>) {
    let width = x.len();
    let (mean, inverse) = statistics(x, norm);
    let n = |col: usize| (x[col] - mean) * inverse;
    let g = |col: usize| dy[col] * norm.factor(col);
    let g_mean = if norm.centered { (0..width).map(g).sum::<f32>() / width as f32 } else { 0.0 };
    let gn_mean = (0..width).map(|col| g(col) * n(col)).sum::<f32>() / width as f32;
    dx.iter_mut().enumerate().for_each(|(col, dx)| *dx = (g(col) - g_mean - n(col) * gn_mean) * inverse);
    if let Some([weight_sum, bias_sum]) = sums {
        for col in 0..width {
            weight_sum[col] += dy[col] * n(col);
            bias_sum[col] += dy[col];
        }
    }
}

/// The mean that is subtracted and the inverse deviation that multiplies.
pub(crate) fn statistics(x: &[f32], norm: &Norm) -> (f32, f32) {
    let len = x.len() as f32;
    let mean = if norm.centered { x.iter().sum::<f32>() / len } else { 0.0 };
    let squares = x.iter().map(|x| (x - mean) * (x - mean)).sum::<f32>() / len;
    (mean, 1.0 / (squares + norm.eps).sqrt())
}

pub(crate) fn add_to(sum: &mut [f32], values: &[f32]) {
    sum.iter_mut().zip(values).for_each(|(sum, value)| *sum += value);
}
