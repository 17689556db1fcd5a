//! The checked content of a row. Which layout it has, `recognize` says.
#![forbid(unsafe_code)]

use serde_json::{Map, Value};

use super::recognize::{self, Shape};
use super::tokens;
use crate::error::quoted;
use crate::prompt::{Conversation, Message, Role};

/// The layouts of rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Layout {
    /// `messages` as in the OpenAI API.
    Chat,
    /// `conversations` of `from` and `value`.
    ShareGpt,
    /// `instruction`, `input`, `output`.
    Alpaca,
    /// `prompt` and `completion`.
    Pair,
    /// `chosen` and `rejected`.
    Preference,
    /// `prompt`, `completion` and whether it is wanted, `label`.
    Judged,
    /// `text`.
    Text,
    /// `input_ids`.
    Tokens,
}

/// A prompt or an answer: plain text, or turns.
#[derive(Clone, Debug, PartialEq)]
pub enum Turns {
    /// Text as it stands.
    Text(String),
    /// Turns of a conversation.
    Messages(Vec<Message>),
}

/// What a row says.
#[derive(Clone, Debug, PartialEq)]
pub enum Content {
    /// A conversation; its assistant's turns are learned.
    Chat {
        /// Where it was read from: [`Layout::Chat`], [`Layout::ShareGpt`] or [`Layout::Alpaca`].
        layout: Layout,
        /// The turns.
        messages: Vec<Message>,
        /// Tools, in the shape of the OpenAI API.
        tools: Vec<Value>,
    },
    /// A prompt and what is to follow it.
    Pair {
        /// Not learned.
        prompt: Turns,
        /// Learned.
        completion: Turns,
    },
    /// Two answers, one better than the other.
    Preference {
        /// What both answer; none where the answers are whole conversations.
        prompt: Option<Turns>,
        /// The better answer.
        chosen: Turns,
        /// The worse answer.
        rejected: Turns,
    },
    /// An answer and whether it is wanted.
    Judged {
        /// What is answered.
        prompt: Turns,
        /// The answer.
        completion: Turns,
        /// Whether it is wanted.
        desirable: bool,
    },
    /// Text that is learned as a whole.
    Text(String),
    /// Tokens, and whether each is learned.
    Tokens {
        /// The tokens.
        ids: Vec<u32>,
        /// Whether each is learned.
        trained: Vec<bool>,
    },
}

impl Layout {
    /// The name as messages show it.
    pub fn name(self) -> &'static str {
        match self {
            Layout::Chat => "messages",
            Layout::ShareGpt => "conversations (ShareGPT)",
            Layout::Alpaca => "instruction and output (Alpaca)",
            Layout::Pair => "prompt and completion",
            Layout::Preference => "chosen and rejected",
            Layout::Judged => "prompt, completion and label",
            Layout::Text => "text",
            Layout::Tokens => "token ids",
        }
    }
}

impl Content {
    /// The layout that the row has.
    pub fn layout(&self) -> Layout {
        match self {
            Content::Chat { layout, .. } => *layout,
            Content::Pair { .. } => Layout::Pair,
            Content::Preference { .. } => Layout::Preference,
            Content::Judged { .. } => Layout::Judged,
            Content::Text(_) => Layout::Text,
            Content::Tokens { .. } => Layout::Tokens,
        }
    }
}

/// A row before its layout is compared with that of its file.
pub(super) struct Read {
    pub(super) content: Content,
    pub(super) weight: Option<f64>,
    pub(super) unused: Vec<String>,
}

/// Reads one row; the error says what is wrong, without the line.
pub(super) fn read(value: &Value, vocabulary: u32, asked: Option<Layout>) -> Result<Read, String> {
    let row = value.as_object().ok_or_else(|| format!("{} stands where an object is expected", kind(value)))?;
    let Shape { layout, makes, uses } = recognize::shape(row, asked)?;
    for name in ["image", "images", "audio", "video"] {
        if row.get(name).is_some_and(|value| !value.is_null()) {
            return Err(format!("it has {name:?}; rows of text alone are read here"));
        }
    }
    let content = match layout {
        Layout::Chat => {
            chat(row, Conversation::messages_from_json(&row["messages"]).map_err(|fault| fault.to_string())?)
        }
        Layout::ShareGpt => share_gpt(row),
        Layout::Alpaca => alpaca(row),
        Layout::Pair => Ok(Content::Pair { prompt: turns(row, "prompt")?, completion: completion(row)? }),
        Layout::Judged => {
            let desirable = recognize::label(&row["label"]);
            let desirable = desirable.ok_or_else(|| {
                format!("\"label\" is {}, expected true or false: whether the answer is wanted", kind(&row["label"]))
            })?;
            Ok(Content::Judged { prompt: turns(row, "prompt")?, completion: completion(row)?, desirable })
        }
        Layout::Preference => preference(row),
        Layout::Text => Ok(Content::Text(text(row, "text")?.to_owned())),
        Layout::Tokens => tokens::read(row, vocabulary),
    }?;
    let is_used = |name: &String| makes.contains(&name.as_str()) || uses.contains(&name.as_str()) || name == "weight";
    let unused = row.keys().filter(|name| !is_used(name)).map(|name| name.chars().take(80).collect()).collect();
    Ok(Read { content, weight: weight(row)?, unused })
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "a null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

fn weight(row: &Map<String, Value>) -> Result<Option<f64>, String> {
    match row.get("weight") {
        None | Some(Value::Null) => Ok(None),
        Some(value) => {
            let weight = value.as_f64().filter(|weight| weight.is_finite() && *weight >= 0.0);
            weight.map(Some).ok_or_else(|| format!("\"weight\" is {}, expected a number from 0", kind(value)))
        }
    }
}

fn text<'r>(row: &'r Map<String, Value>, name: &str) -> Result<&'r str, String> {
    match row.get(name) {
        Some(Value::String(text)) => Ok(text),
        Some(other) => Err(format!("{name:?} is {}, expected a text", kind(other))),
        None => Err(format!("{name:?} is missing")),
    }
}

