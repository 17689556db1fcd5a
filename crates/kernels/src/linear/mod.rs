//! Products of stored weights with f32 activations: `y[token][row] = Σ weight[row][k] · x[token][k]`.
//!
//! This file owns the types and the dispatch; `layout.rs` how panels are stored, `record.rs` how activations are
//! prepared, `panels.rs` the loop over panels. Invariant: within one precision and instruction set a result's bits
//! depend on its row and token only: each pair sums k in one order in its own accumulator, at every tile width.

mod layout;
mod panels;
mod record;
mod segments;

pub(crate) use layout::packed_block;
pub use layout::{
    Aligned, Layout, Matrix, PANEL, layout_for, layout_on, layouts_number, pack, packed_bytes, panel_bytes, row_values,
    unpack_row,
};
pub(crate) use panels::{Apart, Decode, PackedKernels, TileKernels};
pub(crate) use record::{CodeLayout, RecordLayout, Rows, Section};

use crate::elementwise::Activation;
use crate::isa::Kernels;
use crate::pool::{Pool, Stripe, Stripes};
use panels::{Scratch, Source, with_panels};
use record::with_records;

/// Most products that share one dispatch; longer lists take several.
const PRODUCTS: usize = 8;

/// Tokens that are computed together.
pub(crate) const TOKENS: usize = 16;

/// Results of one panel: `[token][row]`.
pub(crate) type Tile = [[f32; PANEL]; TOKENS];

/// Results of two panels.
pub(crate) type Tiles = [Tile; 2];

/// With which numbers the products are computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Precision {
    /// f32 activations times dequantized weights, summed in f32.
    Exact,
    /// 8-bit activations for packed quantized weights; bf16 for packed BF16 where the processor multiplies that faster than
    /// f32; f32 otherwise.
    Fast,
}

/// What happens to each row of activations before the products.
#[derive(Clone, Copy)]
pub enum Prologue<'a> {
    /// Nothing.
    None,
    /// `x / sqrt(mean(x²) + epsilon) · (weight + offset)`.
    RmsNorm {
        /// One factor per column; none is a factor of one.
        weight: Option<&'a [f32]>,
        /// Added to the factors.
        offset: f32,
        /// Keeps the root from zero.
        epsilon: f32,
    },
    /// `(x - mean) / sqrt(variance + epsilon) · (weight + offset) + bias`.
    LayerNorm {
        /// One factor per column; none is a factor of one.
        weight: Option<&'a [f32]>,
        /// Added to the factors.
        offset: f32,
        /// One summand per column.
        bias: Option<&'a [f32]>,
        /// Keeps the root from zero.
        epsilon: f32,
    },
}

/// Activations that several products share.
#[derive(Clone, Copy)]
pub struct Input<'a> {
    /// `[tokens, cols]`.
    pub values: &'a [f32],
    /// Values per token.
    pub cols: usize,
    /// What happens to them first.
    pub prologue: Prologue<'a>,
}

impl Input<'_> {
    /// How many tokens there are.
    pub fn tokens(&self) -> usize {
        assert!(self.cols > 0 && self.values.len().is_multiple_of(self.cols), "activations are not whole rows");
        self.values.len() / self.cols
    }
}

/// What a product does with its results.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Finish {
    /// `out = y`.
    Store,
    /// `out += scale · y`: the residual stream.
    Add {
        /// The factor of what is added.
        scale: f32,
    },
    /// `out = activation(y)`.
    Activate(Activation),
}

/// One weight to multiply with, and where the results go.
pub struct Product<'a> {
    /// `[rows, cols]`.
    pub weight: Matrix<'a>,
    /// One summand per row.
    pub bias: Option<&'a [f32]>,
    /// What happens to the results.
    pub finish: Finish,
    /// `[tokens, rows]`.
    pub out: &'a mut [f32],
}

/// A pair of weights whose results are joined as `activation(gate) · up`.
pub struct GatedProduct<'a> {
    /// The gate's weight, `[rows, cols]`.
    pub gate: Matrix<'a>,
    /// The other factor's weight, `[rows, cols]`.
    pub up: Matrix<'a>,
    /// One summand per row of the gate.
    pub gate_bias: Option<&'a [f32]>,
    /// One summand per row of the other factor.
    pub up_bias: Option<&'a [f32]>,
    /// How the two are joined.
    pub activation: Activation,
    /// `[tokens, rows]`.
    pub out: &'a mut [f32],
}

