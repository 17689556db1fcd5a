//! Products over the pool: one dispatch for a norm, the preparation of the input and all weights that share it.

use std::cell::RefCell;
use std::ops::Range;

use pasture_kernels::linear::{self, Finish, GatedProduct, Input, Product, Prologue};
use pasture_kernels::{Kernels, Pool, gemm};

use super::{Cpu, rows};
use crate::backend::{Backend, Group, Precision};
use crate::ops::linear::Linear;
use crate::ops::norm::Norm;
use crate::ops::project::{Epilogue, HeadEpilogue};
use crate::tensor::Stamp;
use crate::{Activation, Tensor, Weight, memory};

/// Weight rows that are decoded at once for the input's gradient.
const DECODED: usize = 64;

thread_local! {
    static SCRATCH: RefCell<Vec<f32>> = const { RefCell::new(Vec::new()) };
}

fn precision(cpu: &Cpu) -> linear::Precision {
    match cpu.precision {
        // Products in bf16 are `paired`.
        Precision::Exact | Precision::Bf16 => linear::Precision::Exact,
        Precision::Fast => linear::Precision::Fast,
    }
}

/// The norm as the products' prologue; None where a pass of its own is needed.
fn prologue(norm: Option<&Norm>) -> Option<Prologue<'_>> {
    let Some(norm) = norm else { return Some(Prologue::None) };
    let (weight, bias) = (rows::values(&norm.weight), rows::values(&norm.bias));
    let (offset, epsilon) = (norm.offset, norm.eps);
    match (norm.centered, bias) {
        (true, bias) => Some(Prologue::LayerNorm { weight, offset, bias, epsilon }),
        (false, None) => Some(Prologue::RmsNorm { weight, offset, epsilon }),
        (false, Some(_)) => None,
    }
}

pub(super) fn project(
    cpu: &Cpu,
    x: &Tensor,
    norm: Option<&Norm>,
    linears: &[&Linear],
    epilogue: &Epilogue,
) -> Vec<Tensor> {
    let Some(prologue) = prologue(norm) else {
        let normed = norm.map(|norm| cpu.norm(x, norm, x.cols()));
        return project(cpu, normed.as_ref().unwrap_or(x), None, linears, epilogue);
    };
    let input = Input { values: x.values(), cols: x.cols(), prologue };
    match epilogue {
        Epilogue::Plain => products(cpu, x, &input, linears, Finish::Store),
        Epilogue::Activated(activation) => products(cpu, x, &input, linears, Finish::Activate(*activation)),
        Epilogue::Gated(activation) => vec![gated(cpu, x, &input, linears, *activation)],
        Epilogue::Heads(heads) => {
            assert_eq!(heads.len(), linears.len(), "each output has its epilogue");
            let outputs = products(cpu, x, &input, linears, Finish::Store);
            outputs.into_iter().zip(heads).map(|(output, head)| follow(&cpu.pool, output, head)).collect()
        }
    }
}

fn products(cpu: &Cpu, x: &Tensor, input: &Input<'_>, linears: &[&Linear], finish: Finish) -> Vec<Tensor> {
    let mut outs: Vec<Vec<f32>> = linears.iter().map(|linear| vec![0.0; x.rows() * linear.weight.rows()]).collect();
    let mut products: Vec<Product> =
        linears.iter().zip(&mut outs).map(|(linear, out)| product(linear, finish, out)).collect();
    linear::project(&cpu.pool, precision(cpu), input, &mut products);
    let tensor = |(linear, out): (&&Linear, Vec<f32>)| Tensor::new(x.rows(), linear.weight.rows(), out);
    linears.iter().zip(outs).map(tensor).collect()
}

fn product<'a>(linear: &'a Linear, finish: Finish, out: &'a mut [f32]) -> Product<'a> {
    Product { weight: linear.weight.matrix(), bias: rows::values(&linear.bias), finish, out }
}

fn gated(cpu: &Cpu, x: &Tensor, input: &Input<'_>, linears: &[&Linear], activation: Activation) -> Tensor {
    let [gate, up] = linears else { panic!("a gated product has two weights, not {}", linears.len()) };
    let mut out = vec![0.0; x.rows() * gate.weight.rows()];
    let pair = GatedProduct {
        gate: gate.weight.matrix(),
        up: up.weight.matrix(),
        gate_bias: rows::values(&gate.bias),
        up_bias: rows::values(&up.bias),
        activation,
        out: &mut out,
    };
    linear::project_gated(&cpu.pool, precision(cpu), input, pair);
    Tensor::new(x.rows(), gate.weight.rows(), out)
}

