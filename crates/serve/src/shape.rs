//! What an answer must look like, as the APIs write it: fields to a shape of the engine's.

use pasture_engine::grammar::Shape;
use serde_json::Value;

use crate::fields::Asked;
use crate::refusal::{Refusal, quoted};

/// A shape and the field that asked for it.
#[derive(Clone, Debug)]
pub struct Shaped {
    pub field: &'static str,
    pub shape: Shape,
}

/// Reads the fields of OpenAI's API, llama.cpp and vLLM; at most one of them may ask for something.
pub fn of_openai(asked: &Asked) -> Result<Option<Shaped>, Refusal> {
    type Read = fn(&Value) -> Result<Option<Shape>, String>;
    const FIELDS: [(&str, Read); 8] = [
        ("response_format", response_format),
        ("json_schema", schema),
        ("guided_json", schema),
        ("guided_regex", regex),
        ("guided_choice", choice),
        ("guided_grammar", grammar),
        ("grammar", gbnf),
        ("structured_outputs", structured),
    ];
    let mut found: Option<Shaped> = None;
    for (field, read) in FIELDS {
        let Some(value) = asked.value(field) else { continue };
        let wrong = |what: String| Refusal::field(field, format!("\"{field}\": {what}"));
        let Some(shape) = read(value).map_err(wrong)? else { continue };
        if let Some(other) = found {
            let message = format!("\"{}\" and \"{field}\" both say what the answer looks like; give one", other.field);
            return Err(Refusal::field(field, message));
        }
        found = Some(Shaped { field, shape });
    }
    Ok(found)
}

/// Ollama's `format`.
pub fn of_ollama(asked: &Asked) -> Result<Option<Shaped>, Refusal> {
    let shape = match asked.value("format") {
        None => return Ok(None),
        Some(Value::String(text)) if text.is_empty() => return Ok(None),
        Some(Value::String(text)) if text == "json" => Shape::JsonObject,
        Some(object @ Value::Object(_)) => Shape::JsonSchema(object.clone()),
        Some(_) => return Err(Refusal::field("format", "\"format\" must be \"json\" or a JSON schema")),
    };
    Ok(Some(Shaped { field: "format", shape }))
}

/// `{"type": "json_schema", "json_schema": {"schema": …}}` and its relatives. Every schema is kept, `strict` or not.
pub fn response_format(value: &Value) -> Result<Option<Shape>, String> {
    let object = value.as_object().ok_or("it must be an object")?;
    let known = ["type", "json_schema", "schema", "name", "strict", "description"];
    if let Some(other) = object.keys().find(|key| !known.contains(&key.as_str())) {
        return Err(format!("it has {}, which is not known there", quoted(other)));
    }
    match object.get("type").and_then(Value::as_str) {
        Some("text") => Ok(None),
        Some("json_object") => match object.get("schema") {
            None | Some(Value::Null) => Ok(Some(Shape::JsonObject)),
            Some(inner) => schema(inner),
        },
        Some("json_schema") => {
            let inner = object.get("json_schema").unwrap_or(value);
            let inner = inner.get("schema").ok_or("it has no \"schema\"")?;
            match inner.is_object() {
                true => Ok(Some(Shape::JsonSchema(inner.clone()))),
                false => Err("its \"schema\" must be an object".into()),
            }
        }
        _ => Err("its \"type\" must be text, json_object or json_schema".into()),
    }
}

/// An object, or a text with one in it. An empty one asks for nothing but JSON.
fn schema(value: &Value) -> Result<Option<Shape>, String> {
    let parsed = match value {
        Value::String(text) => serde_json::from_str(text).map_err(|_| "it is no JSON")?,
        other => other.clone(),
    };
    match parsed {
        object @ Value::Object(_) => Ok(Some(Shape::JsonSchema(object))),
        _ => Err("it must be a JSON schema, which is an object".into()),
    }
}

fn regex(value: &Value) -> Result<Option<Shape>, String> {
    let text = value.as_str().ok_or("it must be a text")?;
    Ok(Some(Shape::Regex(text.to_owned())))
}

fn choice(value: &Value) -> Result<Option<Shape>, String> {
    let list = value.as_array().ok_or("it must be a list of texts")?;
    let texts: Option<Vec<String>> = list.iter().map(|text| text.as_str().map(str::to_owned)).collect();
    Ok(Some(Shape::Choice(texts.ok_or("it must be a list of texts")?)))
}

fn gbnf(value: &Value) -> Result<Option<Shape>, String> {
    let text = value.as_str().ok_or("it must be a text")?;
    Ok(Some(Shape::Gbnf(text.to_owned())))
}

/// GBNF is known by its sign for a rule.
fn grammar(value: &Value) -> Result<Option<Shape>, String> {
    let text = value.as_str().ok_or("it must be a text")?.to_owned();
    Ok(Some(if text.contains("::=") { Shape::Gbnf(text) } else { Shape::Lark(text) }))
}

fn structured(value: &Value) -> Result<Option<Shape>, String> {
    let object = value.as_object().ok_or("it must be an object")?;
    let mut shape = None;
    for (key, value) in object.iter().filter(|(_, value)| !value.is_null()) {
        let read = match key.as_str() {
            "json" => schema(value)?,
            "json_object" => value.as_bool().unwrap_or(false).then_some(Shape::JsonObject),
            "regex" => regex(value)?,
            "choice" => choice(value)?,
            "grammar" => grammar(value)?,
            other => return Err(format!("it has {}, which is not supported", quoted(other))),
        };
        if shape.is_some() && read.is_some() {
            return Err("it asks for several things; give one".into());
        }
        shape = shape.or(read);
    }
    Ok(shape)
}
