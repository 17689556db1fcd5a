//! The default of every operation: plain loops that are the specification. Slow, readable, single-threaded.

use std::ops::Range;
use std::sync::Arc;

use pasture_kernels::Format;

use crate::backend::{Backend, Group};
use crate::kv::{KvLayer, PAGE};
use crate::ops::activate::{derivative, gated_slope};
use crate::ops::add::Factors;
use crate::ops::attend::{AttendGradients, AttendPlan, Attended, Attention, axpy, dot, group_backward, joined};
use crate::ops::experts::{Choice, Router, Routing, softmax, sparse_mixer};
use crate::ops::head::{LogitRule, row_logs};
use crate::ops::norm::{Norm, NormGradients, row_backward, statistics};
use crate::ops::rope::RopeTable;
use crate::{Activation, Layout, Tensor, Weight};

/// Copies plain rows.
pub fn weight<'a>(format: Format, rows: usize, cols: usize, row: &(dyn Fn(usize) -> &'a [u8] + Sync)) -> Weight {
    let mut bytes = Vec::with_capacity(rows * format.row_bytes(cols));
    (0..rows).for_each(|at| bytes.extend_from_slice(row(at)));
    Weight::new(format, Layout::Plain, rows, cols, Arc::new(bytes))
}

/// Rows of a table.
pub fn embed(table: &Weight, ids: &[u32]) -> Tensor {
    let mut y = Tensor::zeros(ids.len(), table.cols());
    for (at, id) in ids.iter().enumerate() {
        table.row_values(*id as usize, y.row_mut(at));
    }
    y
}

/// Rows of a tensor.
pub fn gather(x: &Tensor, rows: &[u32]) -> Tensor {
    let mut values = Vec::with_capacity(rows.len() * x.cols());
    rows.iter().for_each(|row| values.extend_from_slice(x.row(*row as usize)));
    Tensor::new(rows.len(), x.cols(), values)
}

/// Norms each `width` columns.
pub fn norm(x: &Tensor, norm: &Norm, width: usize) -> Tensor {
    let mut y = Tensor::zeros(x.rows(), x.cols());
    for (x, y) in x.values().chunks_exact(width).zip(y.values_mut().chunks_exact_mut(width)) {
        let (mean, inverse) = statistics(x, norm);
        for (col, (x, y)) in x.iter().zip(y).enumerate() {
            let bias = norm.bias.as_ref().map_or(0.0, |bias| bias.values()[col]);
            *y = (x - mean) * inverse * norm.factor(col) + bias;
        }
    }
    y
}

/// Each group's rows by its weight.
pub fn grouped(x: &Tensor, groups: &[Group]) -> Tensor {
    let outputs = groups.first().map_or(0, |group| group.weight.rows());
    let mut y = Tensor::zeros(x.rows(), outputs);
    let mut values = vec![0.0; x.cols()];
    for Group { rows, weight } in groups {
        assert_eq!(weight.rows(), outputs, "the weights of a product have one shape");
        for output in 0..outputs {
            weight.row_values(output, &mut values);
            for row in rows.clone() {
                y.row_mut(row)[output] = dot(x.row(row), &values);
            }
        }
    }
    y
}

/// [`Backend::product_beside`], one product after the other.
pub fn product_beside<B: Backend + ?Sized>(
    backend: &B,
    x: &Tensor,
    weight: &Weight,
    (narrow, other, scale): (&Tensor, &Weight, f32),
) -> Tensor {
    let mut y = backend.grouped(x, &[Group::whole(x, weight)]);
    backend.grouped_add(narrow, &[Group::whole(x, other)], scale, &mut y);
    y
}

/// [`Backend::input_beside`], one product after the other.
pub fn input_beside<B: Backend + ?Sized>(
    backend: &B,
    dy: &Tensor,
    weight: &Weight,
    (narrow, other): (&Tensor, &Weight),
    onto: Option<Tensor>,
) -> Tensor {
    let dx = backend.grouped_input(dy, &[Group::whole(dy, weight)], onto);
    backend.grouped_input(narrow, &[Group::whole(dy, other)], Some(dx))
}

/// Adds the groups' rows of a product to a tensor.
pub fn add_rows(product: &Tensor, groups: &[Group], scale: f32, sum: &mut Tensor) {
    for row in groups.iter().flat_map(|group| group.rows.clone()) {
        axpy(sum.row_mut(row), scale, product.row(row));
    }
}

