//! The table of gradients: every operation, in every form that its gradient tells apart.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use super::{Given, away_from, backends, check, counts, input, matrix, numbers, vector};
use crate::kv::KvFormat;
use crate::ops::add::Factors;
use crate::ops::attend::{AttendPlan, AttendSpan, Attention};
use crate::ops::experts::{Expert, Router, Routing, balance};
use crate::ops::head::LogitRule;
use crate::ops::linear::{Linear, Site};
use crate::ops::project::{Epilogue, HeadEpilogue};
use crate::ops::rope::RopeTable;
use crate::tape::Tape;
use crate::{Activation, Adapter, AdapterSite, Magnitude, Ops, Route, Tensor, Vector, Weight};

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
    let site = AdapterSite::new(given.matrices[a].clone(), given.matrices[b].clone(), scale);
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
fn adapters_with_a_magnitude_whose_norms_are_constants() {
    let all = [input(1, 5, 6), matrix(2, 4, 6), vector(3, 4), matrix(4, 2, 6), matrix(5, 4, 2), vector(6, 4)];
    check("magnitude", &all, &|ops, given| {
        let linear = given.linear(0, Some(0));
        let norms = vec![0.7, 1.9, 2.5, 1.1];
        let magnitude = Magnitude::with_norms(given.vectors[1].clone(), linear.weight.id(), norms);
        let site = AdapterSite::new(given.matrices[1].clone(), given.matrices[2].clone(), 0.5);
        let site = AdapterSite { magnitude: Some(magnitude), ..site };
        let adapter = Arc::new(Adapter::new(BTreeMap::from([("module.0".to_owned(), site)])));
        ops.set_routes(vec![Route { rows: 1..4, adapter }]);
        vec![ops.linear(&given.inputs[0], &linear)]
    });
}

#[test]
fn a_magnitude_is_the_length_of_each_row_of_the_sum_of_weight_and_pair() {
    let (weight, a, b) = (numbers(1, 4 * 6), numbers(2, 2 * 6), numbers(3, 4 * 2));
    let lengths = [0.5, 1.5, 2.0, 3.0];
    let sum = |row: usize, col: usize| {
        weight[row * 6 + col] + 0.7 * (0..2).map(|rank| b[row * 2 + rank] * a[rank * 6 + col]).sum::<f32>()
    };
    let x = Tensor::new(3, 6, numbers(4, 3 * 6));
    for (name, backend) in backends() {
        let weight = Weight::from_values(4, 6, &weight);
        let site = AdapterSite::new(Weight::from_values(2, 6, &a), Weight::from_values(4, 2, &b), 0.7);
        let site = site.with_magnitude(Vector::new(lengths.to_vec()));
        let adapter = Arc::new(Adapter::new(BTreeMap::from([("module".to_owned(), site)])));
        let linear = Linear { weight, bias: None, site: Site { tensor: "module".into(), rows: 0..4 } };
        let mut ops = Ops::new(&*backend);
        ops.set_routes(vec![Route { rows: 0..3, adapter }]);
        let y = ops.linear(&x, &linear);
        for (row, col) in (0..3).flat_map(|row| (0..4).map(move |col| (row, col))) {
            let norm = (0..6).map(|at| sum(col, at) * sum(col, at)).sum::<f32>().sqrt();
            let product: f32 = (0..6).map(|at| x.row(row)[at] * sum(col, at)).sum();
            let expected = lengths[col] / norm * product;
            assert!((y.row(row)[col] - expected).abs() < 1e-5, "{name}: {} not {expected}", y.row(row)[col]);
        }
    }
}

