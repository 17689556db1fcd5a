//! The kit's runs of tuning, by the product's own pass, optimizer and schedule: losses, norms and final matrices of 20 steps
//! as torch and peft computed them, the losses of preferences, and a step on NF4.
#[path = "../../../tests/kit.rs"]
mod kit;

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;

use pasture_files::{Tensors, json};
use pasture_kernels::Pool;
use pasture_kernels::formats::bitsandbytes;
use pasture_lab::data::Example;
use pasture_lab::tune::optimizer::{AdamW, Constants, Move, limit, norm};
use pasture_lab::tune::preference::{Answer, Weights, pair};
use pasture_lab::tune::recipe::{Loss, Optimizer, Schedule};
use pasture_lab::tune::schedule::Rates;
use pasture_lab::tune::{Pass, Recipe, Trained};
use pasture_model::{Decoder, LoadOptions, Source, load, load_adapter};
use pasture_tensor::{Adapter, Backend, Cpu, Precision};
use serde_json::Value;

/// Losses absolute, norms relative, final matrices absolute, gradients relative to the largest: the kit's README.
const LOSS: f64 = 2e-4;
const NORM: f64 = 1e-3;
const FINAL: f32 = 2e-4;
const GRADIENT: f32 = 1e-4;

struct Base {
    decoder: Arc<Decoder>,
    backend: Arc<dyn Backend>,
}

fn base(folder: &Path) -> Base {
    let backend: Arc<dyn Backend> = Arc::new(Cpu::new(Arc::new(Pool::new(2)), Precision::Exact));
    let source = Source::open(folder).expect("the model opens");
    let loaded = load(&source, &backend, &LoadOptions::default(), &mut |_, _| ()).expect("the model loads");
    Base { decoder: Arc::new(loaded.decoder), backend }
}

fn integers(tensors: &Tensors, name: &str) -> (Vec<i32>, usize) {
    let shape = &tensors.get(name).expect("a tensor of the kit").shape;
    let bytes = tensors.bytes(name).expect("a tensor of the kit");
    let values = bytes.chunks_exact(4).map(|four| i32::from_le_bytes(four.try_into().expect("four bytes")));
    (values.collect(), *shape.last().expect("a width"))
}

/// Texts of padded rows: tokens before the padding, and which of them are learned.
fn texts(tensors: &Tensors, prefix: &str) -> Vec<Example> {
    let [(ids, width), (mask, _), (labels, _)] =
        ["input_ids", "attention_mask", "labels"].map(|name| integers(tensors, &format!("{prefix}{name}")));
    let rows = ids.chunks_exact(width).zip(mask.chunks_exact(width)).zip(labels.chunks_exact(width));
    rows.map(|((ids, mask), labels)| {
        let len = mask.iter().filter(|seen| **seen == 1).count();
        Example {
            ids: ids[..len].iter().map(|id| *id as u32).collect(),
            trained: labels[..len].iter().map(|label| *label != -100).collect(),
        }
    })
    .collect()
}

fn number(value: &Value) -> f64 {
    value.as_f64().expect("a number of the kit")
}

fn recipe(facts: &Value, method: &str) -> Recipe {
    let targets = &facts["target_modules"];
    let (rank, alpha) = (&facts["r"], &facts["lora_alpha"]);
    let text = format!("method = \"{method}\"\nrank = {rank}\nalpha = {alpha}\ntargets = {targets}");
    Recipe::parse(&text).expect("a recipe")
}

fn close(what: &str, found: &[f32], expected: &[f32], limit: f32) {
    assert_eq!(found.len(), expected.len(), "{what}");
    let far = found.iter().zip(expected).position(|(a, b)| (a - b).abs() > limit || (a - b).is_nan());
    assert!(far.is_none(), "{what}: entry {far:?} is {} not {}", found[far.unwrap_or(0)], expected[far.unwrap_or(0)]);
}

