//! `pasture data check`: every problem of a file of data, by its line.

use std::path::PathBuf;

use clap::Args;
use pasture::data::{self, Checked, Counts, Severity};

use super::Reading;
use crate::exit::{Failure, Status};
use crate::output;

/// Name every problem of a file by its line
#[derive(Args)]
pub struct Arguments {
    /// The data
    data: PathBuf,
    /// The model that is to learn from it: its template, its tokens, its context
    model: Option<String>,
    #[command(flatten)]
    reading: Reading,
    /// Warnings make the file unsound too
    #[arg(long)]
    strict: bool,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

pub fn run(arguments: &Arguments, color: Option<&str>) -> Result<(), Failure> {
    if let (None, Some(flag)) = (&arguments.model, arguments.reading.idle_without_model()) {
        let what = format!("{flag} has no effect without a model");
        return Err(Failure::new(Status::Usage, what).hint("pasture data check DATA MODEL".to_owned()));
    }
    let prompt = arguments.model.as_deref().map(super::prompt).transpose()?;
    let options = arguments.reading.options(arguments.model.as_deref())?;
    let bar = super::bar(&arguments.data, color);
    let checked = data::check(&arguments.data, prompt.as_ref(), &options, &mut |rows| bar.set_position(rows as u64));
    bar.finish_and_clear();
    let checked = checked?;
    match arguments.json {
        true => output::json(
            &serde_json::to_value(&checked).map_err(|error| Failure::new(Status::Bug, error.to_string()))?,
        )?,
        false => print(&checked)?,
    }
    match checked.errors + if arguments.strict { checked.warnings } else { 0 } {
        0 => Ok(()),
        _ => Err(Failure::told(Status::Data)),
    }
}

fn print(checked: &Checked) -> Result<(), Failure> {
    let Checked { file, problems, .. } = checked;
    let place = if checked.numbered { "row" } else { "line" };
    for problem in problems {
        let how = if problem.severity == Severity::Error { "error" } else { "warning" };
        let at = problem.line.map(|line| format!(", {place} {line}")).unwrap_or_default();
        output::line(&super::printable(&format!("{file}{at}: {how}: {}", problem.what)))?;
    }
    let more = checked.errors + checked.warnings - problems.len();
    if more > 0 {
        output::line(&format!("{file}: {more} further problems are not listed"))?;
    }
    let errors = output::counted(checked.errors, "error");
    let warnings = output::counted(checked.warnings, "warning");
    let sound = output::counted(checked.rows, "sound row");
    output::line(&format!("{file}: {sound}, {errors}, {warnings}"))?;
    if let Some(what) = &checked.recognized {
        output::line(&format!("recognized: {what}"))?;
    }
    if !checked.unused.is_empty() {
        output::line(&format!("columns without an effect: {}", super::printable(&checked.unused.join(", "))))?;
    }
    if let Some(Counts { samples, tokens, trained, shortest, median, most, longest }) = checked.counts {
        let samples = output::counted(samples, "sample");
        output::line(&format!("{samples}: {tokens} tokens, {trained} of them learned"))?;
        output::line(&format!("lengths: {shortest} to {longest}, half up to {median}, 95 of 100 up to {most}"))?;
    }
    output::line(&format!("digest: {}", checked.digest))
}
