//! `pasture show`: what a model is, from its files alone; no weight is read. The facts are gathered in `facts.rs`.

mod adapter;
mod facts;
pub mod license;

use std::path::Path;

use clap::Args;
use pasture::lab::receipt::Receipt;
use pasture_files::Tensors;
use serde_json::{Value, json};

use super::model::{self, Place};
use crate::exit::{Failure, Status};
use crate::output;
use crate::settings::{Given, Settings};
use facts::Facts;

/// Show what a model is
#[derive(Args)]
#[command(after_help = "\
Examples:
  pasture show my-model.gguf
  pasture show my-model.gguf --tensors
  pasture show my-model --graph")]
pub struct Arguments {
    /// A file, a folder, an assistant, or a name from a cache (default: the starter)
    model: Option<String>,
    /// List every tensor, whatever the file is
    #[arg(long, conflicts_with = "graph")]
    tensors: bool,
    /// Draw the layers as the engine runs them
    #[arg(long)]
    graph: bool,
    /// Print an assistant as an Ollama Modelfile
    #[arg(long, conflicts_with_all = ["tensors", "graph", "strict", "time_disk", "json"])]
    modelfile: bool,
    /// Refuse configuration keys that nobody knows
    #[arg(long, conflicts_with = "tensors")]
    strict: bool,
    /// Time one read of a mixture's experts, to say how fast it runs with --expert-cache
    #[arg(long, conflicts_with_all = ["tensors", "graph"])]
    time_disk: bool,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

pub fn run(arguments: &Arguments, program: &Given) -> Result<(), Failure> {
    let settings = Settings::resolve(program)?;
    if arguments.tensors {
        return list(&model::tensors(arguments.model.as_deref())?, arguments.json);
    }
    let name = arguments.model.as_deref();
    let made = model::assistant(name)?;
    if arguments.modelfile {
        let none = || Failure::new(Status::Usage, "`--modelfile` is for assistants, and this is a model");
        return output::print(&made.ok_or_else(none)?.to_modelfile());
    }
    let base = made.as_ref().map(|made| made.base.clone());
    let (own, name) = (name.unwrap_or("starter"), base.as_deref().or(name));
    if let Some(folder) = name.map(Path::new).filter(|folder| adapter::is_one(folder)) {
        if arguments.graph {
            return Err(Failure::new(Status::Usage, "an adapter has no layers of its own to draw; name its model"));
        }
        return adapter::show(folder, arguments.json);
    }
    let source = model::source(name).map_err(|failure| match name.is_some_and(|name| Path::new(name).is_file()) {
        true if failure.status == Status::NoInput => {
            failure.hint("--tensors lists the tensors of any file, whether it is a whole model or not".to_owned())
        }
        _ => failure,
    })?;
    let mut facts = Facts::gather(name, &source, arguments.strict, arguments.time_disk)?;
    facts.keep_in(settings.kv_type());
    if let Some(made) = &made {
        facts.terms = super::lineage::terms_of_assistant(made)?;
    }
    if arguments.graph {
        let drawing = pasture_model::graph(&facts.spec);
        return if arguments.json { output::json(&json!({"graph": drawing})) } else { output::print(&drawing) };
    }
    let receipt = match model::place(name)? {
        Place::At(path) => Receipt::read_beside(&path)?,
        Place::Starter => None,
    };
    if !arguments.json {
        let shown = receipt.map(|receipt| receipt.to_string()).unwrap_or_default();
        let before = made.map(|made| format!("{}\n\n", super::create::text(own, &made))).unwrap_or_default();
        return output::print(&format!("{before}{}{shown}", facts.text()));
    }
    let mut object = facts.object();
    if let Some(made) = made {
        object["assistant"] = super::create::facts(own, &made);
    }
    object["receipt"] = serde_json::to_value(&receipt).expect("a receipt has text keys");
    output::json(&object)
}

fn list(tensors: &Tensors, as_json: bool) -> Result<(), Failure> {
    if as_json {
        let all: Vec<Value> = tensors
            .iter()
            .map(|(name, entry)| json!({"name": name, "format": entry.dtype.name(), "shape": entry.shape}))
            .collect();
        return output::json(&json!({"name": tensors.name(), "tensors": all}));
    }
    let width = tensors.names().map(|name| name.chars().count()).max().unwrap_or(0).min(72);
    for (name, entry) in tensors.iter() {
        output::line(&format!("{name:<width$}  {:<8}  {}", entry.dtype.name(), shape(&entry.shape)))?;
    }
    output::line(&format!("{} tensors in {}", tensors.len(), files(tensors)))
}

fn shape(shape: &[usize]) -> String {
    if shape.is_empty() {
        return "one value".into();
    }
    shape.iter().map(usize::to_string).collect::<Vec<_>>().join("x")
}

fn files(tensors: &Tensors) -> String {
    let name = |path: &Path| pasture_files::error::file_name(path);
    match tensors.files() {
        [file] => name(file),
        files => format!("{} files", files.len()),
    }
}
