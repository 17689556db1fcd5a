//! Chores whose work is done by heavier programs of the workspace: this file only builds and starts them.

use anyhow::{Context as _, Result, bail};

use crate::{cargo, step};

/// Every reader that meets files from outside; one fuzz target each (see `fuzz/src/targets.rs`).
pub const FUZZ_TARGETS: [&str; 12] = [
    "gguf",
    "safetensors",
    "pth",
    "pickle",
    "tokenizer",
    "sentencepiece",
    "tiktoken",
    "tekken",
    "template",
    "config",
    "gguf-config",
    "rows",
];

const FUZZ_SECONDS: u64 = 60;

/// Starts the golden runner, a release build of `xtask/golden`.
pub fn golden(arguments: &[String]) -> Result<()> {
    start("golden", arguments)
}

/// Starts the benchmarks, which live beside the golden cases and share their models.
pub fn bench(arguments: &[String]) -> Result<()> {
    let mut all = vec!["bench".to_owned()];
    all.extend_from_slice(arguments);
    start("golden", &all)
}

/// Runs one fuzz target, or each in turn, every one in a process of its own with limits set from outside.
pub fn fuzz(arguments: &[String]) -> Result<()> {
    let (mut seconds, mut only) = (FUZZ_SECONDS, None);
    let mut rest = arguments.iter();
    while let Some(argument) = rest.next() {
        if argument == "--seconds" {
            let text = rest.next().context("`--seconds` needs a number")?;
            seconds = text.parse().with_context(|| format!("`--seconds` needs a number, not {text:?}"))?;
        } else if FUZZ_TARGETS.contains(&argument.as_str()) && only.is_none() {
            only = Some(argument.as_str());
        } else {
            bail!("unknown argument {argument:?}: the targets are {}", FUZZ_TARGETS.join(", "));
        }
    }
    step(&cargo(), &["build", "--release", "--quiet", "--package", "pasture-fuzz"])?;
    let seconds = seconds.to_string();
    let mut failed = Vec::new();
    for target in FUZZ_TARGETS.into_iter().filter(|t| only.is_none_or(|o| o == *t)) {
        let run = ["run", "--release", "--quiet", "--package", "pasture-fuzz", "--", target, "--seconds", &seconds];
        if let Err(error) = step(&cargo(), &run) {
            eprintln!("error: {error:#}");
            failed.push(target);
        }
    }
    if !failed.is_empty() {
        bail!("fuzzing found something in: {}", failed.join(", "));
    }
    Ok(())
}

fn start(package: &str, arguments: &[String]) -> Result<()> {
    let mut all = vec!["run", "--release", "--quiet", "--package", package, "--"];
    all.extend(arguments.iter().map(String::as_str));
    step(&cargo(), &all)
}
