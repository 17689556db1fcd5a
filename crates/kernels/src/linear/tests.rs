//! The products' claims, over every format, layout, instruction set, token count and odd shape.

use super::*;
use crate::Format;

/// Numbers that look random and are the same everywhere.
pub(super) fn numbers(seed: u64, len: usize) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1 << 24) as f32 * 2.0 - 1.0
    };
    (0..len).map(|_| next() + next()).collect()
}

/// A weight of `format` in `layout`.
pub(super) struct Stored {
    pub(super) format: Format,
    pub(super) layout: Layout,
    pub(super) rows: usize,
    pub(super) cols: usize,
    pub(super) bytes: Vec<u8>,
}

impl Stored {
    pub(super) fn matrix(&self) -> Matrix<'_> {
        Matrix { format: self.format, layout: self.layout, rows: self.rows, cols: self.cols, bytes: &self.bytes }
    }
}

pub(super) fn plain(format: Format, rows: usize, cols: usize, seed: u64) -> Stored {
    let mut bytes = vec![0; rows * format.row_bytes(cols)];
    format.quantize(&numbers(seed, rows * cols), None, &mut bytes);
    Stored { format, layout: Layout::Plain, rows, cols, bytes }
}

pub(super) fn packed(plain: &Stored) -> Stored {
    let matrix = plain.matrix();
    let mut bytes = vec![0xaa; packed_bytes(plain.format, plain.rows, plain.cols)];
    let panels = plain.rows.div_ceil(PANEL);
    // In two parts, as a loader with several threads does.
    let half = bytes.len() / panels.max(1) * (panels / 2);
    let row = |row: usize| matrix.plain_row(row);
    pack(plain.format, plain.rows, plain.cols, &row, 0..panels / 2, &mut bytes[..half]);
    pack(plain.format, plain.rows, plain.cols, &row, panels / 2..panels, &mut bytes[half..]);
    Stored { layout: Layout::Packed, bytes, ..*plain }
}

/// Formats that can be made here, each in every layout it has.
fn weights(rows: usize, cols: usize) -> Vec<Stored> {
    let makable =
        Format::ALL.iter().copied().filter(|format| format.can_quantize() && cols.is_multiple_of(format.block()));
    let mut all = Vec::new();
    for format in makable {
        let weight = plain(format, rows, cols, 7);
        if layout_for(format) == Layout::Packed {
            all.push(packed(&weight));
        }
        all.push(weight);
    }
    all
}

fn row_of(weight: &Stored, row: usize) -> Vec<f32> {
    let mut values = vec![0.0; weight.cols];
    row_values(&weight.matrix(), row, &mut values);
    values
}

pub(super) fn product(pool: &Pool, precision: Precision, weight: &Stored, x: &[f32]) -> Vec<f32> {
    let mut out = vec![f32::NAN; x.len() / weight.cols * weight.rows];
    let input = Input { values: x, cols: weight.cols, prologue: Prologue::None };
    let product = Product { weight: weight.matrix(), bias: None, finish: Finish::Store, out: &mut out };
    project(pool, precision, &input, &mut [product]);
    out
}

/// How far a product may be from the sum in f64, in parts of the norm of the row times the norm of the activations:
/// f32 rounding, the step of 8-bit codes (1/254 of the largest of 32 values, averaged over the row), or half a unit of
/// bf16's eight bits.
fn tolerance(precision: Precision, weight: &Stored) -> f64 {
    match (precision, weight.layout, weight.format) {
        (Precision::Exact, ..) | (_, Layout::Plain, _) | (_, _, Format::F32 | Format::F16) => 1e-6,
        (_, _, Format::BF16) => 1.0 / 256.0,
        _ => 6e-3,
    }
}

