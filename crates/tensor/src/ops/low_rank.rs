//! What an adapter adds to a product, for some of its rows: `y += scale · (x · aᵀ) · bᵀ`, then, with a magnitude,
//! `y *= length / norm` for each output, where the norms count as constants (Liu et al., arXiv 2402.09353).

use std::ops::Range;
use std::sync::Arc;

use super::attend::axpy;
use super::linear::Linear;
use super::norm::add_to;
use crate::backend::{Backend, Group};
use crate::tape::Gradients;
use crate::{AdapterSite, Tensor, Weight};

/// An adapter's pair beside one weight, and the rows that take it.
pub(crate) struct LowRank {
    rows: Range<usize>,
    site: AdapterSite,
    /// The weight's rows of the checkpoint's whole tensor.
    outputs: Range<usize>,
    /// The weight itself, where its rows' norms are asked for.
    weight: Option<Weight>,
    /// `x · aᵀ`, for a gradient.
    narrow: Option<Tensor>,
    stretch: Option<Stretch>,
}

/// What a magnitude multiplied.
struct Stretch {
    norms: Arc<Vec<f32>>,
    /// The sum of both products before, for a gradient.
    sum: Option<Tensor>,
}

impl LowRank {
    pub(crate) fn new(rows: Range<usize>, site: &AdapterSite, linear: &Linear) -> LowRank {
        let weight = site.magnitude.is_some().then(|| linear.weight.clone());
        LowRank { rows, site: site.clone(), outputs: linear.site.rows.clone(), weight, narrow: None, stretch: None }
    }

    /// The weight's product with the pair's, stretched; for a pair that stands beside all of it ([`LowRank::is_whole`]).
    pub(crate) fn with_product(
        &mut self,
        backend: &dyn Backend,
        x: &Tensor,
        weight: &Weight,
        remembers: bool,
    ) -> Tensor {
        let narrow = product(backend, &self.input(x), &self.site.a);
        let mut y = backend.product_beside(x, weight, &narrow, &self.site.b, self.site.scale);
        self.finish(backend, narrow, &mut y, remembers);
        y
    }

    /// Adds the pair's product to its rows of `y`, and stretches them.
    pub(crate) fn add(&mut self, backend: &dyn Backend, x: &Tensor, y: &mut Tensor, remembers: bool) {
        let narrow = product(backend, &self.input(x), &self.site.a);
        let wide = product(backend, &narrow, &self.site.b);
        for (row, wide) in self.rows.clone().zip(wide.values().chunks_exact(self.site.b.rows())) {
            axpy(y.row_mut(row), self.site.scale, &wide[self.outputs.clone()]);
        }
        self.finish(backend, narrow, y, remembers);
    }

    /// Stretches the rows of the sum, and remembers what a gradient needs.
    fn finish(&mut self, backend: &dyn Backend, narrow: Tensor, y: &mut Tensor, remembers: bool) {
        self.narrow = remembers.then_some(narrow);
        let (Some(magnitude), Some(weight)) = (&self.site.magnitude, &self.weight) else { return };
        let norms = self.site.norms(backend, weight, &self.outputs).expect("a site with a magnitude has norms");
        let sum = remembers.then(|| row_range(y, &self.rows));
        let lengths = &magnitude.lengths.values()[self.outputs.clone()];
        for row in self.rows.clone() {
            stretch(y.row_mut(row), lengths, &norms);
        }
        self.stretch = Some(Stretch { norms, sum });
    }

    /// Turns the gradient of the stretched rows into that of the sum, and collects that of the lengths:
    /// `dlength = Σ dy · sum / norm`.
    pub(crate) fn stretch_backward(&self, dy: &mut Tensor, gradients: &mut Gradients) {
        let (Some(magnitude), Some(Stretch { norms, sum: Some(sum) })) = (&self.site.magnitude, &self.stretch) else {
            return;
        };
        let lengths = &magnitude.lengths;
        if gradients.wants(lengths.id()) {
            let total = &mut gradients.sum(lengths.id(), lengths.values().len())[self.outputs.clone()];
            for (row, sum) in self.rows.clone().zip(sum.values().chunks_exact(sum.cols())) {
                let parts = dy.row(row).iter().zip(sum).zip(norms.iter());
                total.iter_mut().zip(parts).for_each(|(total, ((dy, sum), norm))| *total += dy * sum / norm);
            }
        }
        for row in self.rows.clone() {
            stretch(dy.row_mut(row), &lengths.values()[self.outputs.clone()], norms);
        }
    }

