//! The table of gradients: every operation, in every form that its gradient tells apart.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use super::{Given, away_from, check, input, matrix, numbers, vector};
use crate::kv::KvFormat;
use crate::ops::add::Factors;
use crate::ops::attend::{AttendPlan, AttendSpan, Attention};
use crate::ops::experts::{Expert, Router, Routing};
use crate::ops::head::LogitRule;
use crate::ops::linear::{Linear, Site};
use crate::ops::project::{Epilogue, HeadEpilogue};
use crate::ops::rope::RopeTable;
use crate::{Activation, Adapter, AdapterSite, Route};

const ACTIVATIONS: [Activation; 9] = [
    Activation::Silu,
    Activation::Gelu,
    Activation::GeluTanh,
    Activation::GeluQuick,
    Activation::Relu,
    Activation::ReluSquared,
    Activation::Tanh,
    Activation::SoftCap(0.7),
    Activation::SwishLimited { slope: 1.702, limit: 0.9 },
];

#[test]
fn rows_that_are_looked_up() {
    check("embed", &[matrix(1, 5, 4)], &|ops, given| vec![ops.embed(&given.matrices[0], &[4, 0, 0, 2, 1, 3])]);
    check("gather", &[input(1, 4, 3)], &|ops, given| vec![ops.gather(&given.inputs[0], &[3, 0, 0, 2, 1])]);
}

#[test]
fn values_one_by_one() {
    for activation in ACTIVATIONS {
        let x = away_from(input(1, 3, 5), &[0.0, 0.9]);
        let up = away_from(input(2, 3, 5), &[0.9, -0.9]);
        check(&format!("{activation:?}"), &[x.clone(), up], &|ops, given| {
            let [x, up] = &given.inputs[..] else { unreachable!("two inputs") };
            vec![ops.activate(x, activation), ops.gate(x, up, activation)]
        });
    }
    check("sums and factors", &[input(1, 3, 5), input(2, 3, 5)], &|ops, given| {
        let [a, b] = &given.inputs[..] else { unreachable!("two inputs") };
        let sum = ops.add(a, b, 0.3);
        // A value that is used more than once has the sum of its gradients.
        let twice = ops.add(&sum, a, -0.7);
        let rows = ops.scale(&twice, &Factors::Rows(vec![0.5, -2.0, 1.5]));
        vec![ops.scale(&sum, &Factors::All(1.7)), rows]
    });
    check("clamp", &[away_from(input(1, 3, 5), &[0.4, -0.4])], &|ops, given| vec![ops.clamp(&given.inputs[0], 0.4)]);
}

#[test]
fn norms_of_rows_and_heads() {
    for (centered, weight, bias, offset) in [
        (false, None, None, 0.0),
        (false, Some(0), None, 1.0),
        (false, Some(0), Some(1), 0.0),
        (true, Some(0), Some(1), 0.0),
        (true, None, None, 0.0),
    ] {
        for width in [8, 4] {
            let mut all = vec![input(1, 3, 8)];
            all.extend((0..weight.into_iter().chain(bias).count()).map(|at| vector(2 + at as u64, width)));
            check(&format!("norm {centered} {weight:?} {bias:?} {width}"), &all, &|ops, given| {
                vec![ops.norm_heads(&given.inputs[0], &given.norm(centered, weight, bias, offset), width)]
            });
        }
    }
}

fn table(rows: usize, half: usize) -> RopeTable {
    let angles = numbers(5, rows * half);
    // Longer rotations carry a factor.
    let turn = |of: fn(f32) -> f32| Arc::new(angles.iter().map(|angle| 1.2 * of(3.0 * angle)).collect());
    RopeTable { half, cos: turn(f32::cos), sin: turn(f32::sin) }
}

#[test]
fn rotations_of_whole_heads_and_of_their_beginnings() {
    for half in [4, 3] {
        check(&format!("rope {half}"), &[input(1, 3, 16)], &|ops, given| {
            vec![ops.rope(&given.inputs[0], 8, &table(3, half))]
        });
    }
}

/// Low-rank pairs of matrices `a` and `b`, beside the module of matrix 0.
fn adapter(given: &Given, a: usize, b: usize, scale: f32) -> Arc<Adapter> {
    let site = AdapterSite { a: given.matrices[a].clone(), b: given.matrices[b].clone(), scale };
    Arc::new(Adapter::new(BTreeMap::from([("module.0".to_owned(), site)])))
}

