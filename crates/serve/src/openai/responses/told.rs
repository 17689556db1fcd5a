//! A response in the words of the API: items of reasoning, a message and calls, whole or as numbered events.

use pasture_engine::{Event, Finish, Usage};
use serde_json::{Map, Value, json};

use crate::ask::{Wanted, id};
use crate::fields::Asked;
use crate::moment::since_1970;
use crate::refusal::{Refusal, Style};
use crate::talk::{Call, Part, Sorted, Sorter};
use crate::telling::Teller;

/// What a response says of its request.
pub struct What {
    id: String,
    created: u64,
    model: String,
    asked: Map<String, Value>,
}

impl What {
    pub fn new(model: &str, asked: &Asked, wanted: &Wanted) -> What {
        let mut told = Map::new();
        for (name, usual) in [
            ("instructions", Value::Null),
            ("tools", json!([])),
            ("tool_choice", json!("auto")),
            ("parallel_tool_calls", json!(true)),
            ("max_output_tokens", Value::Null),
            ("text", json!({"format": {"type": "text"}})),
            ("reasoning", json!({"effort": null, "summary": null})),
        ] {
            told.insert(name.to_owned(), asked.value(name).cloned().unwrap_or(usual));
        }
        told.insert("temperature".to_owned(), json!(wanted.sampling.temperature));
        told.insert("top_p".to_owned(), json!(wanted.sampling.top_p));
        What { id: id("resp_"), created: since_1970().as_secs(), model: model.to_owned(), asked: told }
    }
}

/// The item that is being told.
enum Open {
    Reasoning(String),
    Message(String),
}

/// A response being told.
pub struct Told {
    what: What,
    sorter: Sorter,
    /// Items that are complete.
    items: Vec<Value>,
    open: Option<(String, Open)>,
    number: u64,
}

impl Told {
    pub fn new(what: What, sorter: Sorter) -> Told {
        Told { what, sorter, items: Vec::new(), open: None, number: 0 }
    }

    fn response(&self, status: &str, output: Value, finish: Option<(Finish, Usage)>) -> Value {
        let What { id, created, model, asked } = &self.what;
        let why = match finish {
            Some((Finish::MaxTokens | Finish::ContextFull, _)) => json!({"reason": "max_output_tokens"}),
            _ => Value::Null,
        };
        let usage = finish.map(|(_, usage)| {
            json!({
                "input_tokens": usage.prompt_tokens, "output_tokens": usage.new_tokens,
                "total_tokens": usage.prompt_tokens + usage.new_tokens,
                "input_tokens_details": {"cached_tokens": usage.cached_tokens},
            })
        });
        let mut response = json!({
            "id": id, "object": "response", "created_at": created, "status": status, "error": null,
            "incomplete_details": why, "model": model, "output": output, "usage": usage, "store": false,
            "previous_response_id": null, "truncation": "disabled", "metadata": {},
        });
        if let Some(response) = response.as_object_mut() {
            response.extend(asked.clone());
        }
        response
    }

    fn finished(&self, output: Value, last: (Finish, Usage)) -> Value {
        let cut = matches!(last.0, Finish::MaxTokens | Finish::ContextFull);
        self.response(if cut { "incomplete" } else { "completed" }, output, Some(last))
    }

    /// The whole response.
    pub fn whole(&self, answer: &Sorted) -> Value {
        let mut output = Vec::new();
        if !answer.reasoning.is_empty() {
            output.push(reasoning(&id("rs_"), &answer.reasoning));
        }
        if !answer.text.is_empty() || answer.calls.is_empty() {
            output.push(message(&id("msg_"), &answer.text));
        }
        output.extend(answer.calls.iter().map(|call| call_item(&id("fc_"), call, &call.arguments, "completed")));
        self.finished(json!(output), (answer.finish, answer.usage))
    }

    fn event(&mut self, name: &str, mut data: Value) -> String {
        data["type"] = json!(name);
        data["sequence_number"] = json!(self.number);
        self.number += 1;
        format!("event: {name}\ndata: {data}\n\n")
    }

    fn close(&mut self) -> String {
        let Some((id, open)) = self.open.take() else { return String::new() };
        let at = self.items.len();
        let (item, told) = match open {
            Open::Reasoning(text) => {
                let done = json!({"item_id": id, "output_index": at, "content_index": 0, "text": text});
                (reasoning(&id, &text), self.event("response.reasoning_text.done", done))
            }
            Open::Message(text) => {
                let place = json!({"item_id": id, "output_index": at, "content_index": 0});
                let mut done = place.clone();
                (done["text"], done["logprobs"]) = (json!(text), json!([]));
                let mut told = self.event("response.output_text.done", done);
                let mut part = place;
                part["part"] = text_part(&text);
                told += &self.event("response.content_part.done", part);
                (message(&id, &text), told)
            }
        };
        self.items.push(item.clone());
        told + &self.event("response.output_item.done", json!({"output_index": at, "item": item}))
    }