/// Multiplies one input with several weights, of any formats, in one dispatch: each row is normed and quantized once.
pub fn project(pool: &Pool, precision: Precision, input: &Input<'_>, products: &mut [Product<'_>]) {
    for products in products.chunks_mut(PRODUCTS) {
        project_some(pool, precision, input, products);
    }
}

fn project_some(pool: &Pool, precision: Precision, input: &Input<'_>, products: &mut [Product<'_>]) {
    let (tokens, kernels) = (input.tokens(), pool.kernels());
    let mut parts: [Option<Part<'_>>; PRODUCTS] = [const { None }; PRODUCTS];
    for (part, product) in parts.iter_mut().zip(products) {
        let weight = product.weight;
        check(input, &weight, product.bias);
        assert_eq!(product.out.len(), tokens * weight.rows, "an output is [tokens, rows]");
        if !product.out.is_empty() {
            let source = Source::new(kernels, precision, weight, tokens);
            let out = Stripes::new(&mut *product.out, weight.rows, source.stripe(pool.threads()));
            *part = Some(Part { source, out, bias: product.bias, finish: product.finish });
        }
    }
    let sections = parts.iter().flatten().map(|part| part.source.section());
    let work = parts.iter().flatten().map(|part| tokens * part.source.values()).sum();
    with_records(pool, input, work, sections, |records| {
        with_panels(|scratch| {
            for part in parts.iter().flatten() {
                while let Some((_, stripe)) = part.out.claim() {
                    part.multiply(kernels, stripe, records, scratch);
                }
            }
        });
    });
}

struct Part<'a> {
    source: Source<'a>,
    out: Stripes<'a, f32>,
    bias: Option<&'a [f32]>,
    finish: Finish,
}

impl Part<'_> {
    fn multiply(&self, kernels: &Kernels, mut stripe: Stripe<'_, f32>, records: &Rows<'_>, scratch: &mut Scratch) {
        let first = stripe.first();
        let bias = self.bias.map(|bias| &bias[first..first + stripe.cols()]);
        let panels = self.source.open(first, stripe.cols(), &mut scratch.first);
        let mut tiles: Tiles = [[[0.0; PANEL]; TOKENS]; 2];
        for start in (0..stripe.rows()).step_by(TOKENS) {
            let tokens = TOKENS.min(stripe.rows() - start);
            let rows = records.from(start);
            for first in (0..stripe.cols().div_ceil(PANEL)).step_by(2) {
                let columns = columns(stripe.cols(), first);
                panels.multiply(first, columns.len(), &rows, tokens, &mut tiles);
                for (cols, tile) in columns.zip(&mut tiles) {
                    for (token, values) in tile[..tokens].iter_mut().enumerate() {
                        let values = &mut values[..cols.len()];
                        add_bias(values, bias.map(|bias| &bias[cols.clone()]));
                        self.finish(kernels, values, &mut stripe.row(start + token)[cols.clone()]);
                    }
                }
            }
        }
    }

    fn finish(&self, kernels: &Kernels, values: &[f32], out: &mut [f32]) {
        match self.finish {
            Finish::Store => store(out, values),
            Finish::Add { scale } => out.iter_mut().zip(values).for_each(|(out, value)| *out += scale * value),
            Finish::Activate(activation) => {
                out.copy_from_slice(values);
                kernels.activate(activation, out);
            }
        }
    }
}