/// Runs a case's trace with an adapter or over all weights.
fn check_trace(golden: &Path, case: &str, method: &str, optimizer: Optimizer, tolerance: f64) {
    let folder = golden.join("train").join(case);
    let facts = json::read(&folder.join("golden.json")).expect("the kit's facts");
    let run = &facts["runs"][method];
    let mut base = base(&golden.join("text").join(case));
    let recipe =
        if method == "full" { Recipe::parse("method = \"full\"").expect("a recipe") } else { recipe(run, method) };
    let mut trained = Trained::of(&recipe, &mut base.decoder).expect("it trains");
    if method != "full" {
        let first = load_adapter(&folder.join(method).join("initial"), &base.decoder).expect("the kit's adapter loads");
        trained.begin_with(&first).expect("the recipe is the kit's");
    }
    let tensors = Tensors::open(&folder.join("batches.safetensors")).expect("the kit's batches open");
    let (all, count) = (texts(&tensors, ""), tensors.get("input_ids").expect("ids").shape[0]);
    let batches: Vec<&[Example]> = all.chunks(all.len() / count).collect();
    let shared = &facts["hyperparameters"];
    let of = |key: &str| number(&shared[key]);
    let constants = Constants {
        betas: [number(&shared["betas"][0]), number(&shared["betas"][1])],
        epsilon: of("eps"),
        decay: of("weight_decay"),
    };
    let (steps, warmup) = (of("steps") as usize, of("warmup_steps") as usize);
    let rates = Rates { schedule: Schedule::Cosine, warmup, steps, decay: 0.0, min: 0.0 };
    let mut adam = AdamW::new(optimizer, constants, trained.tensors().iter().map(|tensor| tensor.len()));
    for (at, traced) in run["trace"].as_array().expect("a trace").iter().enumerate() {
        let batch: Vec<&Example> = batches[at % batches.len()].iter().collect();
        let targets: usize = batch.iter().map(|text| text.targets()).sum();
        let ids = trained.ids();
        let pass = Pass {
            decoder: &base.decoder,
            backend: &*base.backend,
            adapter: trained.adapter(),
            recompute: at % 2 == 1,
        };
        let (sum, mut found) = pass.sum(&batch, ids.clone(), 1.0 / targets as f32).expect("it runs");
        let gradients: Vec<Vec<f32>> = ids.iter().map(|id| found.take_weight(*id).expect("a gradient")).collect();
        let size = norm(&*base.backend, gradients.iter().map(Vec::as_slice));
        let (loss, expected) = (sum / targets as f64, number(&traced["loss"]));
        assert!(
            (loss - expected).abs() <= tolerance.max(LOSS),
            "{case} {method} step {at}: loss {loss}, not {expected}"
        );
        if optimizer == Optimizer::Adamw {
            let expected = number(&traced["grad_norm"]);
            assert!(
                (size - expected).abs() <= NORM * expected,
                "{case} {method} step {at}: norm {size}, not {expected}"
            );
        }
        adam.begin();
        let step = Move { rate: number(&run["lr"]) * rates.at(at), limit: limit(size, of("max_grad_norm")) };
        trained.change(&mut base.decoder, &mut |at, own| adam.change(&*base.backend, at, own, &gradients[at], step));
    }
    if method == "full" || optimizer != Optimizer::Adamw {
        return;
    }
    let end = load_adapter(&folder.join(method).join("final"), &base.decoder).expect("the kit's adapter loads");
    let tuned = trained.adapter().expect("an adapter");
    assert_eq!(tuned.sites().len(), end.sites().len());
    for (name, site) in tuned.sites() {
        let wanted = end.site(name).expect("the same modules");
        close(name, &site.a.values(), &wanted.a.values(), FINAL);
        close(name, &site.b.values(), &wanted.b.values(), FINAL);
        let lengths = |site: &pasture_tensor::AdapterSite| {
            site.magnitude.as_ref().map(|magnitude| magnitude.lengths.values().to_vec()).unwrap_or_default()
        };
        close(name, &lengths(site), &lengths(wanted), FINAL);
    }
}