/// The input's gradient of [`grouped`], added to what is there.
pub fn grouped_input(dy: &Tensor, groups: &[Group], onto: Option<Tensor>) -> Tensor {
    let inputs = groups.first().map_or(0, |group| group.weight.cols());
    let mut dx = onto.unwrap_or_else(|| Tensor::zeros(dy.rows(), inputs));
    let mut values = vec![0.0; inputs];
    for Group { rows, weight } in groups {
        for output in 0..weight.rows() {
            weight.row_values(output, &mut values);
            for row in rows.clone() {
                axpy(dx.row_mut(row), dy.row(row)[output], &values);
            }
        }
    }
    dx
}

/// A weight's gradient.
pub fn outer(dy: &Tensor, x: &Tensor, rows: Range<usize>, sum: &mut [f32]) {
    assert_eq!(sum.len(), dy.cols() * x.cols());
    for row in rows {
        for (dy, sum) in dy.row(row).iter().zip(sum.chunks_exact_mut(x.cols())) {
            axpy(sum, *dy, x.row(row));
        }
    }
}

/// Gradients of both factors of [`gate`].
pub fn gate_backward(gate: &Tensor, up: &Tensor, dy: &Tensor, activation: Activation) -> [Tensor; 2] {
    let triples = || gate.values().iter().zip(up.values()).zip(dy.values());
    let d_gate = triples().map(|((gate, up), dy)| dy * activation.gated(*up) * derivative(activation, *gate)).collect();
    let d_up = triples().map(|((gate, up), dy)| dy * activation.of(*gate) * gated_slope(activation, *up)).collect();
    [Tensor::new(dy.rows(), dy.cols(), d_gate), Tensor::new(dy.rows(), dy.cols(), d_up)]
}

/// Gradients of [`norm`]: of its input, and the sums for its factors and biases.
pub fn norm_backward(x: &Tensor, dy: &Tensor, norm: &Norm, width: usize, trained: bool) -> NormGradients {
    let mut dx = Tensor::zeros(x.rows(), x.cols());
    let (mut weights, mut biases) = (vec![0.0; width], vec![0.0; width]);
    let rows = x.values().chunks_exact(width).zip(dy.values().chunks_exact(width));
    for ((x, dy), dx) in rows.zip(dx.values_mut().chunks_exact_mut(width)) {
        row_backward(x, dy, norm, dx, trained.then_some([&mut weights, &mut biases]));
    }
    NormGradients { x: dx, weights, biases }
}

/// The logarithm of each target's share; with `slopes` each row becomes its gradient.
pub fn target_logs(raw: &mut Tensor, targets: &[u32], rule: LogitRule, slopes: bool) -> Vec<f64> {
    let cols = raw.cols();
    let rows = raw.values_mut().chunks_exact_mut(cols).zip(targets);
    rows.map(|(row, target)| row_logs(row, *target, rule, slopes)).collect()
}

/// Gradients of [`attend`] over whole sequences.
pub fn attend_backward(past: &Attended, dy: &Tensor) -> AttendGradients {
    let heads = past.spans.iter().flat_map(|span| (0..past.attention.kv_heads).map(move |kv| (span, kv)));
    let parts: Vec<_> = heads.map(|(span, kv)| group_backward(past, dy, span, kv)).collect();
    joined(past, &parts, |cols, make| {
        let mut made = Tensor::zeros(past.q.rows(), cols);
        (0..made.rows()).for_each(|row| make(row, made.row_mut(row)));
        made
    })
}

/// Turns pairs `(i, i + half)` of each head.
pub fn rope(x: &Tensor, head_dim: usize, table: &RopeTable) -> Tensor {
    let mut y = Tensor::new(x.rows(), x.cols(), x.values().to_vec());
    let half = table.half;
    for row in 0..x.rows() {
        let (cos, sin) = (&table.cos[row * half..][..half], &table.sin[row * half..][..half]);
        for head in y.row_mut(row).chunks_exact_mut(head_dim) {
            for i in 0..half {
                let (a, b) = (head[i], head[i + half]);
                head[i] = a * cos[i] - b * sin[i];
                head[i + half] = b * cos[i] + a * sin[i];
            }
        }
    }
    y
}

/// An activation of each value.
pub fn activate(x: &Tensor, activation: Activation) -> Tensor {
    Tensor::new(x.rows(), x.cols(), x.values().iter().map(|x| activation.of(*x)).collect())
}

/// `activation(gate) · up`, with what the activation makes of `up`.
pub fn gate(gate: &Tensor, up: &Tensor, activation: Activation) -> Tensor {
    let pairs = gate.values().iter().zip(up.values());
    let values = pairs.map(|(gate, up)| activation.of(*gate) * activation.gated(*up)).collect();
    Tensor::new(gate.rows(), gate.cols(), values)
}

