//! Tasks give what lm-evaluation-harness gives, sample by sample: prompts, log-likelihoods, generated answers, scores and
//! totals. Its results over stories260K stand in `fixtures/expected.json`; `fixtures/make.py` makes them again.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, reason = "a test may")]
#[path = "../../../tests/kit.rs"]
mod kit;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use pasture_files::folder::Folder;
use pasture_files::tokenizer::Tokenizer;
use pasture_kernels::Pool;
use pasture_lab::evaluate::{Kind, Options, Subject, Task, TaskReport, differences, open, run, windows};
use pasture_model::{LoadOptions, Source, load};
use pasture_tensor::kv::KvFormat;
use pasture_tensor::{Backend, Cpu, Precision};
use serde_json::Value;

/// Between log-likelihoods of ours and PyTorch's, both in f32.
const TOLERANCE: f64 = 2e-3;

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures")
}

fn subject() -> Option<Subject> {
    let folder = kit::folder("assets/weights/stories260K")?;
    let backend: Arc<dyn Backend> = Arc::new(Cpu::new(Arc::new(Pool::new(1)), Precision::Exact));
    let source = Source::open(&folder.join("hf")).unwrap();
    let loaded = load(&source, &backend, &LoadOptions::default(), &mut |_, _| {}).unwrap();
    let tokenizer = Tokenizer::in_folder(&Folder::open(&fixtures()).unwrap()).unwrap();
    Some(Subject::new(Arc::new(loaded.decoder), tokenizer, KvFormat::F32))
}

fn task(file: &str) -> Task {
    open(fixtures().join(file).to_str().unwrap()).unwrap()
}

fn report(subject: &Subject, task: &Task) -> TaskReport {
    run(subject, task, &Options::default(), &mut |_, _| true).unwrap()
}

fn expected() -> Value {
    serde_json::from_slice(&std::fs::read(fixtures().join("expected.json")).unwrap()).unwrap()
}

#[track_caller]
fn check_results(name: &str, report: &TaskReport, expected: &Value) {
    for (metric, value) in expected["results"].as_object().unwrap() {
        // A name with a filter: ours has it where a task has several.
        let short = metric.split(',').next().unwrap().replace("exact_match", "exact");
        let found = report.metric(metric).or_else(|| report.metric(&short)).unwrap();
        let near = (found.value - value.as_f64().unwrap()).abs() < 1e-3 * found.value.max(1e-9);
        assert!(near || found.value == value.as_f64().unwrap(), "{name} {metric}: {} {value}", found.value);
    }
}

fn check_choices(name: &str, subject: &Subject, task: &Task, expected: &Value) {
    let found = report(subject, task);
    for (record, wanted) in found.records.iter().zip(expected["samples"].as_array().unwrap()) {
        if let Some(prompt) = wanted["prompt"].as_str() {
            assert_eq!(record["prompt"], prompt, "{name}");
        }
        let pairs =
            record["loglikelihoods"].as_array().unwrap().iter().zip(wanted["loglikelihoods"].as_array().unwrap());
        for (ours, theirs) in pairs {
            let (ours, theirs) = (ours.as_f64().unwrap(), theirs.as_f64().unwrap());
            assert!((ours - theirs).abs() < TOLERANCE, "{name} line {}: {ours} {theirs}", record["line"]);
        }
        for metric in ["acc", "acc_norm"].into_iter().filter(|metric| !wanted[metric].is_null()) {
            assert_eq!(record[metric], wanted[metric], "{name} line {}", record["line"]);
        }
    }
    check_results(name, &found, expected);
}

fn check_answers(name: &str, subject: &Subject, task: &Task, filters: &[(&str, &str)], expected: &Value) {
    let found = report(subject, task);
    for wanted in expected["samples"].as_array().unwrap() {
        let at = wanted["line"].as_u64().unwrap() as usize - 1;
        let record = &found.records[at];
        if let Some(prompt) = wanted["prompt"].as_str() {
            assert_eq!(record["prompt"], prompt, "{name}");
        }
        assert_eq!(record["answer"], wanted["answer"], "{name} {at}");
        let (_, metric) = filters.iter().find(|(filter, _)| wanted["filter"] == *filter).unwrap();
        assert_eq!(record[*metric]["extracted"], wanted["extracted"], "{name} {at}");
        assert_eq!(record[*metric]["score"], wanted["score"], "{name} {at}");
    }
    check_results(name, &found, expected);
}

#[test]
fn choices_are_those_of_the_harness() {
    let (Some(subject), expected) = (subject(), expected()) else { return };
    check_choices("arc", &subject, &task("arc.jsonl"), &expected["arc"]);
    check_choices("arc_shots", &subject, &Task { shots: 2, ..task("arc.jsonl") }, &expected["arc_shots"]);
    check_choices("hellaswag", &subject, &task("hellaswag.jsonl"), &expected["hellaswag"]);
    check_choices("mmlu", &subject, &task("mmlu_test.jsonl"), &expected["mmlu"]);
    let pool = Some(task("mmlu_dev.jsonl").rows);
    check_choices("mmlu_shots", &subject, &Task { shots: 3, pool, ..task("mmlu_test.jsonl") }, &expected["mmlu_shots"]);
}

