//! `pasture check`: is a file sound? Each is read by the readers that would use it, as far as that goes without running.

use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use pasture_files::{Tensors, data, tokenizer::Tokenizer};
use serde_json::json;

use super::model;
use crate::exit::{Failure, Status};
use crate::output;

/// Is a file sound? Reads it as far as possible without running it
#[derive(Args)]
#[command(after_help = "\
Models are compared tensor by tensor with what their configuration says.
The status is that of the first file that is not sound.

Examples:
  pasture check my-model.gguf
  pasture check my-adapter --base my-model
  pasture check train.jsonl --base my-model
  pasture check *.gguf --json")]
pub struct Arguments {
    /// Models, adapters, datasets, tokenizers or templates: files or folders
    #[arg(required = true)]
    files: Vec<PathBuf>,
    /// What the files are (default: what they look like)
    #[arg(long = "as", value_name = "KIND")]
    kind: Option<Kind>,
    /// The model that an adapter or a dataset is for
    #[arg(long, value_name = "MODEL")]
    base: Option<String>,
    /// Refuse configuration keys that nobody knows
    #[arg(long)]
    strict: bool,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// What a file can be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Kind {
    /// A model: weights with their configuration
    Model,
    /// Tensors without a configuration
    Tensors,
    /// A low-rank adapter, of the PEFT form or in a GGUF file
    Adapter,
    /// A tokenizer
    Tokenizer,
    /// A chat template
    Template,
    /// A dataset
    Data,
}

impl Kind {
    fn noun(self) -> &'static str {
        match self {
            Kind::Model => "model",
            Kind::Tensors => "file of tensors",
            Kind::Adapter => "adapter",
            Kind::Tokenizer => "tokenizer",
            Kind::Template => "template",
            Kind::Data => "dataset",
        }
    }
}

pub fn run(arguments: &Arguments) -> Result<(), Failure> {
    let base = arguments.base.as_deref().filter(|base| !base.is_empty());
    let (mut reports, mut first) = (Vec::new(), None);
    for file in &arguments.files {
        let kind = arguments.kind.map_or_else(|| guess(file), Ok);
        let found = kind.and_then(|kind| Ok((kind, check(file, kind, base, arguments.strict)?)));
        let name = file.display().to_string();
        match found {
            Ok((kind, what)) => {
                if !arguments.json {
                    output::line(&format!("{name}: a sound {}: {what}", kind.noun()))?;
                }
                let kind = format!("{kind:?}").to_lowercase();
                reports.push(json!({"file": name, "sound": true, "kind": kind, "what": what}));
            }
            Err(failure) => {
                match arguments.files.len() {
                    1 => eprintln!("{failure}"),
                    // Messages name a file without its folder, and files in several folders may share a name.
                    _ if !arguments.json => eprintln!("{name}: not sound\n  {failure}"),
                    _ => {}
                }
                reports.push(json!({"file": name, "sound": false, "error": failure.message()}));
                first.get_or_insert(failure.status);
            }
        }
    }
    if arguments.json {
        output::json(&json!({ "files": reports }))?;
    }
    match first {
        None => Ok(()),
        Some(status) => Err(Failure::told(status)),
    }
}

/// What a file looks like, by its name and the files beside it.
fn guess(path: &Path) -> Result<Kind, Failure> {
    if path.is_dir() {
        let has = |name: &str| path.join(name).is_file();
        return Ok(match () {
            () if has("adapter_config.json") => Kind::Adapter,
            () if has("config.json") || has("params.json") => Kind::Model,
            () if has("tokenizer.json") || has("tokenizer.model") || has("tekken.json") => Kind::Tokenizer,
            () => Kind::Model,
        });
    }
    let name = pasture_files::error::file_name(path).to_lowercase();
    let ends = |ends: &[&str]| ends.iter().any(|end| name.ends_with(end));
    Ok(match () {
        () if ends(&[".gguf"]) => gguf(path)?,
        () if ends(&[".safetensors", ".pth", ".pt", ".bin", ".ckpt", ".index.json"]) => Kind::Tensors,
        () if ends(&[".jinja", ".j2"]) => Kind::Template,
        () if ends(&[".jsonl", ".csv", ".txt", ".parquet"]) => Kind::Data,
        () if ends(&[".tiktoken", ".model"]) || name.contains("tokenizer") || name.contains("tekken") => {
            Kind::Tokenizer
        }
        () if ends(&[".json"]) => Kind::Data,
        () => {
            let what = format!("cannot tell what {path:?} is");
            return Err(Failure::new(Status::Usage, what)
                .hint("--as KIND says it: model, tensors, adapter, tokenizer, template or data".to_owned()));
        }
    })
}

/// A GGUF file without tensors is a vocabulary, and one says of itself that it is an adapter.
fn gguf(path: &Path) -> Result<Kind, Failure> {
    let tensors = Tensors::open(path)?;
    let is_adapter =
        tensors.gguf().is_some_and(|metadata| metadata.text("general.type").ok().flatten() == Some("adapter"));
    if is_adapter {
        return Ok(Kind::Adapter);
    }
    Ok(if tensors.is_empty() { Kind::Tokenizer } else { Kind::Model })
}

fn check(path: &Path, kind: Kind, base: Option<&str>, strict: bool) -> Result<String, Failure> {
    match kind {
        Kind::Model => model::check(path, strict),
        Kind::Tensors => tensors(path),
        Kind::Adapter => adapter(path, base),
        Kind::Tokenizer => Ok(format!("{} tokens", Tokenizer::open(path)?.len())),
        Kind::Template => template(path),
        Kind::Data => rows(path, base),
    }
}

/// Every tensor's bytes are asked for; what a header promises must be there.
fn tensors(path: &Path) -> Result<String, Failure> {
    let tensors = Tensors::open(path)?;
    for name in tensors.names() {
        tensors.bytes(name)?;
    }
    Ok(format!("{} tensors", tensors.len()))
}

fn adapter(path: &Path, base: Option<&str>) -> Result<String, Failure> {
    let base = base.ok_or_else(|| {
        let what = "an adapter can only be checked against its base model";
        Failure::new(Status::Usage, what).hint("--base MODEL names it".to_owned())
    })?;
    let base = model::hollow(&model::source(Some(base))?, false)?;
    let adapter = pasture_model::load_adapter(path, &base.decoder)?;
    Ok(format!("{} tensors of the base are changed", adapter.sites().len()))
}

fn template(path: &Path) -> Result<String, Failure> {
    let bytes = pasture_files::folder::read_file(path, pasture_files::size::Size::new(4 << 20))?;
    let text = String::from_utf8(bytes).map_err(|_| Failure::new(Status::Data, format!("{path:?} is not UTF-8")))?;
    let named = |error| Failure::new(Status::Data, format!("{:?}: {error}", pasture_files::error::file_name(path)));
    pasture_files::prompt::template::Template::new(&text).map_err(named)?;
    Ok(format!("{} bytes", text.len()))
}

fn rows(path: &Path, base: Option<&str>) -> Result<String, Failure> {
    let vocabulary = base.map(model::vocabulary).transpose()?;
    let summary = data::check(path, data::Options { vocabulary, layout: None })?;
    let unused = summary.unused.join(", ");
    let unused = if unused.is_empty() { unused } else { format!("; columns without an effect: {unused}") };
    let (rows, answers) = (output::counted(summary.rows, "row"), output::counted(summary.answers, "answer"));
    Ok(format!("{}, {rows}, {answers} to learn from{unused}", summary.layout.name()))
}
