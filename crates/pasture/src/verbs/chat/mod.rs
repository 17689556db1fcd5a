//! `pasture chat`: a conversation, in a terminal or through a pipe. The loop is in `talk.rs`.

mod command;
mod greeting;
mod saved;
mod setting;
mod talk;
mod typing;

use std::io::IsTerminal;

use clap::Args;

use super::draft;
use super::model::{self, Opened};
use super::plan::{Actual, Foresight};
use crate::exit::{Failure, Status};
use crate::settings::{AnswerFlags, ChatFlags, Given, RunFlags, SamplingFlags, Settings};

/// Talk with a model
#[derive(Args)]
#[command(after_help = "\
In a terminal: /help lists the commands, Ctrl-C stops an answer and keeps the
conversation, Ctrl-D leaves. Through a pipe: each line is a question.

Examples:
  pasture chat
  pasture chat my-model.gguf --system \"You are a pirate.\" --temperature 0.7
  echo \"Why is the sky blue?\" | pasture chat my-model.gguf --seed 7")]
pub struct Arguments {
    /// A file, a folder, an assistant, or a name from a cache (default: the starter)
    model: Option<String>,
    /// Begin with a conversation that /save wrote
    #[arg(long, value_name = "FILE")]
    load: Option<std::path::PathBuf>,
    /// Compute in f32, with activations that are not quantized
    #[arg(long)]
    exact: bool,
    /// Refuse configuration keys that nobody knows
    #[arg(long)]
    strict: bool,
    /// At the end, say what `pasture plan` makes of memory and speed, and what they were
    #[arg(long, conflicts_with = "exact")]
    verbose: bool,
    /// Reserved for models that see pictures
    #[arg(long, value_name = "FILE")]
    image: Option<std::path::PathBuf>,
    #[command(flatten)]
    adapters: crate::settings::AdapterFlags,
    #[command(flatten)]
    chat: ChatFlags,
    #[command(flatten)]
    running: RunFlags,
    #[command(flatten)]
    answering: AnswerFlags,
    #[command(flatten)]
    sampling: SamplingFlags,
}

pub fn run(arguments: Arguments, program: &Given) -> Result<(), Failure> {
    if arguments.image.is_some() {
        let what = "`--image` is reserved: models that see pictures do not run yet";
        return Err(Failure::new(Status::Unavailable, what));
    }
    let given = program.clone().and(&arguments.chat.0).and(&arguments.running.0);
    let given = given.and(&arguments.answering.0).and(&arguments.sampling.0);
    let planned = arguments.verbose.then(|| planned(&arguments, &given)).transpose()?;
    let Opened { model, settings, place, .. } =
        draft::open(arguments.model.as_deref(), &given, arguments.exact, arguments.strict)?;
    let model = model::adapted(model, &arguments.adapters)?;
    let mut talk = talk::Talk::new(model, settings, planned)?;
    if let Some(file) = &arguments.load {
        talk.load(file)?;
    }
    let result = if std::io::stdin().is_terminal() { talk.in_terminal(&place) } else { talk.through_pipe() };
    talk.tell_planned();
    result
}

/// The plan of the model as it is, made before its weights are read.
fn planned(arguments: &Arguments, given: &Given) -> Result<Actual, Failure> {
    let assistant = model::assistant(arguments.model.as_deref())?;
    if assistant.as_ref().is_some_and(|assistant| assistant.adapter_bytes() > 0)
        || !arguments.adapters.adapters.is_empty()
    {
        return Err(Failure::new(Status::Usage, "`--verbose` has no effect here: no plan knows of adapters"));
    }
    let name = assistant.as_ref().map(|assistant| assistant.base.as_str()).or(arguments.model.as_deref());
    let foresight = Foresight::of(&model::source(name)?, &Settings::resolve(given)?)?;
    Ok(Actual::new(foresight))
}
