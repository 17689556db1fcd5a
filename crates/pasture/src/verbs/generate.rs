//! `pasture generate`: goes on with a text, or with token ids, without a chat template.

use std::path::PathBuf;

use clap::Args;
use pasture::Model;
use pasture::engine::{Answer, Event, Finish, Request};
use pasture_files::tokenizer::Specials;
use serde_json::{Map, Value, json};

use super::draft;
use super::model::{self, Opened};
use crate::exit::{Failure, Status};
use crate::output;
use crate::settings::{AnswerFlags, Given, RunFlags, SamplingFlags, Settings};

/// Go on with a text, or with token ids
#[derive(Args)]
#[command(after_help = "\
Examples:
  pasture generate my-model.gguf \"Once upon a time\" --max-tokens 64
  pasture generate my-model.gguf --file beginning.txt --seed 7 --json
  pasture generate my-model.gguf --file text-to-correct.txt --speculate off
  pasture generate my-model --ids 1,2,3 --max-tokens 4 --temperature 0 --ignore-eos --json")]
pub struct Arguments {
    /// A file, a folder, an assistant, or a name from a Hugging Face cache or Ollama folder
    model: String,
    /// The text to go on with
    #[arg(allow_hyphen_values = true, value_parser = model::text_argument, conflicts_with_all = ["ids", "file"])]
    prompt: Option<String>,
    /// Read the text from a file
    #[arg(long, value_name = "FILE", conflicts_with = "ids")]
    file: Option<PathBuf>,
    /// Token ids instead of a text, between commas; needs no tokenizer
    #[arg(long, value_name = "ID,ID")]
    ids: Option<String>,
    /// Marks in the text become control tokens
    #[arg(long, conflicts_with = "ids")]
    parse_special: bool,
    /// Make so many answers
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=64))]
    answers: u32,
    /// An end token may be chosen like any other and does not stop the run
    #[arg(long)]
    ignore_eos: bool,
    /// Compute in f32, with activations that are not quantized
    #[arg(long)]
    exact: bool,
    /// Refuse configuration keys that nobody knows
    #[arg(long)]
    strict: bool,
    /// Print one JSON object: ids (the new ones only), text, why it ended, what it took
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    adapters: crate::settings::AdapterFlags,
    #[command(flatten)]
    running: RunFlags,
    #[command(flatten)]
    answering: AnswerFlags,
    #[command(flatten)]
    sampling: SamplingFlags,
}

pub fn run(arguments: Arguments, program: &Given) -> Result<(), Failure> {
    if arguments.prompt.is_none() && arguments.ids.is_none() && arguments.file.is_none() {
        let hint = "it stands behind the model, in a file with --file FILE, or as token ids with --ids 1,2,3";
        return Err(Failure::new(Status::Usage, "there is no text to go on with").hint(hint.to_owned()));
    }
    let given = program.clone().and(&arguments.running.0).and(&arguments.answering.0).and(&arguments.sampling.0);
    let Opened { model, settings, assistant, .. } =
        draft::open(Some(&arguments.model), &given, arguments.exact, arguments.strict)?;
    model::tell_idle(assistant.as_ref());
    let model = model::adapted(model, &arguments.adapters)?;
    if !arguments.json {
        settings.refuse_flag("logprobs", "without --json", "--json reports them")?;
    }
    let request = request(&arguments, &model, &settings)?;
    let plain = !arguments.json && arguments.answers == 1;
    if plain && model.tokenizer().is_ok() {
        return told(stream(&model, request.clone())?, &model, &request, &settings);
    }
    let answers = model.engine().submit(request.clone())?.answers()?;
    if arguments.json {
        return output::json(&object(&model, &answers));
    }
    for (number, answer) in answers.iter().enumerate() {
        // A text may have lines of its own, so that a line alone would not tell where the next one begins.
        if answers.len() > 1 {
            output::line(&format!("--- {} of {} ---", number + 1, answers.len()))?;
        }
        let ids = || answer.ids.iter().map(u32::to_string).collect::<Vec<_>>().join(",");
        output::line(&if model.tokenizer().is_ok() { answer.text.clone() } else { ids() })?;
    }
    answers.iter().try_for_each(|answer| told(answer.finish, &model, &request, &settings))
}