#[test]
fn answers_are_those_of_the_harness() {
    let (Some(subject), expected) = (subject(), expected()) else { return };
    let mut gsm8k = Task { shots: 3, pool: Some(task("gsm8k_train.jsonl").rows), ..task("gsm8k.jsonl") };
    let Kind::Generate { max_tokens, .. } = &mut gsm8k.kind else { panic!("answers are written") };
    *max_tokens = 48;
    let filters = ["strict-match", "flexible-extract"].map(|name| (name, format!("exact_match,{name}")));
    let filters: Vec<(&str, &str)> = filters.iter().map(|(name, metric)| (*name, metric.as_str())).collect();
    check_answers("gsm8k", &subject, &gsm8k, &filters, &expected["gsm8k"]);
    check_answers("names", &subject, &task("names.jsonl"), &[("first", "exact")], &expected["names"]);
}

#[test]
fn perplexities_are_those_of_the_harness() {
    let (Some(subject), expected) = (subject(), expected()) else { return };
    let found = report(&subject, &task("text.jsonl"));
    for (record, wanted) in found.records.iter().zip(expected["text"]["samples"].as_array().unwrap()) {
        let (ours, theirs) = (record["loglikelihood"].as_f64().unwrap(), wanted["loglikelihood"].as_f64().unwrap());
        assert!((ours - theirs).abs() < 1e-5 * theirs.abs() + TOLERANCE, "{ours} {theirs}");
    }
    assert!(found.records[0]["tokens"].as_u64().unwrap() > 1024, "a text of several windows is among them");
    check_results("text", &found, &expected["text"]);
}

#[test]
fn a_model_does_not_differ_from_itself_and_its_batches_do_not_matter() {
    let Some(subject) = subject() else { return };
    let ids: Vec<u32> = (0..700).map(|at| 3 + (at * 37 + at / 5) % 500).collect();
    let windows = windows(&ids, 1, 256, 128);
    let found = differences(&subject, &subject, &windows, &mut |_| true).unwrap();
    assert_eq!(found.kl.len(), ids.len());
    assert!(found.kl.iter().all(|kl| *kl == 0.0) && found.agree.iter().all(|same| *same));
    let said = pasture_lab::evaluate::likelihoods(&subject, &windows, &mut |_| true).unwrap();
    let flat: Vec<f32> = said.iter().flat_map(|said| said.logprobs.clone()).collect();
    assert_eq!(flat, found.model, "one by one and in batches");
}

#[test]
fn a_change_is_measured_on_both_sides_and_the_rest_is_named() {
    use pasture_lab::evaluate::Ask;
    use pasture_lab::receipt::{Level, Measures, Plan, Side, Text, Words, measure, speed};
    let Some(subject) = subject() else { return };
    let side = Side { subject, bytes: Some(1_000_000) };
    let tasks = [task("names.jsonl")];
    let plan = |level| Plan { level, tasks: &tasks, ..Plan::default() };
    let found = measure(Some(&side), &side, &plan(Level::Quick), &mut |_, _, _| {}).unwrap();
    assert_eq!(found.before.perplexity, found.after.perplexity);
    assert_eq!(found.before.tasks["names/exact"].value, 0.15);
    let divergence = found.after.divergence.unwrap();
    assert_eq!((divergence.kl, divergence.top1), (0.0, 1.0));
    assert_eq!(found.unmeasured, []);
    let cut = Plan { tokens_max: Some(100), tasks: &[], ..plan(Level::Full) };
    let cut = measure(Some(&side), &side, &cut, &mut |_, _, _| {}).unwrap();
    assert_eq!((cut.after.divergence.unwrap().tokens, cut.unmeasured[0].what.as_str()), (100, "rest of the text"));
    let ask = |ids: &[u32], scored| Ask { ids: ids.to_vec(), scored, group: 0 };
    let words = Words::Tokens(vec![ask(&[1, 50, 60, 70], 2), ask(&[1, 80, 90], 1), ask(&[1, 40], 1)]);
    let text = Text { name: "three answers".to_owned(), words };
    let tokens = |tokens_max| Plan { text: Some(&text), tokens_max, tasks: &[], ..plan(Level::Full) };
    let counted = |tokens_max| {
        let found = measure(Some(&side), &side, &tokens(tokens_max), &mut |_, _, _| {}).unwrap();
        let perplexity = found.after.perplexity.unwrap();
        assert_eq!((perplexity.window, perplexity.text.as_str()), (4, "three answers"));
        (found.after.divergence.unwrap().tokens, found.unmeasured.len())
    };
    assert_eq!([None, Some(3), Some(1)].map(counted), [(4, 0), (3, 1), (2, 1)]);
    let mut timed = Measures::default();
    speed(&side.subject, &mut timed).unwrap();
    assert!(timed.prompt_tokens_per_second.unwrap() > 0.0 && timed.new_tokens_per_second.unwrap() > 0.0);
    let nothing = measure(Some(&side), &side, &plan(Level::None), &mut |_, _, _| {}).unwrap();
    assert_eq!(nothing.after, Measures { bytes: Some(1_000_000), ..Measures::default() });
    let names: Vec<&str> = nothing.unmeasured.iter().map(|left| left.what.as_str()).collect();
    assert_eq!(names, ["perplexity", "divergence", "names"]);
    let alone = measure(None, &side, &plan(Level::Full), &mut |_, _, _| {}).unwrap();
    assert!(alone.before.perplexity.is_none() && alone.after.perplexity.is_some());
    assert_eq!(alone.unmeasured[0].what, "before");
}
