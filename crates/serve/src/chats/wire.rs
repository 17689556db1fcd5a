//! What requests about chats say, and what they are told. A field that is not known is refused by name.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::limits;
use crate::refusal::Refusal;

/// Who speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    User,
    Assistant,
    Tool,
}

impl Role {
    pub fn name(self) -> &'static str {
        match self {
            Role::User => "user",
            Role::Assistant => "assistant",
            Role::Tool => "tool",
        }
    }
}

/// A chat without its messages.
#[derive(Clone, Debug, Serialize)]
pub struct Head {
    pub id: String,
    pub title: String,
    /// Seconds since 1970.
    pub created: i64,
    pub changed: i64,
    pub messages: i64,
}

/// A chat.
#[derive(Clone, Debug, Serialize)]
pub struct Chat {
    #[serde(flatten)]
    pub head: Head,
    pub settings: Map<String, Value>,
    /// The last message of the branch that is shown.
    pub leaf: Option<i64>,
    #[serde(rename = "tree")]
    pub messages: Vec<Message>,
}

/// A message. Those with the same parent are branches.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Message {
    pub id: i64,
    #[serde(default)]
    pub parent: Option<i64>,
    pub role: Role,
    pub content: String,
    /// What else it has: model, reasoning, calls of tools, usage. The page's own affair.
    #[serde(default)]
    pub more: Map<String, Value>,
    /// Seconds since 1970.
    #[serde(default)]
    pub created: i64,
}

/// A message that a search found.
#[derive(Clone, Debug, Serialize)]
pub struct Found {
    pub chat: String,
    pub title: String,
    /// None where the title matches.
    pub message: Option<i64>,
    pub excerpt: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewChat {
    #[serde(default)]
    pub title: String,
    #[serde(default)]
    pub settings: Map<String, Value>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChatChange {
    pub title: Option<String>,
    pub settings: Option<Map<String, Value>>,
    pub leaf: Option<i64>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewMessage {
    #[serde(default)]
    pub parent: Option<i64>,
    pub role: Role,
    pub content: String,
    #[serde(default)]
    pub more: Map<String, Value>,
    /// Whether the branch that is shown now ends here.
    #[serde(default = "yes")]
    pub leaf: bool,
}

fn yes() -> bool {
    true
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MessageChange {
    pub content: Option<String>,
    pub more: Option<Map<String, Value>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Search {
    pub text: String,
}

/// What an export is, and an import takes.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Import {
    /// The version of the form.
    pub pasture_chats: i64,
    pub chats: Vec<Imported>,
}

/// A chat from outside: its ids are renumbered.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Imported {
    #[serde(default, rename = "id")]
    pub _id: Option<Value>,
    #[serde(default)]
    pub title: String,
    #[serde(default)]
    pub created: Option<i64>,
    #[serde(default)]
    pub changed: Option<i64>,
    /// Their number, which the tree says as well.
    #[serde(default, rename = "messages")]
    pub _messages: Option<i64>,
    #[serde(default)]
    pub settings: Map<String, Value>,
    #[serde(default)]
    pub leaf: Option<i64>,
    pub tree: Vec<Message>,
}

/// A body of that form.
pub fn read<T: for<'a> Deserialize<'a>>(object: Map<String, Value>) -> Result<T, Refusal> {
    let wrong = |error: serde_json::Error| {
        let text: String = error.to_string().chars().take(200).collect();
        Refusal::wrong(text)
    };
    serde_json::from_value(Value::Object(object)).map_err(wrong)
}

/// A title within its limit.
pub fn check_title(title: &str) -> Result<(), Refusal> {
    match title.chars().count() > limits::TITLE_CHARS {
        true => Err(Refusal::field("title", format!("the title is longer than {} characters", limits::TITLE_CHARS))),
        false => Ok(()),
    }
}

/// A text within its limit.
pub fn check_text(text: &str) -> Result<(), Refusal> {
    match text.len() > limits::TEXT_BYTES {
        true => Err(Refusal::field("content", format!("the text is longer than {} MiB", limits::TEXT_BYTES >> 20))),
        false => Ok(()),
    }
}

/// An object as it is stored, within its limit.
pub fn stored(name: &str, object: &Map<String, Value>, max: usize) -> Result<String, Refusal> {
    let text = Value::Object(object.clone()).to_string();
    match text.len() > max {
        true => Err(Refusal::field(name, format!("{name:?} is longer than {} KiB as JSON", max >> 10))),
        false => Ok(text),
    }
}
