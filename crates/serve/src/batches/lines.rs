//! One line of a batch's input: a request with a name of its own, checked before the batch begins and read again when
//! its turn comes; and the line that its answer becomes.

use std::collections::HashSet;

use pasture_files::json;
use serde_json::{Map, Value};

use super::limits;
use crate::ask::id;
use crate::refusal::quoted;

/// A request of a batch.
#[derive(Debug, PartialEq)]
pub struct Line {
    pub custom_id: String,
    pub body: Map<String, Value>,
}

/// What is wrong with a line, as a batch tells it.
#[derive(Debug, PartialEq)]
pub struct Fault {
    pub code: &'static str,
    pub message: String,
    pub param: Option<&'static str>,
}

impl Fault {
    fn new(code: &'static str, message: impl Into<String>) -> Fault {
        Fault { code, message: message.into(), param: None }
    }

    /// A fault of one of the line's fields.
    fn of(param: &'static str, code: &'static str, message: impl Into<String>) -> Fault {
        Fault { param: Some(param), ..Fault::new(code, message) }
    }

    /// As an entry of a batch's `errors`. Lines are counted from one.
    pub fn json(&self, line: usize) -> Value {
        serde_json::json!({"code": self.code, "message": self.message, "param": self.param, "line": line})
    }
}

/// Whether there is nothing in a line.
pub fn is_blank(text: &[u8]) -> bool {
    text.iter().all(u8::is_ascii_whitespace)
}

/// Reads a line for a batch of this endpoint.
pub fn read(text: &[u8], endpoint: &str) -> Result<Line, Fault> {
    if text.len() > crate::limits::BODY_BYTES {
        let most = crate::limits::BODY_BYTES >> 20;
        return Err(Fault::new("line_too_long", format!("the line is longer than {most} MiB")));
    }
    let no_json = |what: String| Fault::new("invalid_json_line", what);
    let value = json::parse(text, "the line").map_err(|error| no_json(error.to_string()))?;
    let Value::Object(mut object) = value else { return Err(no_json("the line is no JSON object".to_owned())) };
    let mut take = |param: &'static str| {
        let missing = || Fault::of(param, "missing_required_parameter", format!("{param:?} is missing"));
        object.remove(param).ok_or_else(missing)
    };
    let (custom_id, method, url, body) = (take("custom_id")?, take("method")?, take("url")?, take("body")?);
    if let Some(other) = object.keys().next() {
        return Err(Fault::new("unknown_parameter", format!("{} is not known in a line", quoted(other))));
    }
    let custom_id =
        custom_id.as_str().filter(|id| !id.is_empty() && id.len() <= limits::ID_BYTES).ok_or_else(|| {
            let what = format!("\"custom_id\" must be a text of 1 to {} bytes", limits::ID_BYTES);
            Fault::of("custom_id", "invalid_custom_id", what)
        })?;
    if method != "POST" {
        return Err(Fault::of("method", "invalid_method", "\"method\" must be POST"));
    }
    if url != endpoint {
        let what = format!("\"url\" must be the batch's endpoint, {endpoint}");
        return Err(Fault::of("url", "invalid_url", what));
    }
    let Value::Object(body) = body else {
        return Err(Fault::of("body", "invalid_body", "\"body\" must be an object"));
    };
    if body.get("stream").is_some_and(|stream| *stream == Value::Bool(true)) {
        return Err(Fault::of("body", "invalid_body", "\"stream\" has no place in a batch; leave it out"));
    }
    Ok(Line { custom_id: custom_id.to_owned(), body })
}

/// Checks all lines of a file, line by line.
#[derive(Default)]
pub struct Checking {
    seen: HashSet<String>,
    /// What is wrong, as a batch tells it.
    pub faults: Vec<Value>,
    /// Lines that hold a request.
    pub requests: usize,
}

impl Checking {
    /// Checks the next line; false where enough is wrong.
    pub fn line(&mut self, number: usize, text: &[u8], endpoint: &str) -> bool {
        if is_blank(text) {
            return true;
        }
        self.requests += 1;
        let fault = match read(text, endpoint) {
            Ok(line) if !self.seen.insert(line.custom_id.clone()) => {
                let what = format!("two lines have the \"custom_id\" {}", quoted(&line.custom_id));
                Some(Fault::of("custom_id", "duplicate_custom_id", what))
            }
            Ok(_) => None,
            Err(fault) => Some(fault),
        };
        self.faults.extend(fault.map(|fault| fault.json(number)));
        self.faults.len() < limits::FAULTS
    }
}