fn follow(pool: &Pool, mut output: Tensor, head: &HeadEpilogue) -> Tensor {
    let nothing = head.clamp.is_none() && head.norm.is_none() && head.rope.is_none();
    if nothing && head.late_norm.is_none() && head.factors.is_none() {
        return output;
    }
    let (cols, kernels) = (output.cols(), pool.kernels());
    rows::each(pool, output.values_mut(), cols, |row, out| {
        SCRATCH.with_borrow_mut(|scratch| rows::heads(kernels, head, row, out, scratch));
    });
    output
}

pub(super) fn project_add(cpu: &Cpu, x: &Tensor, linear: &Linear, scale: f32, stream: &Tensor) -> Tensor {
    let mut out = stream.values().to_vec();
    let input = Input { values: x.values(), cols: x.cols(), prologue: Prologue::None };
    linear::project(&cpu.pool, precision(cpu), &input, &mut [product(linear, Finish::Add { scale }, &mut out)]);
    Tensor::new(stream.rows(), stream.cols(), out)
}

pub(super) fn grouped(cpu: &Cpu, x: &Tensor, groups: &[Group]) -> Tensor {
    let outputs = groups.first().map_or(0, |group| group.weight.rows());
    let mut out = vec![0.0; x.rows() * outputs];
    for Group { rows, weight } in groups {
        assert_eq!(weight.rows(), outputs, "the weights of a product have one shape");
        let values = &x.values()[rows.start * x.cols()..rows.end * x.cols()];
        let input = Input { values, cols: x.cols(), prologue: Prologue::None };
        let out = &mut out[rows.start * outputs..rows.end * outputs];
        let product = Product { weight: weight.matrix(), bias: None, finish: Finish::Store, out };
        linear::project(&cpu.pool, precision(cpu), &input, &mut [product]);
    }
    Tensor::new(x.rows(), outputs, out)
}

/// Which side of a weight a paired product sums over.
#[derive(Clone, Copy)]
pub(super) enum Side {
    /// Its results are the weight's outputs.
    Outputs,
    /// Its results are the weight's inputs: the input's gradient.
    Inputs,
}

/// Products in bf16, added to what is there, if anything.
pub(super) fn paired(cpu: &Cpu, x: &Tensor, groups: &[Group], side: Side, onto: Option<Tensor>) -> Tensor {
    let cols = groups.first().map_or(0, |group| side.results(group.weight));
    let covered = groups.iter().map(|group| group.rows.len()).sum::<usize>() == x.rows();
    let adds = onto.is_some().then_some(1.0);
    let mut out = match onto {
        Some(sum) => sum.into_values(),
        None if covered => memory::taken(x.rows() * cols),
        None => vec![0.0; x.rows() * cols],
    };
    with_packed(cpu, |packed| {
        for Group { rows, weight } in groups {
            assert_eq!(cols, side.results(weight), "the weights of a product have one shape");
            let out = &mut out[rows.start * cols..rows.end * cols];
            side.multiply(cpu, packed.rows(x, rows), weight, (None, adds), out);
        }
    });
    Tensor::new(x.rows(), cols, out)
}

/// One product in bf16 of all rows, and beside it `scale · narrow` through another weight, added to what is there.
pub(super) fn paired_beside(
    cpu: &Cpu,
    x: &Tensor,
    weight: &Weight,
    (narrow, other, scale): (&Tensor, &Weight, f32),
    side: Side,
    onto: Option<Tensor>,
) -> Tensor {
    let cols = side.results(weight);
    let adds = onto.is_some().then_some(1.0);
    let mut out = onto.map_or_else(|| memory::taken(x.rows() * cols), Tensor::into_values);
    let beside = Some(gemm::Beside { values: narrow.values(), weight: other.matrix(), scale });
    with_packed(cpu, |packed| side.multiply(cpu, packed.rows(x, &(0..x.rows())), weight, (beside, adds), &mut out));
    Tensor::new(x.rows(), cols, out)
}

/// The rows that were packed last; a product that runs beside another one packs its rows for itself.
pub(super) fn with_packed<R>(cpu: &Cpu, run: impl FnOnce(&mut PackedRows) -> R) -> R {
    match cpu.packed.try_lock() {
        Ok(mut shared) => run(&mut shared),
        Err(_) => run(&mut PackedRows::default()),
    }
}

/// The rows that were packed last: a norm's output meets three or four weights and as many adapters.
#[derive(Default)]
pub(super) struct PackedRows {
    of: Stamp,
    rows: Range<usize>,
    packed: gemm::Packed,
}

