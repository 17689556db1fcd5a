//! Writes an assistant as TOML, so that reading it gives the same again. Tools' schemas stay JSON, which has values that
//! TOML has not.

use serde::Serialize;
use serde_json::{Map, Value};

use super::Assistant;

/// The order of the file: texts first, since what follows a table's head belongs to the table.
#[derive(Serialize)]
struct File<'a> {
    base: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    system: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    license: Option<&'a str>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    stop: &'a [String],
    #[serde(skip_serializing_if = "Map::is_empty")]
    settings: &'a Map<String, Value>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    adapters: Vec<Adapter<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tools: Vec<Tool<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    messages: Vec<Message<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    documents: Vec<Document<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    parts: Vec<Part<'a>>,
}

#[derive(Serialize)]
struct Adapter<'a> {
    path: &'a str,
    weight: f64,
}

#[derive(Serialize)]
struct Tool<'a> {
    name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    parameters: Option<String>,
}

#[derive(Serialize)]
struct Message<'a> {
    role: &'a str,
    content: &'a str,
}

#[derive(Serialize)]
struct Document<'a> {
    name: &'a str,
    text: &'a str,
}

#[derive(Serialize)]
struct Part<'a> {
    name: &'a str,
    digest: String,
    bytes: u64,
}

pub(super) fn toml(assistant: &Assistant) -> String {
    let tool = |tool: &'_ Value| -> Option<(String, Option<String>, Option<String>)> {
        let function = tool.get("function")?;
        let text = |key: &str| function.get(key).and_then(Value::as_str).map(str::to_owned);
        let parameters = function.get("parameters").map(Value::to_string);
        Some((text("name")?, text("description"), parameters))
    };
    let tools: Vec<_> = assistant.tools.iter().filter_map(tool).collect();
    let file = File {
        base: &assistant.base,
        system: assistant.system.as_deref(),
        license: assistant.license.as_deref(),
        stop: &assistant.stop,
        settings: &assistant.settings,
        adapters: assistant.adapters.iter().map(|one| Adapter { path: &one.path, weight: one.weight }).collect(),
        tools: tools
            .iter()
            .map(|(name, description, parameters)| Tool {
                name,
                description: description.as_deref(),
                parameters: parameters.clone(),
            })
            .collect(),
        messages: assistant.messages.iter().map(|one| Message { role: &one.role, content: &one.content }).collect(),
        documents: assistant.documents.iter().map(|one| Document { name: &one.name, text: &one.text }).collect(),
        parts: assistant
            .parts
            .iter()
            .map(|one| Part { name: &one.name, digest: one.digest.to_string(), bytes: one.bytes })
            .collect(),
    };
    toml::to_string_pretty(&file).expect("texts, numbers and lists are all that an assistant holds")
}
