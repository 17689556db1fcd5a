//! What a model's answer is made of: thoughts, text, calls of tools. How it is written is found out from the model's
//! own template and tokenizer, never from its name; a parser takes an answer apart as it comes.
#![forbid(unsafe_code)]

mod channels;
mod json;
mod parse;
mod probe;

pub use parse::{AnswerParser, Said};

use std::sync::Arc;

/// How a model writes its answers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AnswerFormat {
    /// The marks around what is thought before the answer.
    pub reasoning: Option<Marks>,
    /// Parts of an answer have headers that say for whom they are (`<|channel|>final<|message|>`).
    pub channels: bool,
    /// How calls of tools are written; none where neither template nor tokenizer shows it.
    pub calls: Option<Calls>,
    /// Control tokens that the parser has to see, with their spelling.
    pub control: Vec<(u32, String)>,
}

/// What stands before and behind something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Marks {
    /// Before.
    pub open: String,
    /// Behind.
    pub close: String,
}

/// How calls of tools are written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Calls {
    /// Before the first call, white space included; empty where the call alone is the answer.
    pub open: String,
    /// Between two calls; none where a template writes one at most.
    pub between: Option<String>,
    /// Behind the last call.
    pub close: String,
    /// How one call is written.
    pub form: CallForm,
}

/// How one call is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CallForm {
    /// `{"name": …, "arguments": {…}}`; the key of the arguments.
    Object(String),
    /// The name, this text, and the arguments.
    Named(String),
}

/// A stretch of what a model writes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stretch {
    /// Plain text.
    Text(String),
    /// A control token.
    Control(u32),
}

impl AnswerFormat {
    /// Control tokens that must be visible in the text that the parser gets.
    pub fn shown(&self) -> Arc<[u32]> {
        self.control.iter().map(|(id, _)| *id).collect()
    }

    /// A text as its plain stretches and control tokens.
    pub fn stretches(&self, mut text: &str) -> Vec<Stretch> {
        let mut found = Vec::new();
        while !text.is_empty() {
            let places =
                self.control.iter().filter_map(|(id, mark)| Some((text.find(mark.as_str())?, *id, mark.len())));
            let Some((at, id, length)) = places.min_by_key(|(at, _, length)| (*at, usize::MAX - length)) else { break };
            if at > 0 {
                found.push(Stretch::Text(text[..at].to_owned()));
            }
            found.push(Stretch::Control(id));
            text = &text[at + length..];
        }
        if !text.is_empty() {
            found.push(Stretch::Text(text.to_owned()));
        }
        found
    }

    /// Whether an answer to this prompt begins in the midst of a thought, because the prompt opened it.
    pub fn begins_in_thought(&self, prompt: &str) -> bool {
        self.reasoning.as_ref().is_some_and(|marks| {
            let tail = prompt.trim_end();
            tail.ends_with(marks.open.as_str())
        })
    }

    /// Takes apart an answer to this prompt, of which `tools` are the names of what it may call.
    pub fn parser(&self, prompt: &str, tools: Vec<String>) -> AnswerParser {
        AnswerParser::new(self, self.begins_in_thought(prompt), tools)
    }
}