#[test]
fn products_of_groups() {
    let all = [input(1, 5, 6), matrix(2, 4, 6), matrix(3, 4, 6), vector(4, 4)];
    check("grouped", &all, &|ops, given| {
        let (first, second) = (given.linear(0, Some(0)), given.linear(1, None));
        vec![ops.grouped_linear(&given.inputs[0], &[(0..2, &first), (2..5, &second)], &[0, 1, 0, 1, 2])]
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
    let sparse = |jitter| Routing::SparseMixer { jitter };
    for routing in [
        Routing::Softmax,
        Routing::SoftmaxOfChosen,
        Routing::Sigmoid,
        Routing::SigmoidOfInput,
        // The first choice is among two of the three, or all choices are among all that are left.
        sparse(0.35),
        sparse(0.9),
    ] {
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
fn adapters_beside_experts_reach_the_rows_of_their_sequences() {
    let mut logits = input(2, 4, 2);
    for (row, values) in logits.values.chunks_exact_mut(2).enumerate() {
        values.iter_mut().enumerate().for_each(|(at, value)| *value = 0.1 * *value + ((row + at) % 2) as f32 * 0.6);
    }
    // Two experts of a product up and one down; an adapter beside the first product.
    let all = [
        input(1, 4, 5),
        logits,
        matrix(3, 6, 5),
        matrix(4, 5, 6),
        matrix(5, 6, 5),
        matrix(6, 5, 6),
        matrix(7, 2, 5),
        matrix(8, 6, 2),
    ];
    for top in [1, 2] {
        check(&format!("adapted experts {top}"), &all, &|ops, given| {
            let expert =
                |at: usize| Expert { gate: None, up: given.linear(2 * at, None), down: given.linear(2 * at + 1, None) };
            let [x, logits] = &given.inputs[..] else { unreachable!("two inputs") };
            ops.set_routes(vec![Route { rows: 1..4, adapter: adapter(given, 4, 5, 0.5) }]);
            let router = Router { routing: Routing::Softmax, top };
            vec![ops.experts(x, logits, &router, &[expert(0), expert(1)], Activation::Silu)]
        });
    }
}

#[test]
fn an_uneven_use_of_experts_has_its_slope() {
    // Logits apart enough that no step changes a choice.
    let logits = |seed: u64, by: f32| -> Vec<f32> {
        let mut values = numbers(seed, 5 * 4);
        values.iter_mut().enumerate().for_each(|(at, value)| *value = 0.2 * *value + ((at * 3 + at / 4) % 4) as f32);
        values[6] += by;
        values
    };
    let tensors = |by: f32| [Tensor::new(5, 4, logits(1, by)), Tensor::new(5, 4, logits(2, 0.0))];
    let value = |by: f32| {
        let [first, second] = tensors(by);
        balance(&[&first, &second], 2)
    };
    let (_, gradients) = value(0.0);
    let slope = (value(0.02).0 - value(-0.02).0) / 0.04;
    let found = gradients[0].row(1)[2];
    assert!((found - slope).abs() < 1e-3 * slope.abs().max(0.1), "{found} not {slope}");
    assert_eq!(balance(&[], 1).0, 0.0);
}

#[test]
fn a_part_that_is_run_again_gives_the_bits_of_one_that_is_remembered() {
    for (name, backend) in backends() {
        let pass = |tape: Tape| {
            let (weight, other) =
                (Weight::from_values(4, 4, &numbers(1, 16)), Weight::from_values(4, 4, &numbers(2, 16)));
            let mut tape = tape;
            [&weight, &other].iter().for_each(|weight| tape.train(weight.id()));
            let mut ops = Ops::with_tape(&*backend, tape);
            let linear = |weight: &Weight| Linear {
                weight: weight.clone(),
                bias: None,
                site: Site { tensor: "module".into(), rows: 0..4 },
            };
            let (first, second) = (linear(&weight), linear(&other));
            let x = ops.embed(&weight, &[0, 3, 1]);
            let outputs = ops.part(
                &x,
                Arc::new(move |ops, x| {
                    let y = ops.linear(x, &first);
                    let gate = ops.gate(&y, x, Activation::Silu);
                    vec![ops.add(x, &gate, 1.0), y]
                }),
            );
            let z = ops.part(&outputs[0], Arc::new(move |ops, x| vec![ops.linear(x, &second)])).remove(0);
            let values = z.values().to_vec();
            let seeds = vec![(&z, counts(0, &z)), (&outputs[1], counts(1, &outputs[1]))];
            let gradients = ops.into_tape().expect("it has one").backward_from(&*backend, seeds);
            [&weight, &other]
                .map(|weight| gradients.weight(weight.id()).expect("it is reached").to_vec())
                .concat()
                .into_iter()
                .chain(values)
                .collect::<Vec<f32>>()
        };
        assert!(pass(Tape::new([])) == pass(Tape::new([]).replaying()), "{name}");
    }
}

#[test]
fn log_probabilities_of_targets_row_by_row() {
    let rule = LogitRule { scale: Some(0.5), softcap: Some(1.3) };
    let targets = [Some(4), None, Some(0)];
    check("logs", &[input(1, 3, 6), matrix(2, 5, 6), vector(3, 5)], &|ops, given| {
        vec![ops.target_logprobs(&given.inputs[0], &given.linear(0, Some(0)), rule, &targets)]
    });
    // A frozen head's gradient is made in the forward.
    let head = Weight::from_values(5, 6, &numbers(2, 30));
    check("frozen head", &[input(1, 3, 6)], &|ops, given| {
        let linear = Linear { weight: head.clone(), bias: None, site: Site { tensor: "head".into(), rows: 0..5 } };
        let x = &given.inputs[0];
        vec![ops.target_logprobs(x, &linear, rule, &targets), ops.head_loss(x, &linear, rule, &targets)]
    });
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