fn check_product(pool: &Pool, precision: Precision, weight: &Stored, tokens: usize) {
    let x = numbers(tokens as u64, tokens * weight.cols);
    let out = product(pool, precision, weight, &x);
    let norm = |x: &[f32]| x.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>().sqrt();
    for row in 0..weight.rows {
        let values = row_of(weight, row);
        for token in 0..tokens {
            let x = &x[token * weight.cols..][..weight.cols];
            let exact: f64 = x.iter().zip(&values).map(|(x, w)| f64::from(*x) * f64::from(*w)).sum();
            let found = f64::from(out[token * weight.rows + row]);
            let error = (found - exact).abs() / (norm(x) * norm(&values)).max(1e-30);
            assert!(
                error <= tolerance(precision, weight),
                "{} {:?} {precision:?} {}: row {row} token {token} of {tokens} is {found} not {exact} ({error:.1e})",
                weight.format.name(),
                weight.layout,
                pool.kernels().name(),
            );
        }
    }
}

fn pools(threads: usize) -> impl Iterator<Item = Pool> {
    crate::Kernels::all().iter().map(move |kernels| Pool::with_kernels(threads, kernels))
}

#[test]
fn every_format_on_every_set_gives_the_sum_of_products() {
    for pool in pools(2) {
        for (rows, cols) in [(1, 256), (19, 512), (33, 32), (16, 96), (5, 7), (3, 1), (7, 24)] {
            for weight in weights(rows, cols) {
                for tokens in [1, 2, 3, 5, 16] {
                    check_product(&pool, Precision::Exact, &weight, tokens);
                    check_product(&pool, Precision::Fast, &weight, tokens);
                }
            }
        }
    }
}

/// What 8-bit codes make of the activations.
fn rounded(x: &[f32]) -> Vec<f32> {
    let layout = CodeLayout::new(x.len());
    let mut section = vec![0; layout.words];
    crate::scalar::quantize(x, &mut section);
    let codes: &[i8] = bytemuck::cast_slice(&section[..layout.scales]);
    let scale = |col: usize| f32::from_bits(section[layout.scales + col / 32]);
    codes.iter().enumerate().map(|(col, code)| f32::from(*code) * scale(col)).collect()
}

#[test]
fn a_fast_product_is_exact_in_its_rounded_activations() {
    const COLS: usize = 768;
    for pool in pools(1) {
        for weight in weights(35, COLS).iter().filter(|weight| weight.layout == Layout::Packed) {
            let Some(packed) = (pool.kernels().packed)(weight.format) else { continue };
            if packed.fast.1 != Section::Codes {
                continue;
            }
            let x = numbers(2, 5 * COLS);
            let fast = product(&pool, Precision::Fast, weight, &x);
            let exact = product(&pool, Precision::Exact, weight, &rounded(&x));
            let largest = exact.iter().fold(0.0_f32, |largest, y| largest.max(y.abs()));
            for (fast, exact) in fast.iter().zip(exact) {
                assert!((fast - exact).abs() <= 2e-6 * largest, "{}: {fast} not {exact}", weight.format.name());
            }
        }
    }
}

#[test]
fn every_set_quantizes_activations_to_the_same_bits() {
    let mut x = numbers(3, 320);
    x[32..64].fill(0.0);
    x[64] = 1e30;
    let section = |kernels: &crate::Kernels| {
        let mut section = vec![u32::MAX; CodeLayout::new(x.len()).words];
        (kernels.quantize)(&x, &mut section);
        section
    };
    let [first, rest @ ..] = crate::Kernels::all() else { panic!("the scalar table is always there") };
    for kernels in rest {
        assert_eq!(section(kernels), section(first), "{}", kernels.name());
    }
}

#[test]
fn a_row_has_the_same_bits_at_every_token_count_and_team() {
    const COLS: usize = 512;
    let x = numbers(3, 50 * COLS);
    for kernels in crate::Kernels::all() {
        let (alone, team) = (Pool::with_kernels(1, kernels), Pool::with_kernels(3, kernels));
        for weight in weights(37, COLS) {
            for precision in [Precision::Exact, Precision::Fast] {
                let all = product(&team, precision, &weight, &x);
                let bits = |x: &[f32]| x.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
                for tokens in 1..=17 {
                    let some = product(&alone, precision, &weight, &x[..tokens * COLS]);
                    let (name, layout) = (weight.format.name(), weight.layout);
                    assert_eq!(
                        bits(&some),
                        bits(&all[..some.len()]),
                        "{name} {layout:?} {precision:?}: {tokens} tokens"
                    );
                }
            }
        }
    }
}

