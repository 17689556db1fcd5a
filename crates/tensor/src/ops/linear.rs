//! The one product of activations with weights. Quantized weights, adapters and gradients meet here: a dense weight
//! is one group, experts are groups by route, adapters are groups by (adapter, rank).

use std::ops::Range;
use std::sync::Arc;

use super::norm::add_to;
use crate::backend::{Backend, Group};
use crate::tape::{self, Gradients};
use crate::{AdapterSite, Ops, Route, Tensor, Vector, Weight};

/// Where in the checkpoint a weight comes from: adapters are named by it.
#[derive(Clone, Debug)]
pub struct Site {
    /// The checkpoint's tensor, without `.weight`.
    pub tensor: Arc<str>,
    /// The rows of it that this weight is, for a fused tensor.
    pub rows: Range<usize>,
}

/// A weight with its bias and its place in the checkpoint.
#[derive(Clone)]
pub struct Linear {
    /// `[outputs, inputs]`.
    pub weight: Weight,
    /// Added to each row.
    pub bias: Option<Vector>,
    /// For adapters.
    pub site: Site,
}

impl Linear {
    /// The routes whose adapter changes this weight.
    pub fn adapted<'r>(&self, routes: &'r [Route]) -> impl Iterator<Item = (&'r Range<usize>, &'r AdapterSite)> {
        let site = self.site.tensor.clone();
        routes.iter().filter_map(move |route| Some((&route.rows, route.adapter.site(&site)?)))
    }
}

pub(crate) struct Saved {
    x: Tensor,
    groups: Vec<(Range<usize>, Linear)>,
    routes: Vec<(Range<usize>, AdapterSite)>,
}

impl Ops<'_> {
    /// `x · weightᵀ + bias`, and what the adapters of the batch add.
    pub fn linear(&mut self, x: &Tensor, linear: &Linear) -> Tensor {
        let routes = linear.adapted(&self.routes).map(|(rows, site)| (rows.clone(), site.clone())).collect();
        self.product(x, &[(0..x.rows(), linear)], routes)
    }

    /// Each group's rows through its own weight and bias; all weights have one shape. Adapters name rows of the
    /// batch, so they do not reach rows that were sorted into groups: loading an adapter for such a weight is refused.
    pub fn grouped_linear(&mut self, x: &Tensor, groups: &[(Range<usize>, &Linear)]) -> Tensor {
        self.product(x, groups, Vec::new())
    }

    fn product(
        &mut self,
        x: &Tensor,
        linears: &[(Range<usize>, &Linear)],
        routes: Vec<(Range<usize>, AdapterSite)>,
    ) -> Tensor {
        for (_, linear) in linears {
            assert_eq!(x.cols(), linear.weight.cols(), "inputs of {}", linear.site.tensor);
        }
        let mut y = self.backend.grouped(x, &groups(linears.iter().map(|(rows, linear)| (rows, *linear))));
        for (rows, site) in &routes {
            add_low_rank(self.backend, x, rows, site, &linears[0].1.site.rows, &mut y);
        }
        for (rows, linear) in linears {
            if let Some(bias) = &linear.bias {
                rows.clone().for_each(|row| add_to(y.row_mut(row), bias.values()));
            }
        }
        self.remember(y, || {
            let groups = linears.iter().map(|(rows, linear)| (rows.clone(), (*linear).clone())).collect();
            tape::Saved::Linear(Saved { x: x.clone(), groups, routes })
        })
    }
}

fn groups<'g>(linears: impl Iterator<Item = (&'g Range<usize>, &'g Linear)>) -> Vec<Group<'g>> {
    linears.map(|(rows, linear)| Group { rows: rows.clone(), weight: &linear.weight }).collect()
}