/// Computes `activation(x · gateᵀ) · (x · upᵀ)` in one dispatch.
pub fn project_gated(pool: &Pool, precision: Precision, input: &Input<'_>, product: GatedProduct<'_>) {
    let (tokens, kernels) = (input.tokens(), pool.kernels());
    let GatedProduct { gate, up, gate_bias, up_bias, activation, out } = product;
    check(input, &gate, gate_bias);
    check(input, &up, up_bias);
    assert_eq!(gate.rows, up.rows, "gate and up have the same rows");
    assert_eq!(out.len(), tokens * gate.rows, "an output is [tokens, rows]");
    if out.is_empty() {
        return;
    }
    let source = |weight| Source::new(kernels, precision, weight, tokens);
    let (width, gate, up) = (gate.rows, source(gate), source(up));
    let out = Stripes::new(out, width, gate.stripe(pool.threads()).min(up.stripe(pool.threads())));
    let pair = Pair { gate, up, gate_bias, up_bias, activation };
    let (work, sections) = (2 * tokens * pair.gate.values(), [pair.gate.section(), pair.up.section()]);
    with_records(pool, input, work, sections.into_iter(), |records| {
        with_panels(|scratch| {
            while let Some((_, stripe)) = out.claim() {
                pair.multiply(kernels, stripe, records, scratch);
            }
        });
    });
}

struct Pair<'a> {
    gate: Source<'a>,
    up: Source<'a>,
    gate_bias: Option<&'a [f32]>,
    up_bias: Option<&'a [f32]>,
    activation: Activation,
}

impl Pair<'_> {
    fn multiply(&self, kernels: &Kernels, mut stripe: Stripe<'_, f32>, records: &Rows<'_>, scratch: &mut Scratch) {
        let all = stripe.first()..stripe.first() + stripe.cols();
        let gate_bias = self.gate_bias.map(|bias| &bias[all.clone()]);
        let up_bias = self.up_bias.map(|bias| &bias[all.clone()]);
        let gate = self.gate.open(all.start, all.len(), &mut scratch.first);
        let up = self.up.open(all.start, all.len(), &mut scratch.second);
        let mut tiles: [Tiles; 2] = [[[[0.0; PANEL]; TOKENS]; 2]; 2];
        for start in (0..stripe.rows()).step_by(TOKENS) {
            let tokens = TOKENS.min(stripe.rows() - start);
            let rows = records.from(start);
            for first in (0..all.len().div_ceil(PANEL)).step_by(2) {
                let [gates, ups] = &mut tiles;
                let columns = columns(all.len(), first);
                gate.multiply(first, columns.len(), &rows, tokens, gates);
                up.multiply(first, columns.len(), &rows, tokens, ups);
                for (cols, (gates, ups)) in columns.zip(gates.iter_mut().zip(ups)) {
                    for (gates, ups) in gates[..tokens].iter_mut().zip(&mut *ups) {
                        add_bias(gates, gate_bias.map(|bias| &bias[cols.clone()]));
                        add_bias(ups, up_bias.map(|bias| &bias[cols.clone()]));
                    }
                    // All at once: one value waits long for its exponential, many do not.
                    let (gates, ups) = (gates[..tokens].as_flattened_mut(), ups[..tokens].as_flattened());
                    kernels.gate(self.activation, gates, ups);
                    for (token, values) in gates.chunks_exact(PANEL).enumerate() {
                        store(&mut stripe.row(start + token)[cols.clone()], &values[..cols.len()]);
                    }
                }
            }
        }
    }
}

/// The columns of panel `first` of a stripe, and of the next if there is one.
fn columns(width: usize, first: usize) -> impl ExactSizeIterator<Item = std::ops::Range<usize>> {
    (first..width.div_ceil(PANEL).min(first + 2)).map(move |number| number * PANEL..width.min((number + 1) * PANEL))
}

/// A copy, of a whole panel without a call.
fn store(out: &mut [f32], values: &[f32]) {
    match (out.as_mut_array::<PANEL>(), values.as_array()) {
        (Some(out), Some(values)) => *out = *values,
        (_, _) => out.copy_from_slice(values),
    }
}

fn check(input: &Input<'_>, weight: &Matrix<'_>, bias: Option<&[f32]>) {
    weight.check();
    assert_eq!(weight.cols, input.cols, "a weight's columns are the input's");
    assert!(bias.is_none_or(|bias| bias.len() == weight.rows), "a bias has one value per row");
}

fn add_bias(values: &mut [f32], bias: Option<&[f32]>) {
    for (value, bias) in values.iter_mut().zip(bias.unwrap_or_default()) {
        *value += bias;
    }
}

#[cfg(test)]
mod extremes;
#[cfg(test)]
mod tests;
