//! `/api/generate`: a question that the template wraps, or with `raw` a text to go on with.

use std::sync::Arc;

use axum::Json;
use axum::response::{IntoResponse, Response};
use serde_json::json;

use super::chat::talk;
use super::{Form, Told, streams, wanted};
use crate::ask::{blocking, only, text_ids};
use crate::bridge::Run;
use crate::fields::Asked;
use crate::refusal::Refusal;
use crate::state::Server;
use crate::telling::tell;

/// Answers a prompt.
pub async fn answer(server: &Arc<Server>, asked: &mut Asked) -> Result<Response, Refusal> {
    let model = server.model(asked.text("model"))?;
    let prompt = asked.text("prompt").unwrap_or_default().to_owned();
    let system = asked.text("system").unwrap_or_default().to_owned();
    let told = Told::new(&model.served.name, Form::Response);
    if prompt.is_empty() {
        return Ok(Json(told.loaded()).into_response());
    }
    if !asked.flag("raw") {
        let mut messages = vec![json!({"role": "user", "content": prompt})];
        if !system.is_empty() {
            messages.insert(0, json!({"role": "system", "content": system}));
        }
        return talk(server, &model, asked, messages.into(), Form::Response).await;
    }
    if !system.is_empty() {
        return Err(Refusal::field("system", "\"system\" has no effect with \"raw\": true"));
    }
    if asked.value("think").is_some_and(|think| *think != json!(false)) {
        return Err(Refusal::field("think", "\"think\" has no effect with \"raw\": true"));
    }
    let wanted = wanted(asked, false)?;
    let mut permit = model.door.admit(1)?;
    let grammar = crate::ask::grammar(&model, &wanted).await?;
    let of = model.clone();
    let ids = blocking(move || text_ids(&of.served, &prompt)).await?;
    permit.prompt(ids.len())?;
    let run = Run::submit(server, &model, vec![wanted.of(&model.served, ids, grammar.as_ref())], permit)?;
    if streams(asked) {
        return Ok(tell(run, told));
    }
    Ok(Json(told.whole(only(run).await?)).into_response())
}