#[test]
fn twenty_steps_are_those_of_torch_and_peft() {
    let Some(golden) = kit::folder("golden") else { return };
    for method in ["lora", "rslora", "dora", "full"] {
        check_trace(&golden, "llama3", method, Optimizer::Adamw, LOSS);
    }
    for case in ["gemma2", "mixtral"] {
        check_trace(&golden, case, "lora", Optimizer::Adamw, LOSS);
    }
}

/// What rounding both moments to 8 bits may cost in the loss of a step; the trace falls from 8 to about 4.
const ROUNDED: f64 = 0.05;

#[test]
fn moments_in_8_bits_follow_the_trace() {
    let Some(golden) = kit::folder("golden") else { return };
    check_trace(&golden, "llama3", "full", Optimizer::Adamw8bit, ROUNDED);
}

#[test]
fn preferences_have_the_references_losses_and_gradients() {
    let Some(golden) = kit::folder("golden") else { return };
    let folder = golden.join("train/llama3");
    let facts = json::read(&folder.join("dpo/golden.json")).expect("the kit's facts");
    let tensors = Tensors::open(&folder.join("dpo/golden.safetensors")).expect("the kit's results open");
    let Base { mut decoder, backend } = base(&golden.join("text/llama3"));
    let run = json::read(&folder.join("golden.json")).expect("the kit's facts")["runs"]["lora"].clone();
    let mut trained = Trained::of(&recipe(&run, "lora"), &mut decoder).expect("it trains");
    trained
        .begin_with(&load_adapter(&folder.join("lora/final"), &decoder).expect("the adapter loads"))
        .expect("the same");
    let (chosen, rejected) = (texts(&tensors, "chosen."), texts(&tensors, "rejected."));
    let both: Vec<&Example> = chosen.iter().zip(&rejected).flat_map(|(one, other)| [one, other]).collect();
    let reference =
        Pass { decoder: &decoder, backend: &*backend, adapter: None, recompute: false }.losses(&both).expect("it runs");
    for (side, offset) in [("chosen", 0), ("rejected", 1)] {
        for (at, wanted) in facts[format!("reference_{side}_logps")].as_array().expect("a list").iter().enumerate() {
            let found = -reference[2 * at + offset];
            assert!((found - number(wanted)).abs() < 1e-2, "{side} {at}: {found} not {wanted}");
        }
    }
    let pass = Pass { decoder: &decoder, backend: &*backend, adapter: trained.adapter(), recompute: false };
    for (name, loss, smoothing) in [
        ("sigmoid", Loss::Dpo, 0.0),
        ("sigmoid_label_smoothing_0.1", Loss::Dpo, 0.1),
        ("ipo", Loss::Ipo, 0.0),
        ("hinge", Loss::Hinge, 0.0),
    ] {
        let weights = Weights { beta: number(&facts["beta"]), smoothing, desirable: [1.0, 1.0] };
        let count = chosen.len() as f64;
        let slopes = |sums: &[f64]| {
            let valued: Vec<_> = sums
                .chunks_exact(2)
                .enumerate()
                .map(|(at, sums)| {
                    let answer = |side: usize| Answer {
                        policy: -sums[side],
                        reference: -reference[2 * at + side],
                        tokens: both[2 * at + side].targets(),
                    };
                    pair(loss, &weights, [answer(0), answer(1)])
                })
                .collect();
            let slopes = valued.iter().flat_map(|one| one.slopes).map(|slope| (-slope / count) as f32).collect();
            (valued.iter().map(|one| one.loss).sum::<f64>() / count, slopes)
        };
        let ids = trained.ids();
        let (found, mut gradients) = pass.each(&both, ids.clone(), slopes).expect("it runs");
        let wanted = number(&facts["losses"][name]["loss"]);
        assert!((found - wanted).abs() < 2e-4 * wanted.max(1.0), "{name}: {found} not {wanted}");
        let all: Vec<Vec<f32>> = ids.iter().map(|id| gradients.take_weight(*id).expect("a gradient")).collect();
        let (size, wanted) =
            (norm(&*backend, all.iter().map(Vec::as_slice)), number(&facts["losses"][name]["grad_norm"]));
        assert!((size - wanted).abs() < 1e-3 * wanted, "{name}: norm {size} not {wanted}");
        for (tensor, found) in trained.tensors().iter().zip(&all) {
            let name = format!("{name}.grad.base_model.model.{}", tensor.name);
            let Ok(bytes) = tensors.bytes(&name) else { continue };
            let expected: Vec<f32> =
                bytes.chunks_exact(4).map(|four| f32::from_le_bytes(four.try_into().expect("four"))).collect();
            let largest = expected.iter().fold(0.0_f32, |largest, value| largest.max(value.abs()));
            close(&name, found, &expected, GRADIENT * largest);
        }
    }
}

