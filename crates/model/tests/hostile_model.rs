//! The hostile set's models: each is opened and loaded, and run where the set asks for tokens, and must end as its
//! manifest says, in time and in little memory. What only floors above see is named here and loads.

#![allow(clippy::unwrap_used, reason = "a test may")]
#[path = "../../../tests/kit.rs"]
mod kit;
#[path = "../../../tests/patience.rs"]
mod patience;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use pasture_files::json;
use pasture_model::{Batch, Decoder, LoadOptions, Loaded, Result, Source, load};
use pasture_tensor::kv::KvFormat;
use pasture_tensor::{Backend, Cpu, Ops, Precision};
use serde_json::Value;

/// The set's own limits.
const TIME_MAX: Duration = Duration::from_secs(2);
const MEMORY_MAX: u64 = 64 << 20;

/// Cases whose flaw lies in files that the prompt object reads. This floor loads them.
const ABOVE: [&str; 2] = ["model/generation_config_bad", "model/without_tokenizer_json"];

/// Cases whose flaw shows in logits, which sampling refuses. This floor makes them visible: none is finite.
const NOT_FINITE: [&str; 3] = ["model/weights_inf", "model/weights_nan", "model/weights_overflow"];

/// The case that loads if the key that nobody knows is named.
const NAMED: (&str, &str) = ("model/config_unknown_key", "zz_attention_trick");

struct Case {
    file: String,
    op: String,
    outcomes: Vec<String>,
}

fn cases(root: &Path) -> Vec<Case> {
    let text = std::fs::read_to_string(root.join("manifest.jsonl")).unwrap();
    let rows = text.lines().map(|line| json::parse(line.as_bytes(), "manifest.jsonl").unwrap());
    let case = |row: Value| {
        let word = |key: &str| row[key].as_str().map(str::to_owned);
        let outcomes = ["must", "may"].into_iter().filter_map(word).collect();
        Case { file: word("file").unwrap(), op: word("op").unwrap(), outcomes }
    };
    rows.filter(|row| row["kind"] == "model" && row["op"] != "render").map(case).collect()
}

fn open(path: &Path, backend: &Arc<dyn Backend>) -> Result<Loaded> {
    let source = Source::open(path)?;
    load(&source, backend, &LoadOptions::default(), &mut |_, _| {})
}

/// Four tokens behind one, each the likeliest; none where logits are not finite.
fn generate(decoder: &Decoder) -> Result<Option<Vec<u32>>> {
    let backend = decoder.backend().clone();
    let mut kv = decoder.kv(&*backend, KvFormat::F32);
    let sequence = kv.start();
    let mut ids = vec![1];
    while ids.len() < 5 {
        let mut ops = Ops::new(&*backend);
        let last = ids.len() - 1;
        let hidden = decoder.forward(&mut ops, &Batch::one(sequence, last, ids.len(), &ids[last..]), &mut kv)?;
        let logits = decoder.logits(&mut ops, &hidden.rows)?;
        if !logits.values().iter().all(|logit| logit.is_finite()) {
            return Ok(None);
        }
        let best = (0..logits.cols()).max_by(|a, b| logits.values()[*a].total_cmp(&logits.values()[*b])).unwrap();
        ids.push(best as u32);
    }
    Ok(Some(ids.split_off(1)))
}

/// A message that a person can act on, and that shows nothing of the machine.
fn check_message(case: &Case, shown: &str) {
    assert!(!shown.is_empty() && shown.len() <= 500, "{}: {shown}", case.file);
    assert!(!shown.contains("/hostile/") && !shown.contains(".rs:"), "{}: {shown}", case.file);
    assert!(shown.contains('"'), "{}: it names nothing: {shown}", case.file);
}

/// Loads a case, and runs it where it wants that; what came of it in the manifest's words.
fn outcome(case: &Case, root: &Path, backend: &Arc<dyn Backend>) -> (Result<Loaded>, &'static str) {
    let loaded = open(&root.join(&case.file), backend);
    let outcome = match &loaded {
        Err(fault) => {
            check_message(case, &fault.to_string());
            "clear error"
        }
        Ok(loaded) if case.op == "generate" => match generate(&loaded.decoder).unwrap() {
            Some(ids) => {
                assert_eq!(ids.len(), 4);
                "ok"
            }
            None if NOT_FINITE.contains(&&*case.file) => "clear error",
            None => "logits that are not finite",
        },
        Ok(_) => "ok",
    };
    (loaded, outcome)
}

fn check(case: &Case, root: &Path, backend: &Arc<dyn Backend>) {
    let ((loaded, outcome), spent) = patience::timed(TIME_MAX, || outcome(case, root, backend));
    assert!(spent <= TIME_MAX, "{} took {spent:?}", case.file);
    if ABOVE.contains(&&*case.file) {
        assert_eq!(outcome, "ok", "{}", case.file);
        return;
    }
    assert!(case.outcomes.iter().any(|wanted| wanted == outcome), "{}: {outcome}, not {:?}", case.file, case.outcomes);
    if let (Ok(loaded), true) = (&loaded, case.file == NAMED.0) {
        assert_eq!(loaded.report.unknown, [NAMED.1], "{}", case.file);
    }
}

/// The most memory this process has had, in bytes; zero where the system does not say.
fn peak() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok()).map_or(0, |kib| kib << 10)
}

#[test]
fn every_hostile_model_ends_as_its_manifest_says() {
    let Some(root) = kit::folder("hostile") else { return };
    let cases = cases(&root);
    assert!(cases.len() > 50, "{} cases", cases.len());
    let backend: Arc<dyn Backend> = Arc::new(Cpu::detect(Some(1), Precision::Exact));
    let valid = cases.iter().find(|case| case.file == "model/valid").expect("a valid model");
    check(valid, &root, &backend);
    let before = peak();
    for case in &cases {
        check(case, &root, &backend);
        let grown = peak() - before;
        assert!(grown <= MEMORY_MAX, "{} takes {} MiB", case.file, grown >> 20);
    }
}
