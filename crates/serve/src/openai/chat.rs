//! `/v1/chat/completions`.

use std::sync::Arc;

use axum::Json;
use axum::response::{IntoResponse, Response};
use pasture_engine::{Event, Piece};
use pasture_files::tokenizer::Tokenizer;
use serde_json::{Value, json};

use super::{DONE, Head, Took, logprobs, part, reason, settings};
use crate::ask::{self, Answer, Wanted, collect, conversation};
use crate::bridge::Run;
use crate::fields::Asked;
use crate::refusal::{Refusal, Style};
use crate::state::Server;
use crate::telling::{Teller, tell};

/// Answers a conversation.
pub async fn answer(server: &Arc<Server>, asked: &mut Asked) -> Result<Response, Refusal> {
    let model = server.model(asked.text("model"))?.clone();
    let wanted = wanted(asked)?;
    let messages = asked.needed("messages")?.clone();
    let mut permit = model.door.admit(wanted.answers as usize)?;
    let ids = conversation(&model, messages).await?;
    permit.prompt(ids.len())?;
    let request = wanted.of(&model.served, ids);
    let teller = Told {
        head: Head::new("chatcmpl", "chat.completion", &model.served.name),
        tokenizer: model.served.prompt.tokenizer().cloned(),
        answers: wanted.answers,
        logprobs: wanted.sampling.logprobs.is_some(),
        stop_ids: request.stop_ids.clone(),
        usage: asked.flag("stream_options.include_usage"),
        took: Took::default(),
    };
    let run = Run::submit(server, &model, vec![request], permit)?;
    if asked.flag("stream") {
        return Ok(tell(run, teller.streamed()));
    }
    let answers = collect(run, 1, wanted.answers).await?;
    Ok(Json(teller.whole(&answers[0])).into_response())
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
        talks: true,
    })
}

struct Told {
    head: Head,
    tokenizer: Option<Tokenizer>,
    answers: u32,
    logprobs: bool,
    stop_ids: Vec<u32>,
    usage: bool,
    took: Took,
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

    fn whole(mut self, answers: &[Answer]) -> Value {
        let mut choices = Vec::new();
        for (index, answer) in answers.iter().enumerate() {
            self.took.add(index as u32, &answer.usage);
            let tokens: Vec<Value> = answer.pieces.iter().filter_map(|piece| self.token(piece)).collect();
            choices.push(json!({
                "index": index,
                "message": {"role": "assistant", "content": answer.text, "refusal": null},
                "logprobs": if self.logprobs { json!({"content": tokens, "refusal": null}) } else { Value::Null },
                "finish_reason": reason(answer.finish),
            }));
        }
        self.head.with(choices, Some(self.took.json()))
    }

    fn chunk(&self, index: u32, delta: &Value, token: Option<Value>, finish: Option<&str>) -> String {
        let logprobs = token.map_or(Value::Null, |token| json!({"content": [token], "refusal": null}));
        let choice = json!({"index": index, "delta": delta, "logprobs": logprobs, "finish_reason": finish});
        part(&self.head.with(vec![choice], self.usage.then_some(Value::Null)))
    }
}

impl Teller for Told {
    const TYPE: &'static str = "text/event-stream";

    fn begin(&mut self) -> String {
        let delta = json!({"role": "assistant", "content": ""});
        (0..self.answers).map(|index| self.chunk(index, &delta, None, None)).collect()
    }

    fn event(&mut self, _: usize, event: Event) -> String {
        match event {
            Event::Piece(piece) => match self.token(&piece) {
                None if piece.text.is_empty() => String::new(),
                token => self.chunk(piece.answer, &json!({"content": piece.text}), token, None),
            },
            Event::Ending(ending) => {
                self.took.add(ending.answer, &ending.usage);
                let rest = match ending.text.is_empty() {
                    true => String::new(),
                    false => self.chunk(ending.answer, &json!({"content": ending.text}), None, None),
                };
                rest + &self.chunk(ending.answer, &json!({}), None, Some(reason(ending.finish)))
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
