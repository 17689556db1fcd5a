//! `/api/chat`.

use std::sync::Arc;

use axum::Json;
use axum::response::{IntoResponse, Response};
use serde_json::{Map, Value, json};

use super::{Form, Told, streams, wanted};
use crate::ask::only;
use crate::fields::Asked;
use crate::openai::chat::takes;
use crate::refusal::Refusal;
use crate::state::{Model, Server};
use crate::talk::{self, Turn};
use crate::telling::tell;
use crate::tools::{self, Tools};

/// Answers a conversation.
pub async fn answer(server: &Arc<Server>, asked: &mut Asked) -> Result<Response, Refusal> {
    let model = server.model(asked.text("model"))?;
    let messages = asked.value("messages").cloned().unwrap_or_default();
    if messages.as_array().is_none_or(Vec::is_empty) {
        return Ok(Json(Told::new(&model.served.name, Form::Message).loaded()).into_response());
    }
    talk(server, &model, asked, messages, Form::Message).await
}

/// Answers messages, streamed or not.
pub(super) async fn talk(
    server: &Arc<Server>,
    model: &Arc<Model>,
    asked: &mut Asked,
    messages: Value,
    form: Form,
) -> Result<Response, Refusal> {
    let wanted = wanted(asked, true)?;
    let tools = Tools { list: tools::read(asked.value("tools"))?, ..Tools::default() };
    let turn = Turn { messages, tools, inputs: thinking(model, asked)? };
    let mut told = Told::new(&model.served.name, form);
    let begun = talk::begin(server, model, wanted, turn).await?;
    told.sorter = begun.sorter;
    if streams(asked) {
        return Ok(tell(begun.run, told));
    }
    Ok(Json(told.whole(only(begun.run).await?)).into_response())
}

/// `think`: whether, or how much, the model thinks before it answers, where its template can be told.
fn thinking(model: &Model, asked: &mut Asked) -> Result<Map<String, Value>, Refusal> {
    let mut inputs = Map::new();
    let Some(think) = asked.value("think").cloned() else { return Ok(inputs) };
    let format = model.served.prompt.answer_format();
    let thinks = format.reasoning.is_some() || format.channels;
    match &think {
        Value::Bool(false) if !thinks => return Ok(inputs),
        Value::Bool(_) => {}
        Value::String(level) if ["low", "medium", "high"].contains(&level.as_str()) => {}
        _ => return Err(Refusal::field("think", "\"think\" must be true, false, low, medium or high")),
    }
    if !thinks {
        return Err(Refusal::field("think", "\"think\": this model has no way to think before it answers"));
    }
    let on = think != json!(false);
    let name = match think {
        Value::String(_) => "reasoning_effort",
        _ => ["enable_thinking", "thinking"].into_iter().find(|name| takes(model, name)).unwrap_or_default(),
    };
    match takes(model, name) && !name.is_empty() {
        true if name == "reasoning_effort" => drop(inputs.insert(name.to_owned(), think)),
        true => drop(inputs.insert(name.to_owned(), json!(on))),
        // It thinks anyway.
        false if think == json!(true) => {}
        false => asked.unused.push("think".to_owned()),
    }
    Ok(inputs)
}