fn request(arguments: &Arguments, model: &Model, settings: &Settings) -> Result<Request, Failure> {
    let ids = match &arguments.ids {
        Some(ids) => model::ids(ids)?,
        None => {
            let text = model::text(arguments.prompt.as_deref(), arguments.file.as_deref())?;
            let specials = if arguments.parse_special { Specials::Parse } else { Specials::AsText };
            model.tokenizer()?.encode_with_special(&text, specials)?
        }
    };
    let stops = settings.texts("stop");
    if !stops.is_empty() {
        model.tokenizer()?;
    }
    let mut completion = model.completion_of_ids(ids).sampling(settings.sampling()?).answers(arguments.answers);
    if arguments.ignore_eos {
        completion = completion.ignore_end();
    }
    if let Some(tokens) = settings.whole("max_tokens") {
        completion = completion.max_tokens(tokens);
    }
    Ok(stops.into_iter().fold(completion, pasture::Completion::stop).request())
}

/// Prints the text as it comes.
fn stream(model: &Model, request: Request) -> Result<Finish, Failure> {
    let (mut ends_line, mut finish) = (true, Finish::Cancelled);
    for event in model.engine().submit(request)? {
        let text = match event? {
            Event::Piece(piece) => piece.text,
            Event::Ending(ending) => {
                finish = ending.finish;
                ending.text
            }
        };
        if !text.is_empty() {
            ends_line = text.ends_with('\n');
            output::print(&text)?;
        }
    }
    if !ends_line {
        output::line("")?;
    }
    Ok(finish)
}

/// A text that did not come to its own end says so.
fn told(finish: Finish, model: &Model, request: &Request, settings: &Settings) -> Result<(), Failure> {
    match finish {
        Finish::ContextFull => {
            let what = format!("the text is cut: it fills the context of {} tokens", model.engine().context());
            Err(Failure::new(Status::Failed, what).hint("--max-tokens N ends it before".to_owned()))
        }
        Finish::MaxTokens if settings.whole("max_tokens").is_none() => {
            let tokens = request.max_tokens.unwrap_or(0);
            eprintln!("note: ended after {tokens} tokens; --max-tokens N allows more");
            Ok(())
        }
        _ => Ok(()),
    }
}

fn object(model: &Model, answers: &[Answer]) -> Value {
    let mut all: Vec<Value> = answers.iter().map(|answer| one(model, answer)).collect();
    if all.len() == 1 { all.swap_remove(0) } else { json!({ "answers": all }) }
}

fn one(model: &Model, answer: &Answer) -> Value {
    let usage = &answer.usage;
    let mut object = Map::new();
    object.insert("ids".into(), json!(answer.ids));
    object.insert("text".into(), if model.tokenizer().is_ok() { json!(answer.text) } else { Value::Null });
    object.insert("finish".into(), json!(finish(answer.finish)));
    object.insert("prompt_tokens".into(), json!(usage.prompt_tokens));
    object.insert("new_tokens".into(), json!(usage.new_tokens));
    object.insert("proposed_tokens".into(), json!(usage.proposed_tokens));
    object.insert("accepted_tokens".into(), json!(usage.accepted_tokens));
    object.insert("prompt_seconds".into(), json!(usage.prompt_time.as_secs_f64()));
    object.insert("new_seconds".into(), json!(usage.new_time.as_secs_f64()));
    if !answer.logprobs.is_empty() {
        object.insert("logprobs".into(), json!(answer.logprobs));
        let top: Vec<Value> = answer.top.iter().map(|top| json!(top)).collect();
        object.insert("top_logprobs".into(), Value::Array(top));
    }
    Value::Object(object)
}

fn finish(finish: Finish) -> &'static str {
    match finish {
        Finish::StopId(_) | Finish::StopString(_) | Finish::Complete => "stop",
        Finish::MaxTokens => "length",
        Finish::ContextFull => "context",
        Finish::Cancelled => "cancelled",
    }
}