/// `a + scale · b`.
pub fn add(a: &Tensor, b: &Tensor, scale: f32) -> Tensor {
    let values = a.values().iter().zip(b.values()).map(|(a, b)| a + scale * b).collect();
    Tensor::new(a.rows(), a.cols(), values)
}

/// Each row times its factor.
pub fn scale(x: &Tensor, factors: &Factors) -> Tensor {
    let mut y = Tensor::new(x.rows(), x.cols(), x.values().to_vec());
    for (row, values) in y.values_mut().chunks_exact_mut(x.cols()).enumerate() {
        values.iter_mut().for_each(|value| *value *= factors.of(row));
    }
    y
}

/// Each value held within the limit.
pub fn clamp(x: &Tensor, limit: f32) -> Tensor {
    Tensor::new(x.rows(), x.cols(), x.values().iter().map(|x| x.clamp(-limit, limit)).collect())
}

/// Stores the batch's keys and values on their sequences' pages.
pub fn write_kv(k: &Tensor, v: &Tensor, layer: &mut KvLayer, plan: &AttendPlan) {
    let dim = layer.head_dim;
    for span in &plan.spans {
        for (at, row) in span.rows.clone().enumerate() {
            let position = span.start + at;
            let (page, slot) = (span.pages[position / PAGE], position % PAGE);
            let heads = k.row(row).chunks_exact(dim).zip(v.row(row).chunks_exact(dim));
            for (head, (key, value)) in heads.enumerate() {
                layer.write(page, head, slot, key, value);
            }
        }
    }
}

/// Each query's softmax over its visible keys, and the sum of their values.
pub fn attend(q: &Tensor, layer: &KvLayer, plan: &AttendPlan, attention: &Attention) -> Tensor {
    let dim = attention.head_dim;
    let shared = attention.heads / attention.kv_heads;
    let mut y = Tensor::zeros(q.rows(), q.cols());
    let (mut key, mut value) = (vec![0.0; dim], vec![0.0; dim]);
    for span in &plan.spans {
        for row in span.rows.clone() {
            for head in 0..attention.heads {
                let query = &q.row(row)[head * dim..][..dim];
                let sink = attention.sinks.as_ref().map(|sinks| sinks.values()[head]);
                let mut scores = Vec::with_capacity(plan.visible[row].len());
                let place = |position: usize| (span.pages[position / PAGE], head / shared, position % PAGE);
                for position in plan.visible[row].clone() {
                    let (page, head, slot) = place(position);
                    layer.read(page, head, slot, &mut key, &mut value);
                    scores.push(attention.score(dot(query, &key)));
                }
                let largest = scores.iter().copied().chain(sink).fold(f32::NEG_INFINITY, f32::max);
                let sum: f32 = scores.iter().copied().chain(sink).map(|score| (score - largest).exp()).sum();
                let y = &mut y.row_mut(row)[head * dim..][..dim];
                for (position, score) in plan.visible[row].clone().zip(&scores) {
                    let (page, head, slot) = place(position);
                    layer.read(page, head, slot, &mut key, &mut value);
                    axpy(y, (score - largest).exp() / sum, &value);
                }
            }
        }
    }
    y
}

/// The best experts of each row. Equal logits go to the expert with the smaller number.
pub fn route(logits: &Tensor, router: &Router) -> Vec<Choice> {
    let choose = |row: usize| {
        let logits = logits.row(row);
        if let Routing::SparseMixer { jitter } = router.routing {
            let chosen = sparse_mixer(logits, jitter, router.top).into_iter();
            let (experts, weights) = chosen.map(|(expert, shares)| (expert, shares[expert as usize])).unzip();
            return Choice { experts, weights };
        }
        let mut order: Vec<u32> = (0..logits.len() as u32).collect();
        order.sort_by(|a, b| logits[*b as usize].total_cmp(&logits[*a as usize]).then(a.cmp(b)));
        order.truncate(router.top);
        let chosen: Vec<f32> = order.iter().map(|expert| logits[*expert as usize]).collect();
        let weights = match router.routing {
            Routing::Softmax => {
                let shares = softmax(logits);
                order.iter().map(|expert| shares[*expert as usize]).collect()
            }
            // The kind above has chosen already.
            Routing::SoftmaxOfChosen | Routing::SparseMixer { .. } => softmax(&chosen),
            Routing::Sigmoid | Routing::SigmoidOfInput => {
                chosen.iter().map(|logit| 1.0 / (1.0 + (-logit).exp())).collect()
            }
        };
        Choice { experts: order, weights }
    };
    (0..logits.rows()).map(choose).collect()
}
