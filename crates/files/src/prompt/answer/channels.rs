//! Answers in channels: `<|channel|>analysis<|message|>…<|end|><|start|>assistant<|channel|>final<|message|>…`. The
//! header says whose a part is: thoughts, the user's text, or with `to=functions.NAME` a tool's.
#![forbid(unsafe_code)]

use serde_json::Value;

use super::parse::{Said, partial, said};

/// Control tokens of this way of writing.
pub const MARKS: [&str; 7] =
    ["<|start|>", "<|channel|>", "<|constrain|>", "<|message|>", "<|end|>", "<|call|>", "<|return|>"];
const MESSAGE: &str = "<|message|>";
/// What ends a part.
const ENDS: [&str; 5] = ["<|end|>", "<|call|>", "<|return|>", "<|start|>", "<|channel|>"];
/// A header is no longer; what is longer is text.
const HEADER_MAX: usize = 400;

#[derive(Clone, Debug, Default)]
enum Part {
    #[default]
    Header,
    Thought,
    Text,
    Call(String),
}

/// The state between two pieces of text.
#[derive(Clone, Debug, Default)]
pub struct Channels {
    held: String,
    part: Part,
}

impl Channels {
    /// What is certain after more text.
    pub fn push(&mut self, text: &str) -> Vec<Said> {
        self.held.push_str(text);
        let mut parts = Vec::new();
        while self.step(&mut parts) {}
        parts
    }

    fn step(&mut self, parts: &mut Vec<Said>) -> bool {
        if matches!(self.part, Part::Header) {
            return self.header();
        }
        let ends = ENDS.iter().filter_map(|mark| Some((self.held.find(mark)?, *mark))).min();
        if let Some((at, mark)) = ends {
            let text = self.held[..at].to_owned();
            // What begins the next header is part of it.
            let from = if matches!(mark, "<|start|>" | "<|channel|>") { at } else { at + mark.len() };
            self.held.drain(..from);
            let part = std::mem::take(&mut self.part);
            parts.extend(part_of(&part, text));
            return true;
        }
        if matches!(self.part, Part::Thought | Part::Text) {
            let certain = self.held.len() - ENDS.iter().map(|mark| partial(&self.held, mark)).max().unwrap_or(0);
            let text: String = self.held.drain(..certain).collect();
            parts.extend(part_of(&self.part, text));
        }
        false
    }

    fn header(&mut self) -> bool {
        let Some(at) = self.held.find(MESSAGE) else {
            let long = self.held.len() > HEADER_MAX;
            if long {
                self.part = Part::Text;
            }
            return long;
        };
        let header = self.held[..at].to_owned();
        self.held.drain(..at + MESSAGE.len());
        let tool = header.split_once("to=").map(|(_, rest)| {
            let name = rest.split(|letter: char| letter.is_whitespace() || letter == '<').next().unwrap_or_default();
            name.strip_prefix("functions.").unwrap_or(name).to_owned()
        });
        let channel = header.split_once("<|channel|>").map_or("", |(_, rest)| rest.trim_start());
        self.part = match tool {
            Some(name) if !name.is_empty() => Part::Call(name),
            _ if channel.starts_with("analysis") => Part::Thought,
            _ => Part::Text,
        };
        true
    }

    /// What is left at the answer's end.
    pub fn finish(&mut self) -> Vec<Said> {
        let rest = std::mem::take(&mut self.held);
        match std::mem::take(&mut self.part) {
            // The beginning of a header is nobody's text, and what has none is.
            Part::Header if MARKS.iter().any(|mark| rest.contains(mark)) => Vec::new(),
            Part::Header => said(rest, Said::Text).into_iter().collect(),
            part => part_of(&part, rest).into_iter().collect(),
        }
    }
}

fn part_of(part: &Part, text: String) -> Option<Said> {
    match part {
        Part::Header => None,
        Part::Thought => said(text, Said::Reasoning),
        Part::Text => said(text, Said::Text),
        Part::Call(name) => {
            let arguments = match serde_json::from_str::<Value>(text.trim()) {
                Ok(value @ Value::Object(_)) => value.to_string(),
                _ => text.trim().to_owned(),
            };
            Some(Said::Call { name: name.clone(), arguments })
        }
    }
}
