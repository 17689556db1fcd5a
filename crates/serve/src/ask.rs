//! From checked fields to a request of the engine: what the routes of all APIs share.

use std::hash::{BuildHasher, Hasher};

use pasture_engine::grammar::Grammar;
use pasture_engine::sampling::SamplingOptions;
use pasture_engine::{Finish, Opening, Piece, Request, Usage};
use pasture_files::tokenizer::{Specials, Tokenizer};
use serde_json::Value;

use crate::bridge::Run;
use crate::fields::Asked;
use crate::refusal::Refusal;
use crate::served::{Failed, Served};
use crate::shape::Shaped;
use crate::state::Model;

/// What is wanted of each prompt.
#[derive(Clone)]
pub struct Wanted {
    pub sampling: SamplingOptions,
    pub max_tokens: Option<usize>,
    pub stops: Vec<String>,
    pub ignore_eos: bool,
    pub answers: u32,
    /// What each answer must look like.
    pub shape: Option<Shaped>,
    /// Whether the prompt is a conversation, so that the model's own rules for one hold.
    pub talks: bool,
}

impl Wanted {
    /// The request for a prompt.
    pub fn of(&self, served: &Served, ids: Vec<u32>, grammar: Option<&Grammar>) -> Request {
        let mut stops = self.stops.clone();
        let mut max_tokens = self.max_tokens;
        if self.talks {
            stops.extend(served.prompt.stop_strings().iter().cloned());
            max_tokens = max_tokens.or_else(|| usual_tokens(served, ids.len()));
        } else if let Some(preamble) = served.prompt.preamble() {
            // What an assistant says of answers holds for texts that are gone on with as well.
            stops.extend(preamble.stops.iter().cloned());
            max_tokens = max_tokens.or_else(|| usize::try_from(preamble.max_new_tokens?).ok());
        }
        Request {
            sampling: self.sampling.clone().or(served.defaults.clone()),
            seed: number(),
            max_tokens,
            stop_ids: if self.ignore_eos { Vec::new() } else { served.prompt.stop_ids().to_vec() },
            stops,
            opening: if self.talks { Opening::Anew } else { Opening::GoesOn },
            answers: self.answers,
            grammar: grammar.cloned(),
            adapter: served.adapter.clone(),
            ..Request::new(ids)
        }
    }
}

/// The grammar of a shape that was asked for.
pub async fn grammar(model: &std::sync::Arc<Model>, wanted: &Wanted) -> Result<Option<Grammar>, Refusal> {
    let Some(Shaped { field, shape }) = wanted.shape.clone() else { return Ok(None) };
    if wanted.ignore_eos {
        let message = format!("\"ignore_eos\" has no meaning with \"{field}\", whose answers have an end");
        return Err(Refusal::field("ignore_eos", message));
    }
    let model = model.clone();
    blocking(move || {
        let made = model.grammars()?.compile(&shape);
        made.map(Some).map_err(|error| Refusal::field(field, format!("\"{field}\": {error}")))
    })
    .await
}

/// The most new tokens that the model's own files ask for, where they leave room after the prompt.
fn usual_tokens(served: &Served, prompt: usize) -> Option<usize> {
    let tokens = usize::try_from(served.prompt.defaults().max_new_tokens?).ok()?;
    (tokens > 0 && prompt.saturating_add(tokens) <= served.engine.context()).then_some(tokens)
}

/// The settings of sampling in a request, by (field, setting). Those that the others leave without effect are noted.
pub fn sampling<'a>(
    asked: &mut Asked,
    fields: impl Iterator<Item = (&'a str, &'static str)>,
) -> Result<SamplingOptions, Refusal> {
    let mut options = SamplingOptions::default();
    let mut names: Vec<(&str, &str)> = Vec::new();
    for (field, setting) in fields {
        let Some(value) = asked.value(field) else { continue };
        options.set(setting, value).map_err(|error| Refusal::field(field, error.to_string()))?;
        names.push((setting, field));
    }
    for setting in options.ineffective() {
        asked.unused.extend(names.iter().filter(|(name, _)| *name == setting).map(|(_, field)| (*field).to_owned()));
    }
    Ok(options)
}

