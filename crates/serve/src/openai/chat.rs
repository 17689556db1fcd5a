//! `/v1/chat/completions`.

use std::sync::Arc;

use axum::Json;
use axum::response::{IntoResponse, Response};
use pasture_engine::{Event, Finish, Piece};
use pasture_files::tokenizer::Tokenizer;
use serde_json::{Map, Value, json};

use super::{DONE, Head, Took, logprobs, part, reason, settings};
use crate::ask::{self, Wanted, collect};
use crate::fields::Asked;
use crate::refusal::{Refusal, Style};
use crate::shape;
use crate::state::{Model, Server};
use crate::talk::{self, Call, Part, Sorted, Sorter, Turn};
use crate::telling::{Teller, tell};
use crate::tools::{self, Tools};

/// Answers a conversation.
pub async fn answer(server: &Arc<Server>, asked: &mut Asked) -> Result<Response, Refusal> {
    let model = server.model(asked.text("model"))?;
    let wanted = wanted(asked)?;
    let turn =
        Turn { messages: asked.needed("messages")?.clone(), tools: tools(asked)?, inputs: inputs(&model, asked)? };
    let (answers, logprobs) = (wanted.answers, wanted.sampling.logprobs.is_some());
    let begun = talk::begin(server, &model, wanted, turn).await?;
    let teller = Told {
        head: Head::new("chatcmpl-", "chat.completion", &model.served.name),
        tokenizer: model.served.prompt.tokenizer().cloned(),
        logprobs,
        stop_ids: begun.stop_ids,
        usage: asked.flag("stream_options.include_usage"),
        took: Took::default(),
        sorters: vec![begun.sorter; answers as usize],
    };
    if asked.flag("stream") {
        return Ok(tell(begun.run, teller.streamed()));
    }
    let mut all = collect(begun.run, 1, answers).await?;
    let sorted = all.swap_remove(0).into_iter().zip(teller.sorters.clone());
    let sorted = sorted.map(|(answer, sorter)| Sorted::new(sorter, answer)).collect();
    Ok(Json(teller.whole(sorted)).into_response())
}

/// The tools of a request, as `/v1/chat/completions` and `/v1/responses` have them.
pub fn tools(asked: &mut Asked) -> Result<Tools, Refusal> {
    let tools = Tools {
        list: tools::read(asked.value("tools"))?,
        choice: tools::choice(asked.value("tool_choice"))?,
        single: asked.value("parallel_tool_calls").is_some_and(|value| value == false),
    };
    if tools.list.is_empty() && asked.value("parallel_tool_calls").is_some() {
        asked.unused.push("parallel_tool_calls".to_owned());
    }
    Ok(tools)
}

/// What the template is told beside the messages.
pub fn inputs(model: &Model, asked: &mut Asked) -> Result<Map<String, Value>, Refusal> {
    let mut inputs = Map::new();
    if let Some(given) = asked.value("chat_template_kwargs") {
        let object = given.as_object();
        let message = "\"chat_template_kwargs\" must be an object";
        inputs = object.ok_or_else(|| Refusal::field("chat_template_kwargs", message))?.clone();
    }
    if let Some(effort) = asked.value("reasoning_effort").cloned() {
        match takes(model, "reasoning_effort") {
            true => drop(inputs.insert("reasoning_effort".to_owned(), effort)),
            false => asked.unused.push("reasoning_effort".to_owned()),
        }
    }
    Ok(inputs)
}

/// Whether the model's template asks for an input of that name.
pub fn takes(model: &Model, input: &str) -> bool {
    model.served.prompt.template_source().is_some_and(|source| source.contains(input))
}

fn wanted(asked: &mut Asked) -> Result<Wanted, Refusal> {
    let mut sampling = ask::sampling(asked, settings())?;
    if asked.flag("logprobs") {
        sampling.logprobs = Some(asked.whole("top_logprobs").unwrap_or(0) as u32);
    } else if asked.whole("top_logprobs").is_some_and(|top| top > 0) {
        return Err(Refusal::field("top_logprobs", "\"top_logprobs\" has no effect without \"logprobs\": true"));
    }
    let max = match (asked.whole("max_completion_tokens"), asked.whole("max_tokens")) {
        (Some(one), Some(other)) if one != other => {
            let message = "\"max_tokens\" and \"max_completion_tokens\" say different things; give one";
            return Err(Refusal::field("max_tokens", message));
        }
        (one, other) => one.or(other),
    };
    Ok(Wanted {
        sampling,
        max_tokens: max.and_then(|max| usize::try_from(max).ok()),
        stops: ask::stops(asked.value("stop")),
        ignore_eos: asked.flag("ignore_eos"),
        answers: asked.whole("n").unwrap_or(1) as u32,
        shape: shape::of_openai(asked)?,
        talks: true,
    })
}

