//! The process that watches the worker: a memory limit set from outside, and an end to an input that never ends.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, Result};

use crate::{Plan, worker};

/// Address space of the worker; a reader that takes more for half a megabyte of input is a finding.
const MEMORY_KIB: u64 = 1 << 20;
const STUCK: Duration = Duration::from_secs(15);

/// Runs the worker; false when something was found.
pub fn watch(plan: &Plan) -> Result<bool> {
    let folder = std::env::temp_dir().join(format!("pasture-fuzz-{}-{}", plan.target.name, std::process::id()));
    fs::create_dir_all(&folder)?;
    let outcome = watch_in(plan, &folder);
    fs::remove_dir_all(&folder)?;
    outcome
}

fn watch_in(plan: &Plan, folder: &Path) -> Result<bool> {
    let mut child = start(plan, folder)?;
    let input = folder.join(plan.target.file);
    loop {
        std::thread::sleep(Duration::from_millis(100));
        if let Some(status) = child.try_wait()? {
            // The worker reports panics itself and ends with 1; anything else was an abort or a signal.
            if !status.success() && status.code() != Some(1) {
                worker::keep(&plan.target, "abort", &fs::read(&input)?)?;
                println!("{}: the worker ended with {status}", plan.target.name);
            }
            return Ok(status.success());
        }
        if is_stuck(&input) {
            worker::keep(&plan.target, "hang", &fs::read(&input)?)?;
            child.kill()?;
            child.wait()?;
            return Ok(false);
        }
    }
}

fn start(plan: &Plan, folder: &Path) -> Result<Child> {
    let program: PathBuf = std::env::current_exe()?;
    let limited = format!("ulimit -v {MEMORY_KIB}; exec \"$0\" \"$@\"");
    Command::new("sh")
        .args(["-c", &limited])
        .arg(program)
        .args([plan.target.name, "--seconds", &plan.time.as_secs().to_string(), "--seed", &plan.seed.to_string()])
        .arg("--work-in")
        .arg(folder)
        .spawn()
        .context("cannot start the worker")
}

fn is_stuck(input: &Path) -> bool {
    let written = fs::metadata(input).and_then(|m| m.modified());
    written.is_ok_and(|at| SystemTime::now().duration_since(at).is_ok_and(|age| age > STUCK))
}
