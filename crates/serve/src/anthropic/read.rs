//! Anthropic's messages, tools and choices in the words of OpenAI's API, which the prompt object reads.

use serde_json::{Map, Value, json};

use crate::refusal::{Refusal, quoted};
use crate::tools::{self, Choice};

/// System text and messages as one conversation.
pub fn messages(system: Option<&Value>, messages: &Value) -> Result<Value, Refusal> {
    let mut list = Vec::new();
    if let Some(system) = system {
        let wrong = |what: String| Refusal::field("system", format!("\"system\": {what}"));
        let text = texts(system).map_err(wrong)?;
        if !text.is_empty() {
            list.push(json!({"role": "system", "content": text}));
        }
    }
    for (place, message) in messages.as_array().into_iter().flatten().enumerate() {
        let wrong = |what: String| Refusal::field("messages", format!("message {}: {what}", place + 1));
        one(message, &mut list).map_err(wrong)?;
    }
    Ok(Value::Array(list))
}

/// A text, or the texts of a list of blocks.
fn texts(value: &Value) -> Result<String, String> {
    match value {
        Value::String(text) => Ok(text.clone()),
        Value::Array(blocks) => {
            let text = |block: &Value| match block["type"].as_str() {
                Some("text") => Ok(block["text"].as_str().unwrap_or_default().to_owned()),
                other => Err(format!("a block of type {} is not supported there", quoted(other.unwrap_or("none")))),
            };
            Ok(blocks.iter().map(text).collect::<Result<Vec<String>, String>>()?.join("\n"))
        }
        _ => Err("a text or a list of blocks was expected".into()),
    }
}

fn one(message: &Value, list: &mut Vec<Value>) -> Result<(), String> {
    let object = message.as_object().ok_or("it is no object")?;
    if let Some(other) = object.keys().find(|key| !["role", "content", "id", "type"].contains(&key.as_str())) {
        return Err(format!("its field {} is not known", quoted(other)));
    }
    let role = message["role"].as_str().unwrap_or_default();
    if !["user", "assistant", "system"].contains(&role) {
        return Err(format!("its role is {}; user and assistant are known", quoted(role)));
    }
    let blocks = match &message["content"] {
        Value::String(text) => {
            list.push(json!({"role": role, "content": text}));
            return Ok(());
        }
        Value::Array(blocks) => blocks,
        _ => return Err("its \"content\" is neither a text nor a list of blocks".into()),
    };
    let (mut said, mut thought, mut calls) = (Vec::new(), String::new(), Vec::new());
    for block in blocks {
        match block["type"].as_str() {
            Some("text") => said.push(block["text"].as_str().ok_or("a text block has no \"text\"")?),
            Some("thinking") if role == "assistant" => thought += block["thinking"].as_str().unwrap_or_default(),
            Some("redacted_thinking") if role == "assistant" => {}
            Some("tool_use") if role == "assistant" => calls.push(json!({
                "id": block["id"], "type": "function",
                "function": {"name": block["name"], "arguments": block["input"]},
            })),
            Some("tool_result") if role == "user" => list.push(result(block)?),
            Some(other) => return Err(format!("a block of type {} is not supported there", quoted(other))),
            None => return Err("a block has no \"type\"".into()),
        }
    }
    // Results of tools come before what the user says beside them.
    let mut made = Map::new();
    made.insert("role".into(), json!(role));
    made.insert("content".into(), json!(said.join("\n")));
    if !thought.is_empty() {
        made.insert("reasoning_content".into(), json!(thought));
    }
    let only_results = said.is_empty() && blocks.iter().any(|block| block["type"] == "tool_result");
    if !calls.is_empty() {
        made.insert("tool_calls".into(), Value::Array(calls));
    }
    if !only_results {
        list.push(Value::Object(made));
    }
    Ok(())
}

fn result(block: &Value) -> Result<Value, String> {
    let content = match block.get("content") {
        None | Some(Value::Null) => String::new(),
        Some(content) => texts(content)?,
    };
    Ok(json!({"role": "tool", "tool_call_id": block["tool_use_id"], "content": content}))
}

/// Tools with an `input_schema`.
pub fn tools(value: Option<&Value>) -> Result<Vec<Value>, Refusal> {
    let wrong = |what: String| Refusal::field("tools", format!("\"tools\": {what}"));
    let Some(value) = value else { return Ok(Vec::new()) };
    let list = value.as_array().ok_or_else(|| wrong("a list was expected".into()))?;
    let one = |tool: &Value| {
        let object = tool.as_object().ok_or("a tool is no object")?;
        match object.get("type").and_then(Value::as_str) {
            None | Some("custom") => tools::made(object, "input_schema"),
            Some(other) => Err(format!("tools of type {} are not supported; custom is", quoted(other))),
        }
    };
    let made: Vec<Value> = list.iter().map(one).collect::<Result<_, String>>().map_err(wrong)?;
    tools::read(Some(&Value::Array(made)))
}

/// Whether tools are called, and whether at most once.
pub fn choice(value: Option<&Value>) -> Result<(Choice, bool), Refusal> {
    let Some(value) = value else { return Ok((Choice::Auto, false)) };
    let choice = match value["type"].as_str() {
        Some("auto") => Choice::Auto,
        Some("any") => Choice::Some,
        Some("none") => Choice::Never,
        Some("tool") => Choice::Named(value["name"].as_str().unwrap_or_default().to_owned()),
        _ => return Err(Refusal::field("tool_choice", "\"tool_choice\" must be of type auto, any, tool or none")),
    };
    Ok((choice, value["disable_parallel_tool_use"] == true))
}