struct Told {
    head: Head,
    tokenizer: Option<Tokenizer>,
    logprobs: bool,
    stop_ids: Vec<u32>,
    usage: bool,
    took: Took,
    /// One for each answer.
    sorters: Vec<Sorter>,
}

/// A call as the API writes it.
pub fn call_json(call: &Call) -> Value {
    let function = json!({"name": call.name, "arguments": call.arguments});
    json!({"id": call.id, "type": "function", "function": function})
}

fn why(finish: Finish, called: bool) -> &'static str {
    match reason(finish) {
        "stop" if called => "tool_calls",
        other => other,
    }
}

impl Told {
    fn streamed(mut self) -> Told {
        self.head.object = "chat.completion.chunk";
        self
    }

    /// The token of a piece, unless it is the end token, which is no part of the message.
    fn token(&self, piece: &Piece) -> Option<Value> {
        let told = self.logprobs && !self.stop_ids.contains(&piece.id);
        told.then(|| logprobs::of_chat(self.tokenizer.as_ref(), piece))
    }

    fn whole(mut self, answers: Vec<Sorted>) -> Value {
        let mut choices = Vec::new();
        for (index, answer) in answers.into_iter().enumerate() {
            self.took.add(index as u32, &answer.usage);
            let tokens: Vec<Value> = answer.pieces.iter().filter_map(|piece| self.token(piece)).collect();
            let called = !answer.calls.is_empty();
            let content = if called && answer.text.is_empty() { Value::Null } else { json!(answer.text) };
            let mut message = json!({"role": "assistant", "content": content, "refusal": null});
            if !answer.reasoning.is_empty() {
                message["reasoning_content"] = json!(answer.reasoning);
            }
            if called {
                message["tool_calls"] = answer.calls.iter().map(call_json).collect();
            }
            choices.push(json!({
                "index": index,
                "message": message,
                "logprobs": if self.logprobs { json!({"content": tokens, "refusal": null}) } else { Value::Null },
                "finish_reason": why(answer.finish, called),
            }));
        }
        self.head.with(choices, Some(self.took.json()))
    }

    fn chunk(&self, index: u32, delta: &Value, token: Option<Value>, finish: Option<&str>) -> String {
        let logprobs = token.map_or(Value::Null, |token| json!({"content": [token], "refusal": null}));
        let choice = json!({"index": index, "delta": delta, "logprobs": logprobs, "finish_reason": finish});
        part(&self.head.with(vec![choice], self.usage.then_some(Value::Null)))
    }

    /// Parts of an answer as chunks; the token belongs to the first.
    fn chunks(&self, index: u32, parts: Vec<Part>, mut token: Option<Value>) -> String {
        let mut text = String::new();
        for part in parts {
            let delta = match part {
                Part::Text(text) => json!({"content": text}),
                Part::Reasoning(text) => json!({"reasoning_content": text}),
                Part::Call(call) => {
                    let mut told = call_json(&call);
                    told["index"] = json!(call.index);
                    json!({"tool_calls": [told]})
                }
            };
            text += &self.chunk(index, &delta, token.take(), None);
        }
        match token {
            None => text,
            token => text + &self.chunk(index, &json!({"content": ""}), token, None),
        }
    }
}

impl Teller for Told {
    const TYPE: &'static str = "text/event-stream";

    fn begin(&mut self) -> String {
        let delta = json!({"role": "assistant", "content": ""});
        (0..self.sorters.len()).map(|index| self.chunk(index as u32, &delta, None, None)).collect()
    }

    fn event(&mut self, _: usize, event: Event) -> String {
        match event {
            Event::Piece(piece) => {
                let parts = self.sorters[piece.answer as usize].push(&piece.text);
                self.chunks(piece.answer, parts, self.token(&piece))
            }
            Event::Ending(ending) => {
                self.took.add(ending.answer, &ending.usage);
                let sorter = &mut self.sorters[ending.answer as usize];
                let parts = sorter.finish(&ending.text);
                let called = sorter.has_called();
                let rest = self.chunks(ending.answer, parts, None);
                rest + &self.chunk(ending.answer, &json!({}), None, Some(why(ending.finish, called)))
            }
        }
    }

    fn end(&mut self) -> String {
        let usage = if self.usage { part(&self.head.with(Vec::new(), Some(self.took.json()))) } else { String::new() };
        usage + DONE
    }

    fn fail(&mut self, refusal: &Refusal) -> String {
        part(&refusal.body(Style::OpenAi))
    }
}
