//! Chores whose work is done by heavier programs of the workspace: this file only builds and starts them.

use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};

use crate::{built, cargo, root, step};

const FUZZ_SECONDS: u64 = 60;

/// Starts the golden runner, a release build of `xtask/golden`.
pub fn golden(arguments: &[String]) -> Result<()> {
    start("golden", arguments)
}

/// Writes the document about families anew: the test that holds it does so when it is told to.
pub fn families() -> Result<()> {
    let test = ["test", "--quiet", "--package", "pasture-model", "--test", "families"];
    let status = Command::new(cargo()).args(test).env("PASTURE_BLESS", "1").current_dir(root()).status();
    if !status.context("cannot start `cargo`")?.success() {
        bail!("`cargo {}` failed", test.join(" "));
    }
    Ok(())
}

/// Starts the benchmark of tuning, which lives beside the golden cases.
pub fn bench_train(arguments: &[String]) -> Result<()> {
    let mut all = vec!["bench".to_owned()];
    all.extend_from_slice(arguments);
    start("golden", &all)
}

/// Runs one fuzz target, or each in turn (with `--debug` as the development build has them, which is slower and finds numbers
/// that overflow), every one in a process of its own with limits set from outside. Which targets
/// there are the fuzz program itself says.
pub fn fuzz(arguments: &[String]) -> Result<()> {
    let (mut seconds, mut only, mut release) = (FUZZ_SECONDS, None, true);
    let mut rest = arguments.iter();
    while let Some(argument) = rest.next() {
        if argument == "--seconds" {
            let text = rest.next().context("`--seconds` needs a number")?;
            seconds = text.parse().with_context(|| format!("`--seconds` needs a number, not {text:?}"))?;
        } else if argument == "--debug" {
            release = false;
        } else if only.replace(argument.as_str()).is_some() {
            bail!("one target or all of them, not {argument:?} as well");
        }
    }
    let program = built("pasture-fuzz", release)?.display().to_string();
    let targets = print_of(&program, "--list")?;
    if let Some(name) = only.filter(|name| !targets.lines().any(|target| target == *name)) {
        bail!("unknown target {name:?}: there are {}", targets.lines().collect::<Vec<_>>().join(", "));
    }
    let seconds = seconds.to_string();
    let mut failed = Vec::new();
    for target in targets.lines().filter(|target| only.is_none_or(|only| only == *target)) {
        if let Err(error) = step(&program, &[target, "--seconds", &seconds]) {
            eprintln!("error: {error:#}");
            failed.push(target);
        }
    }
    if !failed.is_empty() {
        bail!("fuzzing found something in: {}", failed.join(", "));
    }
    Ok(())
}

/// What a program prints.
fn print_of(program: &str, argument: &str) -> Result<String> {
    let output = Command::new(program).arg(argument).current_dir(root()).stderr(Stdio::inherit()).output();
    let output = output.with_context(|| format!("cannot start `{program}`"))?;
    if !output.status.success() {
        bail!("`{program} {argument}` failed ({})", output.status);
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn start(program: &str, arguments: &[String]) -> Result<()> {
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    step(&built(program, true)?.display().to_string(), &arguments)
}
