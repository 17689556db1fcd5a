//! Preference losses of the kit (Rafailov et al., arXiv 2305.18290; Azar et al., arXiv 2310.12036; Zhao et al., arXiv
//! 2305.10425) from log probabilities row by row: their values, and what they pass back to an adapter. For comparison
//! with the kit only.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};
use pasture_files::{Tensors, json};
use pasture_model::load_adapter;
use pasture_tensor::tape::Tape;
use pasture_tensor::{Adapter, Ops, Tensor};
use serde_json::Value;

use super::texts::{Text, single};
use super::{Case, LOSS, NORM, check_some_gradients, close, flat, ids, number};

/// A loss of `h`, the policy's preference over the reference's, with its slope.
type Rule = fn(h: f64, beta: f64, smoothing: f64) -> (f64, f64);

/// The kit's losses; whether log probabilities are means over the tokens; whether its gradients are in the kit.
const LOSSES: [(&str, Rule, bool); 4] = [
    ("sigmoid", |h, beta, _| sigmoid_loss(h, beta, 0.0), false),
    ("sigmoid_label_smoothing_0.1", sigmoid_loss, false),
    ("ipo", |h, beta, _| ((h - 0.5 / beta).powi(2), 2.0 * (h - 0.5 / beta)), true),
    ("hinge", |h, beta, _| ((1.0 - beta * h).max(0.0), if beta * h < 1.0 { -beta } else { 0.0 }), false),
];

fn sigmoid_loss(h: f64, beta: f64, smoothing: f64) -> (f64, f64) {
    let softplus = |x: f64| x.max(0.0) + (-x.abs()).exp().ln_1p();
    let share = 1.0 / (1.0 + (-beta * h).exp());
    let loss = (1.0 - smoothing) * softplus(-beta * h) + smoothing * softplus(beta * h);
    (loss, beta * (share - 1.0 + smoothing))
}

/// All losses of the case's pairs.
pub(super) fn check(case: &Case) -> Result<()> {
    let folder = case.folder.join("dpo");
    let (facts, results) =
        (json::read(&folder.join("golden.json"))?, Tensors::open(&folder.join("golden.safetensors"))?);
    let policy = Arc::new(load_adapter(&case.folder.join("lora/final"), &case.decoder)?);
    let texts = [single(&results, "chosen")?, single(&results, "rejected")?];
    for (name, rule, means) in LOSSES {
        one(case, &facts, &results, &policy, &texts, (name, rule, means)).with_context(|| name.to_owned())?;
    }
    Ok(())
}

fn one(
    case: &Case,
    facts: &Value,
    results: &Tensors,
    policy: &Arc<Adapter>,
    texts: &[Vec<Text>; 2],
    (name, rule, means): (&str, Rule, bool),
) -> Result<()> {
    let expected = &facts["losses"][name];
    let of = |key: &str| facts[key].as_f64().with_context(|| key.to_owned());
    let (beta, smoothing) = (of("beta")?, of("label_smoothing")?);
    let pairs = texts[0].len();
    let all: Vec<&Text> = texts.iter().flatten().collect();
    // Policy and reference run as one batch, with a tape: the reference's rows have no adapter to give a gradient to.
    let parts = all.iter().map(|text| (*text, Some(policy))).chain(all.iter().map(|text| (*text, None)));
    let (batch, mut kv) = flat(&case.decoder, parts);
    let targets: Vec<_> = all.iter().chain(&all).flat_map(|text| text.targets.iter().copied()).collect();
    let mut ops = Ops::with_tape(&*case.backend, Tape::new(ids(policy).into_values()).replaying());
    let hidden = case.decoder.forward(&mut ops, &batch, &mut kv)?;
    let (head, spec) = case.decoder.head().zip(case.decoder.spec().head.as_ref()).context("a model without a head")?;
    let logs = ops.target_logprobs(&hidden.rows, head, spec.rule, &targets);
    let counted = |text: &Text| text.targets.iter().flatten().count() as f64;
    let sums: Vec<f64> =
        batch.spans.iter().map(|it| logs.values()[it.rows.clone()].iter().map(|log| f64::from(*log)).sum()).collect();
    let (mut seeds, mut losses) = (Tensor::zeros(logs.rows(), 1), Vec::new());
    for pair in 0..pairs {
        let [chosen, rejected] = [pair, pairs + pair];
        let over = |at: usize| if means { counted(all[at]) } else { 1.0 };
        let ratio = |at: usize| (sums[at] - sums[all.len() + at]) / over(at);
        let (loss, slope) = rule(ratio(chosen) - ratio(rejected), beta, smoothing);
        losses.push(loss as f32);
        for (at, sign) in [(chosen, 1.0), (rejected, -1.0)] {
            let seed = (sign * slope / over(at) / pairs as f64) as f32;
            batch.spans[at].rows.clone().for_each(|row| seeds.row_mut(row)[0] = seed);
        }
    }
    for (at, (key, limit)) in [("policy_chosen_logps", 2e-3), ("policy_rejected_logps", 2e-3)].into_iter().enumerate() {
        let found: Vec<f32> = sums[at * pairs..][..pairs].iter().map(|sum| *sum as f32).collect();
        close(&found, &numbers(&facts[key])?, limit).with_context(|| key.to_owned())?;
    }
    // A loss of squares of some tens is compared relative to its size.
    let wanted = numbers(&expected["per_pair"])?;
    let size = wanted.iter().fold(1.0_f32, |size, loss| size.max(loss.abs()));
    close(&losses, &wanted, LOSS * size).context("losses")?;
    let tape = ops.into_tape().context("these operations have a tape")?;
    let found = tape.backward_from(&*case.backend, vec![(&logs, seeds)]);
    let gradients: BTreeMap<String, Vec<f32>> = ids(policy)
        .into_iter()
        .map(|(name, id)| Ok((name, found.weight(id).context("a matrix without a gradient")?.to_vec())))
        .collect::<Result<_>>()?;
    let squares = gradients.values().flatten().map(|value| f64::from(*value) * f64::from(*value));
    let norm = number(&expected["grad_norm"])?;
    close(&[squares.sum::<f64>().sqrt() as f32], &[norm], NORM * norm).context("norm")?;
    let before = format!("{name}.grad.");
    if results.names().any(|name| name.starts_with(&before)) {
        check_some_gradients(results, &before, &gradients)?;
    }
    Ok(())
}

fn numbers(list: &Value) -> Result<Vec<f32>> {
    let list = list.as_array().context("no list")?;
    ensure!(!list.is_empty(), "an empty list");
    list.iter().map(number).collect()
}
