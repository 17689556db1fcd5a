//! The loops of every instruction set against sums in f64 of rounded values.

use std::ops::Range;

use half::bf16;

use super::*;
use crate::Format;
use crate::linear::{Aligned, Layout, layout_on, pack, packed_bytes, row_values};

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

/// A weight in the layout of the kernels, with the values that it stands for as bf16 rounds them.
struct Stored {
    format: Format,
    layout: Layout,
    rows: usize,
    cols: usize,
    bytes: Aligned,
    rounded: Vec<f64>,
}

impl Stored {
    fn new(kernels: &Kernels, format: Format, rows: usize, cols: usize, plain: bool) -> Stored {
        let width = format.row_bytes(cols);
        let mut bytes = vec![0; rows * width];
        format.quantize(&numbers(3, rows * cols), None, &mut bytes);
        let layout = if plain { Layout::Plain } else { layout_on(kernels, format) };
        let mut stored = match layout {
            Layout::Plain => Aligned::zeroed(bytes.len()),
            Layout::Packed => Aligned::zeroed(packed_bytes(format, rows, cols)),
        };
        match layout {
            Layout::Plain => stored.as_mut().copy_from_slice(&bytes),
            Layout::Packed => {
                let row = |at: usize| &bytes[at * width..][..width];
                pack(format, rows, cols, &row, 0..rows.div_ceil(PANEL), stored.as_mut());
            }
        }
        let mut made = Stored { format, layout, rows, cols, bytes: stored, rounded: Vec::new() };
        let mut values = vec![0.0; cols];
        for row in 0..rows {
            row_values(&made.matrix(), row, &mut values);
            made.rounded.extend(values.iter().map(|value| round(*value)));
        }
        made
    }

    fn matrix(&self) -> Matrix<'_> {
        let Stored { format, layout, rows, cols, bytes, .. } = self;
        Matrix { format: *format, layout: *layout, rows: *rows, cols: *cols, bytes: bytes.as_ref() }
    }
}

fn rows_of<'a>(values: &'a [f32], packed: &'a mut Packed) -> Rows<'a> {
    Rows { values, packed }
}

fn round(value: f32) -> f64 {
    bf16::from_f32(value).to_f64()
}

/// Sums of f32 in another order: relative to the sum of sizes.
fn check(claim: &str, found: &[f32], expected: impl Fn(usize) -> (f64, f64)) {
    for (at, found) in found.iter().enumerate() {
        let (sum, size) = expected(at);
        assert!((f64::from(*found) - sum).abs() <= 3e-6 * size + 1e-30, "{claim}: {found} not {sum} at {at}");
    }
}

fn sums(pairs: impl Iterator<Item = (f64, f64)>) -> (f64, f64) {
    pairs.fold((0.0, 0.0), |(sum, size), (a, b)| (sum + a * b, size + (a * b).abs()))
}

/// Rows, outputs and inputs: fewer and more than a tile, a stripe and a block of steps have.
const SHAPES: [(usize, usize, usize); 5] = [(1, 7, 256), (5, 40, 512), (25, 300, 768), (49, 16, 2304), (3, 2100, 256)];

#[test]
fn products_and_both_gradients_are_the_sums_of_rounded_values_on_every_instruction_set() {
    for kernels in Kernels::all() {
        let pool = Pool::with_kernels(2, kernels);
        for format in [Format::BF16, Format::F32, Format::F16, Format::Q8_0, Format::Q4_K, Format::Q6_K, Format::NF4] {
            for (rows, outputs, inputs) in SHAPES {
                let claim = format!("{} of {} {rows} {outputs} {inputs}", kernels.name(), format.name());
                let weight = Stored::new(kernels, format, outputs, inputs, false);
                let (x, dy) = (numbers(1, rows * inputs), numbers(2, rows * outputs));
                let mut y = vec![f32::NAN; rows * outputs];
                products(&pool, rows_of(&x, &mut Packed::default()), weight.matrix(), None, None, &mut y);
                check(&claim, &y, |at| {
                    let (row, output) = (at / outputs, at % outputs);
                    let weights = weight.rounded[output * inputs..].iter().copied();
                    sums(x[row * inputs..][..inputs].iter().map(|x| round(*x)).zip(weights))
                });
                let mut dx = vec![f32::NAN; rows * inputs];
                input_gradient(&pool, rows_of(&dy, &mut Packed::default()), weight.matrix(), None, None, &mut dx);
                check(&claim, &dx, |at| {
                    let (row, input) = (at / inputs, at % inputs);
                    let weights = weight.rounded[input..].iter().step_by(inputs).copied();
                    sums(dy[row * outputs..][..outputs].iter().map(|dy| round(*dy)).zip(weights))
                });
            }
        }
    }
}

