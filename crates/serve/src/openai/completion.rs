//! `/v1/completions`: texts or token ids to go on with, several at once, with the prompt's own probabilities if asked.

use std::sync::Arc;

use axum::Json;
use axum::response::{IntoResponse, Response};
use pasture_engine::{Event, Request, Usage};
use pasture_files::tokenizer::{Shown, Tokenizer};
use serde_json::{Value, json};

use super::logprobs::Tokens;
use super::{DONE, Head, Took, part, reason, settings};
use crate::ask::{self, Answer, Wanted, blocking, collect, ids, in_turn, text_ids, tokenizer};
use crate::bridge::Run;
use crate::fields::Asked;
use crate::refusal::{Refusal, Style};
use crate::served::{Scored, Served};
use crate::shape;
use crate::state::{Model, Server};
use crate::telling::{Teller, tell};

/// New tokens where nothing is said, as the API has it.
const NEW_TOKENS: u64 = 16;

/// A prompt as it came and as tokens.
struct Prompt {
    text: String,
    ids: Vec<u32>,
    /// For each token but the first its probability, where asked for.
    scored: Vec<Scored>,
}

/// Goes on with texts.
pub async fn answer(server: &Arc<Server>, asked: &mut Asked) -> Result<Response, Refusal> {
    let model = server.model(asked.text("model"))?;
    let (wanted, echo) = (wanted(asked, &model.served)?, asked.flag("echo"));
    let top = asked.whole("logprobs").map(|top| top as usize);
    let prompt = asked.needed("prompt")?.clone();
    let count = match &prompt {
        Value::Array(list) if !list[0].is_number() => list.len(),
        _ => 1,
    };
    let mut permit = model.door.admit(count * wanted.answers as usize)?;
    let grammar = ask::grammar(&model, &wanted).await?;
    let mut prompts = prompts(&model, prompt, echo).await?;
    permit.prompt(prompts.iter().map(|prompt| prompt.ids.len()).sum())?;
    if let Some(top) = top.filter(|_| echo) {
        for prompt in &mut prompts {
            check(&model.served, &prompt.ids)?;
            let ids = prompt.ids.clone();
            prompt.scored =
                in_turn(&model, move |served| served.work.score(&ids, served.adapter.as_ref(), top)).await?;
        }
    }
    let request = |prompt: &Prompt| wanted.of(&model.served, prompt.ids.clone(), grammar.as_ref());
    let requests: Vec<Request> = prompts.iter().map(request).collect();
    let told = Told {
        head: Head::new("cmpl-", "text_completion", &model.served.name),
        tokenizer: model.served.prompt.tokenizer().cloned(),
        answers: wanted.answers,
        logprobs: top.is_some(),
        stop_ids: requests[0].stop_ids.clone(),
        echo,
        offsets: vec![0; count * wanted.answers as usize],
        prompts,
        usage: asked.flag("stream_options.include_usage"),
        took: Took::default(),
    };
    if wanted.max_tokens == Some(0) {
        return Ok(Json(told.prompts_only()).into_response());
    }
    let run = Run::submit(server, &model, requests, permit)?;
    if asked.flag("stream") {
        return Ok(tell(run, told));
    }
    let answers = collect(run, count, wanted.answers).await?;
    Ok(Json(told.whole(&answers)).into_response())
}

fn wanted(asked: &mut Asked, served: &Served) -> Result<Wanted, Refusal> {
    let mut sampling = ask::sampling(asked, settings())?;
    sampling.logprobs = asked.whole("logprobs").map(|top| top as u32);
    let usual = served.prompt.preamble().and_then(|preamble| preamble.max_new_tokens).unwrap_or(NEW_TOKENS);
    let max = asked.whole("max_tokens").unwrap_or(usual);
    if max == 0 && (!asked.flag("echo") || asked.flag("stream")) {
        let message = "\"max_tokens\" is 0, which is for \"echo\" without \"stream\" only; give at least 1";
        return Err(Refusal::field("max_tokens", message));
    }
    Ok(Wanted {
        sampling,
        max_tokens: usize::try_from(max).ok(),
        stops: ask::stops(asked.value("stop")),
        ignore_eos: asked.flag("ignore_eos"),
        answers: asked.whole("n").unwrap_or(1) as u32,
        shape: shape::of_openai(asked)?,
        talks: false,
    })
}

async fn prompts(model: &Arc<Model>, value: Value, echo: bool) -> Result<Vec<Prompt>, Refusal> {
    let model = model.clone();
    blocking(move || {
        let of_text = |text: &Value| {
            let text = text.as_str().unwrap_or_default().to_owned();
            Ok(Prompt { ids: text_ids(&model.served, &text)?, text, scored: Vec::new() })
        };
        let of_ids = |list: &Value| {
            let ids = ids(list);
            check(&model.served, &ids)?;
            let text = if echo { tokenizer(&model.served)?.decode(&ids, Shown::Show)? } else { String::new() };
            Ok(Prompt { text, ids, scored: Vec::new() })
        };
        let of = |one: &Value| if one.is_string() { of_text(one) } else { of_ids(one) };
        match &value {
            Value::Array(list) if !list[0].is_number() => list.iter().map(of).collect(),
            one => Ok(vec![of(one)?]),
        }
    })
    .await
}

