//! `pasture unbundle`: the works of a bundle become folders, and names that other verbs take.

use std::path::{Path, PathBuf};

use clap::Args;
use pasture_store::bundle::{Bundle, Kind, Unpacked};
use serde_json::json;

use super::bundle::signer;
use super::model;
use crate::exit::{Failure, Status};
use crate::output;
use crate::settings::{Given, Settings};

/// Unpack a bundle, so that its models run by their names
#[derive(Args)]
#[command(after_help = "\
Nothing is written before the signature was checked and its key is one that you
trust (`pasture trust add`). Every piece is compared with what was signed. An
interrupted run goes on where it was.

Examples:
  pasture unbundle both.pasture
  pasture unbundle both.pasture --to folder")]
pub struct Arguments {
    /// The bundle
    file: PathBuf,
    /// A folder for its works (default: Pasture's own, where they have names)
    #[arg(long, value_name = "FOLDER")]
    to: Option<PathBuf>,
    /// Take a bundle that nobody signed
    #[arg(long)]
    unsigned: bool,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

pub fn run(arguments: &Arguments, program: &Given) -> Result<(), Failure> {
    let decorated = output::decorated(Settings::resolve(program)?.text("color"));
    let bundle = Bundle::open(&arguments.file)?;
    let by = signer(&bundle, arguments.unsigned)?;
    let found = match &arguments.to {
        Some(folder) => {
            let bar = model::progress("unpacking", &bundle.manifest.name, decorated);
            let found = bundle.unpack(folder, &mut |done, all| model::advance(&bar, done, all));
            bar.finish_and_clear();
            found?
        }
        None => into_store(&bundle, decorated)?,
    };
    if arguments.json {
        let works: Vec<_> = found
            .iter()
            .map(|work| json!({"name": work.name, "path": work.opens.display().to_string(), "was_there": work.was_there}))
            .collect();
        return output::json(&json!({"name": bundle.manifest.name, "signed_by": by, "works": works}));
    }
    for work in &found {
        let there = if work.was_there { " (it was there already)" } else { "" };
        output::line(&format!("{}: {}{there}", work.name, work.opens.display()))?;
    }
    Ok(())
}

/// Unpacks into Pasture's own folder and gives the works their names.
pub fn into_store(bundle: &Bundle, decorated: bool) -> Result<Vec<Unpacked>, Failure> {
    let environment = pasture_store::Environment::current();
    let bar = model::progress("unpacking", &bundle.manifest.name, decorated);
    let found = bundle.unpack_named(&environment, &mut |done, all| model::advance(&bar, done, all));
    bar.finish_and_clear();
    let found = found?;
    match found.is_empty() {
        true => Err(Failure::new(Status::Data, "the bundle holds nothing")),
        false => Ok(found),
    }
}

/// What a bundle that is named as a model means: its first model or assistant, which is unpacked once.
pub fn opened(file: &Path) -> Result<Unpacked, Failure> {
    let bundle = Bundle::open(file)?;
    signer(&bundle, false)?;
    let found = into_store(&bundle, false)?;
    let runs = bundle.manifest.works.iter().position(|work| work.kind != Kind::Adapter);
    let Some(work) = runs.and_then(|at| found.get(at)) else {
        let what = format!("{file:?} holds adapters alone; `pasture unbundle` makes folders of them");
        return Err(Failure::new(Status::Usage, what));
    };
    if !work.was_there {
        eprintln!("note: {} was unpacked into {}; its name is {:?}", file.display(), work.folder.display(), work.name);
    }
    Ok(work.clone())
}
