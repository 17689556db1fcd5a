//! `pasture doctor`: what this machine can do, where models are looked for, and what is missing.

use clap::Args;
use pasture::lab::receipt::{Memory, processor};
use pasture_kernels::Kernels;
use serde_json::{Value, json};

use crate::exit::Failure;
use crate::{output, settings};

/// Say what this machine can do, and what is missing
#[derive(Args)]
#[command(after_help = "Examples:\n  pasture doctor\n  pasture doctor --json")]
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
        output::line(&format!("{:<18} {}", name.trim_end_matches("_bytes").replace('_', " "), shown(name, value)))?;
    }
    Ok(())
}

fn report() -> Value {
    let kernels: Vec<&str> = Kernels::all().iter().map(|kernels| kernels.name()).collect();
    let files: Vec<Value> =
        settings::files().iter().map(|path| json!({"path": path, "found": path.is_file()})).collect();
    let caches: Vec<Value> = pasture_store::places()
        .iter()
        .map(|place| json!({"origin": place.origin.to_string(), "path": place.path, "found": place.path.is_dir()}))
        .collect();
    json!({
        "version": env!("CARGO_PKG_VERSION"),
        "system": format!("{} {}", std::env::consts::OS, std::env::consts::ARCH),
        "processor": processor(),
        "threads": std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
        "features": features(),
        "kernels": kernels,
        "kernels_in_use": Kernels::get().name(),
        "memory_bytes": Memory::All.bytes(),
        "memory_free_bytes": Memory::Free.bytes(),
        "devices": ["cpu"],
        "models": pasture_store::list().map_or(0, |models| models.len()),
        "caches": caches,
        "settings_files": files,
        "missing": missing(&kernels),
    })
}

/// What the processor has of the features that kernels are written for.
#[cfg(target_arch = "x86_64")]
fn features() -> Vec<&'static str> {
    macro_rules! found {
        ($($name:tt)*) => { [$(($name, std::is_x86_feature_detected!($name))),*] };
    }
    let all =
        found!("avx2" "fma" "f16c" "avxvnni" "avx512f" "avx512bw" "avx512dq" "avx512vl" "avx512vnni" "avx512bf16");
    all.into_iter().filter(|(_, found)| *found).map(|(name, _)| name).collect()
}

#[cfg(target_arch = "aarch64")]
fn features() -> Vec<&'static str> {
    macro_rules! found {
        ($($name:tt)*) => { [$(($name, std::arch::is_aarch64_feature_detected!($name))),*] };
    }
    let all = found!("neon" "fp16" "dotprod" "bf16" "i8mm" "sve" "sve2");
    all.into_iter().filter(|(_, found)| *found).map(|(name, _)| name).collect()
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
fn features() -> Vec<&'static str> {
    Vec::new()
}

fn missing(kernels: &[&str]) -> Vec<String> {
    let mut missing = vec!["GPU: this version computes on the processor only".to_owned()];
    if kernels.len() == 1 {
        missing.push("kernels for this processor's wide registers: plain loops are used, which are much slower".into());
    }
    if !pasture_store::places().iter().any(|place| place.path.is_dir()) {
        missing.push("caches of other programs: models are named by the path of a file or folder".into());
    }
    missing
}

fn shown(name: &str, value: &Value) -> String {
    let text = |key: &str| value[key].as_str().unwrap_or_default();
    match value {
        Value::Array(list) if name == "features" || name == "kernels" => {
            list.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(" ")
        }
        Value::Array(list) => {
            list.iter().map(|value| shown(name, value)).collect::<Vec<_>>().join("\n                   ")
        }
        Value::Object(place) => {
            let state = if value["found"] == true { "found" } else { "not there" };
            let origin = if place.contains_key("origin") { format!("{}: ", text("origin")) } else { String::new() };
            format!("{origin}{} ({state})", text("path"))
        }
        Value::Number(bytes) if name.ends_with("_bytes") => output::bytes(bytes.as_u64().unwrap_or(0)),
        Value::String(text) => text.clone(),
        Value::Null => "not known".into(),
        other => other.to_string(),
    }
}
