//! The routes of OpenAI's API.

pub mod chat;
pub mod completion;
pub mod embeddings;
pub mod logprobs;
pub mod models;
pub mod responses;

use std::sync::OnceLock;

use pasture_engine::sampling::FIELDS;
use pasture_engine::{Finish, Usage};
use serde_json::{Value, json};

use crate::ask::id;
use crate::moment::since_1970;

/// What all parts of an answer begin with.
#[derive(Clone)]
pub struct Head {
    id: String,
    object: &'static str,
    created: u64,
    model: String,
}

/// What the bits of an answer depend on beside the request and the model: the program and its loops.
fn fingerprint() -> &'static str {
    static FINGERPRINT: OnceLock<String> = OnceLock::new();
    FINGERPRINT.get_or_init(|| format!("b{}-{}", env!("CARGO_PKG_VERSION"), pasture_kernels::Kernels::get().name()))
}

impl Head {
    fn new(prefix: &str, object: &'static str, model: &str) -> Head {
        Head { id: id(prefix), object, created: since_1970().as_secs(), model: model.to_owned() }
    }

    /// An object with choices.
    fn with(&self, choices: Vec<Value>, usage: Option<Value>) -> Value {
        let Head { id, object, created, model } = self;
        let mut value = json!({
            "id": id, "object": object, "created": created, "model": model,
            "choices": choices, "system_fingerprint": fingerprint(),
        });
        if let Some(usage) = usage {
            value["usage"] = usage;
        }
        value
    }
}

/// The engine's settings by the names that fields have as well.
fn settings() -> impl Iterator<Item = (&'static str, &'static str)> {
    FIELDS.iter().filter(|field| field.name != "logprobs").map(|field| (field.name, field.name))
}

/// What answers took together; answers to one prompt share it.
#[derive(Clone, Copy, Default)]
struct Took {
    prompt: usize,
    cached: usize,
    new: usize,
}

impl Took {
    fn add(&mut self, answer: u32, usage: &Usage) {
        if answer == 0 {
            self.prompt += usage.prompt_tokens;
            self.cached += usage.cached_tokens;
        }
        self.new += usage.new_tokens;
    }

    fn json(self) -> Value {
        json!({
            "prompt_tokens": self.prompt, "completion_tokens": self.new, "total_tokens": self.prompt + self.new,
            "prompt_tokens_details": {"cached_tokens": self.cached},
        })
    }
}

fn reason(finish: Finish) -> &'static str {
    match finish {
        Finish::StopId(_) | Finish::StopString(_) | Finish::Complete | Finish::Cancelled => "stop",
        Finish::MaxTokens | Finish::ContextFull => "length",
    }
}

/// A part of a stream.
fn part(value: &Value) -> String {
    format!("data: {value}\n\n")
}

const DONE: &str = "data: [DONE]\n\n";
