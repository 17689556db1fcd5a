//! `pasture gc`: removes what nobody will finish or use.

use std::time::Duration;

use clap::Args;
use pasture_files::durable::Disk;
use pasture_store::{Environment, gc, lock};
use serde_json::json;

use crate::exit::Failure;
use crate::output;

/// Remove leftovers: partial downloads, temporary files, content without a name
#[derive(Args)]
#[command(after_help = "\
Looks in the Hugging Face cache, in Ollama's folder and in Pasture's own. What
is younger than a day may be in use by another program and stays.

Examples:
  pasture gc --dry-run
  pasture gc
  pasture gc --all")]
pub struct Arguments {
    /// Only say what would be removed
    #[arg(long)]
    dry_run: bool,
    /// Also what is younger than a day; no other program may be downloading
    #[arg(long)]
    all: bool,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

pub fn run(arguments: &Arguments) -> Result<(), Failure> {
    let environment = Environment::current();
    let age = if arguments.all { Duration::ZERO } else { gc::AGE };
    let _held = if arguments.dry_run { None } else { Some(lock::alone(&environment)?) };
    let found = gc::leftovers(&environment, age)?;
    if !arguments.dry_run {
        gc::collect(&Disk, &environment, &found)?;
    }
    let bytes = found.iter().map(|left| left.bytes).sum::<u64>();
    if arguments.json {
        let rows: Vec<_> = found
            .iter()
            .map(|left| json!({"path": left.path, "what": left.kind.words(), "bytes": left.bytes}))
            .collect();
        return output::json(&json!({"removed": !arguments.dry_run, "bytes_freed": bytes, "leftovers": rows}));
    }
    for left in &found {
        output::line(&format!(
            "{:>10}  {:<17}  {}",
            output::bytes(left.bytes),
            left.kind.words(),
            left.path.display()
        ))?;
    }
    let verb = if arguments.dry_run { "would free" } else { "frees" };
    output::line(&format!("{}: {verb} {}", output::counted(found.len(), "leftover"), output::bytes(bytes)))
}
