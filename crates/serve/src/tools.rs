//! Tools of a conversation: what requests say about them, and the grammar of an answer that must call one.

use pasture_engine::grammar::{GrammarError, Shape, lark_json, lark_text};
use pasture_files::prompt::answer::{AnswerFormat, CallForm, Calls, Stretch};
use serde_json::{Map, Value, json};

use crate::refusal::{Refusal, quoted};

/// Tools of one request.
const TOOLS: usize = 128;
/// Letters of a tool's name.
const NAME: usize = 128;

/// Whether tools are called.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Choice {
    /// As the model likes.
    #[default]
    Auto,
    /// Not at all.
    Never,
    /// At least one.
    Some,
    /// This one.
    Named(String),
}

/// The tools of a request.
#[derive(Clone, Debug, Default)]
pub struct Tools {
    /// In the shape of OpenAI's API, as templates print them.
    pub list: Vec<Value>,
    pub choice: Choice,
    /// At most one call.
    pub single: bool,
}

impl Tools {
    /// The names.
    pub fn names(&self) -> Vec<String> {
        self.list.iter().filter_map(|tool| tool["function"]["name"].as_str().map(str::to_owned)).collect()
    }

    /// Whether an answer may call one.
    pub fn offered(&self) -> bool {
        !self.list.is_empty() && self.choice != Choice::Never
    }

    /// What is wrong between the tools and the choice.
    pub fn check(&self) -> Result<(), Refusal> {
        match &self.choice {
            Choice::Named(name) if !self.names().contains(name) => {
                let message = format!("\"tool_choice\" names {}, which is not among the tools", quoted(name));
                Err(Refusal::field("tool_choice", message))
            }
            Choice::Some if self.list.is_empty() => {
                Err(Refusal::field("tool_choice", "\"tool_choice\" wants a call, and there are no \"tools\""))
            }
            _ => Ok(()),
        }
    }
}

/// Reads `tools` of OpenAI's and Ollama's APIs; those of the responses API have no `function` around them.
pub fn read(value: Option<&Value>) -> Result<Vec<Value>, Refusal> {
    let wrong = |what: String| Refusal::field("tools", format!("\"tools\": {what}"));
    let list = match value {
        None => return Ok(Vec::new()),
        Some(value) => value.as_array().ok_or_else(|| wrong("a list was expected".into()))?,
    };
    if list.len() > TOOLS {
        return Err(wrong(format!("{} tools; at most {TOOLS} are taken", list.len())));
    }
    let tools: Result<Vec<Value>, String> = list.iter().map(one).collect();
    let tools = tools.map_err(wrong)?;
    let names: Vec<&str> = tools.iter().filter_map(|tool| tool["function"]["name"].as_str()).collect();
    if let Some(twice) = names.iter().enumerate().find(|(at, name)| names[..*at].contains(name)) {
        return Err(wrong(format!("two are called {}", quoted(twice.1))));
    }
    Ok(tools)
}

fn one(tool: &Value) -> Result<Value, String> {
    let object = tool.as_object().ok_or("a tool is no object")?;
    match object.get("type").and_then(Value::as_str) {
        None | Some("function") => {}
        Some(other) => return Err(format!("tools of type {} are not supported; function is", quoted(other))),
    }
    let inner = match object.get("function") {
        None => object,
        Some(inner) => inner.as_object().ok_or("\"function\" of a tool is no object")?,
    };
    made(inner, "parameters")
}

/// A tool in the shape that templates print, from an object with name, description and a schema under `key`.
pub fn made(inner: &Map<String, Value>, key: &str) -> Result<Value, String> {
    let name = inner.get("name").and_then(Value::as_str).unwrap_or_default();
    let plain = |letter: char| letter.is_ascii_alphanumeric() || "_-.:/".contains(letter);
    if name.is_empty() || name.len() > NAME || !name.chars().all(plain) {
        return Err(format!("the name {} is not 1 to {NAME} letters, digits, _ or -", quoted(name)));
    }
    let mut function = Map::new();
    function.insert("name".into(), json!(name));
    match inner.get("description") {
        None | Some(Value::Null) => {}
        Some(Value::String(text)) => drop(function.insert("description".into(), json!(text))),
        Some(_) => return Err("a \"description\" is no text".into()),
    }
    let schema = match inner.get(key) {
        None | Some(Value::Null) => json!({"type": "object", "properties": {}}),
        Some(object @ Value::Object(_)) => object.clone(),
        Some(_) => return Err(format!("{key:?} of a tool is no object")),
    };
    function.insert("parameters".into(), schema);
    Ok(json!({"type": "function", "function": function}))
}