#[test]
fn products_with_bias_and_adapters_of_two_ranks() {
    check("linear", &[input(1, 5, 6), matrix(2, 4, 6), vector(3, 4)], &|ops, given| {
        vec![ops.linear(&given.inputs[0], &given.linear(0, Some(0)))]
    });
    let all = [
        input(1, 7, 6),
        matrix(2, 4, 6),
        vector(3, 4),
        matrix(4, 2, 6),
        matrix(5, 4, 2),
        matrix(6, 3, 6),
        matrix(7, 4, 3),
    ];
    check("adapters", &all, &|ops, given| {
        let (first, second) = (adapter(given, 1, 2, 0.5), adapter(given, 3, 4, 2.0));
        ops.set_routes(vec![Route { rows: 0..3, adapter: first }, Route { rows: 5..7, adapter: second }]);
        vec![ops.linear(&given.inputs[0], &given.linear(0, Some(0)))]
    });
}

#[test]
fn adapters_of_a_fused_tensor_reach_every_part_of_it() {
    // Matrices: two parts of 4 and 3 rows, then the adapter of the whole tensor.
    let all = [input(1, 3, 6), matrix(2, 4, 6), matrix(3, 3, 6), matrix(4, 2, 6), matrix(5, 7, 2)];
    check("fused", &all, &|ops, given| {
        ops.set_routes(vec![Route { rows: 0..2, adapter: adapter(given, 2, 3, 0.5) }]);
        let part = |matrix: usize, rows: Range<usize>| {
            let site = Site { tensor: "module.0".into(), rows };
            Linear { site, ..given.linear(matrix, None) }
        };
        let (first, second) = (part(0, 0..4), part(1, 4..7));
        ops.project(&given.inputs[0], None, &[&first, &second], &Epilogue::Plain)
    });
}

#[test]
fn products_of_groups() {
    let all = [input(1, 5, 6), matrix(2, 4, 6), matrix(3, 4, 6), vector(4, 4)];
    check("grouped", &all, &|ops, given| {
        let (first, second) = (given.linear(0, Some(0)), given.linear(1, None));
        vec![ops.grouped_linear(&given.inputs[0], &[(0..2, &first), (2..5, &second)])]
    });
}

#[test]
fn projections_and_what_follows_them() {
    let all = [input(1, 3, 6), matrix(2, 8, 6), matrix(3, 8, 6), vector(4, 8), vector(5, 6), vector(6, 4)];
    check("gated", &all[..5], &|ops, given| {
        let norm = given.norm(false, Some(1), None, 1.0);
        let (gate, up) = (given.linear(0, Some(0)), given.linear(1, None));
        ops.project(&given.inputs[0], Some(&norm), &[&gate, &up], &Epilogue::Gated(Activation::Silu))
    });
    check("activated", &all[..2], &|ops, given| {
        ops.project(&given.inputs[0], None, &[&given.linear(0, None)], &Epilogue::Activated(Activation::GeluTanh))
    });
    for late in [false, true] {
        check(&format!("heads, late {late}"), &all, &|ops, given| {
            let norm = given.norm(false, Some(1), None, 0.0);
            let (own, table) = (given.norm(false, Some(2), None, 0.0), table(3, 2));
            let factors = Factors::Rows(vec![0.5, 1.5, -1.0]);
            let head = HeadEpilogue {
                head_dim: 4,
                clamp: Some(50.0),
                norm: (!late).then_some((&own, 4)),
                rope: Some(&table),
                late_norm: late.then_some((&own, 4)),
                factors: late.then_some(&factors),
            };
            let (first, second) = (given.linear(0, Some(0)), given.linear(1, None));
            let heads = Epilogue::Heads(vec![head.clone(), HeadEpilogue { norm: None, late_norm: None, ..head }]);
            ops.project(&given.inputs[0], Some(&norm), &[&first, &second], &heads)
        });
    }
    check("sum", &[input(1, 3, 6), input(7, 3, 8), matrix(2, 8, 6), vector(4, 8)], &|ops, given| {
        let [x, stream] = &given.inputs[..] else { unreachable!("two inputs") };
        vec![ops.project_add(x, &given.linear(0, Some(0)), 0.7, stream)]
    });
}