/// A weight's numbers as NF4 has them: blocks of 64 over all of it, as the reference cuts them.
fn in_nf4(values: &mut [f32]) {
    let (mut codes, mut scales) = (vec![0; values.len().div_ceil(2)], vec![0.0; values.len().div_ceil(64)]);
    bitsandbytes::quantize_four_bit(&bitsandbytes::NF4, values, 64, &mut codes, &mut scales);
    bitsandbytes::dequantize_four_bit(&bitsandbytes::NF4, &codes, &scales, 64, values);
}

/// Changes the linear layers inside.
fn change_linears(decoder: &mut Arc<Decoder>, change: fn(&mut [f32])) {
    let inside = |name: &str| name.contains("_proj") || name.contains("ffn_") || name.contains("attn_");
    let parameters = decoder.parameters().iter().filter(|one| one.tensor.ends_with(".weight") && inside(&one.tensor));
    let ids: HashSet<_> = parameters.filter(|one| !one.tensor.contains("norm")).map(|one| one.weight).collect();
    assert!(ids.len() >= 7, "the model's linear layers are found");
    let model = Arc::get_mut(decoder).expect("nobody else holds it");
    model.change_parameters(&|id| ids.contains(&id), &mut |_, values| change(values));
}

fn loss(base: &Base, adapter: Option<&Arc<Adapter>>, batch: &[Example]) -> f64 {
    let pass = Pass { decoder: &base.decoder, backend: &*base.backend, adapter, recompute: false };
    let losses = pass.losses(&batch.iter().collect::<Vec<_>>()).expect("it runs");
    losses.iter().sum::<f64>() / batch.iter().map(Example::targets).sum::<usize>() as f64
}

#[test]
fn a_base_in_nf4_has_the_references_loss() {
    let Some(golden) = kit::folder("golden") else { return };
    let facts = json::read(&golden.join("train/nf4/golden.json")).expect("the kit's facts");
    let mut base = base(&golden.join("text/llama3"));
    change_linears(&mut base.decoder, in_nf4);
    let first = load_adapter(&golden.join("train/llama3/rslora/initial"), &base.decoder).expect("the adapter loads");
    let tensors = Tensors::open(&golden.join("train/llama3/batches.safetensors")).expect("the kit's batches open");
    let (all, count) = (texts(&tensors, ""), tensors.get("input_ids").expect("ids").shape[0]);
    let found = loss(&base, Some(&Arc::new(first)), &all[..all.len() / count]);
    let wanted = number(&facts["qlora"]["loss"]);
    assert!((found - wanted).abs() < LOSS, "{found}, not {wanted}");
}

#[test]
fn a_base_that_is_kept_in_nf4_is_the_base_with_such_values() {
    let Some(golden) = kit::folder("golden") else { return };
    let text = |seed: u32| Example { ids: (0..20).map(|at| (at * 7 + seed) % 200).collect(), trained: vec![true; 20] };
    let [mut stored, mut valued] = ["f16"; 2].map(|case| base(&golden.join("gguf").join(case).join("model.gguf")));
    let recipe = Recipe::parse("base_format = \"nf4\"").expect("a recipe");
    let trained = Trained::of(&recipe, &mut stored.decoder).expect("it trains");
    change_linears(&mut valued.decoder, in_nf4);
    let [found, wanted] =
        [(&stored, trained.adapter()), (&valued, None)].map(|(base, adapter)| loss(base, adapter, &[text(1), text(5)]));
    assert!((found - wanted).abs() < LOSS, "{found}, not {wanted}");
}
