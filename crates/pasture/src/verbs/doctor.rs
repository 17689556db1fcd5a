//! `pasture doctor`: what this machine can do, where models are looked for, and what is missing.

use clap::Args;
use pasture_kernels::Kernels;
use serde_json::{Value, json};

use crate::exit::Failure;
use crate::{output, settings};

/// Say what this machine can do, and what is missing
#[derive(Args)]
#[command(after_help = "Example: pasture doctor --json")]
pub struct Arguments {
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

pub fn run(arguments: &Arguments) -> Result<(), Failure> {
    let report = report();
    if arguments.json {
        return output::json(&report);
    }
    for (name, value) in report.as_object().into_iter().flatten() {
        output::line(&format!("{:<18} {}", name.replace('_', " "), shown(value)))?;
    }
    Ok(())
}

fn report() -> Value {
    let kernels: Vec<&str> = Kernels::all().iter().map(|kernels| kernels.name()).collect();
    let files: Vec<Value> = settings::files()
        .iter()
        .map(|path| json!(format!("{} ({})", path.display(), if path.is_file() { "read" } else { "not there" })))
        .collect();
    let caches: Vec<Value> = pasture_store::places()
        .iter()
        .map(|place| {
            let state = if place.path.is_dir() { "found" } else { "not there" };
            json!(format!("{}: {} ({state})", place.origin, place.path.display()))
        })
        .collect();
    json!({
        "version": env!("CARGO_PKG_VERSION"),
        "system": format!("{} {}", std::env::consts::OS, std::env::consts::ARCH),
        "processors": std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
        "kernels": kernels,
        "kernels_in_use": Kernels::get().name(),
        "memory": memory().map(output::bytes),
        "devices": ["cpu"],
        "settings_files": files,
        "caches": caches,
        "missing": missing(&kernels),
    })
}

fn missing(kernels: &[&str]) -> Vec<String> {
    let mut missing = vec!["GPU: this build computes on the processor only".to_owned()];
    if cfg!(target_arch = "x86_64") && kernels.len() == 1 {
        missing.push("AVX-512: plain loops are used, which are much slower".into());
    }
    missing
}

/// Memory of the machine in bytes, where the system says it.
fn memory() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    line.trim().trim_end_matches("kB").trim().parse::<u64>().ok().map(|kib| kib * 1024)
}

fn shown(value: &Value) -> String {
    match value {
        Value::Array(list) => list.iter().map(shown).collect::<Vec<_>>().join("\n                   "),
        Value::String(text) => text.clone(),
        Value::Null => "not known".into(),
        other => other.to_string(),
    }
}