/// Stop texts: one or several.
pub fn stops(value: Option<&Value>) -> Vec<String> {
    match value {
        Some(Value::String(text)) => vec![text.clone()],
        Some(Value::Array(list)) => list.iter().filter_map(|text| text.as_str().map(str::to_owned)).collect(),
        _ => Vec::new(),
    }
}

/// The token ids of a list.
pub fn ids(value: &Value) -> Vec<u32> {
    let list = value.as_array().into_iter().flatten();
    list.filter_map(|id| id.as_u64().and_then(|id| u32::try_from(id).ok())).collect()
}

/// The tokenizer that a model must have to take or give text.
pub fn tokenizer(served: &Served) -> Result<&Tokenizer, Refusal> {
    let none = || Refusal::wrong("this model came without a tokenizer, so it takes and gives token ids only");
    served.prompt.tokenizer().ok_or_else(none)
}

/// The tokens of a text that is to be gone on with.
pub fn text_ids(served: &Served, text: &str) -> Result<Vec<u32>, Refusal> {
    Ok(tokenizer(served)?.encode_with_special(text, Specials::AsText)?)
}

/// Runs what takes long on a thread that may wait.
pub async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Refusal> + Send + 'static,
) -> Result<T, Refusal> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => Err(Refusal::ours(&error.to_string())),
    }
}

/// Work beside the engine's thread, one after the other for each model.
pub async fn in_turn<T: Send + 'static>(
    model: &std::sync::Arc<Model>,
    work: impl FnOnce(&Served) -> Result<T, Failed> + Send + 'static,
) -> Result<T, Refusal> {
    let turn = model.turn.clone().acquire_owned().await.map_err(|error| Refusal::ours(&error.to_string()))?;
    let model = model.clone();
    let refuse = |failed| match failed {
        Failed::Asked(message) => Refusal::wrong(message),
        Failed::Here(message) => Refusal::ours(&message),
    };
    blocking(move || {
        // The work goes on for a client that has left, and so does its turn.
        let _turn = turn;
        work(&model.served).map_err(refuse)
    })
    .await
}

/// A whole answer.
pub struct Answer {
    pub text: String,
    pub pieces: Vec<Piece>,
    pub finish: Finish,
    pub usage: Usage,
}

/// Waits for all answers: for each request a list.
pub async fn collect(mut run: Run, requests: usize, answers: u32) -> Result<Vec<Vec<Answer>>, Refusal> {
    let one = || Answer { text: String::new(), pieces: Vec::new(), finish: Finish::Cancelled, usage: Usage::default() };
    let mut all: Vec<Vec<Answer>> = (0..requests).map(|_| (0..answers).map(|_| one()).collect()).collect();
    while let Some(event) = run.next().await {
        match event? {
            (at, pasture_engine::Event::Piece(piece)) => {
                let answer = &mut all[at][piece.answer as usize];
                answer.text.push_str(&piece.text);
                answer.pieces.push(piece);
            }
            (at, pasture_engine::Event::Ending(ending)) => {
                let answer = &mut all[at][ending.answer as usize];
                answer.text.push_str(&ending.text);
                (answer.finish, answer.usage) = (ending.finish, ending.usage);
            }
        }
    }
    Ok(all)
}

/// Waits for the only answer to the only request.
pub async fn only(run: Run) -> Result<Answer, Refusal> {
    Ok(collect(run, 1, 1).await?.swap_remove(0).swap_remove(0))
}

/// An id of an answer, behind what says of which kind it is.
pub fn id(kind: &str) -> String {
    format!("{kind}{:016x}{:016x}", number(), number())
}

/// A number that nobody chose.
pub fn number() -> u64 {
    std::hash::RandomState::new().build_hasher().finish()
}