/// What the engine would refuse as well, before other work begins.
fn check(served: &Served, ids: &[u32]) -> Result<(), Refusal> {
    let (vocab, limit, prompt) = (served.engine.vocab(), served.engine.context(), ids.len());
    if ids.is_empty() {
        return Err(pasture_engine::Error::EmptyPrompt.into());
    }
    if let Some(&id) = ids.iter().find(|id| **id as usize >= vocab) {
        return Err(pasture_engine::Error::Token { id, vocab }.into());
    }
    if prompt > limit {
        return Err(pasture_engine::Error::ContextFull { prompt, new: 0, limit }.into());
    }
    Ok(())
}

struct Told {
    head: Head,
    tokenizer: Option<Tokenizer>,
    answers: u32,
    logprobs: bool,
    stop_ids: Vec<u32>,
    echo: bool,
    /// Where the next token of each choice begins, in characters.
    offsets: Vec<usize>,
    prompts: Vec<Prompt>,
    usage: bool,
    took: Took,
}

impl Told {
    /// The tokens of a prompt that stands before its answer.
    fn prompt_tokens(&self, at: usize) -> Tokens {
        let mut tokens = Tokens::default();
        let prompt = &self.prompts[at];
        if self.echo && self.logprobs {
            for (place, id) in prompt.ids.iter().enumerate() {
                let scored = place.checked_sub(1).and_then(|before| prompt.scored.get(before));
                let known = scored.map(|scored| (scored.logprob, scored.top.as_slice()));
                tokens.push(self.tokenizer.as_ref(), *id, known);
            }
        }
        tokens
    }

    fn choice(&self, index: usize, text: &str, tokens: Option<Tokens>, finish: Option<&str>) -> Value {
        let logprobs = tokens.filter(|_| self.logprobs).map_or(Value::Null, Tokens::json);
        json!({"index": index, "text": text, "logprobs": logprobs, "finish_reason": finish})
    }

    fn push(&self, tokens: &mut Tokens, piece: &pasture_engine::Piece) {
        if let Some(logprob) = piece.logprob.filter(|_| !self.stop_ids.contains(&piece.id)) {
            tokens.push(self.tokenizer.as_ref(), piece.id, Some((logprob, &piece.top)));
        }
    }

    fn whole(mut self, answers: &[Vec<Answer>]) -> Value {
        let mut choices = Vec::new();
        for (at, answers) in answers.iter().enumerate() {
            for (number, answer) in answers.iter().enumerate() {
                self.took.add(number as u32, &answer.usage);
                let mut tokens = self.prompt_tokens(at);
                answer.pieces.iter().for_each(|piece| self.push(&mut tokens, piece));
                let before = if self.echo { self.prompts[at].text.as_str() } else { "" };
                let text = format!("{before}{}", answer.text);
                choices.push(self.choice(choices.len(), &text, Some(tokens), Some(reason(answer.finish))));
            }
        }
        self.head.with(choices, Some(self.took.json()))
    }

    /// Nothing new was asked for: the prompts stand alone.
    fn prompts_only(mut self) -> Value {
        let mut choices = Vec::new();
        for at in 0..self.prompts.len() {
            let usage = Usage { prompt_tokens: self.prompts[at].ids.len(), ..Usage::default() };
            self.took.add(0, &usage);
            for _ in 0..self.answers {
                let tokens = self.prompt_tokens(at);
                choices.push(self.choice(choices.len(), &self.prompts[at].text, Some(tokens), Some("length")));
            }
        }
        self.head.with(choices, Some(self.took.json()))
    }

    fn chunk(&self, choice: Value) -> String {
        part(&self.head.with(vec![choice], self.usage.then_some(Value::Null)))
    }
}

impl Teller for Told {
    const TYPE: &'static str = "text/event-stream";

    fn begin(&mut self) -> String {
        let mut parts = String::new();
        for index in (0..self.offsets.len()).filter(|_| self.echo) {
            let at = index / self.answers as usize;
            let tokens = self.prompt_tokens(at);
            self.offsets[index] = tokens.end();
            parts += &self.chunk(self.choice(index, &self.prompts[at].text, Some(tokens), None));
        }
        parts
    }

    fn event(&mut self, request: usize, event: Event) -> String {
        let index = |answer: u32| request * self.answers as usize + answer as usize;
        match event {
            Event::Piece(piece) => {
                let index = index(piece.answer);
                let mut tokens = Tokens::from(self.offsets[index]);
                self.push(&mut tokens, &piece);
                let ends = self.stop_ids.contains(&piece.id);
                if piece.text.is_empty() && (!self.logprobs || ends) {
                    return String::new();
                }
                self.offsets[index] = tokens.end();
                self.chunk(self.choice(index, &piece.text, Some(tokens), None))
            }
            Event::Ending(ending) => {
                self.took.add(ending.answer, &ending.usage);
                let finish = Some(reason(ending.finish));
                self.chunk(self.choice(index(ending.answer), &ending.text, None, finish))
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
