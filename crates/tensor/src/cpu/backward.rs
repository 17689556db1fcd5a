//! Gradients over the pool: rows and heads are shared among the threads, each is summed by one of them in order.

use pasture_kernels::{Kernels, Pool, gemm};

use super::{Cpu, attend_backward, project, rows};
use crate::backend::Precision;
use crate::ops::activate::{derivative, gated_slope};
use crate::ops::attend::{AttendGradients, Attended, HeadGradients, group_backward, joined};
use crate::ops::head::{LogitRule, row_logs};
use crate::ops::norm::{Norm, NormGradients, row_backward};
use crate::{Activation, Tensor, memory};

/// Gradients of `activation(gate) · up`.
pub(super) fn gate(cpu: &Cpu, gate: &Tensor, up: &Tensor, dy: &Tensor, activation: Activation) -> [Tensor; 2] {
    let (kernels, (rows, cols)) = (cpu.pool.kernels(), (dy.rows(), dy.cols()));
    let packs = cpu.precision == Precision::Bf16;
    let [mut d_gate, mut d_up] = [0, 1].map(|_| memory::taken(rows * cols));
    project::with_packed(cpu, |packed| {
        let parts = d_gate.chunks_exact_mut(cols.max(1)).zip(d_up.chunks_exact_mut(cols.max(1)));
        // Of the two, what is given up is the gradient that goes on first.
        let mut parts: Vec<_> = parts.zip(packed.places(kernels, packs, (rows, cols))).collect();
        cpu.pool.for_chunks_mut(&mut parts, GATE_ROWS, |number, parts| {
            for (row, ((d_gate, d_up), words)) in (number * GATE_ROWS..).zip(parts) {
                let (gate, up, dy) = (gate.row(row), up.row(row), dy.row(row));
                values_and_slopes(kernels, activation, gate, d_up, d_gate);
                for (((d_gate, d_up), up), dy) in d_gate.iter_mut().zip(d_up.iter_mut()).zip(up).zip(dy) {
                    *d_gate *= dy * activation.gated(*up);
                    *d_up *= dy * gated_slope(activation, *up);
                }
                gemm::pack_row(kernels, d_up, words);
            }
        });
        let gradients = [d_gate, d_up].map(|values| Tensor::new(rows, cols, values));
        if packs {
            packed.made(&gradients[1]);
        }
        gradients
    })
}

/// Rows of a gate that a worker takes at once.
const GATE_ROWS: usize = 4;

/// An activation and its derivative at each value.
fn values_and_slopes(kernels: &Kernels, activation: Activation, x: &[f32], values: &mut [f32], slopes: &mut [f32]) {
    values.copy_from_slice(x);
    if activation != Activation::Silu {
        kernels.activate(activation, values);
        return slopes.iter_mut().zip(x).for_each(|(slope, x)| *slope = derivative(activation, *x));
    }
    // e^-x, of which both are made without a function.
    kernels.scale(values, -1.0);
    kernels.exp_sum(values, 0.0);
    for ((value, slope), x) in values.iter_mut().zip(slopes).zip(x) {
        let sigmoid = 1.0 / (1.0 + *value);
        *value = x * sigmoid;
        *slope = sigmoid * (1.0 + x * (1.0 - sigmoid));
    }
}

/// Gradients of a norm. The sums over rows are made by one thread, in order, and only for norms that are trained.
pub(super) fn norm(pool: &Pool, x: &Tensor, dy: &Tensor, norm: &Norm, width: usize, trained: bool) -> NormGradients {
    let kernels = pool.kernels();
    let dx = rows::map(pool, x.rows(), x.cols(), |row, out| {
        let parts = x.row(row).chunks_exact(width).zip(dy.row(row).chunks_exact(width));
        for ((x, dy), dx) in parts.zip(out.chunks_exact_mut(width)) {
            norm_row(kernels, norm, x, dy, dx);
        }
    });
    let (mut weights, mut biases, mut unused) = (vec![0.0; width], vec![0.0; width], vec![0.0; width]);
    let trained = if trained { x.values() } else { &[] };
    for (x, dy) in trained.chunks_exact(width).zip(dy.values().chunks_exact(width)) {
        row_backward(x, dy, norm, &mut unused, Some([&mut weights, &mut biases]));
    }
    NormGradients { x: dx, weights, biases }
}

