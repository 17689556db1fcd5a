//! Every gradient against finite differences of its forward, on the reference and on every instruction set of the
//! processor (`cases.rs`), and frozen weights of every number format against their values (`frozen.rs`).
//!
//! A case is a function of inputs and trainable weights. Its values, times fixed numbers, are summed in f64; each entry
//! of each input and weight is moved, and the slope of the sum must be what the walk backwards gives.

mod cases;
mod frozen;

use std::sync::Arc;

use pasture_kernels::{Format, Kernels, Pool};

use super::linear::{Linear, Site};
use super::norm::Norm;
use crate::tape::{Gradients, Tape};
use crate::{Backend, Cpu, NodeId, Ops, Precision, Tensor, Vector, Weight, WeightId};

/// Slopes by differences of the fourth order in f32: relative to the largest slope of the same input or weight.
const TOLERANCE: f64 = 1e-3;

/// How far an entry is moved.
const STEP: f32 = 1.0 / 64.0;

struct Reference;

impl Backend for Reference {
    fn name(&self) -> &'static str {
        "reference"
    }

    fn precision(&self) -> Precision {
        Precision::Exact
    }
}

fn backends() -> Vec<(&'static str, Arc<dyn Backend>)> {
    let cpu = |kernels| Cpu::new(Arc::new(Pool::with_kernels(2, kernels)), Precision::Exact);
    let all = Kernels::all().iter().map(|kernels| (kernels.name(), Arc::new(cpu(kernels)) as Arc<dyn Backend>));
    all.chain([("reference", Arc::new(Reference) as Arc<dyn Backend>)]).collect()
}

/// Numbers in -1..1 that look random and are the same everywhere.
fn numbers(seed: u64, len: usize) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1 << 23) as f32 - 1.0
    };
    (0..len).map(|_| next()).collect()
}

/// Something that is moved: an input, or a trainable weight.
#[derive(Clone)]
struct Moved {
    kind: Kind,
    rows: usize,
    cols: usize,
    values: Vec<f32>,
}

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Input,
    Matrix,
    Vector,
}

fn moved(kind: Kind, seed: u64, rows: usize, cols: usize) -> Moved {
    Moved { kind, rows, cols, values: numbers(seed, rows * cols) }
}

fn input(seed: u64, rows: usize, cols: usize) -> Moved {
    moved(Kind::Input, seed, rows, cols)
}

fn matrix(seed: u64, rows: usize, cols: usize) -> Moved {
    moved(Kind::Matrix, seed, rows, cols)
}

fn vector(seed: u64, len: usize) -> Moved {
    moved(Kind::Vector, seed, 1, len)
}

/// The moved things as the operations take them, in the order of the case.
struct Given<'g> {
    backend: &'g dyn Backend,
    inputs: Vec<Tensor>,
    matrices: Vec<Weight>,
    vectors: Vec<Vector>,
}

impl Given<'_> {
    /// A product with matrix `matrix`, and vector `bias` if there is one.
    fn linear(&self, matrix: usize, bias: Option<usize>) -> Linear {
        let weight = self.matrices[matrix].clone();
        let site = Site { tensor: format!("module.{matrix}").into(), rows: 0..weight.rows() };
        Linear { weight, bias: bias.map(|bias| self.vectors[bias].clone()), site }
    }

    fn norm(&self, centered: bool, weight: Option<usize>, bias: Option<usize>, offset: f32) -> Norm {
        let vector = |at: Option<usize>| at.map(|at| self.vectors[at].clone());
        Norm { centered, weight: vector(weight), bias: vector(bias), eps: 1e-5, offset }
    }
}

fn stored(backend: &dyn Backend, format: Format, rows: usize, cols: usize, values: &[f32]) -> Weight {
    let width = format.row_bytes(cols);
    let mut bytes = vec![0; rows * width];
    format.quantize(values, None, &mut bytes);
    backend.weight(format, rows, cols, &|row| &bytes[row * width..][..width])
}

type Forward<'f> = &'f dyn Fn(&mut Ops, &Given) -> Vec<Tensor>;

/// Where the gradient of something moved is found.
#[derive(Clone, Copy)]
enum Name {
    Node(NodeId),
    Weight(WeightId),
}

