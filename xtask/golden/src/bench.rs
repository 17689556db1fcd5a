//! `cargo xtask bench --model FILE.gguf --peer PATH/llama-bench`: speed beside a peer's, in one run on one machine, ours
//! and the peer's in turns. A figure counts only as a ratio; without a peer none is printed.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context as _, Result, bail, ensure};
use pasture_model::{Batch, Decoder, LoadOptions, Source, load};
use pasture_tensor::kv::KvFormat;
use pasture_tensor::{Backend, Cpu, Ops, Precision};

/// What is measured and how often.
struct Plan {
    models: Vec<PathBuf>,
    peer: PathBuf,
    threads: usize,
    prompt: usize,
    tokens: usize,
    runs: usize,
}

/// Tokens a second of one run.
#[derive(Clone, Copy)]
struct Speed {
    prefill: f64,
    decode: f64,
}

/// Runs the plan that the arguments describe and prints a table for each model.
pub fn run(arguments: &[String]) -> Result<()> {
    if let Some(rest) = arguments.strip_prefix(&["--train".to_owned()]) {
        return crate::bench_train::run(rest);
    }
    let plan = plan(arguments)?;
    for model in &plan.models {
        bench(&plan, model).with_context(|| format!("{model:?}"))?;
    }
    Ok(())
}

fn plan(arguments: &[String]) -> Result<Plan> {
    let mut plan = Plan { models: Vec::new(), peer: PathBuf::new(), threads: 2, prompt: 128, tokens: 32, runs: 5 };
    let mut rest = arguments.iter();
    while let Some(argument) = rest.next() {
        let value = rest.next().with_context(|| format!("`{argument}` needs a value"))?;
        let number =
            || value.parse::<usize>().ok().filter(|n| *n > 0).with_context(|| format!("{value:?} is no count"));
        match argument.as_str() {
            "--model" => plan.models.push(value.into()),
            "--peer" => plan.peer = value.into(),
            "--threads" => plan.threads = number()?,
            "--prompt" => plan.prompt = number()?,
            "--tokens" => plan.tokens = number()?,
            "--runs" => plan.runs = number()?,
            _ => bail!("unknown argument {argument:?}"),
        }
    }
    ensure!(!plan.models.is_empty(), "`--model FILE.gguf` is needed, once or more");
    ensure!(
        plan.peer.is_file(),
        "`--peer PATH` must name llama.cpp's llama-bench: a figure without a peer says nothing"
    );
    Ok(plan)
}

fn bench(plan: &Plan, model: &Path) -> Result<()> {
    let start = Instant::now();
    let backend: Arc<dyn Backend> = Arc::new(Cpu::detect(Some(plan.threads), Precision::Fast));
    let source = Source::open(model)?;
    let decoder = load(&source, &backend, &LoadOptions::default(), &mut |_, _| {})?.decoder;
    let loaded = start.elapsed().as_secs_f64();
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for _ in 0..plan.runs {
        ours.push(run_ours(plan, &decoder)?);
        theirs.push(run_peer(plan, model)?);
    }
    let name = model.file_name().unwrap_or_default().to_string_lossy();
    println!("{name}, {} threads, loaded in {loaded:.2} s, {} runs in turns", plan.threads, plan.runs);
    println!("{:<22} {:>24} {:>24} {:>22}", "tokens/s", "pasture", "llama.cpp", "ratio of each pair");
    compare(&format!("prefill of {}", plan.prompt), &ours, &theirs, |speed| speed.prefill);
    compare(&format!("decode of {}", plan.tokens), &ours, &theirs, |speed| speed.decode);
    Ok(())
}

fn compare(what: &str, ours: &[Speed], theirs: &[Speed], of: fn(&Speed) -> f64) {
    let (a, b): (Vec<f64>, Vec<f64>) = (ours.iter().map(of).collect(), theirs.iter().map(of).collect());
    let ratios = a.iter().zip(&b).map(|(a, b)| a / b).collect();
    println!("{what:<22} {:>24} {:>24} {:>22}", spread(a), spread(b), spread(ratios));
}

fn run_ours(plan: &Plan, decoder: &Decoder) -> Result<Speed> {
    let backend = decoder.backend().clone();
    let mut ops = Ops::new(&*backend);
    let mut kv = decoder.kv(&*backend, KvFormat::F16);
    let sequence = kv.start();
    let ids: Vec<u32> = (0..plan.prompt as u32).map(|at| 1 + at * 7919 % (decoder.spec().vocab as u32 - 1)).collect();
    let start = Instant::now();
    let batch = Batch::one(sequence, 0, ids.len(), &ids);
    let hidden = decoder.forward(&mut ops, &batch, &mut kv)?;
    let last = ops.gather(&hidden.rows, &[ids.len() as u32 - 1]);
    let mut next = best(&backend.download(&decoder.logits(&mut ops, &last)?));
    let prefill = plan.prompt as f64 / start.elapsed().as_secs_f64();
    let start = Instant::now();
    for at in plan.prompt..plan.prompt + plan.tokens {
        let batch = Batch::one(sequence, at, at + 1, &[next]);
        let hidden = decoder.forward(&mut ops, &batch, &mut kv)?;
        next = best(&backend.download(&decoder.logits(&mut ops, &hidden.rows)?));
    }
    Ok(Speed { prefill, decode: plan.tokens as f64 / start.elapsed().as_secs_f64() })
}

fn best(logits: &[f32]) -> u32 {
    let best = logits.iter().enumerate().max_by(|(_, a), (_, b)| a.total_cmp(b));
    best.map_or(0, |(id, _)| id as u32)
}

fn run_peer(plan: &Plan, model: &Path) -> Result<Speed> {
    let (threads, prompt, tokens) = (plan.threads.to_string(), plan.prompt.to_string(), plan.tokens.to_string());
    let output = Command::new(&plan.peer)
        .args(["-t", &threads, "-p", &prompt, "-n", &tokens, "-r", "1", "-o", "json", "-m"])
        .arg(model)
        .output()
        .with_context(|| format!("cannot start {:?}", plan.peer))?;
    ensure!(output.status.success(), "the peer failed: {}", String::from_utf8_lossy(&output.stderr));
    let rows: Vec<serde_json::Value> = serde_json::from_slice(&output.stdout).context("the peer gave no JSON")?;
    let speed = |key: &str| {
        let row = rows.iter().find(|row| row[key].as_u64().is_some_and(|count| count > 0));
        row.and_then(|row| row["avg_ts"].as_f64()).with_context(|| format!("the peer gave no row with {key}"))
    };
    Ok(Speed { prefill: speed("n_prompt")?, decode: speed("n_gen")? })
}

/// Median, least and most.
pub(crate) fn spread(mut values: Vec<f64>) -> String {
    values.sort_by(f64::total_cmp);
    let median = values[values.len() / 2];
    format!("{median:.2} ({:.2}-{:.2})", values[0], values[values.len() - 1])
}