/// A tensor whose rows are made one by one, and packed for the product that meets them next.
pub(super) fn made(cpu: &Cpu, rows: usize, cols: usize, make: impl Fn(usize, &mut [f32]) + Sync) -> Tensor {
    let (mut values, kernels) = (memory::taken(rows * cols), cpu.pool.kernels());
    with_packed(cpu, |packed| {
        let places = packed.places(kernels, true, (rows, cols));
        let mut parts: Vec<_> = values.chunks_exact_mut(cols.max(1)).zip(places).collect();
        let some = rows::at_once(cols);
        cpu.pool.for_chunks_mut(&mut parts, some, |number, parts| {
            for (row, (values, words)) in (number * some..).zip(parts) {
                make(row, values);
                gemm::pack_row(kernels, values, words);
            }
        });
        let made = Tensor::new(rows, cols, values);
        packed.made(&made);
        made
    })
}

impl PackedRows {
    /// Places for rows that are made now and that a product meets next: each is packed ([`gemm::pack_row`]) while it is
    /// near, and [`PackedRows::made`] follows. Empty ones where none are to be packed.
    pub(super) fn places(&mut self, kernels: &Kernels, packs: bool, (rows, cols): (usize, usize)) -> Vec<&mut [u32]> {
        if !packs {
            return (0..rows).map(|_| &mut [][..]).collect();
        }
        self.of = Stamp::default();
        self.packed.rows_mut(kernels, rows, cols).collect()
    }

    /// Names the tensor whose rows were made.
    pub(super) fn made(&mut self, x: &Tensor) {
        (self.of, self.rows) = (x.stamp(), 0..x.rows());
    }

    fn rows<'a>(&'a mut self, x: &'a Tensor, rows: &Range<usize>) -> gemm::Rows<'a> {
        if !self.of.is_of(x) || self.rows != *rows {
            self.packed.forget();
            (self.of, self.rows) = (x.stamp(), rows.clone());
        }
        gemm::Rows { values: &x.values()[rows.start * x.cols()..rows.end * x.cols()], packed: &mut self.packed }
    }
}

impl Side {
    fn results(self, weight: &Weight) -> usize {
        match self {
            Side::Outputs => weight.rows(),
            Side::Inputs => weight.cols(),
        }
    }

    fn multiply(
        self,
        cpu: &Cpu,
        x: gemm::Rows<'_>,
        weight: &Weight,
        (beside, adds): (Option<gemm::Beside<'_>>, Option<f32>),
        out: &mut [f32],
    ) {
        match self {
            Side::Outputs => gemm::products(&cpu.pool, x, weight.matrix(), beside, adds, out),
            Side::Inputs => gemm::input_gradient(&cpu.pool, x, weight.matrix(), beside, adds, out),
        }
    }
}

/// `y += scale · x · weightᵀ`.
pub(super) fn grouped_add(cpu: &Cpu, x: &Tensor, groups: &[Group], scale: f32, y: &mut Tensor) {
    let outputs = y.cols();
    for Group { rows, weight } in groups {
        let values = &x.values()[rows.start * x.cols()..rows.end * x.cols()];
        let input = Input { values, cols: x.cols(), prologue: Prologue::None };
        let out = &mut y.values_mut()[rows.start * outputs..rows.end * outputs];
        let product = Product { weight: weight.matrix(), bias: None, finish: Finish::Add { scale }, out };
        linear::project(&cpu.pool, precision(cpu), &input, &mut [product]);
    }
}

/// Decodes some weight rows with all threads, then adds their part to all rows of the gradient, until all weight rows
/// have passed: each value is summed in the order of the weight's rows.
pub(super) fn grouped_input(cpu: &Cpu, dy: &Tensor, groups: &[Group], onto: Option<Tensor>) -> Tensor {
    let inputs = groups.first().map_or(0, |group| group.weight.cols());
    let mut dx = onto.map_or_else(|| vec![0.0; dy.rows() * inputs], Tensor::into_values);
    let mut decoded = vec![0.0; DECODED * inputs];
    if inputs == 0 {
        return Tensor::new(dy.rows(), 0, dx);
    }
    for Group { rows, weight } in groups {
        assert_eq!(weight.cols(), inputs, "the weights of a product have one shape");
        let dx = &mut dx[rows.start * inputs..rows.end * inputs];
        for first in (0..weight.rows()).step_by(DECODED) {
            let some = DECODED.min(weight.rows() - first);
            let decoded = &mut decoded[..some * inputs];
            cpu.pool.for_chunks_mut(decoded, inputs, |at, values| weight.row_values(first + at, values));
            let kernels = cpu.pool.kernels();
            rows::each(&cpu.pool, dx, inputs, |at, dx| {
                let dy = &dy.row(rows.start + at)[first..first + some];
                dy.iter().zip(decoded.chunks_exact(inputs)).for_each(|(dy, values)| kernels.add(dx, *dy, values));
            });
        }
    }
    Tensor::new(dy.rows(), inputs, dx)
}