/// The line of an answer, whatever its status.
pub fn answered(custom_id: &str, status: u16, body: &Value) -> String {
    let response = serde_json::json!({"status_code": status, "request_id": id("req_"), "body": body});
    told(custom_id, response, Value::Null)
}

/// The line of a request that was not answered.
pub fn unanswered(custom_id: &str, code: &str, message: &str) -> String {
    told(custom_id, Value::Null, serde_json::json!({"code": code, "message": message}))
}

fn told(custom_id: &str, response: Value, error: Value) -> String {
    let line =
        serde_json::json!({"id": id("batch_req_"), "custom_id": custom_id, "response": response, "error": error});
    format!("{line}\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const URL: &str = "/v1/completions";

    #[test]
    fn a_line_is_a_request_or_says_what_is_wrong() {
        let good = json!({"custom_id": "a", "method": "POST", "url": URL, "body": {"prompt": "x"}});
        let line = read(good.to_string().as_bytes(), URL).unwrap();
        assert_eq!((line.custom_id.as_str(), Value::Object(line.body)), ("a", json!({"prompt": "x"})));
        let with = |name: &str, value: Value| {
            let mut line = good.clone();
            line[name] = value;
            line.to_string()
        };
        let without = |name: &str| {
            let mut line = good.clone();
            line.as_object_mut().unwrap().remove(name);
            line.to_string()
        };
        for (text, code, part) in [
            ("{".to_owned(), "invalid_json_line", "the line"),
            ("[]".to_owned(), "invalid_json_line", "no JSON object"),
            (without("custom_id"), "missing_required_parameter", "custom_id"),
            (without("body"), "missing_required_parameter", "body"),
            (with("custom_id", json!("")), "invalid_custom_id", "1 to 512"),
            (with("custom_id", json!("x".repeat(513))), "invalid_custom_id", "1 to 512"),
            (with("custom_id", json!(1)), "invalid_custom_id", "1 to 512"),
            (with("method", json!("GET")), "invalid_method", "POST"),
            (with("url", json!("/v1/embeddings")), "invalid_url", URL),
            (with("body", json!("x")), "invalid_body", "an object"),
            (with("body", json!({"stream": true})), "invalid_body", "stream"),
            (with("model", json!("x")), "unknown_parameter", "\"model\""),
        ] {
            let fault = read(text.as_bytes(), URL).unwrap_err();
            assert!(fault.code == code && fault.message.contains(part), "{text}: {fault:?}");
        }
    }

    #[test]
    fn all_lines_are_checked_and_no_name_comes_twice() {
        let line = |id: &str| json!({"custom_id": id, "method": "POST", "url": URL, "body": {}}).to_string();
        let mut checking = Checking::default();
        for (number, text) in [line("a"), "  ".into(), line("b"), line("a"), "x".into()].iter().enumerate() {
            assert!(checking.line(number + 1, text.as_bytes(), URL));
        }
        assert_eq!(checking.requests, 4);
        let told: Vec<(&str, u64)> = checking
            .faults
            .iter()
            .map(|fault| (fault["code"].as_str().unwrap(), fault["line"].as_u64().unwrap()))
            .collect();
        assert_eq!(told, [("duplicate_custom_id", 4), ("invalid_json_line", 5)]);
        let enough = (0..limits::FAULTS).position(|number| !checking.line(number, b"x", URL));
        assert_eq!(enough, Some(limits::FAULTS - 3));
    }

    #[test]
    fn an_answer_becomes_a_line_with_its_name() {
        let line: Value = serde_json::from_str(&answered("a", 200, &json!({"x": 1}))).unwrap();
        assert_eq!((&line["custom_id"], &line["response"]["status_code"]), (&json!("a"), &json!(200)));
        assert_eq!((&line["response"]["body"], &line["error"]), (&json!({"x": 1}), &Value::Null));
        let line: Value = serde_json::from_str(&unanswered("a", "batch_expired", "late")).unwrap();
        assert_eq!((&line["response"], &line["error"]["code"]), (&Value::Null, &json!("batch_expired")));
    }
}
