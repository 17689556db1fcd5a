//! Measures tuning's products with 512 rows, forward and the input's gradient, alone and with an adapter beside them, on
//! weights that no cache holds: `cargo run --release -p pasture-kernels --example gemm [isa]`

use pasture_kernels::gemm::{Beside, Packed, Rows, input_gradient, products};
use pasture_kernels::linear::{Aligned, Layout, Matrix, pack, packed_bytes};
use pasture_kernels::{Format, Kernels, Pool};
use std::time::Instant;

const TOKENS: usize = 512;

/// An adapter's rank.
const RANK: usize = 16;

/// The weights of one measurement do not fit the caches.
const WEIGHTS: usize = 6;

/// Numbers in -1..1 that look random.
fn numbers(len: usize) -> Vec<f32> {
    let mut state = 1_u64;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1 << 23) as f32 - 1.0
    };
    (0..len).map(|_| next()).collect()
}

fn weights(format: Format, (rows, cols): (usize, usize)) -> Aligned {
    let width = format.row_bytes(cols);
    let mut bytes = vec![0; 16 * width];
    format.quantize(&numbers(16 * cols), None, &mut bytes);
    let mut packed = Aligned::zeroed(packed_bytes(format, rows, cols));
    let row = |row: usize| &bytes[row % 16 * width..][..width];
    pack(format, rows, cols, &row, 0..rows.div_ceil(16), packed.as_mut());
    packed
}

fn matrix(format: Format, (rows, cols): (usize, usize), bytes: &Aligned) -> Matrix<'_> {
    Matrix { format, layout: Layout::Packed, rows, cols, bytes: bytes.as_ref() }
}

/// Operations a second, of a typical run.
fn rate((rows, cols): (usize, usize), mut run: impl FnMut(usize)) -> f64 {
    let mut seconds: Vec<f64> = (0..9)
        .map(|number| {
            let start = Instant::now();
            run(number % WEIGHTS);
            start.elapsed().as_secs_f64()
        })
        .collect();
    seconds.sort_by(f64::total_cmp);
    2.0 * (rows * cols * TOKENS) as f64 / 1e9 / seconds[seconds.len() / 2]
}

fn main() {
    let named = std::env::args().nth(1);
    let fastest = Kernels::all().last().map(|kernels| kernels.name()).unwrap_or_default();
    let wanted = named.as_deref().unwrap_or(fastest);
    assert!(Kernels::all().iter().any(|kernels| kernels.name() == wanted), "this processor has no {wanted}");
    for kernels in Kernels::all().iter().filter(|kernels| kernels.name() == wanted) {
        for threads in [1, 2] {
            let pool = Pool::with_kernels(threads, kernels);
            for shape in [(8192, 2048), (2048, 8192), (2048, 2048)] {
                let (rows, cols) = shape;
                let one = weights(Format::BF16, shape);
                let all = vec![one; WEIGHTS];
                let (down, up) = (weights(Format::F32, (rows, RANK)), weights(Format::F32, (RANK, cols)));
                let [x, dy, narrow] = [cols, rows, RANK].map(|len| numbers(TOKENS * len));
                let (mut y, mut dx) = (vec![0.0_f32; TOKENS * rows], vec![0.0_f32; TOKENS * cols]);
                let beside = |weight| Beside { values: &narrow, weight, scale: 2.0 };
                let forward = [None, Some(beside(matrix(Format::F32, (rows, RANK), &down)))].map(|beside| {
                    rate(shape, |number| {
                        let x = Rows { values: &x, packed: &mut Packed::default() };
                        products(&pool, x, matrix(Format::BF16, shape, &all[number]), beside, None, &mut y);
                    })
                });
                let gradient = [None, Some(beside(matrix(Format::F32, (RANK, cols), &up)))].map(|beside| {
                    rate(shape, |number| {
                        let dy = Rows { values: &dy, packed: &mut Packed::default() };
                        input_gradient(&pool, dy, matrix(Format::BF16, shape, &all[number]), beside, None, &mut dx);
                    })
                });
                println!(
                    "{} x{threads} {rows} x {cols}: forward {:.0}, with an adapter {:.0}; gradient {:.0}, {:.0} GFLOP/s",
                    kernels.name(),
                    forward[0],
                    forward[1],
                    gradient[0],
                    gradient[1]
                );
            }
        }
    }
}
