//! Packed formats at their limits: bytes of every value, and the largest codes against the largest activations, so that
//! no set's short sums overflow. Blocks are made of bytes, not of values: no quantizer writes these.

use super::tests::{Stored, numbers, packed, product};
use super::*;
use crate::{Format, Kernels};

const COLS: usize = 512;

fn by_codes(kernels: &Kernels, format: Format) -> bool {
    (kernels.packed)(format).is_some_and(|packed| packed.fast.1 == Section::Codes)
}

/// Formats that some set multiplies by 8-bit codes.
fn coded() -> impl Iterator<Item = Format> {
    Format::ALL.iter().copied().filter(move |format| Kernels::all().iter().any(|kernels| by_codes(kernels, *format)))
}

/// A weight whose blocks are `fill`ed with bytes, but for binary16 scales and minima of a quarter, and an eighth.
fn weight(format: Format, rows: usize, mut fill: impl FnMut() -> u8) -> Stored {
    let halves: &[usize] = match format {
        Format::Q8_0 | Format::Q4_0 | Format::IQ4_NL | Format::Q5_0 | Format::IQ4_XS => &[0],
        Format::Q4_1 | Format::Q5_1 | Format::Q4_K | Format::Q5_K => &[0, 2],
        Format::Q2_K => &[80, 82],
        Format::Q3_K => &[108],
        Format::Q6_K => &[208],
        Format::MXFP4 => &[],
        _ => panic!("where are the scales of {}?", format.name()),
    };
    let mut bytes = vec![0; rows * format.row_bytes(COLS)];
    for block in bytes.chunks_exact_mut(format.block_bytes()) {
        block.iter_mut().for_each(|byte| *byte = fill());
        for (at, value) in halves.iter().zip([0.25_f32, 0.125]) {
            block[*at..at + 2].copy_from_slice(&half::f16::from_f32(value).to_le_bytes());
        }
        if format == Format::MXFP4 {
            block[0] = 127;
        }
    }
    packed(&Stored { format, layout: Layout::Plain, rows, cols: COLS, bytes })
}

/// The activations are such that 8-bit codes hold them exactly, so the exact product is the fast one up to rounding in
/// f32; and every set that multiplies by codes gives the same bits.
fn check(weight: &Stored, x: &[f32]) {
    let (format, name) = (weight.format, weight.format.name());
    let mut first: Option<Vec<f32>> = None;
    for kernels in Kernels::all() {
        let pool = Pool::with_kernels(1, kernels);
        let (fast, exact) = (product(&pool, Precision::Fast, weight, x), product(&pool, Precision::Exact, weight, x));
        for (at, (fast, exact)) in fast.iter().zip(&exact).enumerate() {
            let (token, row) = (at / weight.rows, at % weight.rows);
            let mut values = vec![0.0; weight.cols];
            row_values(&weight.matrix(), row, &mut values);
            let x = &x[token * weight.cols..][..weight.cols];
            let size: f32 = x.iter().zip(&values).map(|(x, w)| (x * w).abs()).sum();
            assert!((fast - exact).abs() <= 1e-6 * size, "{name} on {}: {fast} not {exact}", kernels.name());
        }
        if by_codes(kernels, format) {
            assert_eq!(&fast, first.get_or_insert_with(|| fast.clone()), "{name} on {}", kernels.name());
        }
    }
}

/// Activations of whole numbers up to 127, with 127 in each block.
fn whole(seed: u64, tokens: usize) -> Vec<f32> {
    let mut x: Vec<f32> = numbers(seed, tokens * COLS).iter().map(|x| (x * 63.0).round()).collect();
    x.iter_mut().step_by(32).for_each(|x| *x = 127.0);
    x
}

#[test]
fn blocks_of_any_bytes_are_multiplied_at_every_token_count() {
    for format in coded() {
        let mut random = numbers(5, 1 << 16).into_iter().cycle();
        let weight = weight(format, 21, || (random.next().expect("a cycle has no end") * 1e4) as i32 as u8);
        for tokens in 1..=16 {
            check(&weight, &whole(tokens as u64, tokens));
        }
    }
}

#[test]
fn the_largest_codes_times_the_largest_activations_overflow_nothing() {
    let signs: [fn(usize) -> f32; 4] = [
        |_| 127.0,
        |_| -127.0,
        |at| if at.is_multiple_of(2) { 127.0 } else { -127.0 },
        |at| {
            if at / 2 % 2 == 0 { 127.0 } else { -127.0 }
        },
    ];
    for format in coded() {
        // All ones, all zeros, the least of signed bytes, and the largest and least of four-bit floats.
        for byte in [0xff, 0x00, 0x80, 0x7f, 0x77, 0x81] {
            let weight = weight(format, 16, || byte);
            for sign in signs {
                for tokens in [1, 3, 16] {
                    check(&weight, &(0..tokens * COLS).map(sign).collect::<Vec<_>>());
                }
            }
        }
    }
}
