//! `pasture rm`: removes a model by its name, and says first what that frees and what stays.

use std::io::{BufRead, IsTerminal, Write};

use clap::Args;
use pasture_files::durable::Disk;
use pasture_store::remove::{self, Removal};
use pasture_store::{Environment, gc, lock};
use serde_json::json;

use crate::exit::{Failure, Status};
use crate::output;

/// Remove a model from this machine
#[derive(Args)]
#[command(after_help = "\
Says what is removed, what stays because something else needs it, and how many
bytes come free; then asks. A name of your own goes without its files, where
those lie outside of Pasture's folder; an assistant goes without its base.
`owner/name@revision` and
`owner/name:file` remove a part of a repository.

Examples:
  pasture rm qwen3:0.6b
  pasture rm owner/name@main --dry-run
  pasture rm my-name --yes")]
pub struct Arguments {
    /// Names, as `pasture list` shows them
    #[arg(required = true, value_name = "NAME")]
    names: Vec<String>,
    /// Do not ask
    #[arg(short, long)]
    yes: bool,
    /// Only say what would happen
    #[arg(long)]
    dry_run: bool,
    /// Print one JSON object for each name; asks nothing, so it needs --yes or --dry-run
    #[arg(long)]
    json: bool,
}

pub fn run(arguments: &Arguments) -> Result<(), Failure> {
    let environment = Environment::current();
    let asks = !arguments.yes && !arguments.dry_run;
    if asks && (arguments.json || !std::io::stdin().is_terminal()) {
        let what = "nobody can be asked here: --yes removes without asking, --dry-run only tells";
        return Err(Failure::new(Status::Usage, what));
    }
    for name in &arguments.names {
        let plan = remove::plan(&environment, name)?;
        if arguments.dry_run {
            tell(&plan, arguments)?;
            continue;
        }
        if asks {
            tell(&plan, arguments)?;
            if !agreed(name)? {
                continue;
            }
        }
        let held = lock::alone(&environment)?;
        gc::finish_removals(&Disk, &environment)?;
        if remove::plan(&environment, name)? != plan {
            let what = format!("{name:?} has changed since it was looked at: nothing was removed");
            return Err(Failure::new(Status::Failed, what).hint("try again".to_owned()));
        }
        remove::carry_out(&Disk, &environment, &plan)?;
        drop(held);
        if !asks {
            tell(&plan, arguments)?;
        }
    }
    Ok(())
}

/// What goes and what stays: before it does where somebody is asked, or nothing is done; afterwards otherwise.
fn tell(plan: &Removal, arguments: &Arguments) -> Result<(), Failure> {
    if arguments.json {
        let stays: Vec<_> = plan
            .stays
            .iter()
            .map(|stays| json!({"path": stays.path, "bytes": stays.bytes, "why": stays.why}))
            .collect();
        return output::json(&json!({
            "name": plan.name, "removed": !arguments.dry_run, "bytes_freed": plan.frees, "stays": stays,
        }));
    }
    let verb = if arguments.dry_run || !arguments.yes { "would free" } else { "frees" };
    output::line(&format!("{}: {verb} {}", plan.name, output::bytes(plan.frees)))?;
    for stays in &plan.stays {
        output::line(&format!("  stays: {} ({}): {}", stays.path.display(), output::bytes(stays.bytes), stays.why))?;
    }
    Ok(())
}

fn agreed(name: &str) -> Result<bool, Failure> {
    eprint!("remove {name}? [y/N] ");
    std::io::stderr().flush()?;
    let mut answer = String::new();
    std::io::stdin().lock().read_line(&mut answer)?;
    Ok(matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes"))
}
