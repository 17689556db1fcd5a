//! `pasture list`: models that other programs have left on this machine.

use clap::Args;
use serde_json::json;

use crate::exit::Failure;
use crate::output;

/// List the models that are already on this machine
#[derive(Args)]
#[command(after_help = "\
Looks in the Hugging Face cache and in Ollama's folder; nothing is downloaded
and nothing is changed. The first column is the name that other verbs take.

Examples:
  pasture list
  pasture list --json")]
pub struct Arguments {
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
                       "bytes": model.bytes, "format": model.format})
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
        output::line(&format!("{:<width$}  {size:>10}  {:<12}  {}", model.name, model.format, model.origin))?;
    }
    Ok(())
}
