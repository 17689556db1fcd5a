//! Elementwise operations row by row over the pool. Small tensors stay on the calling thread.

use pasture_kernels::{Kernels, Pool};

use crate::ops::norm::Norm;
use crate::ops::project::HeadEpilogue;
use crate::ops::rope::RopeTable;
use crate::{Tensor, memory};

/// Values below which waking the team costs more than it saves.
const SMALL: usize = 16 << 10;

/// Calls `work` once for each row of `values`, `[rows, cols]`.
pub(super) fn each(pool: &Pool, values: &mut [f32], cols: usize, work: impl Fn(usize, &mut [f32]) + Sync) {
    if cols == 0 {
        return;
    }
    if values.len() < SMALL {
        values.chunks_exact_mut(cols).enumerate().for_each(|(at, row)| work(at, row));
        return;
    }
    let some = at_once(cols);
    pool.for_chunks_mut(values, some * cols, |number, rows| {
        rows.chunks_exact_mut(cols).enumerate().for_each(|(at, row)| work(number * some + at, row));
    });
}

/// Rows that a worker takes at once.
pub(super) fn at_once(cols: usize) -> usize {
    (SMALL / 4).div_ceil(cols.max(1))
}

/// A tensor whose rows are made one by one.
pub(super) fn map(pool: &Pool, rows: usize, cols: usize, work: impl Fn(usize, &mut [f32]) + Sync) -> Tensor {
    let mut values = memory::taken(rows * cols);
    each(pool, &mut values, cols, work);
    Tensor::new(rows, cols, values)
}

/// A copy of `x` whose rows are changed one by one.
pub(super) fn map_from(pool: &Pool, x: &Tensor, work: impl Fn(usize, &mut [f32]) + Sync) -> Tensor {
    map(pool, x.rows(), x.cols(), |at, out| {
        out.copy_from_slice(x.row(at));
        work(at, out);
    })
}

/// Each `width` columns of one row normed on their own.
pub(super) fn norm(kernels: &Kernels, norm: &Norm, width: usize, x: &[f32], out: &mut [f32]) {
    let (weight, bias) = (values(&norm.weight), values(&norm.bias));
    for (x, out) in x.chunks_exact(width).zip(out.chunks_exact_mut(width)) {
        if norm.centered {
            kernels.layer_norm(x, weight, norm.offset, bias, norm.eps, out);
        } else {
            kernels.rms_norm(x, weight, norm.offset, norm.eps, out);
            if let Some(bias) = bias {
                kernels.add(out, 1.0, bias);
            }
        }
    }
}

pub(super) fn values(vector: &Option<crate::Vector>) -> Option<&[f32]> {
    vector.as_ref().map(crate::Vector::values)
}

/// `Σ a · (b - mean)`, in sixteen sums that do not wait for each other.
pub(super) fn dot_above(mean: f32, a: &[f32], b: &[f32]) -> f32 {
    let ((a, a_rest), (b, b_rest)) = (a.as_chunks::<16>(), b.as_chunks::<16>());
    let mut sums = [0.0; 16];
    for (a, b) in a.iter().zip(b) {
        sums.iter_mut().zip(a.iter().zip(b)).for_each(|(sum, (a, b))| *sum += a * (b - mean));
    }
    sums.iter().sum::<f32>() + a_rest.iter().zip(b_rest).map(|(a, b)| a * (b - mean)).sum::<f32>()
}

/// Turns each head of one row.
pub(super) fn rope(kernels: &Kernels, head_dim: usize, table: &RopeTable, row: usize, out: &mut [f32]) {
    let (cos, sin) = (&table.cos[row * table.half..], &table.sin[row * table.half..]);
    for head in out.chunks_exact_mut(head_dim) {
        kernels.rope(head, &cos[..table.half], &sin[..table.half]);
    }
}

/// What follows the product of one row of heads. `scratch` has the row's length.
pub(super) fn heads(kernels: &Kernels, epilogue: &HeadEpilogue, row: usize, out: &mut [f32], scratch: &mut Vec<f32>) {
    if let Some(limit) = epilogue.clamp {
        out.iter_mut().for_each(|value| *value = value.clamp(-limit, limit));
    }
    let mut norm_heads = |part: &Option<(&Norm, usize)>, out: &mut [f32]| {
        if let Some((by, width)) = part {
            scratch.clear();
            scratch.extend_from_slice(out);
            norm(kernels, by, *width, scratch, out);
        }
    };
    norm_heads(&epilogue.norm, out);
    if let Some(table) = epilogue.rope {
        rope(kernels, epilogue.head_dim, table, row, out);
    }
    norm_heads(&epilogue.late_norm, out);
    if let Some(factors) = epilogue.factors {
        kernels.scale(out, factors.of(row));
    }
}
