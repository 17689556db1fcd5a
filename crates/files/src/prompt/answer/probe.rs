//! Finds out how a model writes its answers: the template is asked to write calls with names that nobody else has, and
//! what stands around them is its way. Where it writes none, marks of the tokenizer count.
#![forbid(unsafe_code)]

use serde_json::{Value, json};

use super::channels::MARKS;
use super::{AnswerFormat, CallForm, Calls, Marks, json};
use crate::prompt::Inner;
use crate::prompt::conversation::{Conversation, Message, Role, ToolCall};
use crate::prompt::render::PROBES;

/// Marks of thoughts, in the order in which they are looked for.
const THOUGHTS: [(&str, &str); 3] =
    [("<think>", "</think>"), ("[THINK]", "[/THINK]"), ("<|START_THINKING|>", "<|END_THINKING|>")];
/// Marks of calls whose bodies are objects, for templates that write none.
const CALLS: [(&str, &str); 4] = [
    ("<tool_call>", "</tool_call>"),
    ("<|tool_call|>", "<|/tool_call|>"),
    ("[TOOL_CALLS]", ""),
    ("<|python_tag|>", ""),
];
/// A name and an argument that no template has.
const TOOL: &str = "quiet_meadow_tool";
const ARGUMENT: &str = "green_pasture_key";

impl Inner {
    /// How the model writes its answers.
    pub(in crate::prompt) fn probe_answers(&self) -> AnswerFormat {
        let has = |mark: &str| self.tokenizer.as_ref().is_some_and(|tokenizer| tokenizer.id(mark).is_some());
        let template = |mark: &str| {
            let sources = [self.source.as_ref(), self.tool_source.as_ref()];
            sources.into_iter().flatten().any(|source| source.text.contains(mark))
        };
        let channels = ["<|channel|>", "<|message|>", "<|end|>"].into_iter().all(has);
        let thoughts = THOUGHTS.into_iter().find(|(open, close)| (has(open) && has(close)) || template(close));
        let reasoning =
            thoughts.filter(|_| !channels).map(|(open, close)| Marks { open: open.into(), close: close.into() });
        let calls = match channels {
            true => Some(Calls {
                open: String::new(),
                between: None,
                close: String::new(),
                form: CallForm::Named(String::new()),
            }),
            false => self.probe_calls().or_else(|| known_calls(&has, &template)),
        };
        let mut format = AnswerFormat { reasoning, channels, calls, control: Vec::new() };
        format.control = self.control(&format);
        format
    }

    /// The control tokens in what the parser looks for.
    fn control(&self, format: &AnswerFormat) -> Vec<(u32, String)> {
        let Some(tokenizer) = &self.tokenizer else { return Vec::new() };
        let mut texts: Vec<&str> = Vec::new();
        if let Some(marks) = &format.reasoning {
            texts.extend([marks.open.as_str(), marks.close.as_str()]);
        }
        if let Some(calls) = &format.calls {
            texts.extend([calls.open.as_str(), calls.between.as_deref().unwrap_or_default(), calls.close.as_str()]);
            if let CallForm::Named(separator) = &calls.form {
                texts.push(separator);
            }
        }
        if format.channels {
            texts.extend(MARKS);
        }
        let mut control: Vec<(u32, String)> = Vec::new();
        for text in texts {
            let ids = tokenizer.encode_marked(text, &[]).map(|encoding| encoding.ids).unwrap_or_default();
            for id in ids.into_iter().filter(|id| tokenizer.is_special(*id)) {
                let spelled = tokenizer.token(id).unwrap_or_default();
                if text.contains(&spelled) && !control.iter().any(|(known, _)| *known == id) {
                    control.push((id, spelled));
                }
            }
        }
        control
    }

