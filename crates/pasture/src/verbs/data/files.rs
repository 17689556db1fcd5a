//! `pasture data split` and `pasture data dedup`: what would be held out, which rows repeat others, and files without them.

use std::path::PathBuf;

use clap::Args;
use pasture::data::{self, Sameness};
use serde_json::json;

use super::KindFlag;
use crate::exit::{Failure, Status};
use crate::output;
use crate::verbs::model;

/// Part rows into those to learn from and those held out, by content and seed
#[derive(Args)]
pub struct SplitArguments {
    /// The data
    data: PathBuf,
    #[command(flatten)]
    kind: KindFlag,
    /// The share of rows that is held out
    #[arg(long, value_name = "SHARE", default_value = "0.05")]
    held_out: f64,
    /// Another seed holds others out
    #[arg(long, value_name = "N", default_value = "0")]
    seed: u64,
    /// Write train.jsonl and held-out.jsonl into this folder
    #[arg(long, value_name = "FOLDER")]
    into: Option<PathBuf>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// Find rows that repeat others
#[derive(Args)]
pub struct DedupArguments {
    /// The data
    data: PathBuf,
    #[command(flatten)]
    kind: KindFlag,
    /// Rows that differ in case, marks and white space alone are the same too
    #[arg(long)]
    near: bool,
    /// Write the rows that stay, as JSONL
    #[arg(long, value_name = "FILE")]
    into: Option<PathBuf>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// Repetitions that are printed one by one.
const SHOWN: usize = 20;

pub fn split(arguments: &SplitArguments) -> Result<(), Failure> {
    if !(0.0..=1.0).contains(&arguments.held_out) {
        return Err(Failure::new(Status::Usage, "`--held-out` needs a share from 0 to 1"));
    }
    let files = arguments.into.as_ref().map(|folder| [folder.join("train.jsonl"), folder.join("held-out.jsonl")]);
    if let Some(folder) = &arguments.into {
        let make = std::fs::create_dir_all(folder);
        make.map_err(|fault| {
            Failure::new(Status::CannotCreate, format!("cannot make the folder {folder:?}: {fault}"))
        })?;
    }
    let into = files.as_ref().map(|[train, held]| [train.as_path(), held.as_path()]);
    let parted = data::split(&arguments.data, arguments.kind.kind, arguments.held_out, arguments.seed, into)?;
    if arguments.json {
        return output::json(&json!({"train": parted.kept, "held_out": parted.held_out, "seed": arguments.seed}));
    }
    let rows = output::counted(parted.kept, "row");
    output::line(&format!("{rows} to learn from, {} held out (seed {})", parted.held_out, arguments.seed))?;
    for file in files.iter().flatten() {
        output::line(&format!("written: {}", file.display()))?;
    }
    Ok(())
}

pub fn dedup(arguments: &DedupArguments) -> Result<(), Failure> {
    if let Some(file) = &arguments.into {
        model::can_hold(file)?;
    }
    let same = if arguments.near { Sameness::Words } else { Sameness::Exact };
    let found = data::deduplicate(&arguments.data, arguments.kind.kind, same, arguments.into.as_deref())?;
    if arguments.json {
        return output::json(
            &serde_json::to_value(&found).map_err(|error| Failure::new(Status::Bug, error.to_string()))?,
        );
    }
    for (line, first) in found.pairs.iter().take(SHOWN) {
        output::line(&format!("line {line} repeats line {first}"))?;
    }
    let more = (found.duplicates + found.near_duplicates).saturating_sub(SHOWN);
    if more > 0 {
        output::line(&format!("and {more} more"))?;
    }
    let rows = output::counted(found.rows, "row");
    output::line(&format!("{rows}: {} repeat another, {} nearly", found.duplicates, found.near_duplicates))?;
    if let Some(file) = &arguments.into {
        output::line(&format!("written: {}, {}", file.display(), output::counted(found.kept, "row")))?;
    }
    Ok(())
}
