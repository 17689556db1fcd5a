//! `/v1/responses`: an answer as a list of items, whole and in events. Nothing is stored, so no response can be gone
//! on with by its id: the conversation is sent whole.

mod read;
mod told;

use std::sync::Arc;

use axum::Json;
use axum::response::{IntoResponse, Response};
use serde_json::{Map, json};

use super::chat::takes;
use super::chat::tools;
use crate::ask::{self, Wanted, only};
use crate::fields::Asked;
use crate::refusal::Refusal;
use crate::shape::{self, Shaped};
use crate::state::Server;
use crate::talk::{self, Sorted, Turn};
use crate::telling::tell;
use told::{Told, What};

/// Answers an input.
pub async fn answer(server: &Arc<Server>, asked: &mut Asked) -> Result<Response, Refusal> {
    let model = server.model(asked.text("model"))?.clone();
    if asked.value("previous_response_id").is_some() {
        let message =
            "\"previous_response_id\": responses are not stored here; send the whole conversation as \"input\"";
        return Err(Refusal::field("previous_response_id", message).code("previous_response_not_found"));
    }
    let fields = ["temperature", "top_p"];
    let wanted = Wanted {
        sampling: ask::sampling(asked, fields.into_iter().map(|name| (name, name)))?,
        max_tokens: asked.whole("max_output_tokens").and_then(|max| usize::try_from(max).ok()),
        stops: Vec::new(),
        ignore_eos: false,
        answers: 1,
        shape: shape(asked)?,
        talks: true,
    };
    let mut inputs = Map::new();
    if let Some(effort) = asked.value("reasoning").and_then(|reasoning| reasoning.get("effort")).cloned() {
        match takes(&model, "reasoning_effort") && !effort.is_null() {
            true => drop(inputs.insert("reasoning_effort".to_owned(), effort)),
            false => asked.unused.push("reasoning.effort".to_owned()),
        }
    }
    let tools = tools(asked)?;
    let messages = read::messages(asked.text("instructions"), asked.needed("input")?)?;
    let what = What::new(&model.served.name, asked, &wanted);
    let begun = talk::begin(server, &model, wanted, Turn { messages, tools, inputs }).await?;
    let told = Told::new(what, begun.sorter.clone());
    if asked.flag("stream") {
        return Ok(tell(begun.run, told));
    }
    let answer = only(begun.run).await?;
    Ok(Json(told.whole(&Sorted::new(begun.sorter, answer))).into_response())
}

/// `text.format`, which is `response_format` by another name.
fn shape(asked: &Asked) -> Result<Option<Shaped>, Refusal> {
    let Some(text) = asked.value("text") else { return Ok(None) };
    let format = match text.get("format") {
        None => return Ok(None),
        Some(format) if *format == json!(null) => return Ok(None),
        Some(format) => format,
    };
    let shape = shape::response_format(format);
    let shape = shape.map_err(|what| Refusal::field("text", format!("\"text.format\": {what}")))?;
    Ok(shape.map(|shape| Shaped { field: "text", shape }))
}