    /// As [`LowRank::backward`], and the weight's part: `dx = dy · weight + du · a`, added to what is there.
    pub(crate) fn backward_with_product(
        &self,
        backend: &dyn Backend,
        (x, weight): (&Tensor, &Weight),
        dy: &Tensor,
        onto: Option<Tensor>,
        gradients: &mut Gradients,
    ) -> Tensor {
        let d_narrow = self.narrow_backward(backend, x, dy, gradients);
        if self.site.dropout.is_none() {
            return backend.input_beside(dy, weight, (&d_narrow, &self.site.a), onto);
        }
        let mut dx = backend.grouped_input(dy, &[Group::whole(dy, weight)], onto);
        self.add_input(backend, &d_narrow, &mut dx);
        dx
    }

    /// With `u = x · aᵀ`: `db = scale · dyᵀ · u`, `du = scale · dy · b`, `da = duᵀ · x`, `dx += du · a`.
    pub(crate) fn backward(
        &self,
        backend: &dyn Backend,
        x: &Tensor,
        dy: &Tensor,
        dx: &mut Tensor,
        gradients: &mut Gradients,
    ) {
        let d_narrow = self.narrow_backward(backend, x, dy, gradients);
        self.add_input(backend, &d_narrow, dx);
    }

    /// `du`, with both weights' gradients.
    pub(crate) fn narrow_backward(
        &self,
        backend: &dyn Backend,
        x: &Tensor,
        dy: &Tensor,
        gradients: &mut Gradients,
    ) -> Tensor {
        let (site, whole) = (&self.site, 0..self.rows.len());
        let wide = self.wide(x, dy);
        let scale = |mut narrow: Tensor| {
            narrow.values_mut().iter_mut().for_each(|value| *value *= site.scale);
            narrow
        };
        if gradients.wants(site.b.id()) {
            let narrow = scale(self.narrow.clone().expect("a pair that is on a tape keeps its narrow product"));
            let sum = gradients.sum(site.b.id(), site.b.rows() * site.b.cols());
            backend.outer(&wide, &narrow, whole.clone(), sum);
        }
        let d_narrow = scale(backend.grouped_input(&wide, &[Group::whole(&wide, &site.b)], None));
        if gradients.wants(site.a.id()) {
            let sum = gradients.sum(site.a.id(), site.a.rows() * site.a.cols());
            backend.outer(&d_narrow, &self.input(x), whole, sum);
        }
        d_narrow
    }

    /// `dx += du · a`.
    fn add_input(&self, backend: &dyn Backend, d_narrow: &Tensor, dx: &mut Tensor) {
        let d_input = self.dropped(backend.grouped_input(d_narrow, &[Group::whole(d_narrow, &self.site.a)], None));
        for (at, row) in self.rows.clone().enumerate() {
            add_to(dx.row_mut(row), d_input.row(at));
        }
    }

    /// What the pair takes of its rows of `x`.
    fn input(&self, x: &Tensor) -> Tensor {
        self.dropped(row_range(x, &self.rows))
    }

    /// Rows with what training drops of them; dropping is its own gradient.
    fn dropped(&self, mut rows: Tensor) -> Tensor {
        if let Some(dropout) = &self.site.dropout {
            self.rows.clone().enumerate().for_each(|(at, number)| dropout.apply(number, rows.row_mut(at)));
        }
        rows
    }
}

impl LowRank {
    /// Whether the pair stands beside all rows and outputs, so that nothing is cut out.
    pub(crate) fn is_whole(&self, x: &Tensor) -> bool {
        self.rows.len() == x.rows() && self.outputs == (0..self.site.b.rows())
    }

    /// The pair's rows of the output's gradient, `[rows, b.rows]`: the adapter's b has the rows of the checkpoint's whole
    /// tensor, and this weight's gradient fills its part.
    fn wide(&self, x: &Tensor, dy: &Tensor) -> Tensor {
        if self.is_whole(x) {
            return dy.clone();
        }
        let mut wide = Tensor::zeros(self.rows.len(), self.site.b.rows());
        for (at, row) in self.rows.clone().enumerate() {
            wide.row_mut(at)[self.outputs.clone()].copy_from_slice(dy.row(row));
        }
        wide
    }
}

/// `values *= length / norm`.
fn stretch(values: &mut [f32], lengths: &[f32], norms: &[f32]) {
    values.iter_mut().zip(lengths.iter().zip(norms)).for_each(|(value, (length, norm))| *value *= length / norm);
}

fn product(backend: &dyn Backend, x: &Tensor, weight: &Weight) -> Tensor {
    backend.grouped(x, &[Group::whole(x, weight)])
}

/// Some rows: a copy, but for all of them.
fn row_range(x: &Tensor, rows: &Range<usize>) -> Tensor {
    if rows.len() == x.rows() {
        return x.clone();
    }
    let values = x.values()[rows.start * x.cols()..rows.end * x.cols()].to_vec();
    Tensor::new(rows.len(), x.cols(), values)
}
