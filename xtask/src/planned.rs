//! `cargo xtask planned`: what `pasture plan` says of models beside what `pasture bench` measures, each measured anew in
//! the same minute. By hand, on a machine that does nothing else; prints ratios and fails at none.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use crate::built;

/// Depths and numbers of answers, as far as a model's context holds them.
const DEPTHS: [u64; 2] = [0, 2048];
const ANSWERS: &str = "1,4";
/// Tokens of a prompt and of an answer.
const PROMPT: u64 = 512;
const TOKENS: u64 = 64;
/// What is counted as right: speed and memory.
const WITHIN: [f64; 2] = [0.15, 0.05];

/// Plans and measures each of the models that are named.
pub fn run(arguments: &[String]) -> Result<()> {
    let (mut program, mut release, mut models) = (None, false, Vec::new());
    let (mut threads, mut runs) = (None, "5".to_owned());
    let mut rest = arguments.iter();
    while let Some(argument) = rest.next() {
        let mut value = || rest.next().cloned().with_context(|| format!("`{argument}` needs a value"));
        match argument.as_str() {
            "--program" => program = Some(PathBuf::from(value()?)),
            "--threads" => threads = Some(value()?),
            "--runs" => runs = value()?,
            "--release" => release = true,
            name => models.push(name.to_owned()),
        }
    }
    if models.is_empty() {
        bail!("name models to plan and to measure: files, or `starter`");
    }
    let program = program.map_or_else(|| built("pasture", release), Ok)?;
    let mut right = [(0, 0); 2];
    for model in &models {
        let count = |kind: usize, ratio: f64, right: &mut [(i32, i32); 2]| {
            right[kind].0 += i32::from((ratio - 1.0).abs() <= WITHIN[kind]);
            right[kind].1 += 1;
        };
        for line in measured(&program, model, threads.as_deref(), &runs)? {
            let Line { what, planned, measured, is_memory } = line;
            let ratio = planned / measured;
            println!("{model}: {what}: planned {planned:.0}, measured {measured:.0}, ratio {ratio:.2}");
            count(usize::from(is_memory), ratio, &mut right);
        }
    }
    let [speed, memory] = right;
    println!("speeds within 15 %: {} of {}; memory within 5 %: {} of {}", speed.0, speed.1, memory.0, memory.1);
    Ok(())
}

struct Line {
    what: String,
    planned: f64,
    measured: f64,
    is_memory: bool,
}

/// The settings of one model, the machine measured just before.
fn measured(program: &Path, model: &str, threads: Option<&str>, runs: &str) -> Result<Vec<Line>> {
    let threads: Vec<&str> = threads.into_iter().flat_map(|threads| ["--threads", threads]).collect();
    let show = object(program, &["show", model, "--json"])?;
    let context = show["context_tokens"].as_u64().context("`show` tells the context")?;
    let prompt = PROMPT.min(context / 2);
    let depths = DEPTHS.into_iter().filter(|depth| depth + prompt + TOKENS + 16 < context);
    let depths: Vec<String> = depths.map(|depth| depth.to_string()).collect();
    let mut lines = Vec::new();
    for depth in depths {
        object(program, &[&["plan", model, "--measure", "--json"], &threads[..]].concat())?;
        let (prompt, tokens) = (prompt.to_string(), TOKENS.to_string());
        let bench = ["bench", model, "--json", "--prompt", &prompt, "--tokens", &tokens, "--batch", ANSWERS];
        let bench = object(program, &[&bench[..], &["--depth", &depth, "--runs", runs][..], &threads[..]].concat())?;
        let number = |value: &Value| value.as_f64().context("a measured and a planned figure");
        for test in bench["tests"].as_array().context("`bench` tells its tests")? {
            lines.push(Line {
                what: format!(
                    "{} {}, {} answers at {}",
                    test["test"].as_str().unwrap_or_default(),
                    test["tokens"],
                    test["batch"],
                    test["depth"]
                ),
                planned: number(&test["planned_tokens_per_second"])?,
                measured: number(&test["tokens_per_second"]["median"])?,
                is_memory: false,
            });
        }
        lines.push(Line {
            what: format!("bytes of memory at {depth}"),
            planned: number(&bench["memory_planned_bytes"])?,
            measured: number(&bench["memory_peak_bytes"])?,
            is_memory: true,
        });
    }
    Ok(lines)
}

/// What a verb prints as one JSON object.
fn object(program: &Path, arguments: &[&str]) -> Result<Value> {
    let output = Command::new(program).args(arguments).stderr(Stdio::inherit()).output();
    let output = output.with_context(|| format!("cannot start {}", program.display()))?;
    if !output.status.success() {
        bail!("`pasture {}` failed", arguments.join(" "));
    }
    serde_json::from_slice(&output.stdout).with_context(|| format!("`pasture {}` gives no object", arguments.join(" ")))
}
