//! Measures the products: bytes of weights a second with few tokens, operations a second with many, beside a plain
//! read of the same memory in the same moment. `cargo run --release -p pasture-kernels --example products [format…]`

use std::hint::black_box;
use std::time::Instant;

use pasture_kernels::linear::{
    Aligned, Finish, Input, Layout, Matrix, Precision, Product, Prologue, layout_on, pack, packed_bytes, panel_bytes,
    project,
};
use pasture_kernels::{Format, Pool};

/// The weights of one measurement do not fit the caches.
const WEIGHTS: usize = 6;

struct Weights {
    format: Format,
    rows: usize,
    cols: usize,
    layout: Layout,
    bytes: Vec<Aligned>,
}

impl Weights {
    fn new(pool: &Pool, format: Format, rows: usize, cols: usize) -> Weights {
        let values: Vec<f32> = (0..16 * cols).map(|at| ((at * 7919 % 1999) as f32 / 1000.0 - 1.0) * 0.05).collect();
        let row_bytes = format.row_bytes(cols);
        let mut some = vec![0; 16 * row_bytes];
        format.quantize(&values, None, &mut some);
        let layout = layout_on(pool.kernels(), format);
        let row = |row: usize| &some[row % 16 * row_bytes..][..row_bytes];
        let one = match layout {
            Layout::Packed => {
                let mut bytes = Aligned::zeroed(packed_bytes(format, rows, cols));
                let panel = panel_bytes(format, cols);
                let start = Instant::now();
                pool.for_chunks_mut(bytes.as_mut(), 16 * panel, |number, out| {
                    let first = 16 * number;
                    pack(format, rows, cols, &row, first..first + out.len() / panel, out);
                });
                let seconds = start.elapsed().as_secs_f64();
                println!("  packed at {:.2} GB/s", bytes.as_ref().len() as f64 / seconds / 1e9);
                bytes
            }
            Layout::Plain => {
                let mut bytes = Aligned::zeroed(rows * row_bytes);
                bytes
                    .as_mut()
                    .chunks_exact_mut(row_bytes)
                    .enumerate()
                    .for_each(|(at, out)| out.copy_from_slice(row(at)));
                bytes
            }
        };
        Weights { format, rows, cols, layout, bytes: vec![one; WEIGHTS] }
    }

    fn matrix(&self, number: usize) -> Matrix<'_> {
        let bytes = self.bytes[number % WEIGHTS].as_ref();
        Matrix { format: self.format, layout: self.layout, rows: self.rows, cols: self.cols, bytes }
    }
}

fn multiply(pool: &Pool, weights: &Weights, number: usize, x: &[f32], out: &mut [f32]) -> f64 {
    let start = Instant::now();
    let input = Input { values: x, cols: weights.cols, prologue: Prologue::None };
    let product = Product { weight: weights.matrix(number), bias: None, finish: Finish::Store, out };
    project(pool, Precision::Fast, &input, &mut [product]);
    start.elapsed().as_secs_f64()
}

/// Reads all bytes once with every thread.
fn read(pool: &Pool, bytes: &[u8]) -> f64 {
    let start = Instant::now();
    let pieces: Vec<&[u8]> = bytes.chunks(256 << 10).collect();
    pool.run(|worker| {
        while let Some(at) = worker.claim(pieces.len()) {
            let (words, _) = pieces[at].as_chunks::<8>();
            let mut sums = [0_u64; 16];
            for words in words.chunks_exact(16) {
                sums.iter_mut().zip(words).for_each(|(sum, word)| *sum ^= u64::from_le_bytes(*word));
            }
            black_box(sums);
        }
    });
    start.elapsed().as_secs_f64()
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn measure(pool: &Pool, weights: &Weights, tokens: usize, rounds: usize) {
    let x: Vec<f32> = (0..tokens * weights.cols).map(|at| ((at * 31 % 101) as f32 - 50.0) / 50.0).collect();
    let mut out = vec![0.0; tokens * weights.rows];
    let bytes = weights.matrix(0).bytes.len() as f64;
    let (mut products, mut reads) = (Vec::new(), Vec::new());
    for round in 0..rounds {
        products.push(multiply(pool, weights, round, &x, &mut out));
        reads.push(read(pool, weights.matrix(round + WEIGHTS / 2).bytes));
    }
    let (best, typical) = (products.iter().copied().fold(f64::INFINITY, f64::min), median(products));
    let operations = 2.0 * (tokens * weights.rows * weights.cols) as f64;
    println!(
        "  x{} {:>4} tokens: {:>5.1} GB/s (best {:>5.1}; read {:>5.1}), {:>6.0} GFLOP/s (best {:>6.0})",
        pool.threads(),
        tokens,
        bytes / typical / 1e9,
        bytes / best / 1e9,
        bytes / median(reads) / 1e9,
        operations / typical / 1e9,
        operations / best / 1e9,
    );
}

fn main() {
    let named: Vec<String> = std::env::args().skip(1).collect();
    let wanted = |format: &Format| named.iter().any(|name| Format::from_name(name) == Some(*format));
    let usual = [Format::Q8_0, Format::Q4_0, Format::Q4_K, Format::Q6_K, Format::BF16];
    for format in
        Format::ALL.iter().filter(|format| if named.is_empty() { usual.contains(format) } else { wanted(format) })
    {
        for (rows, cols) in [(8192, 2048), (2048, 8192)] {
            println!("{} {rows} x {cols}", format.name());
            for threads in [1, 2] {
                let pool = Pool::new(threads);
                let weights = Weights::new(&pool, *format, rows, cols);
                for (tokens, rounds) in [(1, 60), (4, 30), (16, 20), (128, 5)] {
                    measure(&pool, &weights, tokens, rounds);
                }
            }
        }
    }
}
