//! Broken input for every reader that meets files from outside: `pasture-fuzz TARGET [--seconds N] [--seed N]`, or `--list`.
//! One process watches, a second one works under limits of memory and time, so that an abort, a hang and a bomb are
//! findings like a panic. Runs on the stable toolchain; findings are kept in `fuzz/findings/TARGET`.
#![forbid(unsafe_code)]

mod archive;
mod corpus;
mod models;
mod mutate;
mod prompts;
mod targets;
mod tokenizers;
mod watch;
mod worker;

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

/// What one run was asked to do.
pub struct Plan {
    target: targets::Target,
    time: Duration,
    seed: u64,
}

fn main() -> ExitCode {
    match run() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::from(2)
        }
    }
}

fn run() -> Result<bool> {
    let mut arguments = std::env::args().skip(1);
    let name = arguments.next().context("name a target")?;
    if name == "--list" {
        targets::names().for_each(|name| println!("{name}"));
        return Ok(true);
    }
    if name == "--replay" {
        let target = arguments.next().context("`--replay` needs a target and a file")?;
        let file = arguments.next().context("`--replay` needs a target and a file")?;
        println!("{}", worker::replay(targets::find(&target)?, file.as_ref())?);
        return Ok(true);
    }
    let mut plan = Plan { target: targets::find(&name)?, time: Duration::from_secs(60), seed: 1 };
    let mut works = None;
    while let Some(argument) = arguments.next() {
        let value = arguments.next().with_context(|| format!("`{argument}` needs a value"))?;
        match argument.as_str() {
            "--seconds" => plan.time = Duration::from_secs(value.parse().context("`--seconds` needs a number")?),
            "--seed" => plan.seed = value.parse().context("`--seed` needs a number")?,
            "--work-in" => works = Some(value),
            _ => bail!("unknown argument {argument:?}"),
        }
    }
    match works {
        Some(folder) => worker::work(&plan, folder.as_ref()),
        None => watch::watch(&plan),
    }
}
