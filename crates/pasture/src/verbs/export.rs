//! `pasture export`: a model in another container, for other programs.

use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use pasture_kernels::Format;
use pasture_lab::export::{self, Form, Options};
use pasture_store::lineage::{Kind, Role};
use serde_json::json;

use super::history::{Parent, Record};
use super::model;
use super::receipt::base;
use crate::exit::{Failure, Status};
use crate::output;
use crate::settings::{Given, Settings};

/// Write a model as another program takes it: a folder, a GGUF file, or for Ollama
#[derive(Args)]
#[command(after_help = "\
Tokenizer, chat template, generation settings and licence come along. What the
form cannot say of a model is refused by name, and so is a result that would
turn texts into other token ids.

Examples:
  pasture export my-model --to my-model.gguf
  pasture export my-model.gguf --to my-folder
  pasture export my-model.gguf --to my-folder --dtype bf16
  pasture export my-model --to for-ollama --format modelfile")]
pub struct Arguments {
    /// A file, a folder, or a name from a Hugging Face cache or Ollama folder
    model: String,
    /// Where it goes: a folder, or a file that ends in .gguf
    #[arg(long, value_name = "PATH")]
    to: PathBuf,
    /// What comes out (default: what the path says)
    #[arg(long, value_name = "FORM")]
    format: Option<Wanted>,
    /// Numbers of the matrices (default: as they are stored; blocks become f32 in a folder)
    #[arg(long, value_name = "NUMBERS")]
    dtype: Option<Dtype>,
    /// The most bytes of a file of tensors, such as 5G; more become several files
    #[arg(long, value_name = "BYTES", value_parser = byte_count)]
    shard: Option<u64>,
    /// Replace what stands there
    #[arg(long)]
    force: bool,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// Forms of a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Wanted {
    /// A Hugging Face folder: safetensors and config.json
    Hf,
    /// A GGUF file, as llama.cpp reads it
    Gguf,
    /// A folder with a GGUF file and a Modelfile, for `ollama create`
    Modelfile,
}

/// Plain numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Dtype {
    /// Four bytes each
    F32,
    /// Two bytes each, more precise
    F16,
    /// Two bytes each, of a wider range
    Bf16,
}

/// A size with an optional unit: 5G, 500M.
pub fn byte_count(text: &str) -> Result<u64, String> {
    let digits = text.trim_end_matches(|last: char| last.is_ascii_alphabetic());
    let factor = match text[digits.len()..].to_ascii_uppercase().trim_end_matches('B') {
        "" => 1,
        "K" => 1_000,
        "M" => 1_000_000,
        "G" => 1_000_000_000,
        _ => return Err("a number with K, M or G behind it".to_owned()),
    };
    let number = digits.parse::<u64>().ok().and_then(|number| number.checked_mul(factor)).filter(|number| *number > 0);
    number.ok_or_else(|| "a number with K, M or G behind it".to_owned())
}

pub fn run(arguments: &Arguments, program: &Given) -> Result<(), Failure> {
    let form = match arguments.format {
        None => Form::of(&arguments.to),
        Some(Wanted::Hf) => Form::Folder,
        Some(Wanted::Gguf) => Form::Gguf,
        Some(Wanted::Modelfile) => Form::Modelfile,
    };
    can_make(&arguments.to, form, arguments.force)?;
    let dtype = arguments.dtype.map(|dtype| match dtype {
        Dtype::F32 => Format::F32,
        Dtype::F16 => Format::F16,
        Dtype::Bf16 => Format::BF16,
    });
    let settings = Settings::resolve(program)?;
    let place = model::place(Some(&arguments.model))?;
    let source = model::source(Some(&arguments.model))?;
    let parent = Parent { place: &place, digest: base(&place, &arguments.model)?.digest, role: Role::Base };
    let asked = json!({"form": format!("{form:?}").to_lowercase(), "numbers": dtype.map(Format::name)});
    let record = Record::begin(&arguments.to, Kind::Export, &[parent], asked)?;
    let options = Options { form: Some(form), dtype, part_bytes_max: arguments.shard, history: record.keys() };
    let bar = model::progress("writing", &arguments.model, output::decorated(settings.text("color")));
    let done = export::export(&source, &arguments.to, &options, &mut |done, total| model::advance(&bar, done, total));
    bar.finish_and_clear();
    let done = done?;
    record.finish(&arguments.to, form, None)?;
    let files: Vec<String> = done.files.iter().map(|file| file.display().to_string()).collect();
    if arguments.json {
        let to = arguments.to.display().to_string();
        let form = format!("{:?}", done.form).to_lowercase();
        return output::json(
            &json!({"to": to, "form": form, "files": files, "tensors": done.tensors, "tensor_bytes": done.bytes}),
        );
    }
    let what = output::counted(done.tensors, "tensor");
    output::line(&format!("{}: {what}, {}", arguments.to.display(), output::bytes(done.bytes)))
}

/// Refuses early what would replace something, or could not be made.
pub fn can_make(to: &Path, form: Form, force: bool) -> Result<(), Failure> {
    let taken = |what: String| {
        Err(Failure::new(Status::CannotCreate, what).hint("--force replaces it; another --to keeps both".to_owned()))
    };
    if form == Form::Gguf {
        model::can_hold(to)?;
        return match to.exists() && !force {
            true => taken(format!("{to:?} is there already")),
            false => Ok(()),
        };
    }
    if to.is_file() {
        return Err(Failure::new(Status::CannotCreate, format!("cannot make the folder {to:?}: it is a file")));
    }
    let mut entries = std::fs::read_dir(to).into_iter().flatten();
    match entries.next().is_some() && !force {
        true => taken(format!("the folder {to:?} is not empty")),
        false => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_units() {
        for (text, wanted) in
            [("5G", Some(5_000_000_000)), ("500m", Some(500_000_000)), ("12", Some(12)), ("1KB", Some(1000))]
        {
            assert_eq!(byte_count(text).ok(), wanted, "{text}");
        }
        for text in ["", "0", "G", "5T", "-5G", "99999999999G"] {
            assert!(byte_count(text).is_err(), "{text}");
        }
    }
}
