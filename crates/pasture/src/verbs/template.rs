//! `pasture template`: the exact text and ids that a conversation becomes.

use std::path::{Path, PathBuf};

use clap::Args;
use pasture_files::error::file_name;
use pasture_files::json as files_json;
use pasture_files::prompt::template::{Moment, Template};
use pasture_files::prompt::{Conversation, Encoded, Prompt};
use serde_json::{Map, Value, json};

use super::model;
use crate::exit::{Failure, Status};
use crate::output;

/// Longest template file that is read.
const TEMPLATE_BYTES_MAX: u64 = 4 << 20;

/// Show the text and the tokens that a conversation becomes
#[derive(Args)]
#[command(after_help = "\
The file holds a list of messages, or an object with messages, tools,
add_generation_prompt, bos_token, eos_token; further keys of the object are
handed to the template.

Examples:
  pasture template my-model.gguf --messages messages.json
  pasture template chat.jinja --messages messages.json --now 2025-07-04 --json")]
pub struct Arguments {
    /// A model, or a template file (.jinja)
    model: String,
    /// The messages, as JSON
    #[arg(long, value_name = "FILE")]
    messages: PathBuf,
    /// The day that the template believes it is (default: today)
    #[arg(long, value_name = "YYYY-MM-DD")]
    now: Option<String>,
    /// Print one JSON object: text, ids, trained (which tokens a training run learns)
    #[arg(long)]
    json: bool,
}

pub fn run(arguments: &Arguments) -> Result<(), Failure> {
    let request = request(&arguments.messages)?;
    let now = arguments.now.as_deref().map(day).transpose()?;
    if let Some(template) = file(&arguments.model)? {
        let named =
            |error| Failure::new(Status::Data, format!("{:?}: {error}", file_name(Path::new(&arguments.model))));
        let rendered = template.render(&context(request), now.unwrap_or_else(Moment::now)).map_err(named)?;
        return match arguments.json {
            true => output::json(&json!({"text": rendered.text, "ids": null, "trained": null})),
            false => output::line(&rendered.text),
        };
    }
    let prompt = model::prompt(&model::place(Some(&arguments.model))?)?;
    let encoded = prompt.conversation(&conversation(without_idle_tokens(request, &prompt), now)?)?;
    if arguments.json {
        let Encoded { text, ids, trained } = encoded;
        return output::json(&json!({"text": text, "ids": ids, "trained": trained}));
    }
    prompt.notes().iter().for_each(|note| eprintln!("note: {note}"));
    output::line(&encoded.text)?;
    output::line("")?;
    output::line("    id  trained  token")?;
    for (id, trained) in encoded.ids.iter().zip(&encoded.trained) {
        let token = prompt.tokenizer().and_then(|tokenizer| tokenizer.token(*id)).unwrap_or_default();
        output::line(&format!("{id:>6}  {:<7}  {token:?}", if *trained { "yes" } else { "" }))?;
    }
    Ok(())
}

/// Tokens in a request that the model's template never writes are left out, and that is said.
fn without_idle_tokens(mut request: Map<String, Value>, prompt: &Prompt) -> Map<String, Value> {
    for name in ["bos_token", "eos_token"] {
        let written = prompt.template_source().is_some_and(|source| source.contains(name));
        if !written && request.shift_remove(name).is_some() {
            eprintln!("note: {name:?} has no effect: the model's template does not write it");
        }
    }
    request
}

/// A date such as 2025-07-04.
pub fn day(text: &str) -> Result<Moment, Failure> {
    let parts: Vec<&str> = text.split('-').collect();
    let moment = match parts.as_slice() {
        [year, month, day] => match (year.parse(), month.parse(), day.parse()) {
            (Ok(year), Ok(month), Ok(day)) => Moment::date(year, month, day),
            _ => None,
        },
        _ => None,
    };
    moment.ok_or_else(|| Failure::new(Status::Usage, format!("`--now` needs a date such as 2025-07-04, not {text:?}")))
}

/// What a template file sees: what the reference hands it, absent lists as none.
fn context(mut request: Map<String, Value>) -> Value {
    for name in ["tools", "documents"] {
        request.entry(name).or_insert(Value::Null);
    }
    request.entry("add_generation_prompt").or_insert(Value::Bool(false));
    Value::Object(request)
}

/// The conversation in a request; keys that are not of the conversation are inputs of the template.
fn conversation(mut request: Map<String, Value>, now: Option<Moment>) -> Result<Conversation, Failure> {
    let messages = request.shift_remove("messages").unwrap_or_default();
    let mut conversation = Conversation::complete(Conversation::messages_from_json(&messages)?);
    if let Some(tools) = request.shift_remove("tools").filter(|tools| !tools.is_null()) {
        conversation.tools = Conversation::tools_from_json(&tools)?;
    }
    if let Some(asked) = request.shift_remove("add_generation_prompt") {
        let what = "\"add_generation_prompt\" is neither true nor false";
        conversation.add_generation_prompt = asked.as_bool().ok_or_else(|| Failure::new(Status::Data, what))?;
    }
    (conversation.now, conversation.inputs) = (now, request);
    Ok(conversation)
}

/// The template of a template file; none where the name is a model's.
fn file(name: &str) -> Result<Option<Template>, Failure> {
    let path = Path::new(name);
    let is_template = path.extension().is_some_and(|end| end == "jinja" || end == "j2");
    if !is_template {
        return Ok(None);
    }
    let bytes = pasture_files::folder::read_file(path, pasture_files::size::Size::new(TEMPLATE_BYTES_MAX))?;
    let source = String::from_utf8(bytes)
        .map_err(|_| Failure::new(Status::Data, format!("{:?} is not UTF-8", file_name(path))))?;
    let named = |error| Failure::new(Status::Data, format!("{:?}: {error}", file_name(path)));
    Template::new(&source).map(Some).map_err(named)
}

fn request(path: &Path) -> Result<Map<String, Value>, Failure> {
    match files_json::read(path)? {
        Value::Object(request) => Ok(request),
        Value::Array(messages) => Ok([("messages".to_owned(), Value::Array(messages))].into_iter().collect()),
        _ => {
            let name = file_name(path);
            Err(Failure::new(Status::Data, format!("{name:?} holds neither a list of messages nor an object with one")))
        }
    }
}