#[test]
fn attention_with_groups_windows_caps_and_sinks() {
    // Two sequences, of 4 rows that see what follows them and of 3 that do not.
    let visible = |window: usize| -> Vec<Range<usize>> {
        let causal = |row: usize| (row + 1).saturating_sub(window)..row + 1;
        std::iter::repeat_n(0..4, 4).chain((0..3).map(causal)).collect()
    };
    for (heads, kv_heads, softcap, sinks, window) in
        [(2, 2, None, false, 9), (4, 2, Some(0.8), false, 9), (3, 1, None, true, 2), (4, 2, Some(0.8), true, 2)]
    {
        let mut all = vec![input(1, 7, heads * 4), input(2, 7, kv_heads * 4), input(3, 7, kv_heads * 4)];
        all.extend(sinks.then(|| vector(4, heads)));
        check(&format!("attend {heads} {kv_heads} {softcap:?} {sinks} {window}"), &all, &|ops, given| {
            let sinks = given.vectors.first().cloned();
            let attention = Attention { heads, kv_heads, head_dim: 4, scale: 0.9, softcap, sinks };
            let mut layer = given.backend.kv_layer(kv_heads, 4, KvFormat::F32);
            assert!(given.backend.kv_resize(&mut layer, 2));
            let spans = [(0..4, &[1]), (4..7, &[0])].map(|(rows, pages)| AttendSpan { rows, start: 0, pages });
            let plan = AttendPlan { spans: spans.to_vec(), visible: visible(window) };
            let [q, k, v] = &given.inputs[..] else { unreachable!("three inputs") };
            vec![ops.attend(q, k, v, &mut layer, &plan, &attention)]
        });
    }
}

#[test]
fn experts_by_every_rule() {
    // Logits apart enough that no step changes a choice.
    let mut logits = input(2, 4, 3);
    for (row, values) in logits.values.chunks_exact_mut(3).enumerate() {
        values.iter_mut().enumerate().for_each(|(at, value)| *value = 0.1 * *value + ((row + 2 * at) % 3) as f32 * 0.6);
    }
    for routing in [Routing::Softmax, Routing::SoftmaxOfChosen, Routing::Sigmoid] {
        for (gated, top) in [(true, 2), (false, 2), (true, 3)] {
            let mut all = vec![input(1, 4, 5), logits.clone()];
            all.extend((0..9).map(|at| if at % 3 == 2 { matrix(10 + at, 5, 6) } else { matrix(10 + at, 6, 5) }));
            if !gated {
                // Without gates only the products up and down are there.
                all = all
                    .into_iter()
                    .enumerate()
                    .filter(|(at, _)| *at < 2 || (at - 2) % 3 != 0)
                    .map(|(_, one)| one)
                    .collect();
            }
            check(&format!("experts {routing:?} {gated} {top}"), &all, &|ops, given| {
                let each = if gated { 3 } else { 2 };
                let expert = |at: usize| Expert {
                    gate: gated.then(|| given.linear(at * each, None)),
                    up: given.linear(at * each + each - 2, None),
                    down: given.linear(at * each + each - 1, None),
                };
                let [x, logits] = &given.inputs[..] else { unreachable!("two inputs") };
                let experts: Vec<Expert> = (0..3).map(expert).collect();
                vec![ops.experts(x, logits, &Router { routing, top }, &experts, Activation::Silu)]
            });
        }
    }
}

#[test]
fn logits_and_the_loss_of_targets() {
    for rule in [LogitRule::default(), LogitRule { scale: Some(0.5), softcap: Some(1.3) }] {
        let all = [input(1, 3, 6), matrix(2, 5, 6), vector(3, 5)];
        check("logits", &all, &|ops, given| vec![ops.logits(&given.inputs[0], &given.linear(0, Some(0)), rule)]);
        check("loss", &all, &|ops, given| {
            vec![ops.head_loss(&given.inputs[0], &given.linear(0, Some(0)), rule, &[Some(4), None, Some(0)])]
        });
    }
    // More rows than are held at once.
    let targets: Vec<Option<u32>> = (0..70).map(|row| Some(row % 3)).collect();
    check("loss of many rows", &[input(1, 70, 2), matrix(2, 3, 2)], &|ops, given| {
        vec![ops.head_loss(&given.inputs[0], &given.linear(0, None), LogitRule::default(), &targets)]
    });
}

#[test]
fn a_tied_table_has_the_sum_of_its_gradients() {
    check("tied", &[matrix(1, 5, 4)], &|ops, given| {
        let x = ops.embed(&given.matrices[0], &[4, 0, 2]);
        vec![ops.head_loss(&x, &given.linear(0, None), LogitRule::default(), &[Some(1), Some(2), Some(3)])]
    });
}
