//! A conversation as templates and data rows know it: roles, texts, thoughts, calls of tools. Reads the shape of the
//! OpenAI API; a field that nobody would use is an error that names it. Rendering is not here.
#![forbid(unsafe_code)]

use serde_json::{Map, Value, json};

use super::error::{Error, Result};
use super::template::Moment;
use crate::error::quoted;

/// Who speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// Instructions of the operator.
    System,
    /// Instructions of the developer, where the template tells them from the operator's.
    Developer,
    /// The user.
    User,
    /// The model.
    Assistant,
    /// What a tool answered.
    Tool,
}

impl Role {
    /// The role of a name.
    pub fn from_name(name: &str) -> Option<Role> {
        Some(match name {
            "system" => Role::System,
            "developer" => Role::Developer,
            "user" => Role::User,
            "assistant" => Role::Assistant,
            "tool" => Role::Tool,
            _ => return None,
        })
    }

    /// The name that templates and files use.
    pub fn name(self) -> &'static str {
        match self {
            Role::System => "system",
            Role::Developer => "developer",
            Role::User => "user",
            Role::Assistant => "assistant",
            Role::Tool => "tool",
        }
    }
}

/// A call that the assistant makes.
#[derive(Clone, Debug, PartialEq)]
pub struct ToolCall {
    /// By which the answer is matched.
    pub id: Option<String>,
    /// The tool.
    pub name: String,
    /// An object; the text itself where it is no JSON object.
    pub arguments: Value,
}

/// One turn.
#[derive(Clone, Debug, PartialEq)]
pub struct Message {
    /// Who speaks.
    pub role: Role,
    /// What is said.
    pub content: String,
    /// What the assistant thought before.
    pub reasoning: Option<String>,
    /// What the assistant calls.
    pub tool_calls: Vec<ToolCall>,
    /// Of a tool's answer: the call that it answers.
    pub tool_call_id: Option<String>,
    /// The speaker's or the tool's name.
    pub name: Option<String>,
    /// Whether an assistant's turn is learned from in training.
    pub trained: bool,
}

impl Message {
    /// A turn of plain text.
    pub fn new(role: Role, content: impl Into<String>) -> Message {
        Message {
            role,
            content: content.into(),
            reasoning: None,
            tool_calls: Vec::new(),
            tool_call_id: None,
            name: None,
            trained: true,
        }
    }

    /// Reads a message as the OpenAI API writes it; the error says what is wrong, without the message's number.
    pub fn from_json(value: &Value) -> Result<Message, String> {
        let fields = value.as_object().ok_or("it is no object")?;
        let role = fields.get("role").ok_or("it has no \"role\"")?;
        let name = role.as_str().ok_or("its \"role\" is no text")?;
        let known = Role::from_name(name);
        let role = known.ok_or_else(|| {
            format!("its role is {}; system, developer, user, assistant and tool are known", quoted(name))
        })?;
        let mut message = Message::new(role, "");
        let mut has_content = false;
        for (key, value) in fields {
            let text = || text_of(key, value);
            match key.as_str() {
                "role" => {}
                _ if value.is_null() => {}
                "content" => {
                    message.content = content(value)?;
                    has_content = true;
                }
                "reasoning" | "reasoning_content" | "thinking" => message.reasoning = Some(text()?),
                "tool_calls" => message.tool_calls = tool_calls(value)?,
                "tool_call_id" => message.tool_call_id = Some(text()?),
                "name" | "tool_name" => message.name = Some(text()?),
                // What clients send back of an answer, or of nothing.
                "refusal" | "annotations" | "audio" | "function_call" | "images" if is_nothing(value) => {}
                "weight" => {
                    let weight = value.as_f64().ok_or("its \"weight\" is no number")?;
                    if weight != 0.0 && weight != 1.0 {
                        return Err(format!("its \"weight\" is {weight}; 0 and 1 are known"));
                    }
                    message.trained = weight == 1.0;
                }
                other => return Err(format!("its field {} is not known", quoted(other))),
            }
        }
        if !message.tool_calls.is_empty() && role != Role::Assistant {
            return Err("only an assistant's message has \"tool_calls\"".into());
        }
        if message.reasoning.is_some() && role != Role::Assistant {
            return Err("only an assistant's message has reasoning".into());
        }
        if !has_content && message.tool_calls.is_empty() {
            return Err("it has no \"content\"".into());
        }
        Ok(message)
    }

    /// The message as templates read it.
    pub(super) fn to_input(&self, layout: Layout) -> Value {
        let mut fields = Map::new();
        fields.insert("role".into(), json!(self.role.name()));
        let parts = layout.content_as_parts && self.role != Role::Tool;
        let content = if parts { json!([{"type": "text", "text": self.content}]) } else { json!(self.content) };
        fields.insert("content".into(), content);
        if let Some(reasoning) = &self.reasoning {
            // Templates of different families look for different names.
            for key in ["reasoning_content", "reasoning", "thinking"] {
                fields.insert(key.into(), json!(reasoning));
            }
        }
        if !self.tool_calls.is_empty() {
            let calls = self.tool_calls.iter().map(|call| {
                let arguments = match &call.arguments {
                    object @ Value::Object(_) if layout.arguments_as_text => json!(object.to_string()),
                    other => other.clone(),
                };
                let mut made = json!({"type": "function", "function": {"name": call.name, "arguments": arguments}});
                if let Some(id) = &call.id {
                    made["id"] = json!(id);
                }
                made
            });
            fields.insert("tool_calls".into(), calls.collect());
        }
        for (key, value) in [("tool_call_id", &self.tool_call_id), ("name", &self.name)] {
            if let Some(text) = value {
                fields.insert(key.into(), json!(text));
            }
        }
        Value::Object(fields)
    }
}