/// `y[rows] += scale · (x[rows] · aᵀ) · b[outputs]ᵀ`.
fn add_low_rank(
    backend: &dyn Backend,
    x: &Tensor,
    rows: &Range<usize>,
    site: &AdapterSite,
    outputs: &Range<usize>,
    y: &mut Tensor,
) {
    let input = row_range(x, rows);
    let narrow = product(backend, &input, &site.a);
    let wide = product(backend, &narrow, &site.b);
    for (row, wide) in rows.clone().zip(wide.values().chunks_exact(site.b.rows())) {
        let wide = &wide[outputs.clone()];
        y.row_mut(row).iter_mut().zip(wide).for_each(|(y, wide)| *y += site.scale * wide);
    }
}

fn product(backend: &dyn Backend, x: &Tensor, weight: &Weight) -> Tensor {
    backend.grouped(x, &[Group { rows: 0..x.rows(), weight }])
}

/// A copy of some rows, without a node.
fn row_range(x: &Tensor, rows: &Range<usize>) -> Tensor {
    let values = x.values()[rows.start * x.cols()..rows.end * x.cols()].to_vec();
    Tensor::new(rows.len(), x.cols(), values)
}

impl Saved {
    /// `dx = dy · weight`, `dw = dyᵀ · x`; for an adapter, with `u = x · aᵀ`: `db = scale · dyᵀ · u`,
    /// `du = scale · dy · b`, `da = duᵀ · x`, `dx += du · a`.
    pub(crate) fn backward(self, backend: &dyn Backend, dy: &Tensor, gradients: &mut Gradients) {
        let Saved { x, groups: linears, routes } = self;
        for (rows, linear) in &linears {
            let weight = &linear.weight;
            if gradients.wants(weight.id()) {
                backend.outer(dy, &x, rows.clone(), gradients.sum(weight.id(), weight.rows() * weight.cols()));
            }
            if let Some(bias) = linear.bias.as_ref().filter(|bias| gradients.wants(bias.id())) {
                let sum = gradients.sum(bias.id(), bias.values().len());
                rows.clone().for_each(|row| add_to(sum, dy.row(row)));
            }
        }
        let mut dx = backend.grouped_input(dy, &groups(linears.iter().map(|(rows, linear)| (rows, linear))));
        for (rows, site) in &routes {
            low_rank_backward(backend, &x, dy, rows, site, &linears[0].1.site.rows, &mut dx, gradients);
        }
        gradients.add(x.node(), dx);
    }
}

#[allow(clippy::too_many_arguments)]
fn low_rank_backward(
    backend: &dyn Backend,
    x: &Tensor,
    dy: &Tensor,
    rows: &Range<usize>,
    site: &AdapterSite,
    outputs: &Range<usize>,
    dx: &mut Tensor,
    gradients: &mut Gradients,
) {
    let input = row_range(x, rows);
    let narrow = product(backend, &input, &site.a);
    // The adapter's b has the rows of the checkpoint's whole tensor; this weight's gradient fills its part.
    let mut scaled = Tensor::zeros(rows.len(), site.b.rows());
    for (at, row) in rows.clone().enumerate() {
        let part = &mut scaled.row_mut(at)[outputs.clone()];
        part.iter_mut().zip(dy.row(row)).for_each(|(part, dy)| *part = site.scale * dy);
    }
    let whole = 0..rows.len();
    if gradients.wants(site.b.id()) {
        backend.outer(&scaled, &narrow, whole.clone(), gradients.sum(site.b.id(), site.b.rows() * site.b.cols()));
    }
    let d_narrow = backend.grouped_input(&scaled, &[Group { rows: whole.clone(), weight: &site.b }]);
    if gradients.wants(site.a.id()) {
        backend.outer(&d_narrow, &input, whole.clone(), gradients.sum(site.a.id(), site.a.rows() * site.a.cols()));
    }
    let d_input = backend.grouped_input(&d_narrow, &[Group { rows: whole, weight: &site.a }]);
    for (at, row) in rows.clone().enumerate() {
        add_to(dx.row_mut(row), d_input.row(at));
    }
}
