//! Measures tuning's products, forward and the input's gradient, on the two fastest sets of instructions and one thread:
//! `cargo run --release -p pasture-kernels --example gemm`

use pasture_kernels::gemm::{Packed, Rows, input_gradient, products};
use pasture_kernels::linear::{Aligned, Layout, Matrix, pack, packed_bytes};
use pasture_kernels::{Format, Kernels, Pool};
use std::time::Instant;
fn main() {
    let (rows, cols, tokens) = (2048, 2048, 512);
    let bytes = vec![0x3c_u8; cols * 2];
    let mut packed = Aligned::zeroed(packed_bytes(Format::BF16, rows, cols));
    pack(Format::BF16, rows, cols, &|_| &bytes[..], 0..rows / 16, packed.as_mut());
    let weight = Matrix { format: Format::BF16, layout: Layout::Packed, rows, cols, bytes: packed.as_ref() };
    for kernels in Kernels::all().iter().rev().take(2) {
        let pool = Pool::with_kernels(1, kernels);
        let x = vec![0.5_f32; tokens * cols];
        let mut out = vec![0.0_f32; tokens * rows];
        let (mut best, mut back) = (f64::INFINITY, f64::INFINITY);
        for _ in 0..8 {
            let start = Instant::now();
            products(&pool, Rows { values: &x, packed: &mut Packed::default() }, weight, None, None, &mut out);
            best = best.min(start.elapsed().as_secs_f64());
            let start = Instant::now();
            input_gradient(&pool, Rows { values: &x, packed: &mut Packed::default() }, weight, None, None, &mut out);
            back = back.min(start.elapsed().as_secs_f64());
        }
        let work = 2.0 * (rows * cols * tokens) as f64 / 1e9;
        println!("{}: forward {:.0}, gradient {:.0} GFLOP/s", kernels.name(), work / best, work / back);
    }
}