/// As `row_backward`, which says what is computed; its sums are made side by side.
fn norm_row(kernels: &Kernels, norm: &Norm, x: &[f32], dy: &[f32], dx: &mut [f32]) {
    let len = x.len() as f32;
    let (mean, squares) = kernels.moments(x, norm.centered);
    let inverse = 1.0 / (squares / len + norm.eps).sqrt();
    match rows::values(&norm.weight) {
        Some(weight) => {
            dx.iter_mut().zip(dy.iter().zip(weight)).for_each(|(dx, (dy, weight))| *dx = dy * (weight + norm.offset));
        }
        None => dx.copy_from_slice(dy),
    }
    let g_mean = if norm.centered { kernels.moments(dx, true).0 } else { 0.0 };
    let gn_mean = rows::dot_above(mean, dx, x) * inverse / len;
    let slope = gn_mean * inverse;
    dx.iter_mut().zip(x).for_each(|(dx, x)| *dx = (*dx - g_mean - (x - mean) * slope) * inverse);
}

/// Logarithms of the targets' shares.
pub(super) fn target_logs(cpu: &Cpu, raw: &mut Tensor, targets: &[u32], rule: LogitRule, slopes: bool) -> Vec<f64> {
    let ((rows, cols), kernels) = ((raw.rows(), raw.cols()), cpu.pool.kernels());
    let quick = cpu.precision == Precision::Bf16 && rule == LogitRule::default();
    // A frozen head meets its gradient next.
    let packs = cpu.precision == Precision::Bf16 && slopes;
    let mut logs = vec![0.0; targets.len()];
    project::with_packed(cpu, |packed| {
        let parts = raw.values_mut().chunks_exact_mut(cols.max(1)).zip(&mut logs);
        let mut parts: Vec<_> = parts.zip(packed.places(kernels, packs, (rows, cols))).collect();
        cpu.pool.for_chunks_mut(&mut parts, 1, |row, parts| {
            for ((values, log), words) in parts {
                **log = match quick {
                    true => quick_logs(kernels, values, targets[row], slopes),
                    false => row_logs(values, targets[row], rule, slopes),
                };
                gemm::pack_row(kernels, values, words);
            }
        });
        if packs {
            packed.made(raw);
        }
    });
    logs
}

/// As `row_logs` without a rule, its exponentials in f32.
fn quick_logs(kernels: &Kernels, row: &mut [f32], target: u32, slopes: bool) -> f64 {
    let (largest, own) = (kernels.maximum(row), row[target as usize]);
    let sum = kernels.exp_sum(row, largest);
    if slopes {
        kernels.scale(row, -1.0 / sum);
        row[target as usize] += 1.0;
    }
    f64::from(own - largest) - f64::from(sum).ln()
}

/// Gradients of an attention: a piece of work is one head of keys of one sequence.
pub(super) fn attend(pool: &Pool, precision: Precision, past: &Attended, dy: &Tensor) -> AttendGradients {
    let heads = past.attention.kv_heads;
    let mut parts: Vec<Option<HeadGradients>> = (0..past.spans.len() * heads).map(|_| None).collect();
    pool.for_chunks_mut(&mut parts, 1, |number, part| {
        let (span, head) = (&past.spans[number / heads], number % heads);
        part[0] = Some(match precision {
            Precision::Bf16 => attend_backward::group(pool.kernels(), past, dy, span, head),
            Precision::Exact | Precision::Fast => group_backward(past, dy, span, head),
        });
    });
    let parts: Vec<HeadGradients> = parts.into_iter().flatten().collect();
    joined(past, &parts, |cols, make| rows::map(pool, past.q.rows(), cols, make))
}
