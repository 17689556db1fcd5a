//! Takes an answer apart as it comes. A mark that may have begun is held back until it is certain, so that no part of
//! one is ever told; a call is told when it is whole. What looks like a call and is none is text.
#![forbid(unsafe_code)]

use serde_json::Value;

use super::channels::Channels;
use super::{AnswerFormat, CallForm, Calls, Marks, json};

/// A part of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Said {
    /// What was thought.
    Reasoning(String),
    /// What is said to the user.
    Text(String),
    /// A call of a tool, with its arguments as JSON.
    Call {
        /// The tool.
        name: String,
        /// An object in JSON.
        arguments: String,
    },
}

/// Takes one answer apart.
#[derive(Clone, Debug)]
pub struct AnswerParser(Way);

#[derive(Clone, Debug)]
enum Way {
    /// Nothing is looked for.
    Plain,
    Marked(Box<Marked>),
    Channels(Box<Channels>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Begin,
    Thought,
    /// Behind a thought, where white space is nobody's.
    Between,
    Text,
    Call,
    /// Behind a call.
    Called,
}

#[derive(Clone, Debug)]
struct Marked {
    reasoning: Option<Marks>,
    calls: Option<Calls>,
    tools: Vec<String>,
    place: Place,
    held: String,
}

impl AnswerParser {
    pub(super) fn new(format: &AnswerFormat, in_thought: bool, tools: Vec<String>) -> AnswerParser {
        let calls = format.calls.clone().filter(|_| !tools.is_empty());
        AnswerParser(match format {
            AnswerFormat { channels: true, .. } => Way::Channels(Box::default()),
            AnswerFormat { reasoning: None, .. } if calls.is_none() => Way::Plain,
            AnswerFormat { reasoning, .. } => {
                let place = if in_thought { Place::Thought } else { Place::Begin };
                Way::Marked(Box::new(Marked { reasoning: reasoning.clone(), calls, tools, place, held: String::new() }))
            }
        })
    }

    /// A parser that finds nothing but text.
    pub fn plain() -> AnswerParser {
        AnswerParser(Way::Plain)
    }

    /// What is certain after more text.
    pub fn push(&mut self, text: &str) -> Vec<Said> {
        match &mut self.0 {
            Way::Plain => said(text.to_owned(), Said::Text).into_iter().collect(),
            Way::Channels(channels) => channels.push(text),
            Way::Marked(marked) => {
                marked.held.push_str(text);
                let mut parts = Vec::new();
                while marked.step(&mut parts) {}
                parts
            }
        }
    }

    /// What is left at the answer's end.
    pub fn finish(&mut self) -> Vec<Said> {
        match &mut self.0 {
            Way::Plain => Vec::new(),
            Way::Channels(channels) => channels.finish(),
            Way::Marked(marked) => marked.finish(),
        }
    }

    /// A whole answer.
    pub fn whole(mut self, text: &str) -> Vec<Said> {
        let mut parts = self.push(text);
        parts.extend(self.finish());
        parts
    }
}

pub(super) fn said(text: String, part: impl Fn(String) -> Said) -> Option<Said> {
    (!text.is_empty()).then(|| part(text))
}

/// How many bytes at the end of `text` may be the beginning of `mark`.
pub(super) fn partial(text: &str, mark: &str) -> usize {
    let most = text.len().min(mark.len().saturating_sub(1));
    let fits = |length: &usize| mark.is_char_boundary(*length) && text.ends_with(&mark[..*length]);
    (1..=most).rev().find(fits).unwrap_or(0)
}

impl Marked {
    /// One step; false when more text is needed.
    fn step(&mut self, parts: &mut Vec<Said>) -> bool {
        match self.place {
            Place::Begin => self.begin(),
            Place::Thought => self.thought(parts),
            Place::Between => self.between(),
            Place::Text => self.text(parts),
            Place::Call => self.call(parts),
            Place::Called => self.called(),
        }
    }

    fn go(&mut self, place: Place, from: usize) -> bool {
        self.held.drain(..from);
        self.place = place;
        true
    }

    fn begin(&mut self) -> bool {
        let spaces = self.held.len() - self.held.trim_start().len();
        let rest = &self.held[spaces..];
        if let Some(marks) = &self.reasoning {
            if rest.starts_with(marks.open.as_str()) {
                let from = spaces + marks.open.len();
                return self.go(Place::Thought, from);
            }
            if marks.open.starts_with(rest) {
                return false;
            }
        }
        if rest.is_empty() {
            return false;
        }
        match self.is_bare() && rest.starts_with('{') {
            true => self.go(Place::Call, spaces),
            false => self.go(Place::Text, 0),
        }
    }

    /// Whether a call has no mark before it, so that it is known by its braces.
    fn is_bare(&self) -> bool {
        self.calls.as_ref().is_some_and(|calls| open(calls).is_empty())
    }

    fn thought(&mut self, parts: &mut Vec<Said>) -> bool {
        let Some(marks) = &self.reasoning else { return self.go(Place::Text, 0) };
        if let Some(at) = self.held.find(marks.close.as_str()) {
            let from = at + marks.close.len();
            parts.extend(said(self.held[..at].trim_end().to_owned(), Said::Reasoning));
            return self.go(Place::Between, from);
        }
        // White space before the closing mark is the mark's.
        let certain = self.held.len() - partial(&self.held, &marks.close);
        let certain = self.held[..certain].trim_end().len();
        parts.extend(said(self.held[..certain].to_owned(), Said::Reasoning));
        self.held.drain(..certain);
        false
    }