#[test]
fn what_stands_beside_a_product_has_the_bits_of_a_product_that_is_added_later() {
    for kernels in Kernels::all() {
        let pool = Pool::with_kernels(2, kernels);
        for (rows, outputs, inputs, rank) in
            [(1, 5, 3, 1), (7, 40, 300, 16), (33, 300, 64, 5), (5, 16, 2100, 8), (10, 200, 4200, 2100)]
        {
            let weight = Stored::new(kernels, Format::BF16, outputs, inputs, false);
            let (x, dy, narrow) = (numbers(1, rows * inputs), numbers(2, rows * outputs), numbers(3, rows * rank));
            let [wide, back] = [(outputs, rank), (rank, inputs)]
                .map(|(outputs, inputs)| Stored::new(kernels, Format::F32, outputs, inputs, false));
            for adds in [None, Some(0.5)] {
                let mut apart = vec![1.0; rows * outputs];
                let mut together = apart.clone();
                products(&pool, rows_of(&x, &mut Packed::default()), weight.matrix(), None, adds, &mut apart);
                let factor = Some(0.25 * adds.unwrap_or(1.0));
                products(&pool, rows_of(&narrow, &mut Packed::default()), wide.matrix(), None, factor, &mut apart);
                let beside = Some(Beside { values: &narrow, weight: wide.matrix(), scale: 0.25 });
                products(&pool, rows_of(&x, &mut Packed::default()), weight.matrix(), beside, adds, &mut together);
                assert_eq!(together, apart, "{} {rows} {outputs} {inputs} {rank}", kernels.name());
            }
            let mut apart = vec![f32::NAN; rows * inputs];
            let mut together = apart.clone();
            input_gradient(&pool, rows_of(&dy, &mut Packed::default()), weight.matrix(), None, None, &mut apart);
            input_gradient(&pool, rows_of(&narrow, &mut Packed::default()), back.matrix(), None, Some(1.0), &mut apart);
            let beside = Some(Beside { values: &narrow, weight: back.matrix(), scale: 1.0 });
            input_gradient(&pool, rows_of(&dy, &mut Packed::default()), weight.matrix(), beside, None, &mut together);
            assert_eq!(together, apart, "{} {rows} {outputs} {inputs} {rank}, backward", kernels.name());
        }
    }
}

#[test]
fn a_weights_gradient_is_added_to_its_sum() {
    for kernels in Kernels::all() {
        let pool = Pool::with_kernels(2, kernels);
        for (rows, outputs, inputs) in [
            (1, 3, 5),
            (7, 40, 16),
            (33, 16, 300),
            (600, 20, 33),
            (2100, 3, 5),
            (2, 130, 200),
            (2100, 150, 3),
            (65, 90, 64),
        ] {
            let (x, dy) = (numbers(1, rows * inputs), numbers(2, rows * outputs));
            let mut sum = vec![0.5; outputs * inputs];
            outer(&pool, &dy, &x, rows, &mut sum);
            check(&format!("{} {rows} {outputs} {inputs}", kernels.name()), &sum, |at| {
                let (output, input) = (at / inputs, at % inputs);
                let pairs = (0..rows).map(|row| (round(dy[row * outputs + output]), round(x[row * inputs + input])));
                sums(pairs.chain([(0.5, 1.0)]))
            });
        }
    }
}