/// What a case needs, with the names of what was moved in the order of the case.
fn given<'g>(backend: &'g dyn Backend, all: &[Moved], tape: &mut Tape) -> (Given<'g>, Vec<Name>) {
    let mut given = Given { backend, inputs: Vec::new(), matrices: Vec::new(), vectors: Vec::new() };
    let mut one = |one: &Moved| match one.kind {
        Kind::Input => {
            let node = tape.node();
            given.inputs.push(Tensor::new(one.rows, one.cols, one.values.clone()).with_node(node));
            Name::Node(node)
        }
        Kind::Matrix => {
            let weight = stored(backend, Format::F32, one.rows, one.cols, &one.values);
            tape.train(weight.id());
            given.matrices.push(weight.clone());
            Name::Weight(weight.id())
        }
        Kind::Vector => {
            let vector = Vector::new(one.values.clone());
            tape.train(vector.id());
            given.vectors.push(vector.clone());
            Name::Weight(vector.id())
        }
    };
    let names = all.iter().map(&mut one).collect();
    (given, names)
}

/// The sum of a case's values, each times its number.
fn total(backend: &dyn Backend, all: &[Moved], forward: Forward) -> f64 {
    let (given, _) = given(backend, all, &mut Tape::new([]));
    let outputs = forward(&mut Ops::new(backend), &given);
    let of = |(at, output): (usize, &Tensor)| -> f64 {
        let counts = counts(at, output);
        output.values().iter().zip(counts.values()).map(|(value, count)| f64::from(*value) * f64::from(*count)).sum()
    };
    outputs.iter().enumerate().map(of).sum()
}

/// The fixed numbers by which an output's values count.
fn counts(at: usize, output: &Tensor) -> Tensor {
    Tensor::new(output.rows(), output.cols(), numbers(1000 + at as u64, output.rows() * output.cols()))
}

fn check(claim: &str, all: &[Moved], forward: Forward) {
    for (name, backend) in backends() {
        check_on(&format!("{claim} on {name}"), &*backend, all, forward);
    }
}

fn check_on(claim: &str, backend: &dyn Backend, all: &[Moved], forward: Forward) {
    let mut tape = Tape::new([]);
    let (given, names) = given(backend, all, &mut tape);
    let mut ops = Ops::with_tape(backend, tape);
    let outputs = forward(&mut ops, &given);
    let tape = ops.into_tape().expect("it ran with a tape");
    let seeds = outputs
        .iter()
        .enumerate()
        .map(|(at, output)| (output.node().expect("an output of this tape"), counts(at, output)));
    let mut gradients = tape.walk(backend, seeds.collect());
    for (at, name) in names.into_iter().enumerate() {
        let found = gradient(backend, &mut gradients, name, all[at].values.len());
        let expected: Vec<f64> = (0..found.len()).map(|entry| slope(backend, all, at, entry, forward)).collect();
        let largest = expected.iter().fold(0.0_f64, |largest, slope| largest.max(slope.abs()));
        assert!(largest > 0.0, "{claim}: {at} has no influence");
        for (entry, (found, expected)) in found.iter().zip(&expected).enumerate() {
            let far = (f64::from(*found) - expected).abs() / largest;
            assert!(far <= TOLERANCE, "{claim}: entry {entry} of {at} is {found} not {expected} (largest {largest})");
        }
    }
}

fn gradient(backend: &dyn Backend, gradients: &mut Gradients, name: Name, len: usize) -> Vec<f32> {
    let found = match name {
        Name::Node(node) => gradients.take(backend, node).map(Tensor::into_values),
        Name::Weight(id) => gradients.weight(id).map(<[f32]>::to_vec),
    };
    found.unwrap_or_else(|| vec![0.0; len])
}

fn slope(backend: &dyn Backend, all: &[Moved], at: usize, entry: usize, forward: Forward) -> f64 {
    let mut all = all.to_vec();
    let middle = all[at].values[entry];
    let mut by = |steps: f32| {
        all[at].values[entry] = middle + steps * STEP;
        total(backend, &all, forward)
    };
    (8.0 * (by(1.0) - by(-1.0)) - (by(2.0) - by(-2.0))) / (12.0 * f64::from(STEP))
}

/// Inputs whose distance to each of the given places is enough that no step reaches it.
fn away_from(mut one: Moved, places: &[f32]) -> Moved {
    for value in &mut one.values {
        for place in places {
            if (*value - place).abs() < 4.0 * STEP {
                *value = place + 4.0 * STEP;
            }
        }
    }
    one
}
