//! The sampling steps against the probabilities of the reference implementation, and the sampler as a whole.
//! The kit's file says how ties may differ.
#![allow(clippy::unwrap_used, reason = "a test may")]
#[path = "../../../tests/kit.rs"]
mod kit;

use pasture_engine::sampling::random::Random;
use pasture_engine::sampling::repeats::Marks;
use pasture_engine::sampling::row::Row;
use pasture_engine::sampling::{Sampler, SamplingError, SamplingOptions, Step, StepKind};
use safetensors::SafeTensors;
use serde_json::{Value, json};

/// The kit's own bound.
const TOLERANCE: f32 = 1e-6;

fn floats(file: &SafeTensors, name: &str) -> Vec<f32> {
    let tensor = file.tensor(name).unwrap();
    tensor.data().chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect()
}

/// The chain of a case, through the same options that a user writes.
fn chain(case: &Value) -> Vec<Step> {
    let mut steps = Vec::new();
    for entry in case["chain"].as_array().unwrap() {
        let name = entry["op"].as_str().unwrap();
        let mut options = SamplingOptions::default();
        options.set(name, &entry["value"]).unwrap();
        let kind = StepKind::from_name(name.trim_end_matches("_size")).unwrap();
        steps.extend(Step::from_options(kind, &options));
    }
    steps
}

fn check_case(case: &Value, file: &SafeTensors, context: &[u32]) {
    let (kind, logits) = (case["kind"].as_str().unwrap(), case["logits"].as_str().unwrap());
    let mut wanted = floats(file, case["probs"].as_str().unwrap());
    let mut row_logits = floats(file, &format!("logits.{logits}"));
    let vocabulary = row_logits.len();
    let mut row = Row::Whole(&mut row_logits);
    let mut marks = Marks::new(vocabulary);
    for step in chain(case) {
        step.apply(&mut row, context, &mut marks, &mut Random::new(0));
    }
    if kind != "temperature" {
        // After a low temperature the reference's softmax counts what underflows in f32 as cut.
        assert_eq!(row.count() as u64, case["kept"].as_u64().unwrap(), "tokens kept in {case}");
    }
    let mut found = row.probabilities(vocabulary);
    let by_place = !(matches!(logits, "ties" | "flat") && matches!(kind, "top_p" | "typical_p" | "chain"));
    if !by_place {
        wanted.sort_by(f32::total_cmp);
        found.sort_by(f32::total_cmp);
    }
    for (token, (a, b)) in found.iter().zip(&wanted).enumerate() {
        assert!((a - b).abs() <= TOLERANCE, "probability {token} is {a}, not {b}, in {case}");
    }
}

#[test]
fn every_step_gives_the_references_probabilities() {
    let Some(kit) = kit::folder("golden/samplers") else { return };
    let golden: Value = serde_json::from_slice(&std::fs::read(kit.join("golden.json")).unwrap()).unwrap();
    let bytes = std::fs::read(kit.join("golden.safetensors")).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let context = file.tensor("context_ids").unwrap();
    let context: Vec<u32> =
        context.data().chunks_exact(4).map(|b| u32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect();
    let cases = golden["cases"].as_array().unwrap();
    assert!(!cases.is_empty());
    for case in cases {
        check_case(case, &file, &context);
    }
    println!("{} cases", cases.len());
}

fn options(settings: Value) -> SamplingOptions {
    let mut options = SamplingOptions::default();
    for (name, value) in settings.as_object().unwrap() {
        options.set(name, value).unwrap();
    }
    options
}

fn tokens(settings: Value, seed: u64, count: usize) -> Vec<u32> {
    let mut sampler = Sampler::new(&options(settings), 50, seed).unwrap();
    let mut context = vec![1, 2, 3];
    for step in 0..count {
        let mut logits: Vec<f32> = (0..50).map(|i| ((i * 7 + step * 3) % 50) as f32 * 0.1).collect();
        let choice = sampler.sample(&mut logits, &context).unwrap();
        context.push(choice.token);
    }
    context.split_off(3)
}

#[test]
fn a_seed_draws_the_same_tokens_on_every_platform() {
    // Written down once; a change of the generator, the order or the arithmetic shows here.
    let settings = json!({"temperature": 0.8, "top_k": 30, "top_p": 0.95, "min_p": 0.01});
    let first = tokens(settings.clone(), 42, 12);
    assert_eq!(first, SEED_42);
    assert_eq!(tokens(settings.clone(), 42, 12), first);
    assert_ne!(tokens(settings.clone(), 43, 12), first);
    let mut own = settings;
    own["seed"] = json!(42);
    assert_eq!(tokens(own, 7, 12), first);
}

const SEED_42: [u32; 12] = [41, 20, 49, 34, 41, 26, 4, 25, 10, 46, 24, 44];

#[test]
fn temperature_zero_takes_the_best_after_the_penalties() {
    assert_eq!(tokens(json!({"temperature": 0}), 1, 3), tokens(json!({"temperature": 0, "top_k": 3}), 2, 3));
    let mut sampler = Sampler::new(&options(json!({"temperature": 0, "presence_penalty": 1.0})), 3, 0).unwrap();
    assert_eq!(sampler.sample(&mut [0.0, 2.0, 1.5], &[1]).unwrap().token, 2);
}

#[test]
fn mirostat_aims_at_its_surprise() {
    // 4096 tokens of falling probability; the mean surprise of what is drawn must come to tau.
    let tau = 4.0;
    let base: Vec<f32> = (0..4096).map(|rank| -1.05 * ((rank + 1) as f32).ln()).collect();
    let mut sampler = Sampler::new(&options(json!({"mirostat_tau": tau, "logprobs": 0})), 4096, 9).unwrap();
    let mut sum = 0.0;
    let rounds = 3000;
    for _ in 0..rounds {
        let choice = sampler.sample(&mut base.clone(), &[]).unwrap();
        sum += -f64::from(choice.logprob.unwrap()) / std::f64::consts::LN_2;
    }
    // The surprise under the whole row is a little above that under the cut one, which is steered.
    let mean = sum / f64::from(rounds);
    assert!((tau - 0.1..tau + 1.5).contains(&mean), "mean surprise {mean}");
}

#[test]
fn bad_rows_and_settings_are_clear_errors() {
    let mut sampler = Sampler::new(&SamplingOptions::default(), 3, 0).unwrap();
    for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        let error = sampler.sample(&mut [0.0, bad, 1.0], &[]).unwrap_err();
        assert!(error.to_string().starts_with("logits are not finite: token 1"), "{error}");
    }
    let mut sampler = Sampler::new(&options(json!({"no_repeat_ngram_size": 1})), 2, 0).unwrap();
    assert_eq!(sampler.sample(&mut [0.0, 1.0], &[0, 1]), Err(SamplingError::NothingLeft));
    let outside = Sampler::new(&options(json!({"logit_bias": {"5": 1.0}})), 5, 0);
    assert!(matches!(outside, Err(SamplingError::BiasOutside { token: 5, .. })));
    let missing = Sampler::new(&options(json!({"samplers": "top_k;temperature", "top_p": 0.5})), 5, 0);
    assert_eq!(missing.unwrap_err(), SamplingError::NotInOrder { name: "top_p" });
}

#[test]
fn the_order_of_the_steps_is_the_users() {
    let mut sampler =
        Sampler::new(&options(json!({"samplers": "top_p;temperature", "top_p": 0.5, "temperature": 2})), 5, 0).unwrap();
    assert_eq!(sampler.steps(), [Step::TopP(0.5), Step::Temperature(2.0)]);
    assert!(sampler.sample(&mut [0.0; 5], &[]).is_ok());
}
