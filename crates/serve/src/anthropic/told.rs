//! An answer in Anthropic's words: blocks of thinking, text and calls, whole or as events.

use pasture_engine::{Event, Finish, Usage};
use serde_json::{Value, json};

use crate::ask::id;
use crate::refusal::{Refusal, Style};
use crate::talk::{Call, Part, Sorted, Sorter};
use crate::telling::Teller;

/// A kind of block.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Block {
    Thinking,
    Text,
}

/// An answer being told.
pub struct Told {
    id: String,
    model: String,
    stops: Vec<String>,
    sorter: Sorter,
    prompt_tokens: usize,
    /// The block that is open, which has the number `blocks`.
    open: Option<Block>,
    blocks: usize,
}

impl Told {
    pub fn new(model: &str, stops: Vec<String>, sorter: Sorter, prompt_tokens: usize) -> Told {
        let id = id("msg_");
        Told { id, model: model.to_owned(), stops, sorter, prompt_tokens, open: None, blocks: 0 }
    }

    fn message(&self, content: Vec<Value>, reason: Value, stop: Value, usage: Value) -> Value {
        json!({
            "id": self.id, "type": "message", "role": "assistant", "model": self.model, "content": content,
            "stop_reason": reason, "stop_sequence": stop, "usage": usage,
        })
    }

    /// The whole answer.
    pub fn whole(&self, answer: &Sorted) -> Value {
        let mut content = Vec::new();
        if !answer.reasoning.is_empty() {
            content.push(json!({"type": "thinking", "thinking": answer.reasoning, "signature": ""}));
        }
        if !answer.text.is_empty() {
            content.push(json!({"type": "text", "text": answer.text}));
        }
        content.extend(answer.calls.iter().map(|call| tool_use(call, call.value())));
        let (reason, stop) = self.why(answer.finish, !answer.calls.is_empty());
        self.message(content, reason, stop, usage(&answer.usage))
    }

    /// Why it ended, and with which text.
    fn why(&self, finish: Finish, called: bool) -> (Value, Value) {
        match finish {
            Finish::MaxTokens => (json!("max_tokens"), Value::Null),
            Finish::ContextFull => (json!("model_context_window_exceeded"), Value::Null),
            // The model's own stop texts come behind the request's.
            Finish::StopString(at) if at < self.stops.len() => (json!("stop_sequence"), json!(self.stops[at])),
            _ if called => (json!("tool_use"), Value::Null),
            _ => (json!("end_turn"), Value::Null),
        }
    }

    fn close(&mut self) -> String {
        if self.open.take().is_none() {
            return String::new();
        }
        let part = event("content_block_stop", json!({"index": self.blocks}));
        self.blocks += 1;
        part
    }

    fn opened(&mut self, block: Block) -> String {
        if self.open == Some(block) {
            return String::new();
        }
        let before = self.close();
        self.open = Some(block);
        let content = match block {
            Block::Thinking => json!({"type": "thinking", "thinking": "", "signature": ""}),
            Block::Text => json!({"type": "text", "text": ""}),
        };
        before + &event("content_block_start", json!({"index": self.blocks, "content_block": content}))
    }

    fn delta(&self, delta: Value) -> String {
        event("content_block_delta", json!({"index": self.blocks, "delta": delta}))
    }

    fn part(&mut self, part: Part) -> String {
        match part {
            Part::Reasoning(text) => {
                self.opened(Block::Thinking) + &self.delta(json!({"type": "thinking_delta", "thinking": text}))
            }
            Part::Text(text) => self.opened(Block::Text) + &self.delta(json!({"type": "text_delta", "text": text})),
            Part::Call(call) => {
                let mut told = self.close();
                let content = tool_use(&call, json!({}));
                told += &event("content_block_start", json!({"index": self.blocks, "content_block": content}));
                told += &self.delta(json!({"type": "input_json_delta", "partial_json": call.arguments}));
                told += &event("content_block_stop", json!({"index": self.blocks}));
                self.blocks += 1;
                told
            }
        }
    }
}

fn tool_use(call: &Call, input: Value) -> Value {
    json!({"type": "tool_use", "id": format!("toolu_{}", call.id), "name": call.name, "input": input})
}

fn usage(usage: &Usage) -> Value {
    json!({
        "input_tokens": usage.prompt_tokens - usage.cached_tokens, "output_tokens": usage.new_tokens,
        "cache_read_input_tokens": usage.cached_tokens, "cache_creation_input_tokens": 0,
    })
}

/// An event, whose data begin with its name.
fn event(name: &str, data: Value) -> String {
    let mut whole = json!({"type": name});
    if let (Some(whole), Value::Object(data)) = (whole.as_object_mut(), data) {
        whole.extend(data);
    }
    format!("event: {name}\ndata: {whole}\n\n")
}

impl Teller for Told {
    const TYPE: &'static str = "text/event-stream";

    fn begin(&mut self) -> String {
        let usage = json!({"input_tokens": self.prompt_tokens, "output_tokens": 0});
        let message = self.message(Vec::new(), Value::Null, Value::Null, usage);
        event("message_start", json!({"message": message}))
    }

    fn event(&mut self, _: usize, event: Event) -> String {
        self.sorter.event(event).into_iter().map(|part| self.part(part)).collect()
    }

    fn end(&mut self) -> String {
        let (finish, took) = self.sorter.ended();
        let (reason, stop) = self.why(finish, self.sorter.has_called());
        let delta = json!({"delta": {"stop_reason": reason, "stop_sequence": stop}, "usage": usage(&took)});
        self.close() + &event("message_delta", delta) + &event("message_stop", json!({}))
    }

    fn fail(&mut self, refusal: &Refusal) -> String {
        format!("event: error\ndata: {}\n\n", refusal.body(Style::Anthropic))
    }
}
