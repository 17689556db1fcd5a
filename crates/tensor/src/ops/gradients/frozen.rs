//! Frozen weights: of any format and layout, they pass on the gradients that their values pass on, and have none; in
//! bf16 what they pass on is rounded, no more.

use std::collections::BTreeMap;
use std::sync::Arc;

use pasture_kernels::{Format, Kernels, Pool};

use super::{backends, counts, matrix, numbers, stored};
use crate::ops::linear::{Linear, Site};
use crate::tape::Tape;
use crate::{Adapter, AdapterSite, Backend, Cpu, Layout, Ops, Precision, Route, Tensor, Weight};

const ROWS: usize = 37;
const COLS: usize = 256;
const TOKENS: usize = 5;

/// Adapters' gradients, relative to the largest entry: the same sums in another order.
const TOLERANCE: f32 = 2e-6;

/// Output, input's gradient, and the gradients of an adapter that some rows take beside a frozen weight.
fn pass(backend: &dyn Backend, weight: &Weight, [a, b]: &[Weight; 2]) -> [Vec<f32>; 4] {
    let mut tape = Tape::new([a.id(), b.id()]);
    let x = Tensor::new(TOKENS, COLS, numbers(4, TOKENS * COLS)).with_node(tape.node());
    let site = AdapterSite::new(a.clone(), b.clone(), 0.5);
    let adapter = Arc::new(Adapter::new(BTreeMap::from([("module".to_owned(), site)])));
    let mut ops = Ops::with_tape(backend, tape);
    ops.set_routes(vec![Route { rows: 1..4, adapter }]);
    let site = Site { tensor: "module".into(), rows: 0..ROWS };
    let y = ops.linear(&x, &Linear { weight: weight.clone(), bias: None, site });
    let seed = (y.node().expect("it is on the tape"), counts(0, &y));
    let mut gradients = ops.into_tape().expect("it has a tape").walk(backend, vec![seed]);
    assert!(gradients.weight(weight.id()).is_none(), "a frozen weight has no gradient");
    let dx = gradients.take(backend, x.node().expect("an input")).expect("frozen weights pass gradients on");
    let of = |weight: &Weight| gradients.weight(weight.id()).expect("an adapter has gradients").to_vec();
    [y.into_values(), dx.into_values(), of(a), of(b)]
}

#[test]
fn frozen_weights_of_every_format_pass_the_gradients_of_their_values_and_have_none() {
    let adapter = [matrix(2, 3, COLS), matrix(3, ROWS, 3)];
    let adapter = adapter.map(|one| Weight::from_values(one.rows, one.cols, &one.values));
    for format in Format::ALL.iter().copied().filter(|format| format.can_quantize()) {
        for (name, backend) in backends() {
            let frozen = stored(&*backend, format, ROWS, COLS, &numbers(1, ROWS * COLS));
            if (name, format) == ("avx512", Format::Q4_K) {
                assert_eq!(frozen.layout(), Layout::Packed, "the case is about packed blocks");
            }
            let mut values = vec![0.0; ROWS * COLS];
            values.chunks_exact_mut(COLS).enumerate().for_each(|(row, out)| frozen.row_values(row, out));
            let plain = stored(&*backend, Format::F32, ROWS, COLS, &values);
            let [found, expected] = [&frozen, &plain].map(|weight| pass(&*backend, weight, &adapter));
            for (at, (found, expected)) in found.iter().zip(&expected).enumerate() {
                let largest = expected.iter().fold(0.0_f32, |largest, value| largest.max(value.abs()));
                let is_far = |(a, b): (&f32, &f32)| (a - b).abs().total_cmp(&(TOLERANCE * largest)).is_gt();
                let far = found.iter().zip(expected).position(is_far);
                assert!(far.is_none(), "{} on {name}: {far:?} of {at}", format.name());
            }
        }
    }
}

/// Relative size of what bf16 rounds away, over all values.
const ROUNDED: f64 = 1e-2;

#[test]
fn in_bf16_values_and_gradients_are_those_of_f32_but_for_rounding() {
    let adapter = [matrix(2, 3, COLS), matrix(3, ROWS, 3)];
    let adapter = adapter.map(|one| Weight::from_values(one.rows, one.cols, &one.values));
    for kernels in Kernels::all() {
        let [exact, rounded] = [Precision::Exact, Precision::Bf16]
            .map(|precision| Cpu::new(Arc::new(Pool::with_kernels(2, kernels)), precision));
        for format in [Format::F32, Format::BF16, Format::Q8_0, Format::Q4_K, Format::NF4] {
            let frozen = stored(&exact, format, ROWS, COLS, &numbers(1, ROWS * COLS));
            let [found, expected] = [&rounded, &exact].map(|backend| pass(backend, &frozen, &adapter));
            for (at, (found, expected)) in found.iter().zip(&expected).enumerate() {
                let square = |values: &mut dyn Iterator<Item = f32>| -> f64 { values.map(|x| f64::from(x * x)).sum() };
                let off = square(&mut found.iter().zip(expected).map(|(a, b)| a - b));
                let share = (off / square(&mut expected.iter().copied())).sqrt();
                assert!(share > 0.0 && share <= ROUNDED, "{} {} of {at}: {share}", kernels.name(), format.name());
            }
        }
    }
}
