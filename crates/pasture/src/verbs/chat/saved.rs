//! Conversations in files: what `/save` writes and `/load` reads. One JSON object with the messages in OpenAI's form.

use std::path::Path;

use pasture::Message;
use pasture_files::durable;
use serde_json::{Value, json};

use crate::exit::{Failure, Status};
use crate::verbs::model;

/// Longest conversation file that is read.
const BYTES_MAX: u64 = 64 << 20;

/// Writes a conversation. The file is complete or untouched.
pub fn save(path: &Path, name: &str, messages: &[Message]) -> Result<(), Failure> {
    model::can_hold(path)?;
    let list: Vec<Value> = messages.iter().map(|m| json!({"role": m.role, "content": m.content})).collect();
    let text = serde_json::to_string_pretty(&json!({"model": name, "messages": list})).unwrap_or_default();
    Ok(durable::write_file(path, |sink| sink.put(text.as_bytes()))?)
}

/// Reads a conversation.
pub fn load(path: &Path) -> Result<Vec<Message>, Failure> {
    let bytes = pasture_files::folder::read_file(path, pasture_files::size::Size::new(BYTES_MAX))?;
    let value = pasture_files::json::parse(&bytes, &pasture_files::error::file_name(path))?;
    let wrong = |what: &str| Failure::new(Status::Data, format!("{path:?} is no conversation: {what}"));
    let list = value.get("messages").unwrap_or(&value).as_array().ok_or_else(|| wrong("it has no list of messages"))?;
    let message = |value: &Value| {
        let text = |key: &str| value.get(key).and_then(Value::as_str).map(str::to_owned);
        match (text("role"), text("content")) {
            (Some(role), Some(content)) => Ok(Message::new(role, content)),
            _ => Err(wrong("a message needs the texts \"role\" and \"content\"")),
        }
    };
    list.iter().map(message).collect()
}
