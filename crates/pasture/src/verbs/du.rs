//! `pasture du`: what takes how much room.

use clap::Args;
use pasture_store::Environment;
use serde_json::json;

use crate::exit::Failure;
use crate::output;

/// Say how much room models take
#[derive(Args)]
#[command(after_help = "\
Counts what files take on the disk, each once though it may have several names.
Leftovers are what `pasture gc --all` would remove.

Examples:
  pasture du
  pasture du --json")]
pub struct Arguments {
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

pub fn run(arguments: &Arguments) -> Result<(), Failure> {
    let found = pasture_store::usage::usage(&Environment::current())?;
    let bytes = found.iter().map(|usage| usage.bytes).sum::<u64>();
    if arguments.json {
        let places: Vec<_> = found
            .iter()
            .map(|usage| {
                json!({"origin": usage.origin.to_string(), "path": usage.path, "models": usage.models,
                       "bytes": usage.bytes, "leftover_bytes": usage.leftovers})
            })
            .collect();
        return output::json(&json!({"bytes": bytes, "places": places}));
    }
    for usage in &found {
        let (size, left) = (output::bytes(usage.bytes), output::bytes(usage.leftovers));
        let models = output::counted(usage.models, "model");
        let path = usage.path.display();
        output::line(&format!("{size:>10}  {models:<10}  {left:>10} left over  {:<18}  {path}", usage.origin))?;
    }
    output::line(&format!("{:>10}  in all", output::bytes(bytes)))
}