/// Reads `tool_choice` of OpenAI's APIs.
pub fn choice(value: Option<&Value>) -> Result<Choice, Refusal> {
    match value {
        None => Ok(Choice::Auto),
        Some(Value::String(word)) => match word.as_str() {
            "auto" => Ok(Choice::Auto),
            "none" => Ok(Choice::Never),
            "required" | "any" => Ok(Choice::Some),
            _ => Err(Refusal::field("tool_choice", "\"tool_choice\" must be auto, none, required or name a function")),
        },
        Some(object) => {
            let name = object["function"]["name"].as_str().or(object["name"].as_str());
            let name = name.filter(|_| object["type"].as_str().is_none_or(|kind| kind == "function"));
            let named = name.map(|name| Choice::Named(name.to_owned()));
            let message = "\"tool_choice\" must be auto, none, required, or {\"type\": \"function\", \"function\": {\"name\": …}}";
            named.ok_or_else(|| Refusal::field("tool_choice", message))
        }
    }
}

/// The shape of an answer that calls one of the tools, or several where it may; none where nothing is forced.
pub fn forced(tools: &Tools, format: &AnswerFormat, in_thought: bool) -> Result<Option<Shape>, Refusal> {
    let wrong = |error: GrammarError| Refusal::field("tools", format!("\"tools\": {error}"));
    let chosen = |tool: &&Value| match &tools.choice {
        Choice::Named(name) => tool["function"]["name"] == json!(name),
        _ => true,
    };
    if !matches!(tools.choice, Choice::Some | Choice::Named(_)) {
        return Ok(None);
    }
    let chosen: Vec<&Value> = tools.list.iter().filter(chosen).collect();
    let mut lark = String::from(if in_thought { "start: thought calls\n" } else { "start: calls\n" });
    if let Some(marks) = format.reasoning.as_ref().filter(|_| in_thought) {
        match format.stretches(&marks.close).as_slice() {
            [Stretch::Control(id)] => lark += &format!("thought: /(?s:.*)/ <[{id}]>\n"),
            _ => lark += &format!("thought[lazy]: /(?s:.*)/ {}\n", lark_text(&marks.close)),
        }
    }
    let rules = if format.channels { channel_rules(&chosen, format) } else { call_rules(&chosen, tools, format) };
    lark += &rules.map_err(wrong)?;
    Ok(Some(Shape::Lark(lark)))
}

fn call_rules(chosen: &[&Value], tools: &Tools, format: &AnswerFormat) -> Result<String, GrammarError> {
    let Some(calls) = &format.calls else { return Err(unknown()) };
    let mut several = String::new();
    if let Some(between) = calls.between.as_ref().filter(|_| !tools.single && tools.choice == Choice::Some) {
        several = format!(" ({} call)*", spelled(format, between));
    }
    let (open, close) = (spelled(format, &calls.open), spelled(format, &calls.close));
    let mut rules = format!("calls: {open} call{several} {close}\ncall: ");
    for (at, tool) in chosen.iter().enumerate() {
        rules += if at == 0 { "" } else { " | " };
        rules += &call(tool, calls, format)?;
    }
    Ok(rules + "\n")
}

fn call(tool: &Value, calls: &Calls, format: &AnswerFormat) -> Result<String, GrammarError> {
    let (name, schema) = (&tool["function"]["name"], &tool["function"]["parameters"]);
    match &calls.form {
        CallForm::Object(key) => {
            let arguments = object(schema);
            // Definitions of the arguments' schema are found from the root of the whole.
            let mut whole = json!({
                "type": "object", "properties": {"name": {"const": name}}, "required": ["name", key],
                "additionalProperties": false,
            });
            let mut arguments = arguments;
            for definitions in ["$defs", "definitions"] {
                if let Some(found) = arguments.as_object_mut().and_then(|object| object.remove(definitions)) {
                    whole[definitions] = found;
                }
            }
            whole["properties"][key] = arguments;
            lark_json(&whole)
        }
        CallForm::Named(separator) => {
            let name = lark_text(name.as_str().unwrap_or_default());
            Ok(format!("{name} {} {}", spelled(format, separator), lark_json(&object(schema))?))
        }
    }
}