/// How a template wants some things written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Layout {
    /// Content is a list of parts.
    pub(super) content_as_parts: bool,
    /// The arguments of a call are JSON in a text.
    pub(super) arguments_as_text: bool,
}

fn is_nothing(value: &Value) -> bool {
    value.as_str() == Some("")
        || value.as_array().is_some_and(Vec::is_empty)
        || value.as_object().is_some_and(Map::is_empty)
}

fn text_of(key: &str, value: &Value) -> Result<String, String> {
    value.as_str().map(str::to_owned).ok_or_else(|| format!("its {} is no text", quoted(key)))
}

/// A text, or a list of parts of type `text`, which are joined by line ends.
fn content(value: &Value) -> Result<String, String> {
    let parts = match value {
        Value::String(text) => return Ok(text.clone()),
        Value::Array(parts) => parts,
        _ => return Err("its \"content\" is neither a text nor a list of parts".into()),
    };
    let mut texts = Vec::new();
    for part in parts {
        match part["type"].as_str() {
            Some("text") => texts.push(part["text"].as_str().ok_or("a text part has no \"text\"")?),
            Some(kind) => {
                return Err(format!("a content part is of type {}; text alone is read here", quoted(kind)));
            }
            None => return Err("a content part has no \"type\"".into()),
        }
    }
    Ok(texts.join("\n"))
}

fn tool_calls(value: &Value) -> Result<Vec<ToolCall>, String> {
    let calls = value.as_array().ok_or("its \"tool_calls\" is no list")?;
    let read = |call: &Value| -> Result<ToolCall, String> {
        if let Some(kind) = call.get("type").filter(|kind| *kind != "function") {
            return Err(format!("a tool call is of type {kind}, \"function\" is known"));
        }
        let function = call.get("function").unwrap_or(call);
        let name = function["name"].as_str().ok_or("a tool call has no \"name\"")?;
        let arguments = match function.get("arguments") {
            None | Some(Value::Null) => json!({}),
            Some(object @ Value::Object(_)) => object.clone(),
            Some(Value::String(text)) => match serde_json::from_str(text) {
                Ok(object @ Value::Object(_)) => object,
                _ => json!(text),
            },
            Some(_) => return Err("the \"arguments\" of a tool call are neither an object nor a text".into()),
        };
        let id = match call.get("id") {
            None | Some(Value::Null) => None,
            Some(id) => Some(text_of("id", id)?),
        };
        Ok(ToolCall { id, name: name.to_owned(), arguments })
    };
    calls.iter().map(read).collect()
}

/// What is rendered into one prompt.
#[derive(Clone, Debug, PartialEq)]
pub struct Conversation {
    /// The turns.
    pub messages: Vec<Message>,
    /// Tools as JSON Schema, in the shape of the OpenAI API.
    pub tools: Vec<Value>,
    /// Whether the prompt ends where the assistant's next turn begins.
    pub add_generation_prompt: bool,
    /// What templates print as today's date; none: the system's clock, in universal time.
    pub now: Option<Moment>,
    /// Further inputs that a template asks for by name, for example `enable_thinking`.
    pub inputs: Map<String, Value>,
}

impl Conversation {
    /// A conversation that the assistant is to go on with.
    pub fn to_answer(messages: Vec<Message>) -> Conversation {
        Conversation { messages, tools: Vec::new(), add_generation_prompt: true, now: None, inputs: Map::new() }
    }

    /// A conversation that is complete, as training reads it.
    pub fn complete(messages: Vec<Message>) -> Conversation {
        Conversation { add_generation_prompt: false, ..Conversation::to_answer(messages) }
    }

    /// Reads `messages` (a list as the OpenAI API has it).
    pub fn messages_from_json(value: &Value) -> Result<Vec<Message>> {
        let list = value.as_array().ok_or_else(|| Error::Conversation("\"messages\" is no list".into()))?;
        if list.is_empty() {
            return Err(Error::Conversation("\"messages\" is empty; a conversation has at least one".into()));
        }
        let read =
            |(place, message)| Message::from_json(message).map_err(|what| Error::Message { number: place + 1, what });
        list.iter().enumerate().map(read).collect()
    }

    /// Reads `tools` (a list as the OpenAI API has it).
    pub fn tools_from_json(value: &Value) -> Result<Vec<Value>> {
        let list = value.as_array().ok_or_else(|| Error::Conversation("\"tools\" is no list".into()))?;
        for (place, tool) in list.iter().enumerate() {
            let function = tool.get("function").unwrap_or(tool);
            if function.get("name").and_then(Value::as_str).is_none() {
                return Err(Error::Conversation(format!("tool {} has no name", place + 1)));
            }
        }
        Ok(list.clone())
    }
}