    /// Opens an item of the kind unless one is open.
    fn opened(&mut self, thinks: bool) -> String {
        match (&self.open, thinks) {
            (Some((_, Open::Reasoning(_))), true) | (Some((_, Open::Message(_))), false) => return String::new(),
            _ => {}
        }
        let mut told = self.close();
        let at = self.items.len();
        if thinks {
            let id = id("rs_");
            let item = json!({"id": id, "type": "reasoning", "summary": [], "content": [], "status": "in_progress"});
            told += &self.event("response.output_item.added", json!({"output_index": at, "item": item}));
            self.open = Some((id, Open::Reasoning(String::new())));
            return told;
        }
        let id = id("msg_");
        let item = json!({
            "id": id, "type": "message", "role": "assistant", "content": [], "status": "in_progress",
        });
        told += &self.event("response.output_item.added", json!({"output_index": at, "item": item}));
        let part = json!({"item_id": id, "output_index": at, "content_index": 0, "part": text_part("")});
        told += &self.event("response.content_part.added", part);
        self.open = Some((id, Open::Message(String::new())));
        told
    }

    fn more(&mut self, text: &str, thinks: bool) -> String {
        let told = self.opened(thinks);
        let at = self.items.len();
        let Some((id, Open::Reasoning(whole) | Open::Message(whole))) = &mut self.open else { return told };
        whole.push_str(text);
        let mut data = json!({"item_id": id, "output_index": at, "content_index": 0, "delta": text});
        if thinks {
            return told + &self.event("response.reasoning_text.delta", data);
        }
        data["logprobs"] = json!([]);
        told + &self.event("response.output_text.delta", data)
    }

    fn call(&mut self, call: &Call) -> String {
        let mut told = self.close();
        let (id, at) = (id("fc_"), self.items.len());
        let item = call_item(&id, call, "", "in_progress");
        told += &self.event("response.output_item.added", json!({"output_index": at, "item": item}));
        let delta = json!({"item_id": id, "output_index": at, "delta": call.arguments});
        told += &self.event("response.function_call_arguments.delta", delta);
        let done = json!({"item_id": id, "output_index": at, "name": call.name, "arguments": call.arguments});
        told += &self.event("response.function_call_arguments.done", done);
        let item = call_item(&id, call, &call.arguments, "completed");
        self.items.push(item.clone());
        told + &self.event("response.output_item.done", json!({"output_index": at, "item": item}))
    }
}

fn text_part(text: &str) -> Value {
    json!({"type": "output_text", "text": text, "annotations": [], "logprobs": []})
}

fn message(id: &str, text: &str) -> Value {
    json!({"id": id, "type": "message", "role": "assistant", "status": "completed", "content": [text_part(text)]})
}

fn reasoning(id: &str, text: &str) -> Value {
    let content = json!([{"type": "reasoning_text", "text": text}]);
    json!({"id": id, "type": "reasoning", "summary": [], "content": content, "status": "completed"})
}

fn call_item(id: &str, call: &Call, arguments: &str, status: &str) -> Value {
    json!({
        "id": id, "type": "function_call", "call_id": format!("call_{}", call.id), "name": call.name,
        "arguments": arguments, "status": status,
    })
}

impl Teller for Told {
    const TYPE: &'static str = "text/event-stream";

    fn begin(&mut self) -> String {
        let response = self.response("in_progress", json!([]), None);
        let first = self.event("response.created", json!({"response": response}));
        first + &self.event("response.in_progress", json!({"response": response}))
    }

    fn event(&mut self, _: usize, event: Event) -> String {
        let mut told = String::new();
        for part in self.sorter.event(event) {
            told += &match part {
                Part::Reasoning(text) => self.more(&text, true),
                Part::Text(text) => self.more(&text, false),
                Part::Call(call) => self.call(&call),
            };
        }
        told
    }

    fn end(&mut self) -> String {
        let mut told = self.close();
        if self.items.is_empty() {
            told += &self.opened(false);
            told += &self.close();
        }
        let last = self.sorter.ended();
        let response = self.finished(json!(self.items), last);
        let name = if response["status"] == "completed" { "response.completed" } else { "response.incomplete" };
        told + &self.event(name, json!({"response": response}))
    }

    fn fail(&mut self, refusal: &Refusal) -> String {
        let error = refusal.body(Style::OpenAi)["error"].clone();
        let data = json!({"code": error["code"], "message": error["message"], "param": error["param"]});
        self.event("error", data)
    }
}
