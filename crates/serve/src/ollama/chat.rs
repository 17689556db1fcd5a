//! `/api/chat`.

use std::sync::Arc;

use axum::Json;
use axum::response::{IntoResponse, Response};
use serde_json::Value;

use super::{Form, Told, streams, wanted};
use crate::ask::{collect, conversation};
use crate::bridge::Run;
use crate::fields::Asked;
use crate::refusal::Refusal;
use crate::state::{Model, Server};
use crate::telling::tell;

/// Answers a conversation.
pub async fn answer(server: &Arc<Server>, asked: &mut Asked) -> Result<Response, Refusal> {
    let model = server.model(asked.text("model"))?.clone();
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
    let told = Told::new(&model.served.name, form);
    let mut permit = model.door.admit(1)?;
    let ids = conversation(model, messages).await?;
    permit.prompt(ids.len())?;
    let run = Run::submit(server, model, vec![wanted.of(&model.served, ids)], permit)?;
    if streams(asked) {
        return Ok(tell(run, told));
    }
    let answers = collect(run, 1, 1).await?;
    Ok(Json(told.whole(&answers[0][0])).into_response())
}
