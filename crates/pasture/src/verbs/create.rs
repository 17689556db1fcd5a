//! `pasture create`: an assistant from a small file. It is tried against its base before it is kept: the template takes
//! what stands before a conversation, and adapters fit. What such a file may say is in `pasture-store`.

use std::path::{Path, PathBuf};

use clap::Args;
use pasture_files::prompt::{Conversation, Message, Prompt, Role};
use pasture_files::tokenizer::Specials;
use pasture_store::assistant::{self, part_of};
use pasture_store::{Assistant, Environment};
use serde_json::{Value, json};

use super::model::{self, Place};
use crate::exit::{Failure, Status};
use crate::output;
use crate::settings::{Given, Settings};

/// Make an assistant: a model with a system prompt, settings, adapters, tools, documents
#[derive(Args)]
#[command(after_help = "\
The file is TOML, or an Ollama Modelfile. No weight is copied: the assistant
names its base, and is one small file of its own. `chat`, `generate`, `serve`,
`eval` and `show` take its name.

Examples:
  pasture create pirate -f pirate.toml
  pasture create pirate -f Modelfile --replace
  pasture show pirate --modelfile")]
pub struct Arguments {
    /// The assistant's name: letters, digits and \"._-\"
    name: String,
    /// The file that says what it is made of
    #[arg(short, long, value_name = "FILE")]
    file: PathBuf,
    /// Take the place of an assistant of that name
    #[arg(long)]
    replace: bool,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// Tokens of what stands before a conversation.
struct Tokens {
    documents: Vec<(String, usize)>,
    /// The whole of it, with the template's own.
    all: usize,
}

pub fn run(arguments: &Arguments, program: &Given) -> Result<(), Failure> {
    Settings::resolve(program)?;
    let environment = Environment::current();
    let name = arguments.name.as_str();
    let path = assistant::path(&environment, name)?;
    is_free(name, &path, arguments.replace)?;
    let check = &pasture::check_assistant_setting;
    let mut made = Assistant::read(&arguments.file, check, &|base, template| same_template(base, template))?;
    let place = model::place(Some(&made.base))?;
    let source = model::source(Some(&made.base))?;
    let hollow = model::hollow(&source, false)?;
    for beside in &made.adapters {
        pasture_model::load_adapter(Path::new(&beside.path), &hollow.decoder)?;
    }
    let tokens = tried(&made, &model::prompt(&place)?)?;
    if let Place::At(path) = &place {
        made.parts.push(part_of(path)?);
    }
    for beside in &made.adapters {
        made.parts.push(part_of(Path::new(&beside.path))?);
    }
    let path = assistant::save(&environment, name, &made)?;
    if arguments.json {
        return output::json(&object(name, &made, &tokens, &path));
    }
    output::print(&format!("{}\n{}", text(name, &made), told(&tokens)))?;
    eprintln!("kept as {}", path.display());
    Ok(())
}

/// A name that means something else already would hide it.
fn is_free(name: &str, path: &Path, replace: bool) -> Result<(), Failure> {
    if path.is_file() {
        let what = format!("there is an assistant {name:?} already");
        return match replace {
            true => Ok(()),
            false => Err(Failure::new(Status::Usage, what).hint("--replace takes its place".to_owned())),
        };
    }
    let taken = name == "starter" || pasture_store::resolve(name).is_ok();
    match taken {
        true => Err(Failure::new(Status::Usage, format!("{name:?} is a model or file here; choose another name"))),
        false => Ok(()),
    }
}

/// Whether a Modelfile's template is the base's own: as its files have it, or as Ollama keeps it beside them.
fn same_template(base: &str, template: &str) -> bool {
    let same = |own: &str| own.trim() == template.trim();
    let in_files = model::place(Some(base)).and_then(|place| model::prompt(&place));
    let beside = pasture_store::resolve(base).map(|found| found.layers).unwrap_or_default();
    in_files.is_ok_and(|prompt| prompt.template_source().is_some_and(same))
        || beside.iter().filter(|layer| layer.kind == "template").any(|layer| {
            let limit = pasture_files::size::Size::new(1 << 20);
            let text = pasture_files::folder::read_file(&layer.path, limit);
            text.is_ok_and(|text| same(&String::from_utf8_lossy(&text)))
        })
}

/// Renders a conversation with what stands before it: whatever the template would drop is refused.
fn tried(made: &Assistant, base: &Prompt) -> Result<Tokens, Failure> {
    let tokenizer = base.tokenizer().ok_or(pasture_files::prompt::Error::NoTokenizer)?;
    let question = Conversation::to_answer(vec![Message::new(Role::User, "Hello")]);
    let alone = base.conversation(&question)?.ids.len();
    let prompt = base.with_preamble(pasture::preamble_of(made));
    let all = prompt.conversation(&question)?.ids.len().saturating_sub(alone);
    let count = |text: &str| Ok::<usize, Failure>(tokenizer.encode_with_special(text, Specials::AsText)?.len());
    let documents = made.documents.iter().map(|one| Ok((one.name.clone(), count(&one.text)?)));
    Ok(Tokens { documents: documents.collect::<Result<_, Failure>>()?, all })
}

fn told(tokens: &Tokens) -> String {
    let mut text = format!("{:<13} {} before each conversation\n", "tokens", output::counted(tokens.all, "token"));
    for (name, count) in &tokens.documents {
        text.push_str(&format!("{:<13}   of these about {count} for {name:?}\n", ""));
    }
    text
}

/// What an assistant is, for people.
pub fn text(name: &str, made: &Assistant) -> String {
    let mut rows = vec![("assistant", name.to_owned()), ("base", made.base.clone())];
    rows.extend(made.adapters.iter().map(|one| ("adapter", format!("{} x {}", one.path, one.weight))));
    rows.extend(made.system.iter().map(|text| ("system", first_line(text))));
    rows.extend(made.documents.iter().map(|one| ("document", format!("{:?}, {} bytes", one.name, one.text.len()))));
    rows.extend(made.settings.iter().map(|(name, value)| ("setting", format!("{name} = {value}"))));
    rows.extend(made.stop.iter().map(|text| ("stop", format!("{text:?}"))));
    rows.extend(made.tools.iter().map(|tool| ("tool", tool_name(tool).to_owned())));
    rows.extend(made.messages.iter().map(|one| ("example", format!("{}: {}", one.role, first_line(&one.content)))));
    rows.extend(made.license.iter().map(|text| ("license", first_line(text))));
    rows.extend(made.parts.iter().map(|part| {
        let file = pasture_files::error::file_name(Path::new(&part.name));
        ("made of", format!("{file:?}, {}, {}", output::bytes(part.bytes), part.digest))
    }));
    let lines: Vec<String> = rows.iter().map(|(label, value)| format!("{label:<13} {value}")).collect();
    lines.join("\n")
}

fn tool_name(tool: &Value) -> &str {
    tool.pointer("/function/name").and_then(Value::as_str).unwrap_or_default()
}

fn first_line(text: &str) -> String {
    let mut lines = text.trim().lines();
    let first = lines.next().unwrap_or_default();
    if lines.next().is_some() { format!("{first} …") } else { first.to_owned() }
}

/// The same as an object.
pub fn facts(name: &str, made: &Assistant) -> Value {
    let adapters = made.adapters.iter().map(|one| json!({"path": one.path, "weight": one.weight}));
    let documents = made.documents.iter().map(|one| json!({"name": one.name, "bytes": one.text.len()}));
    let messages = made.messages.iter().map(|one| json!({"role": one.role, "content": one.content}));
    let parts = made
        .parts
        .iter()
        .map(|part| json!({"path": part.name, "digest": part.digest.to_string(), "bytes": part.bytes}));
    json!({
        "name": name, "base": made.base, "system": made.system, "settings": made.settings, "stop": made.stop,
        "adapters": adapters.collect::<Vec<_>>(), "documents": documents.collect::<Vec<_>>(), "tools": made.tools,
        "messages": messages.collect::<Vec<_>>(), "license": made.license, "parts": parts.collect::<Vec<_>>(),
        "digest": made.digest().to_string(),
    })
}

fn object(name: &str, made: &Assistant, tokens: &Tokens, path: &Path) -> Value {
    let mut object = facts(name, made);
    object["path"] = json!(path);
    let documents = tokens.documents.iter().map(|(name, count)| json!({"name": name, "tokens": count}));
    object["tokens"] = json!({"all": tokens.all, "documents": documents.collect::<Vec<_>>()});
    object
}