#[test]
fn packed_and_plain_are_one_weight() {
    for (rows, cols) in [(1, 256), (16, 512), (37, 256), (18, 32), (3, 5), (17, 1)] {
        for weight in weights(rows, cols).iter().filter(|weight| weight.layout == Layout::Plain) {
            if layout_for(weight.format) == Layout::Plain {
                continue;
            }
            let packed = packed(weight);
            for row in 0..rows {
                let mut bytes = vec![0; weight.format.row_bytes(cols)];
                unpack_row(&packed.matrix(), row, &mut bytes);
                assert_eq!(bytes, weight.matrix().plain_row(row), "{} row {row}", weight.format.name());
                assert_eq!(row_of(&packed, row), row_of(weight, row));
            }
            let x = numbers(5, 3 * cols);
            for pool in pools(1) {
                let [a, b] = [weight, &packed].map(|weight| product(&pool, Precision::Exact, weight, &x));
                assert_eq!(a, b, "{} exact on {}", weight.format.name(), pool.kernels().name());
            }
        }
    }
}

#[test]
fn products_of_one_dispatch_are_those_of_several() {
    let x = numbers(1, 5 * 256);
    let gains = numbers(2, 256);
    for pool in pools(2) {
        let (weights, bias) = (weights(21, 256), numbers(4, 21));
        let normed: Vec<f32> = x
            .chunks(256)
            .flat_map(|x| {
                let mut out = vec![0.0; 256];
                pool.kernels().rms_norm(x, Some(&gains), 1.0, 1e-5, &mut out);
                out
            })
            .collect();
        let mut outs = vec![vec![0.5; 5 * 21]; weights.len()];
        let prologue = Prologue::RmsNorm { weight: Some(&gains), offset: 1.0, epsilon: 1e-5 };
        let mut products: Vec<_> = weights
            .iter()
            .zip(&mut outs)
            .map(|(weight, out)| Product {
                weight: weight.matrix(),
                bias: Some(&bias),
                finish: Finish::Add { scale: 2.0 },
                out,
            })
            .collect();
        project(&pool, Precision::Fast, &Input { values: &x, cols: 256, prologue }, &mut products);
        for (weight, out) in weights.iter().zip(outs) {
            let alone = product(&pool, Precision::Fast, weight, &normed);
            let expected = alone.iter().enumerate().map(|(at, y)| 0.5 + 2.0 * (y + bias[at % 21]));
            assert!(out.iter().zip(expected).all(|(a, b)| (a - b).abs() <= 1e-5 * b.abs().max(1.0)));
        }
    }
}

#[test]
fn a_gated_product_is_the_activated_gate_times_the_other() {
    let x = numbers(1, 18 * 256);
    for pool in pools(2) {
        let weights = weights(21, 256);
        for (gate, up) in weights.iter().zip(weights.iter().rev()) {
            let mut out = vec![f32::NAN; 18 * 21];
            let (gate_bias, up_bias) = (numbers(8, 21), numbers(9, 21));
            let pair = GatedProduct {
                gate: gate.matrix(),
                up: up.matrix(),
                gate_bias: Some(&gate_bias),
                up_bias: Some(&up_bias),
                activation: Activation::Silu,
                out: &mut out,
            };
            let input = Input { values: &x, cols: 256, prologue: Prologue::None };
            project_gated(&pool, Precision::Fast, &input, pair);
            let [mut gates, mut ups] = [gate, up].map(|weight| product(&pool, Precision::Fast, weight, &x));
            gates.iter_mut().enumerate().for_each(|(at, y)| *y += gate_bias[at % 21]);
            ups.iter_mut().enumerate().for_each(|(at, y)| *y += up_bias[at % 21]);
            for (row, ups) in gates.chunks_mut(21).zip(ups.chunks(21)) {
                pool.kernels().gate(Activation::Silu, row, ups);
            }
            assert!(out.iter().zip(gates).all(|(a, b)| (a - b).abs() <= 1e-5 * b.abs().max(1.0)));
        }
    }
}

#[test]
fn no_tokens_and_no_rows_are_no_work() {
    for pool in pools(2) {
        for weight in weights(0, 32).iter().chain(&weights(5, 32)) {
            assert!(product(&pool, Precision::Fast, weight, &[]).is_empty());
        }
    }
}
