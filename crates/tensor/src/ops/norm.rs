//! Norms: RMS (Zhang & Sennrich, arXiv 1910.07467) and layer norm (Ba et al., arXiv 1607.06450), over a whole row
//! or over each head of it.

use crate::tape::{self, Gradients};
use crate::{NodeId, Ops, Tensor, Vector};

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
        self.remember(y, || tape::Saved::Norm(Saved { x: x.clone(), norm: norm.clone(), width }))
    }
}

impl Saved {
    /// With `n` the normed value and `g = dy · factor`: `dx = (g - mean(g) - n · mean(g · n)) / deviation`,
    /// where the mean of `g` is taken only if the norm is centered.
    pub(crate) fn backward(self, dy: &Tensor, gradients: &mut Gradients) {
        let Saved { x, norm, width } = self;
        let mut dx = Tensor::zeros(x.rows(), x.cols());
        let mut weight_sum = vec![0.0; width];
        let mut bias_sum = vec![0.0; width];
        let rows = x.values().chunks_exact(width).zip(dy.values().chunks_exact(width));
        for ((x, dy), dx) in rows.zip(dx.values_mut().chunks_exact_mut(width)) {
            let (mean, inverse) = statistics(x, &norm);
            let n = |col: usize| (x[col] - mean) * inverse;
            let g = |col: usize| dy[col] * norm.factor(col);
            let g_mean = if norm.centered { (0..width).map(g).sum::<f32>() / width as f32 } else { 0.0 };
            let gn_mean = (0..width).map(|col| g(col) * n(col)).sum::<f32>() / width as f32;
            for col in 0..width {
                dx[col] = (g(col) - g_mean - n(col) * gn_mean) * inverse;
                weight_sum[col] += dy[col] * n(col);
                bias_sum[col] += dy[col];
            }
        }
        for (parameter, sum) in [(&norm.weight, weight_sum), (&norm.bias, bias_sum)] {
            if let Some(parameter) = parameter.as_ref().filter(|parameter| gradients.wants(parameter.id())) {
                add_to(gradients.sum(parameter.id(), width), &sum);
            }
        }
        let input: Option<NodeId> = x.node();
        gradients.add(input, dx);
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