    fn between(&mut self) -> bool {
        let spaces = self.held.len() - self.held.trim_start().len();
        if spaces == self.held.len() {
            return false;
        }
        match self.is_bare() && self.held[spaces..].starts_with('{') {
            true => self.go(Place::Call, spaces),
            false => self.go(Place::Text, spaces),
        }
    }

    fn text(&mut self, parts: &mut Vec<Said>) -> bool {
        let mark = self.calls.as_ref().map(open).filter(|mark| !mark.is_empty());
        let Some(mark) = mark else {
            parts.extend(said(std::mem::take(&mut self.held), Said::Text));
            return false;
        };
        if let Some(at) = self.held.find(mark.as_str()) {
            parts.extend(said(self.held[..at].trim_end().to_owned(), Said::Text));
            return self.go(Place::Call, at);
        }
        // White space before the mark of a call is the mark's.
        let certain = self.held.len() - partial(&self.held, &mark);
        let certain = self.held[..certain].trim_end().len();
        parts.extend(said(self.held[..certain].to_owned(), Said::Text));
        self.held.drain(..certain);
        false
    }

    /// The held text begins with the mark of a call, or with its brace where there is none.
    fn call(&mut self, parts: &mut Vec<Said>) -> bool {
        let Some(calls) = self.calls.clone() else { return self.go(Place::Text, 0) };
        let mark = open(&calls).len();
        let spaces = |text: &str| text.len() - text.trim_start().len();
        let rest = &self.held[mark..];
        let at = mark + spaces(rest);
        let rest = &self.held[at..];
        if rest.is_empty() {
            return false;
        }
        let named = match &calls.form {
            CallForm::Named(separator) if !rest.starts_with(['[', '{']) => {
                let Some(ends) = rest.find(separator.as_str()) else { return false };
                Some((rest[..ends].trim().to_owned(), at + ends + separator.len()))
            }
            _ => None,
        };
        let begin = named.as_ref().map_or(at, |(_, after)| after + spaces(&self.held[*after..]));
        if begin == self.held.len() {
            return false;
        }
        if !self.held[begin..].starts_with(['{', '[']) {
            return self.no_call(parts, begin);
        }
        let Some(length) = json::end(&self.held[begin..]) else { return false };
        let value = serde_json::from_str::<Value>(&self.held[begin..begin + length]).ok();
        let found = value.and_then(|value| match named {
            Some((name, _)) => Some(vec![Said::Call { name, arguments: value.to_string() }]),
            None => self.objects(&value),
        });
        match found {
            Some(found) => {
                parts.extend(found);
                self.go(Place::Called, begin + length)
            }
            None => self.no_call(parts, begin + length),
        }
    }

    /// It looked like a call up to there, and is text.
    fn no_call(&mut self, parts: &mut Vec<Said>, until: usize) -> bool {
        parts.extend(said(self.held[..until].to_owned(), Said::Text));
        self.go(Place::Text, until)
    }

    /// The calls of an object or a list of them.
    fn objects(&self, value: &Value) -> Option<Vec<Said>> {
        let one = |value: &Value| {
            let object = value.as_object()?;
            let inner = object.get("function").and_then(Value::as_object).unwrap_or(object);
            let name = inner.get("name")?.as_str()?.to_owned();
            if self.is_bare() && !self.tools.contains(&name) {
                return None;
            }
            let arguments = ["arguments", "parameters"].into_iter().find_map(|key| inner.get(key));
            let arguments = match arguments {
                None | Some(Value::Null) => "{}".to_owned(),
                Some(Value::String(text)) => text.clone(),
                Some(other) => other.to_string(),
            };
            Some(Said::Call { name, arguments })
        };
        match value {
            Value::Array(list) if !list.is_empty() => list.iter().map(one).collect(),
            Value::Array(_) => None,
            single => Some(vec![one(single)?]),
        }
    }

    /// Behind a call: its closing mark, another call, or text.
    fn called(&mut self) -> bool {
        let Some(calls) = &self.calls else { return self.go(Place::Text, 0) };
        let (mark, close) = (open(calls), close(calls));
        let spaces = self.held.len() - self.held.trim_start_matches([' ', '\n', '\t', '\r', ',', ';']).len();
        let rest = &self.held[spaces..];
        if rest.is_empty() {
            return false;
        }
        for known in [&close, &mark].into_iter().filter(|known| !known.is_empty()) {
            if known.len() > rest.len() && known.starts_with(rest) {
                return false;
            }
        }
        if !close.is_empty() && rest.starts_with(close.as_str()) {
            return self.go(Place::Called, spaces + close.len());
        }
        if (!mark.is_empty() && rest.starts_with(mark.as_str())) || (mark.is_empty() && rest.starts_with('{')) {
            return self.go(Place::Call, spaces);
        }
        self.go(Place::Text, spaces)
    }

    fn finish(&mut self) -> Vec<Said> {
        let rest = std::mem::take(&mut self.held);
        let part = match self.place {
            Place::Thought => said(rest, Said::Reasoning),
            Place::Between | Place::Called => None,
            Place::Begin | Place::Text | Place::Call => said(rest, Said::Text),
        };
        part.into_iter().collect()
    }
}

/// The mark before a call, without white space and brackets, which some models leave out.
fn open(calls: &Calls) -> String {
    calls.open.trim().trim_end_matches('[').trim_end().to_owned()
}

fn close(calls: &Calls) -> String {
    calls.close.trim().trim_start_matches(']').trim_start().to_owned()
}
