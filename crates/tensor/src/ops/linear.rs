//! The one product of activations with weights. Quantized weights, adapters and gradients meet here: a dense weight
//! is one group, experts are groups by route, adapters are groups by (adapter, rank).

use std::ops::Range;
use std::sync::Arc;

use super::low_rank::LowRank;
use super::norm::add_to;
use crate::backend::Group;
use crate::tape::{self, Gradients};
use crate::{AdapterSite, Backend, Ops, Route, Tensor, Vector, Weight};

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
    pairs: Vec<LowRank>,
}

impl Ops<'_> {
    /// `x · weightᵀ + bias`, and what the adapters of the batch add.
    pub fn linear(&mut self, x: &Tensor, linear: &Linear) -> Tensor {
        let pair = |(rows, site): (&Range<usize>, &AdapterSite)| LowRank::new(rows.clone(), site, linear);
        let pairs = linear.adapted(&self.routes).map(pair).collect();
        self.product(x, &[(0..x.rows(), linear)], pairs)
    }

    /// Each group's rows through its own weight and bias; all weights have one shape. `numbers` says which row of the
    /// batch each row of `x` is, ascending within a group, so that adapters find theirs.
    pub fn grouped_linear(&mut self, x: &Tensor, groups: &[(Range<usize>, &Linear)], numbers: &[u32]) -> Tensor {
        assert_eq!(numbers.len(), x.rows(), "a row of the batch for each row");
        let mut pairs = Vec::new();
        for (rows, linear) in groups {
            let numbers = &numbers[rows.clone()];
            let place = |row: usize| rows.start + numbers.partition_point(|number| (*number as usize) < row);
            for (wanted, site) in linear.adapted(&self.routes) {
                let part = place(wanted.start)..place(wanted.end);
                if !part.is_empty() {
                    pairs.push(LowRank::new(part, site, linear));
                }
            }
        }
        self.product(x, groups, pairs)
    }

    fn product(&mut self, x: &Tensor, linears: &[(Range<usize>, &Linear)], mut pairs: Vec<LowRank>) -> Tensor {
        for (_, linear) in linears {
            assert_eq!(x.cols(), linear.weight.cols(), "inputs of {}", linear.site.tensor);
        }
        let remembers = self.remembers();
        let mut y = match (linears, &mut pairs[..]) {
            ([(_, linear)], [pair]) if pair.is_whole(x) => {
                pair.with_product(self.backend, x, &linear.weight, remembers)
            }
            (_, pairs) => {
                let mut y = self.backend.grouped(x, &groups(linears.iter().map(|(rows, linear)| (rows, *linear))));
                pairs.iter_mut().for_each(|pair| pair.add(self.backend, x, &mut y, remembers));
                y
            }
        };
        for (rows, linear) in linears {
            if let Some(bias) = &linear.bias {
                rows.clone().for_each(|row| add_to(y.row_mut(row), bias.values()));
            }
        }
        self.remember(y, || {
            let groups = linears.iter().map(|(rows, linear)| (rows.clone(), (*linear).clone())).collect();
            tape::Saved::Linear(Saved { x: x.clone(), groups, pairs })
        })
    }
}

fn groups<'g>(linears: impl Iterator<Item = (&'g Range<usize>, &'g Linear)>) -> Vec<Group<'g>> {
    linears.map(|(rows, linear)| Group { rows: rows.clone(), weight: &linear.weight }).collect()
}

impl Saved {
    /// `dx = dy · weight`, `dw = dyᵀ · x`, and what the adapters add (`low_rank.rs`). Beside a magnitude, `dy` is first
    /// what reaches the sum of weight and pair.
    pub(crate) fn backward(self, backend: &dyn Backend, dy: &Tensor, gradients: &mut Gradients) {
        let Saved { x, groups: linears, pairs } = self;
        for (rows, linear) in &linears {
            if let Some(bias) = linear.bias.as_ref().filter(|bias| gradients.wants(bias.id())) {
                let sum = gradients.sum(bias.id(), bias.values().len());
                rows.clone().for_each(|row| add_to(sum, dy.row(row)));
            }
        }
        let mut dy = dy.clone();
        pairs.iter().for_each(|pair| pair.stretch_backward(&mut dy, gradients));
        for (rows, linear) in &linears {
            let weight = &linear.weight;
            if gradients.wants(weight.id()) {
                let sum = gradients.sum(weight.id(), weight.rows() * weight.cols());
                backend.outer(&dy, &x, rows.clone(), sum);
            }
        }
        if x.node().is_none() {
            // Nothing before it is trained.
            return pairs.iter().for_each(|pair| drop(pair.narrow_backward(backend, &x, &dy, gradients)));
        }
        let onto = gradients.lend(x.node());
        let dx = match (&linears[..], &pairs[..]) {
            ([(_, linear)], [pair]) if pair.is_whole(&x) => {
                pair.backward_with_product(backend, (&x, &linear.weight), &dy, onto, gradients)
            }
            _ => {
                let groups = groups(linears.iter().map(|(rows, linear)| (rows, linear)));
                let mut dx = backend.grouped_input(&dy, &groups, onto);
                pairs.iter().for_each(|pair| pair.backward(backend, &x, &dy, &mut dx, gradients));
                dx
            }
        };
        gradients.add(x.node(), dx);
    }
}