#[test]
fn weights_of_any_shape_and_plain_layout_are_taken() {
    for kernels in Kernels::all() {
        let pool = Pool::with_kernels(1, kernels);
        for format in [Format::F32, Format::F16, Format::BF16] {
            for plain in [false, true] {
                let (rows, outputs, inputs) = (4, 21, 35);
                let weight = Stored::new(kernels, format, outputs, inputs, plain);
                let (x, dy) = (numbers(1, rows * inputs), numbers(2, rows * outputs));
                let (mut y, mut dx) = (vec![0.0; rows * outputs], vec![0.0; rows * inputs]);
                products(&pool, rows_of(&x, &mut Packed::default()), weight.matrix(), None, None, &mut y);
                input_gradient(&pool, rows_of(&dy, &mut Packed::default()), weight.matrix(), None, None, &mut dx);
                let claim = format!("{} {} {plain}", kernels.name(), format.name());
                check(&claim, &y, |at| {
                    let weights = weight.rounded[at % outputs * inputs..].iter().copied();
                    sums(x[at / outputs * inputs..][..inputs].iter().map(|x| round(*x)).zip(weights))
                });
                check(&claim, &dx, |at| {
                    let weights = weight.rounded[at % inputs..].iter().step_by(inputs).copied();
                    sums(dy[at / inputs * outputs..][..outputs].iter().map(|dy| round(*dy)).zip(weights))
                });
            }
        }
    }
}

#[test]
fn a_rows_bits_depend_on_neither_its_neighbors_nor_the_threads() {
    for kernels in Kernels::all() {
        let weight = Stored::new(kernels, Format::Q8_0, 100, 1600, false);
        let (x, dy) = (numbers(1, 9 * 1600), numbers(2, 9 * 100));
        let run = |threads: usize, rows: Range<usize>| {
            let pool = Pool::with_kernels(threads, kernels);
            let (mut y, mut dx) = (vec![0.0; rows.len() * 100], vec![0.0; rows.len() * 1600]);
            let (mut packed, part) = (Packed::default(), &x[rows.start * 1600..rows.end * 1600]);
            products(&pool, rows_of(part, &mut packed), weight.matrix(), None, None, &mut y);
            packed.forget();
            let part = &dy[rows.start * 100..rows.end * 100];
            input_gradient(&pool, rows_of(part, &mut packed), weight.matrix(), None, None, &mut dx);
            (y, dx)
        };
        let (all, one) = (run(1, 0..9), run(3, 7..8));
        assert!(all.0[700..800] == one.0 && all.1[7 * 1600..8 * 1600] == one.1, "{}", kernels.name());
    }
}

#[test]
fn rows_are_packed_once_for_several_weights() {
    for kernels in Kernels::all() {
        let pool = Pool::with_kernels(2, kernels);
        let (x, nothing) = (numbers(1, 5 * 512), vec![0.0; 5 * 512]);
        let mut packed = Packed::default();
        for (outputs, values) in [(40, &x), (7, &nothing), (300, &nothing)] {
            let weight = Stored::new(kernels, Format::BF16, outputs, 512, false);
            let (mut first, mut later) = (vec![0.0; 5 * outputs], vec![0.0; 5 * outputs]);
            products(&pool, rows_of(&x, &mut Packed::default()), weight.matrix(), None, None, &mut first);
            // What is packed is not read again, so the first values count.
            products(&pool, rows_of(values, &mut packed), weight.matrix(), None, None, &mut later);
            assert!(first == later && first[0] != 0.0, "{} {outputs}", kernels.name());
        }
    }
}

#[test]
fn a_square_is_turned_alike_by_all() {
    let square: [u32; SQUARE] = std::array::from_fn(|at| (2 * at as u32) | (2 * at as u32 + 1) << 16);
    let mut expected = [0; SQUARE];
    (crate::scalar::PAIRS.turn)(&square, &mut expected);
    assert_eq!(expected[..2], [square[0] & 0xffff | square[1] << 16, square[0] >> 16 | square[1] & 0xffff_0000]);
    for kernels in Kernels::all() {
        let mut out = [0; SQUARE];
        (kernels.pairs.turn)(&square, &mut out);
        assert_eq!(out, expected, "{}", kernels.name());
    }
}
