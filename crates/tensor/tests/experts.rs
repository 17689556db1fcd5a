//! A mixture touches only the experts that are chosen: their weights alone reach the backend's product, whether they are
//! in memory or fetched, and the results are the same to the bit.
#![forbid(unsafe_code)]

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::sync::Mutex;

use pasture_tensor::backend::Group;
use pasture_tensor::ops::experts::{Expert, Router, Routing};
use pasture_tensor::ops::linear::Site;
use pasture_tensor::{Activation, Backend, Linear, Ops, Precision, Tensor, Weight, WeightId, reference};

/// The reference, with a list of the weights that it multiplied by.
#[derive(Default)]
struct Counting {
    weights: Mutex<Vec<WeightId>>,
}

impl Backend for Counting {
    fn name(&self) -> &'static str {
        "counting"
    }

    fn precision(&self) -> Precision {
        Precision::Exact
    }

    fn grouped(&self, x: &Tensor, groups: &[Group]) -> Tensor {
        self.weights.lock().expect("one thread").extend(groups.iter().map(|group| group.weight.id()));
        reference::grouped(x, groups)
    }
}

fn values(count: usize, seed: usize) -> Vec<f32> {
    (0..count).map(|at| ((at * 7919 + seed * 104_729) % 1009) as f32 / 504.5 - 1.0).collect()
}

fn linear(rows: usize, cols: usize, seed: usize) -> Linear {
    let site = Site { tensor: format!("t{seed}").into(), rows: 0..rows };
    Linear { weight: Weight::from_values(rows, cols, &values(rows * cols, seed)), bias: None, site }
}

#[test]
fn only_chosen_experts_are_touched() {
    let experts: Vec<Expert> = (0..12)
        .map(|at| Expert {
            gate: Some(linear(5, 8, 3 * at)),
            up: linear(5, 8, 3 * at + 1),
            down: linear(8, 5, 3 * at + 2),
        })
        .collect();
    let x = Tensor::new(3, 8, values(24, 99));
    // The second and third row agree on one expert.
    let chosen = [[1, 4], [7, 2], [2, 11]];
    let mut logits = Tensor::zeros(3, 12);
    for (row, pair) in chosen.iter().enumerate() {
        (logits.row_mut(row)[pair[0]], logits.row_mut(row)[pair[1]]) = (2.0, 1.0);
    }
    let used: BTreeSet<usize> = chosen.iter().flatten().copied().collect();
    for routing in [Routing::Softmax, Routing::SoftmaxOfChosen, Routing::Sigmoid, Routing::SigmoidOfInput] {
        let router = Router { routing, top: 2 };
        let resident = Counting::default();
        let expected = Ops::new(&resident).experts(&x, &logits, &router, &experts, Activation::Silu);
        let touched: BTreeSet<WeightId> = resident.weights.into_inner().expect("one thread").into_iter().collect();
        let of = |at: &usize| {
            [
                experts[*at].gate.as_ref().map(|it| it.weight.id()),
                Some(experts[*at].up.weight.id()),
                Some(experts[*at].down.weight.id()),
            ]
        };
        assert_eq!(touched, used.iter().flat_map(of).flatten().collect());
        let mut fetched = Vec::new();
        let backend = Counting::default();
        let fetch = |at: usize| {
            fetched.push(at);
            Ok::<Expert, Infallible>(experts[at].clone())
        };
        let found = Ops::new(&backend).fetched_experts(&x, &logits, &router, 12, Activation::Silu, fetch);
        assert_eq!(found.expect("nothing fails").values(), expected.values(), "{routing:?}");
        assert_eq!(fetched, used.iter().copied().collect::<Vec<_>>(), "each once, in the order of their numbers");
        assert_eq!(backend.weights.into_inner().expect("one thread").len(), 3 * used.len());
    }
    let failing = |at: usize| if at == 4 { Err("gone") } else { Ok(experts[at].clone()) };
    let router = Router { routing: Routing::Softmax, top: 2 };
    let found = Ops::new(&Counting::default()).fetched_experts(&x, &logits, &router, 12, Activation::Silu, failing);
    assert_eq!(found.err(), Some("gone"));
}