/// Arguments are always an object.
fn object(schema: &Value) -> Value {
    let mut schema = schema.clone();
    if schema.get("type").is_none() {
        schema["type"] = json!("object");
    }
    schema
}

fn channel_rules(chosen: &[&Value], format: &AnswerFormat) -> Result<String, GrammarError> {
    let mut rules = String::from("calls: ");
    for (at, tool) in chosen.iter().enumerate() {
        let name = tool["function"]["name"].as_str().unwrap_or_default();
        let header = format!("<|channel|>commentary to=functions.{name} <|constrain|>json<|message|>");
        rules += if at == 0 { "" } else { " | " };
        rules += &format!("{} {}", spelled(format, &header), lark_json(&object(&tool["function"]["parameters"]))?);
    }
    Ok(rules + "\n")
}

/// The final part of an answer in channels, whose text a grammar is to shape.
pub fn final_header(format: &AnswerFormat) -> String {
    spelled(format, "<|channel|>final<|message|>")
}

/// A text as Lark has it, control tokens by number.
fn spelled(format: &AnswerFormat, text: &str) -> String {
    let stretch = |stretch: Stretch| match stretch {
        Stretch::Text(text) => lark_text(&text),
        Stretch::Control(id) => format!("<[{id}]>"),
    };
    format.stretches(text).into_iter().map(stretch).collect::<Vec<_>>().join(" ")
}

fn unknown() -> GrammarError {
    GrammarError("neither the model's template nor its tokenizer shows how it calls tools".into())
}

/// Refuses tools where no call could be told from text.
pub fn known(format: &AnswerFormat) -> Result<(), Refusal> {
    match format.calls.is_some() {
        true => Ok(()),
        false => Err(Refusal::field("tools", format!("\"tools\": {}", unknown()))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn format(calls: Calls) -> AnswerFormat {
        AnswerFormat { calls: Some(calls), control: vec![(7, "[CALL]".to_owned())], ..AnswerFormat::default() }
    }

    fn tools(choice: Choice) -> Tools {
        let list = json!([
            {"type": "function", "function": {"name": "look", "parameters": {"properties": {"at": {"type": "string"}}}}},
            {"name": "go", "description": "goes"},
        ]);
        Tools { list: read(Some(&list)).unwrap_or_default(), choice, single: false }
    }

    fn lark(tools: &Tools, format: &AnswerFormat) -> String {
        match forced(tools, format, false) {
            Ok(Some(Shape::Lark(lark))) => lark,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_choice_that_forces_a_call_becomes_a_grammar_of_the_models_own_marks() {
        let objects = format(Calls {
            open: "[CALL][".into(),
            between: Some(", ".into()),
            close: "]".into(),
            form: CallForm::Object("arguments".into()),
        });
        let several = lark(&tools(Choice::Some), &objects);
        assert!(
            several.starts_with("start: calls\ncalls: <[7]> \"[\" call (\", \" call)* \"]\"\ncall: %json {"),
            "{several}"
        );
        assert!(several.contains("\"const\":\"look\"") && several.contains("\"const\":\"go\""), "{several}");
        let one = lark(&tools(Choice::Named("go".into())), &objects);
        assert!(!one.contains("look") && one.contains("<[7]> \"[\" call \"]\""), "{one}");
        let named = format(Calls {
            open: "[CALL]".into(),
            between: None,
            close: String::new(),
            form: CallForm::Named("->".into()),
        });
        let named = lark(&tools(Choice::Some), &named);
        assert!(named.contains("call: \"look\" \"->\" %json {") && named.contains(" | \"go\" \"->\" %json"), "{named}");
        assert!(forced(&tools(Choice::Auto), &objects, false).is_ok_and(|shape| shape.is_none()));
    }

    #[test]
    fn tools_of_a_wrong_shape_are_refused() {
        let check = |list: Value, part: &str| match read(Some(&list)) {
            Ok(tools) => panic!("{list} is {tools:?}"),
            Err(refusal) => assert!(refusal.message.contains(part), "{}", refusal.message),
        };
        check(json!({}), "a list was expected");
        check(json!([{"type": "web_search"}]), "web_search");
        check(json!([{"name": "a b"}]), "the name");
        check(json!([{"name": "a"}, {"name": "a"}]), "two are called");
        check(json!([{"name": "a", "parameters": 5}]), "no object");
        let absent = Tools { choice: Choice::Named("x".into()), ..Tools::default() };
        assert!(absent.check().is_err_and(|refusal| refusal.message.contains("not among the tools")));
    }
}
