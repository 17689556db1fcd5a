//! The routes of Anthropic's API: messages, whole and in events, and the counting of tokens.

mod read;
mod told;

use std::sync::Arc;

use axum::Json;
use axum::response::{IntoResponse, Response};
use serde_json::{Map, Value, json};

use crate::ask::{self, Wanted, only};
use crate::fields::Asked;
use crate::openai::chat::takes;
use crate::refusal::Refusal;
use crate::state::{Model, Server};
use crate::talk::{self, Sorted, Turn};
use crate::telling::tell;
use crate::tools::{Choice, Tools};
use told::Told;

/// Answers messages.
pub async fn messages(server: &Arc<Server>, asked: &mut Asked) -> Result<Response, Refusal> {
    let model = server.model(asked.text("model"))?.clone();
    let max = asked.needed("max_tokens")?.as_u64();
    let fields = ["temperature", "top_p", "top_k"];
    let wanted = Wanted {
        sampling: ask::sampling(asked, fields.into_iter().map(|name| (name, name)))?,
        max_tokens: max.and_then(|max| usize::try_from(max).ok()),
        stops: ask::stops(asked.value("stop_sequences")),
        ignore_eos: false,
        answers: 1,
        shape: None,
        talks: true,
    };
    let stops = wanted.stops.clone();
    let turn = turn(&model, asked)?;
    let begun = talk::begin(server, &model, wanted, turn).await?;
    let told = Told::new(&model.served.name, stops, begun.sorter.clone(), begun.prompt_tokens);
    if asked.flag("stream") {
        return Ok(tell(begun.run, told));
    }
    let answer = only(begun.run).await?;
    Ok(Json(told.whole(&Sorted::new(begun.sorter, answer))).into_response())
}

/// How many tokens messages are.
pub async fn count(server: &Arc<Server>, asked: &mut Asked) -> Result<Response, Refusal> {
    let model = server.model(asked.text("model"))?.clone();
    let turn = turn(&model, asked)?;
    let rendered = talk::render(&model, &turn).await?;
    Ok(Json(json!({"input_tokens": rendered.ids.len()})).into_response())
}

fn turn(model: &Model, asked: &mut Asked) -> Result<Turn, Refusal> {
    let messages = read::messages(asked.value("system"), asked.needed("messages")?)?;
    let (choice, single) = read::choice(asked.value("tool_choice"))?;
    let tools = Tools { list: read::tools(asked.value("tools"))?, choice, single };
    if tools.list.is_empty() && tools.choice == Choice::Auto && asked.value("tool_choice").is_some() {
        asked.unused.push("tool_choice".to_owned());
    }
    Ok(Turn { messages, tools, inputs: thinking(model, asked)? })
}

/// `thinking`: a template that can be told is told; the budget has no effect.
fn thinking(model: &Model, asked: &mut Asked) -> Result<Map<String, Value>, Refusal> {
    let mut inputs = Map::new();
    let Some(thinking) = asked.value("thinking").cloned() else { return Ok(inputs) };
    let on = match thinking["type"].as_str() {
        Some("enabled" | "adaptive") => true,
        Some("disabled") => false,
        _ => return Err(Refusal::field("thinking", "\"thinking\" must be of type enabled, adaptive or disabled")),
    };
    let format = model.served.prompt.answer_format();
    if format.reasoning.is_none() && !format.channels {
        let message = "\"thinking\": this model has no way to think before it answers";
        return if on { Err(Refusal::field("thinking", message)) } else { Ok(inputs) };
    }
    if thinking.get("budget_tokens").is_some() {
        asked.unused.push("thinking.budget_tokens".to_owned());
    }
    match ["enable_thinking", "thinking"].into_iter().find(|name| takes(model, name)) {
        Some(name) => drop(inputs.insert(name.to_owned(), json!(on))),
        None if on => {}
        None => asked.unused.push("thinking".to_owned()),
    }
    Ok(inputs)
}
