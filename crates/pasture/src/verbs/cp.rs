//! `pasture cp`: another name for files that are there. No bytes are copied.

use clap::Args;
use pasture_store::Environment;
use pasture_store::own::{self, Taken};
use serde_json::json;

use super::model;
use crate::exit::Failure;
use crate::output;
use crate::settings::{Given, Settings};

/// Give a model a name of your own
#[derive(Args)]
#[command(after_help = "\
No bytes are copied: the name leads to the files that are there. They are read
once for their digest, so that `pasture verify` can tell later whether they
are what they were. The name is [owner/]name[:tag] of letters, digits, \"._-\".

Examples:
  pasture cp qwen3:0.6b mine
  pasture cp runs/pirate/model.gguf pirate:v2
  pasture cp starter/starter.gguf mine --force")]
pub struct Arguments {
    /// A path, or a name as `pasture list` shows it
    #[arg(value_name = "MODEL")]
    from: String,
    /// The name
    #[arg(value_name = "NAME")]
    to: String,
    /// Move the name, where it is taken by another work of yours
    #[arg(short, long)]
    force: bool,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

pub fn run(arguments: &Arguments, program: &Given) -> Result<(), Failure> {
    let settings = Settings::resolve(program)?;
    let environment = Environment::current();
    let bytes = pasture_store::resolve(&arguments.from)?.bytes;
    let bar = model::progress("reading", &arguments.from, output::decorated(settings.text("color")));
    let mut done = 0;
    let mut seen = |count: u64| {
        done += count;
        model::advance(&bar, done, bytes.max(done));
        true
    };
    let taken = if arguments.force { Taken::Replace } else { Taken::Refuse };
    let work = own::copy(&environment, &arguments.from, &arguments.to, taken, &mut seen);
    bar.finish_and_clear();
    let work = work?;
    if arguments.json {
        return output::json(&json!({
            "name": work.name, "path": work.path, "digest": work.digest.to_string(), "bytes": work.bytes,
        }));
    }
    output::line(&format!("{} is {} ({})", work.name, work.path.display(), work.digest))
}