    /// What the template writes around calls.
    fn probe_calls(&self) -> Option<Calls> {
        let one = self.written(1)?;
        let (start, end, form) = call_in(&one, 0)?;
        let tail = &one[end..];
        let close = &tail[..self.turn_end(tail)];
        let between = self.written(2).and_then(|two| {
            let (first, first_end, _) = call_in(&two, 0)?;
            let (second, ..) = call_in(&two, first_end)?;
            (first == start && second >= first_end).then(|| two[first_end..second].to_owned())
        });
        Some(Calls { open: one[..start].trim_start().to_owned(), between, close: close.trim_end().to_owned(), form })
    }

    /// The assistant's turn with so many calls, as the template writes it.
    fn written(&self, count: usize) -> Option<String> {
        let call = |number: usize| ToolCall {
            // Some templates want nine letters and digits.
            id: Some(format!("meadow{number:03}")),
            name: TOOL.into(),
            arguments: json!({ARGUMENT: "x"}),
        };
        let user = Message::new(Role::User, PROBES[0]);
        let assistant =
            Message { tool_calls: (0..count).map(call).collect(), ..Message::new(Role::Assistant, String::new()) };
        let tools = vec![json!({"type": "function", "function": {
            "name": "other", "description": "other", "parameters": {"type": "object", "properties": {}},
        }})];
        let asked = Conversation { tools: tools.clone(), ..Conversation::to_answer(vec![user.clone()]) };
        let complete = Conversation { tools, ..Conversation::complete(vec![user, assistant]) };
        let before = self.render_unchecked(&asked).ok()?.text;
        let whole = self.render_unchecked(&complete).ok()?.text;
        let mut same = whole.bytes().zip(before.bytes()).take_while(|(one, other)| one == other).count();
        while !whole.is_char_boundary(same) {
            same -= 1;
        }
        whole[same..].contains(TOOL).then(|| whole[same..].to_owned())
    }

    /// Where in what follows the last call the mark of the turn's end begins.
    fn turn_end(&self, tail: &str) -> usize {
        let tokenizer = self.tokenizer.as_ref();
        let marks = self.stop_ids.iter().filter_map(|id| tokenizer.and_then(|tokenizer| tokenizer.token(*id)));
        let named = self.tokens.iter().filter(|(key, _)| key == "eos_token").map(|(_, text)| text.clone());
        let places = marks.chain(named).filter(|mark| !mark.is_empty()).filter_map(|mark| tail.find(&mark));
        places.min().unwrap_or(tail.len())
    }
}

/// The next call in a text: where it begins and ends, and how it is written.
fn call_in(text: &str, from: usize) -> Option<(usize, usize, CallForm)> {
    let name = from + text[from..].find(TOOL)?;
    let object = text[from..name].rfind('{').map(|at| from + at);
    let whole = object.and_then(|at| Some((at, at + json::end(&text[at..])?)));
    if let Some((start, end)) = whole.filter(|(_, end)| *end > name) {
        let value: Value = serde_json::from_str(&text[start..end]).ok()?;
        let holds = |value: &Value| value.as_object().is_some_and(|object| object.contains_key(ARGUMENT));
        let key = value.as_object()?.iter().find(|(_, value)| holds(value))?.0.clone();
        (value.get("name")?.as_str()? == TOOL).then_some(())?;
        return Some((start, end, CallForm::Object(key)));
    }
    let after = name + TOOL.len();
    let arguments = after + text[after..].find('{')?;
    let end = arguments + json::end(&text[arguments..])?;
    let separator = text[after..arguments].trim().to_owned();
    let holds = text[arguments..end].contains(ARGUMENT) && !separator.is_empty();
    // The mark before the name is the call's, and what is before that mark is told by its first call.
    holds.then_some((name, end, CallForm::Named(separator)))
}

fn known_calls(has: &dyn Fn(&str) -> bool, template: &dyn Fn(&str) -> bool) -> Option<Calls> {
    let (open, close) = CALLS.into_iter().find(|(open, _)| has(open) || template(open))?;
    Some(Calls { open: open.into(), between: None, close: close.into(), form: CallForm::Object("arguments".into()) })
}
