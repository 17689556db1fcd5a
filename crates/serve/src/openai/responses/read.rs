//! Items of an input in the words of the chat API, which the prompt object reads.

use serde_json::{Value, json};

use crate::refusal::{Refusal, quoted};

/// Instructions and input as one conversation.
pub fn messages(instructions: Option<&str>, input: &Value) -> Result<Value, Refusal> {
    let mut list = Vec::new();
    if let Some(text) = instructions.filter(|text| !text.is_empty()) {
        list.push(json!({"role": "system", "content": text}));
    }
    match input {
        Value::String(text) => list.push(json!({"role": "user", "content": text})),
        Value::Array(items) => {
            for (place, item) in items.iter().enumerate() {
                let wrong = |what: String| Refusal::field("input", format!("item {} of \"input\": {what}", place + 1));
                one(item, &mut list).map_err(wrong)?;
            }
        }
        _ => return Err(Refusal::field("input", "\"input\" must be a text or a list of items")),
    }
    Ok(Value::Array(list))
}

fn one(item: &Value, list: &mut Vec<Value>) -> Result<(), String> {
    match item["type"].as_str() {
        None | Some("message") => {
            let text = content(&item["content"])?;
            list.push(json!({"role": item["role"], "content": text}));
        }
        Some("function_call") => {
            let function = json!({"name": item["name"], "arguments": item["arguments"]});
            let call = json!({"id": item["call_id"], "type": "function", "function": function});
            match list.last_mut().filter(|last| last["role"] == "assistant") {
                Some(last) => match last["tool_calls"].as_array_mut() {
                    Some(calls) => calls.push(call),
                    None => last["tool_calls"] = json!([call]),
                },
                None => list.push(json!({"role": "assistant", "content": "", "tool_calls": [call]})),
            }
        }
        Some("function_call_output") => {
            let output = content(&item["output"])?;
            list.push(json!({"role": "tool", "tool_call_id": item["call_id"], "content": output}));
        }
        Some("reasoning") => {
            let parts = item["content"].as_array().into_iter().flatten();
            let text: String = parts.filter_map(|part| part["text"].as_str()).collect();
            if !text.is_empty() {
                list.push(json!({"role": "assistant", "content": "", "reasoning_content": text}));
            }
        }
        Some(other) => return Err(format!("items of type {} are not supported", quoted(other))),
    }
    Ok(())
}

/// A text, or the texts of a list of parts.
fn content(value: &Value) -> Result<String, String> {
    match value {
        Value::String(text) => Ok(text.clone()),
        Value::Array(parts) => {
            let text = |part: &Value| match part["type"].as_str() {
                Some("input_text" | "output_text" | "text") => Ok(part["text"].as_str().unwrap_or_default().to_owned()),
                other => Err(format!("a part of type {} is not supported", quoted(other.unwrap_or("none")))),
            };
            Ok(parts.iter().map(text).collect::<Result<Vec<String>, String>>()?.join("\n"))
        }
        _ => Err("its content is neither a text nor a list of parts".into()),
    }
}