fn optional<'r>(row: &'r Map<String, Value>, name: &str) -> Result<Option<&'r str>, String> {
    match row.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(_) => text(row, name).map(|text| Some(text).filter(|text| !text.is_empty())),
    }
}

/// A text, or a list of messages.
fn turns(row: &Map<String, Value>, name: &str) -> Result<Turns, String> {
    match row.get(name) {
        Some(list @ Value::Array(_)) => {
            Conversation::messages_from_json(list).map(Turns::Messages).map_err(|fault| format!("{name:?}: {fault}"))
        }
        _ => text(row, name).map(|text| Turns::Text(text.to_owned())),
    }
}

fn completion(row: &Map<String, Value>) -> Result<Turns, String> {
    let completion = turns(row, "completion")?;
    match &completion {
        Turns::Text(text) if text.is_empty() => Err("\"completion\" is empty: there is nothing to learn".into()),
        _ => Ok(completion),
    }
}

fn chat(row: &Map<String, Value>, messages: Vec<Message>) -> Result<Content, String> {
    let tools = match row.get("tools") {
        None | Some(Value::Null) => Vec::new(),
        Some(tools) => Conversation::tools_from_json(tools).map_err(|fault| fault.to_string())?,
    };
    if !messages.iter().any(|message| message.role == Role::Assistant && message.trained) {
        return Err("there is nothing to learn: no message of the assistant".into());
    }
    Ok(Content::Chat { layout: Layout::Chat, messages, tools })
}

fn share_gpt(row: &Map<String, Value>) -> Result<Content, String> {
    let list = row["conversations"].as_array().ok_or("\"conversations\" is no list")?;
    let mut messages = Vec::new();
    if let Some(system) = optional(row, "system")? {
        messages.push(Message::new(Role::System, system));
    }
    for (place, turn) in list.iter().enumerate() {
        let at = |what: String| format!("message {}: {what}", place + 1);
        if turn.get("role").is_some() {
            messages.push(Message::from_json(turn).map_err(at)?);
            continue;
        }
        let speaker = turn["from"].as_str().ok_or_else(|| at("it has no \"from\"".into()))?;
        let role = match speaker {
            "human" | "user" => Role::User,
            "gpt" | "assistant" | "chatgpt" | "model" => Role::Assistant,
            "system" => Role::System,
            "tool" | "function_response" | "observation" => Role::Tool,
            other => return Err(at(format!("it is from {}, which is not known", quoted(other)))),
        };
        let said = turn["value"].as_str().ok_or_else(|| at("it has no \"value\"".into()))?;
        messages.push(Message::new(role, said));
    }
    match chat(row, messages)? {
        Content::Chat { messages, tools, .. } => Ok(Content::Chat { layout: Layout::ShareGpt, messages, tools }),
        other => Ok(other),
    }
}

fn alpaca(row: &Map<String, Value>) -> Result<Content, String> {
    let (instruction, answer) = (text(row, "instruction")?, text(row, "output")?);
    let asked = match optional(row, "input")? {
        Some(input) => format!("{instruction}\n\n{input}"),
        None => instruction.to_owned(),
    };
    let system = optional(row, "system")?.map(|system| Message::new(Role::System, system));
    let turns = [Message::new(Role::User, asked), Message::new(Role::Assistant, answer)];
    let messages = system.into_iter().chain(turns).collect();
    Ok(Content::Chat { layout: Layout::Alpaca, messages, tools: Vec::new() })
}

fn preference(row: &Map<String, Value>) -> Result<Content, String> {
    let prompt = match row.get("prompt") {
        None | Some(Value::Null) => None,
        Some(_) => Some(turns(row, "prompt")?),
    };
    let (chosen, rejected) = (turns(row, "chosen")?, turns(row, "rejected")?);
    if prompt.is_none() && matches!(chosen, Turns::Text(_)) != matches!(rejected, Turns::Text(_)) {
        return Err("one answer is a text and the other a conversation, and there is no \"prompt\"".into());
    }
    Ok(Content::Preference { prompt, chosen, rejected })
}
