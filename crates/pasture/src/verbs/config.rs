//! `pasture config`: the settings in force, and where each comes from.

use clap::Args;
use serde_json::{Map, Value, json};

use crate::exit::{Failure, Status};
use crate::output;
use crate::settings::{self, AnswerFlags, ChatFlags, Given, ReceiptFlags, RunFlags, SamplingFlags, Settings, keys};

/// Show the settings in force
#[derive(Args)]
#[command(after_help = "\
A setting comes from a flag, else from a variable such as PASTURE_THREADS, else
from the assistant that is named, else from pasture.toml in this folder, else
from the user's file, else from the system's file, else from the model's own
files, else it has its default.

Examples:
  pasture config
  PASTURE_THREADS=2 pasture config --show-origin
  pasture config --json")]
pub struct Arguments {
    /// Say where each value comes from
    #[arg(long)]
    show_origin: bool,
    /// With the settings of this assistant
    #[arg(long, value_name = "NAME")]
    assistant: Option<String>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    running: RunFlags,
    #[command(flatten)]
    answering: AnswerFlags,
    #[command(flatten)]
    chat: ChatFlags,
    #[command(flatten)]
    receipt: ReceiptFlags,
    #[command(flatten)]
    sampling: SamplingFlags,
}

pub fn run(arguments: &Arguments, program: &Given) -> Result<(), Failure> {
    let given = program.clone().and(&arguments.running.0).and(&arguments.answering.0);
    let given = given.and(&arguments.chat.0).and(&arguments.receipt.0).and(&arguments.sampling.0);
    let mut settings = Settings::resolve(&given)?;
    if let Some(name) = &arguments.assistant {
        let none =
            || Failure::new(Status::NoInput, format!("there is no assistant {name:?}; `pasture list` shows them"));
        settings.add_assistant(name, &pasture::find_assistant(name)?.ok_or_else(none)?);
    }
    settings.sampling()?;
    if arguments.json {
        return output::json(&object(&settings));
    }
    for key in keys::all() {
        let line = match settings.get(key.name) {
            Some((value, origin)) if arguments.show_origin => format!("{} = {value}  # {origin}", key.name),
            Some((value, _)) => format!("{} = {value}", key.name),
            None => format!("# {} is not set: {}", key.name, key.meaning),
        };
        output::line(&line)?;
    }
    if arguments.show_origin {
        output::line("")?;
        for path in settings::files() {
            let state = if path.is_file() { "read" } else { "not there" };
            output::line(&format!("# {}: {state}", path.display()))?;
        }
    }
    Ok(())
}

fn object(settings: &Settings) -> Value {
    let entry = |key: &keys::Key| {
        let (value, origin) = match settings.get(key.name) {
            Some((value, origin)) => (value.clone(), json!(origin.to_string())),
            None => (Value::Null, Value::Null),
        };
        (
            key.name.to_owned(),
            json!({"value": value, "origin": origin, "variable": key.variable, "meaning": key.meaning}),
        )
    };
    Value::Object(keys::all().iter().map(entry).collect::<Map<_, _>>())
}
