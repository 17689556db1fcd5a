//! The routes of Ollama's API: JSON objects, one a line where they are streamed.

pub mod chat;
pub mod generate;
pub mod models;

use std::time::Instant;

use pasture_engine::{Event, Finish, Usage};
use serde_json::{Map, Value, json};

use crate::ask::{self, Answer, Wanted};
use crate::fields::Asked;
use crate::moment::{rfc3339, since_1970};
use crate::refusal::{Refusal, Style};
use crate::telling::Teller;

/// Fields of `options` and the engine's settings.
const SETTINGS: [(&str, &str); 9] = [
    ("options.temperature", "temperature"),
    ("options.top_k", "top_k"),
    ("options.top_p", "top_p"),
    ("options.min_p", "min_p"),
    ("options.typical_p", "typical_p"),
    ("options.repeat_penalty", "repetition_penalty"),
    ("options.presence_penalty", "presence_penalty"),
    ("options.frequency_penalty", "frequency_penalty"),
    ("options.seed", "seed"),
];

/// What is wanted, from `options`.
fn wanted(asked: &mut Asked, talks: bool) -> Result<Wanted, Refusal> {
    let mut sampling = ask::sampling(asked, SETTINGS.into_iter())?;
    let back = asked.value("options.repeat_last_n").and_then(Value::as_i64);
    sampling.repeat_last_n = back.and_then(|back| u32::try_from(back).ok());
    if sampling.ineffective().contains(&"repeat_last_n") {
        asked.unused.push("options.repeat_last_n".to_owned());
    }
    let max = asked.value("options.num_predict").and_then(Value::as_i64);
    if max == Some(0) {
        return Err(Refusal::field("options.num_predict", "\"options.num_predict\" is 0; give at least 1, or -1"));
    }
    Ok(Wanted {
        sampling,
        max_tokens: max.and_then(|max| usize::try_from(max).ok()),
        stops: ask::stops(asked.value("options.stop")),
        ignore_eos: false,
        answers: 1,
        talks,
    })
}

/// Ollama streams unless told not to.
fn streams(asked: &Asked) -> bool {
    asked.value("stream").and_then(Value::as_bool).unwrap_or(true)
}

/// How a text is put into an object.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    /// `message` with role and content.
    Message,
    /// `response`.
    Response,
}

/// An answer in Ollama's words.
struct Told {
    model: String,
    form: Form,
    began: Instant,
    last: Option<(Finish, Usage)>,
}

impl Told {
    fn new(model: &str, form: Form) -> Told {
        Told { model: model.to_owned(), form, began: Instant::now(), last: None }
    }

    fn object(&self, text: &str, done: bool) -> Map<String, Value> {
        let mut object = Map::new();
        object.insert("model".into(), json!(self.model));
        object.insert("created_at".into(), json!(rfc3339(since_1970())));
        match self.form {
            Form::Message => object.insert("message".into(), json!({"role": "assistant", "content": text})),
            Form::Response => object.insert("response".into(), json!(text)),
        };
        object.insert("done".into(), json!(done));
        object
    }

    fn done(&self, text: &str, finish: Finish, usage: &Usage) -> Value {
        let reason = match finish {
            Finish::MaxTokens | Finish::ContextFull => "length",
            _ => "stop",
        };
        let mut object = self.object(text, true);
        let nanoseconds = |time: std::time::Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        for (name, value) in [
            ("done_reason", json!(reason)),
            ("total_duration", json!(nanoseconds(self.began.elapsed()))),
            ("load_duration", json!(0)),
            ("prompt_eval_count", json!(usage.prompt_tokens)),
            ("prompt_eval_duration", json!(nanoseconds(usage.prompt_time))),
            ("eval_count", json!(usage.new_tokens)),
            ("eval_duration", json!(nanoseconds(usage.new_time))),
        ] {
            object.insert(name.into(), value);
        }
        Value::Object(object)
    }

    fn whole(&self, answer: &Answer) -> Value {
        self.done(&answer.text, answer.finish, &answer.usage)
    }

    /// The answer where nothing was asked but whether the model is there.
    fn loaded(&self) -> Value {
        let mut object = self.object("", true);
        object.insert("done_reason".into(), json!("load"));
        Value::Object(object)
    }
}

fn line(value: &Value) -> String {
    format!("{value}\n")
}

impl Teller for Told {
    const TYPE: &'static str = "application/x-ndjson";

    fn begin(&mut self) -> String {
        String::new()
    }

    fn event(&mut self, _: usize, event: Event) -> String {
        let text = match event {
            Event::Piece(piece) => piece.text,
            Event::Ending(ending) => {
                self.last = Some((ending.finish, ending.usage));
                ending.text
            }
        };
        if text.is_empty() { String::new() } else { line(&Value::Object(self.object(&text, false))) }
    }

    fn end(&mut self) -> String {
        let (finish, usage) = self.last.unwrap_or((Finish::Cancelled, Usage::default()));
        line(&self.done("", finish, &usage))
    }

    fn fail(&mut self, refusal: &Refusal) -> String {
        line(&refusal.body(Style::Ollama))
    }
}
