//! `pasture list`: models that are on this machine, whoever put them there.

use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use clap::Args;
use pasture_files::size::Size;
use pasture_model::Source;
use pasture_store::Found;
use serde_json::json;

use crate::exit::Failure;
use crate::output;

/// List the models that are already on this machine
#[derive(Args)]
#[command(after_help = "\
Looks at names of your own, in the Hugging Face cache, in the folders of Ollama
and LM Studio, and in those of PASTURE_MODELS (divided by : as in PATH); nothing
is downloaded and nothing is changed. The first column is the name that other
verbs take.

Examples:
  pasture list
  pasture list --long
  pasture list --json")]
pub struct Arguments {
    /// Show licenses and when the files were last read
    #[arg(short, long)]
    long: bool,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

pub fn run(arguments: &Arguments) -> Result<(), Failure> {
    let found = pasture_store::list()?;
    if arguments.json {
        let models: Vec<_> = found
            .iter()
            .map(|model| {
                json!({"name": model.name, "origin": model.origin.to_string(), "path": model.path,
                       "bytes": model.bytes, "format": model.format, "license": license(model),
                       "last_used_unix_s": used(model)})
            })
            .collect();
        return output::json(&json!({"models": models}));
    }
    if found.is_empty() {
        let places: Vec<String> =
            pasture_store::places().iter().map(|place| place.path.display().to_string()).collect();
        eprintln!("no models in {}", places.join(", "));
        eprintln!("the starter is always there: pasture chat");
        return Ok(());
    }
    let width = found.iter().map(|model| model.name.chars().count()).max().unwrap_or(0);
    for model in &found {
        let size = output::bytes(model.bytes);
        let line = format!("{:<width$}  {size:>10}  {:<12}  {}", model.name, model.format, model.origin);
        if arguments.long {
            let license = license(model).unwrap_or_else(|| "no license named".to_owned());
            output::line(&format!("{line:<1$}  {license:<20}  {0}", ago(used(model)), width + 48))?;
        } else {
            output::line(&line)?;
        }
    }
    Ok(())
}

/// Longest license text of Ollama's that is looked at.
const LICENSE_BYTES_MAX: u64 = 1 << 20;

/// The license that a model's files name.
fn license(model: &Found) -> Option<String> {
    if let Some(layer) = model.layers.iter().find(|layer| layer.kind == "license") {
        let text = pasture_files::folder::read_file(&layer.path, Size::new(LICENSE_BYTES_MAX)).ok()?;
        let text = String::from_utf8_lossy(&text).into_owned();
        return text.lines().map(str::trim).find(|line| !line.is_empty()).map(str::to_owned);
    }
    let statements = super::show::license::find(&Source::open(&model.path).ok()?).ok()?;
    super::show::license::name(&statements)
}

/// When a model's weights were last read, in seconds since 1970, as far as the file system keeps that.
fn used(model: &Found) -> Option<u64> {
    let files = match model.path.is_dir() {
        true => std::fs::read_dir(&model.path).ok()?.flatten().map(|entry| entry.path()).collect(),
        false => vec![model.path.clone()],
    };
    let time = |path: &PathBuf| {
        let time = path.metadata().ok().filter(|metadata| metadata.is_file())?.accessed().ok()?;
        Some(time.duration_since(UNIX_EPOCH).ok()?.as_secs())
    };
    files.iter().filter_map(time).max()
}

/// A time as people read it.
fn ago(seconds: Option<u64>) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let Some(days) = seconds.map(|seconds| now.saturating_sub(seconds) / 86_400) else { return "unknown".to_owned() };
    match days {
        0 => "today".to_owned(),
        1 => "yesterday".to_owned(),
        days => format!("{days} days ago"),
    }
}
