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
use crate::shape;
use crate::talk::{Call, Part, Sorted, Sorter};
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
        shape: shape::of_ollama(asked)?,
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
    sorter: Sorter,
}

/// What one object tells.
#[derive(Default)]
struct Said<'a> {
    text: &'a str,
    thinking: &'a str,
    calls: &'a [Call],
}

impl Told {
    fn new(model: &str, form: Form) -> Told {
        Told { model: model.to_owned(), form, began: Instant::now(), sorter: Sorter::plain() }
    }

    fn object(&self, said: &Said, done: bool) -> Map<String, Value> {
        let mut object = Map::new();
        object.insert("model".into(), json!(self.model));
        object.insert("created_at".into(), json!(rfc3339(since_1970())));
        let thinking = (!said.thinking.is_empty()).then(|| json!(said.thinking));
        match self.form {
            Form::Message => {
                let mut message = json!({"role": "assistant", "content": said.text});
                if let Some(thinking) = thinking {
                    message["thinking"] = thinking;
                }
                if !said.calls.is_empty() {
                    let call = |call: &Call| json!({"function": {"name": call.name, "arguments": call.value()}});
                    message["tool_calls"] = said.calls.iter().map(call).collect();
                }
                object.insert("message".into(), message);
            }
            Form::Response => {
                object.insert("response".into(), json!(said.text));
                thinking.into_iter().for_each(|thinking| drop(object.insert("thinking".into(), thinking)));
            }
        }
        object.insert("done".into(), json!(done));
        object
    }

    fn done(&self, said: &Said, finish: Finish, usage: &Usage) -> Value {
        let reason = match finish {
            Finish::MaxTokens | Finish::ContextFull => "length",
            _ => "stop",
        };
        let mut object = self.object(said, true);
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

    fn whole(&self, answer: Answer) -> Value {
        let sorted = Sorted::new(self.sorter.clone(), answer);
        let said = Said { text: &sorted.text, thinking: &sorted.reasoning, calls: &sorted.calls };
        self.done(&said, sorted.finish, &sorted.usage)
    }

    fn part(&self, part: Part) -> String {
        let none = Said::default();
        line(&Value::Object(match &part {
            Part::Text(text) => self.object(&Said { text, ..none }, false),
            Part::Reasoning(thinking) => self.object(&Said { thinking, ..none }, false),
            Part::Call(call) => self.object(&Said { calls: std::slice::from_ref(call), ..none }, false),
        }))
    }

    /// The answer where nothing was asked but whether the model is there.
    fn loaded(&self) -> Value {
        let mut object = self.object(&Said::default(), true);
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
        self.sorter.event(event).into_iter().map(|part| self.part(part)).collect()
    }

    fn end(&mut self) -> String {
        let (finish, usage) = self.sorter.ended();
        line(&self.done(&Said::default(), finish, &usage))
    }

    fn fail(&mut self, refusal: &Refusal) -> String {
        line(&refusal.body(Style::Ollama))
    }
}
