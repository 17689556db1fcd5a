//! `pasture verify`: reads everything whose digest is known and compares.

use std::sync::atomic::{AtomicU64, Ordering};

use clap::Args;
use pasture_store::verify::{self, Accept, Target, Verdict};
use pasture_store::{Environment, Ledger};
use serde_json::json;

use super::model;
use crate::exit::{Failure, Status};
use crate::output;
use crate::settings::{Given, Settings};

/// Read models and compare every byte with its digest
#[derive(Args)]
#[command(after_help = "\
Blobs of the Hugging Face cache and of Ollama are named by their digest; of
other files the digest is noted when they are first read, and compared from
then on. Ends with status 65 where something is damaged.

Examples:
  pasture verify
  pasture verify qwen3:0.6b
  pasture verify mine --accept")]
pub struct Arguments {
    /// A name, as `pasture list` shows it, or a path (default: everything)
    #[arg(value_name = "MODEL")]
    name: Option<String>,
    /// Note the present digest of files that somebody wrote since it was noted
    #[arg(long)]
    accept: bool,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

pub fn run(arguments: &Arguments, program: &Given) -> Result<(), Failure> {
    let settings = Settings::resolve(program)?;
    let environment = Environment::current();
    let targets = verify::targets(&environment, arguments.name.as_deref())?;
    let accept = if arguments.accept { Accept::Changed } else { Accept::No };
    let name = arguments.name.as_deref().unwrap_or("everything");
    let verdicts = read(&environment, &targets, accept, name, &settings)?;
    let ledger = Ledger::existing_in(&environment)?.map(|ledger| ledger.check()).transpose()?.flatten();
    let rows = || targets.iter().zip(&verdicts);
    let faults = rows().filter(|(_, verdict)| verdict.is_fault()).count() + usize::from(ledger.is_some());
    if arguments.json {
        let files: Vec<_> = rows()
            .map(|(target, verdict)| {
                let (word, what) = words(verdict);
                json!({"model": target.model, "path": target.path, "bytes": target.bytes, "is": word, "why": what})
            })
            .collect();
        output::json(&json!({"faults": faults, "ledger": ledger, "files": files}))?;
    } else {
        tell(rows(), ledger.as_deref())?;
    }
    if faults == 0 { Ok(()) } else { Err(Failure::told(Status::Data)) }
}

/// Reads with a bar.
pub fn read(
    environment: &Environment,
    targets: &[Target],
    accept: Accept,
    name: &str,
    settings: &Settings,
) -> Result<Vec<Verdict>, Failure> {
    let bytes = targets.iter().map(|target| target.bytes).sum();
    let bar = model::progress("verifying", name, output::decorated(settings.text("color")));
    let done = AtomicU64::new(0);
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let verdicts = verify::verify(environment, targets, threads, accept, &|count| {
        model::advance(&bar, done.fetch_add(count, Ordering::Relaxed) + count, bytes);
        true
    });
    bar.finish_and_clear();
    Ok(verdicts?)
}

/// A word for scripts, and what stands behind it.
fn words(verdict: &Verdict) -> (&'static str, Option<&str>) {
    match verdict {
        Verdict::Good => ("good", None),
        Verdict::Noted => ("noted", None),
        Verdict::Damaged(what) => ("damaged", Some(what)),
        Verdict::Changed => {
            ("changed", Some("somebody wrote it since its digest was noted; --accept notes the present"))
        }
        Verdict::Lost(what) => ("lost", Some(what)),
    }
}

fn tell<'r>(rows: impl Iterator<Item = (&'r Target, &'r Verdict)>, ledger: Option<&str>) -> Result<(), Failure> {
    let (mut good, mut noted, mut bad, mut bytes) = (0, 0, 0, 0);
    for (target, verdict) in rows {
        bytes += target.bytes;
        match verdict {
            Verdict::Good => good += 1,
            Verdict::Noted => noted += 1,
            _ => {
                bad += 1;
                let (word, what) = words(verdict);
                let path = target.path.display();
                output::line(&format!("{word}: {}: {path}: {}", target.model, what.unwrap_or_default()))?;
            }
        }
    }
    if let Some(what) = ledger {
        bad += 1;
        output::line(&format!("damaged: the ledger: {what}"))?;
    }
    let read = output::bytes(bytes);
    output::line(&format!("{read} read: {good} good, {noted} noted for the first time, {bad} bad"))
}
