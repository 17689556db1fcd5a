//! Fused products: norm, one preparation of the input, several weights, and what follows them. A backend may do it
//! in one dispatch; the plain operations composed here are the specification, and what a tape remembers.

use super::add::Factors;
use super::linear::Linear;
use super::norm::Norm;
use super::rope::RopeTable;
use crate::{Activation, Ops, Tensor};

/// What follows the products of a projection.
pub enum Epilogue<'a> {
    /// Nothing but the bias: one output for each weight.
    Plain,
    /// Each output is heads, prepared for attention.
    Heads(Vec<HeadEpilogue<'a>>),
    /// `activation(first) · second`: one output.
    Gated(Activation),
    /// `activation(first)`: one output.
    Activated(Activation),
}

/// What happens to the heads of one output, in this order.
#[derive(Clone)]
pub struct HeadEpilogue<'a> {
    /// Values per head.
    pub head_dim: usize,
    /// Values are held within this limit.
    pub clamp: Option<f32>,
    /// A norm over each `width` columns before the rotation.
    pub norm: Option<(&'a Norm, usize)>,
    /// The rotation.
    pub rope: Option<&'a RopeTable>,
    /// A norm over each `width` columns after the rotation.
    pub late_norm: Option<(&'a Norm, usize)>,
    /// A factor for each row.
    pub factors: Option<&'a Factors>,
}

impl Ops<'_> {
    /// The products of normed `x` with several weights, and what follows them.
    pub fn project(
        &mut self,
        x: &Tensor,
        norm: Option<&Norm>,
        linears: &[&Linear],
        epilogue: &Epilogue,
    ) -> Vec<Tensor> {
        let adapted = linears.iter().any(|linear| linear.adapted(&self.routes).next().is_some());
        if !adapted
            && self.tape.is_none()
            && let Some(outputs) = self.backend.project(x, norm, linears, epilogue)
        {
            return outputs;
        }
        self.composed(x, norm, linears, epilogue)
    }

    fn composed(&mut self, x: &Tensor, norm: Option<&Norm>, linears: &[&Linear], epilogue: &Epilogue) -> Vec<Tensor> {
        let normed = norm.map(|norm| self.norm(x, norm));
        let x = normed.as_ref().unwrap_or(x);
        let outputs: Vec<Tensor> = linears.iter().map(|linear| self.linear(x, linear)).collect();
        match epilogue {
            Epilogue::Plain => outputs,
            Epilogue::Heads(heads) => {
                assert_eq!(heads.len(), outputs.len());
                outputs.iter().zip(heads).map(|(output, head)| self.heads(output, head)).collect()
            }
            Epilogue::Gated(activation) => vec![self.gate(&outputs[0], &outputs[1], *activation)],
            Epilogue::Activated(activation) => vec![self.activate(&outputs[0], *activation)],
        }
    }

    fn heads(&mut self, x: &Tensor, head: &HeadEpilogue) -> Tensor {
        let mut x = x.clone();
        if let Some(limit) = head.clamp {
            x = self.clamp(&x, limit);
        }
        if let Some((norm, width)) = head.norm {
            x = self.norm_heads(&x, norm, width);
        }
        if let Some(table) = head.rope {
            x = self.rope(&x, head.head_dim, table);
        }
        if let Some((norm, width)) = head.late_norm {
            x = self.norm_heads(&x, norm, width);
        }
        if let Some(factors) = head.factors {
            x = self.scale(&x, factors);
        }
        x
    }

    /// `stream + scale · linear(x)`.
    pub fn project_add(&mut self, x: &Tensor, linear: &Linear, scale: f32, stream: &Tensor) -> Tensor {
        let adapted = linear.adapted(&self.routes).next().is_some();
        if !adapted
            && self.tape.is_none()
            && let Some(output) = self.backend.project_add(x, linear, scale, stream)
        {
            return output;
        }
        let y = self.linear(x, linear);
        self.add(stream, &y, scale)
    }
}
