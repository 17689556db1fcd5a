//! Sums and factors of whole tensors: the residual stream, embedding scales, clips.

use crate::tape::{self, Gradients};
use crate::{NodeId, Ops, Tensor, reference};

pub(crate) struct Saved {
    a: Option<NodeId>,
    b: Option<NodeId>,
    scale: f32,
}

pub(crate) struct SavedScale {
    x: Option<NodeId>,
    factors: Factors,
}

pub(crate) struct SavedClamp {
    x: Tensor,
    limit: f32,
}

/// By what each row is multiplied.
#[derive(Clone)]
pub enum Factors {
    /// All rows by one factor.
    All(f32),
    /// Each row by its own.
    Rows(Vec<f32>),
}

impl Factors {
    /// The factor of a row.
    pub fn of(&self, row: usize) -> f32 {
        match self {
            Factors::All(factor) => *factor,
            Factors::Rows(factors) => factors[row],
        }
    }
}

impl Ops<'_> {
    /// `a + scale · b`.
    pub fn add(&mut self, a: &Tensor, b: &Tensor, scale: f32) -> Tensor {
        assert_eq!((a.rows(), a.cols()), (b.rows(), b.cols()));
        let y = self.backend.add(a, b, scale);
        self.remember(y, || tape::Saved::Add(Saved { a: a.node(), b: b.node(), scale }))
    }

    /// Each row of `x` times its factor.
    pub fn scale(&mut self, x: &Tensor, factors: &Factors) -> Tensor {
        let y = self.backend.scale(x, factors);
        self.remember_if(x.node().is_some(), y, || {
            tape::Saved::Scale(SavedScale { x: x.node(), factors: factors.clone() })
        })
    }

    /// Each value held within `-limit..=limit`.
    pub fn clamp(&mut self, x: &Tensor, limit: f32) -> Tensor {
        let y = self.backend.clamp(x, limit);
        self.remember(y, || tape::Saved::Clamp(SavedClamp { x: x.clone(), limit }))
    }
}

impl Saved {
    pub(crate) fn backward(self, dy: &Tensor, gradients: &mut Gradients) {
        let scaled = if self.scale == 1.0 { dy.clone() } else { reference::scale(dy, &Factors::All(self.scale)) };
        gradients.add(self.b, scaled);
        gradients.add(self.a, dy.clone());
    }
}

impl SavedScale {
    pub(crate) fn backward(self, dy: &Tensor, gradients: &mut Gradients) {
        gradients.add(self.x, reference::scale(dy, &self.factors));
    }
}

impl SavedClamp {
    pub(crate) fn backward(self, dy: &Tensor, gradients: &mut Gradients) {
        let inside = |(x, dy): (&f32, &f32)| if x.abs() <= self.limit { *dy } else { 0.0 };
        let dx = self.x.values().iter().zip(dy.values()).map(inside).collect();
        gradients.add(self.x.node(), Tensor::new(dy.rows(), dy.cols(), dx));
    }
}
