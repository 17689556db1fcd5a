//! Routes of our own: health, counts, tokens of a text and back, the text that a conversation becomes.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use axum::Json;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use pasture_files::tokenizer::{Shown, Specials, Tokenizer};
use serde_json::{Value, json};

use crate::ask::{blocking, ids, tokenizer};
use crate::fields::Asked;
use crate::openai::chat;
use crate::refusal::Refusal;
use crate::state::Server;
use crate::talk::{self, Turn};

/// The program runs.
pub fn healthy() -> Response {
    Json(json!({"status": "ok"})).into_response()
}

/// Requests are wanted.
pub fn ready(server: &Server) -> Result<Response, Refusal> {
    match server.draining.load(Ordering::Relaxed) {
        true => Err(Refusal::draining()),
        false if !server.is_told() => Err(Refusal::untold()),
        false => Ok(Json(json!({"status": "ready"})).into_response()),
    }
}

/// The document that describes all routes.
pub fn openapi() -> Response {
    Json(crate::openapi::document()).into_response()
}

/// Counts for Prometheus.
pub fn metrics(server: &Server) -> Response {
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], server.metrics.text(server)).into_response()
}

/// The tokens of a text.
pub async fn tokenize(server: &Arc<Server>, asked: &Asked) -> Result<Response, Refusal> {
    let model = server.model(asked.text("model"))?;
    asked.needed("content")?;
    let text = asked.text("content").unwrap_or_default().to_owned();
    let (around, parse, pieces) = (asked.flag("add_special"), asked.flag("parse_special"), asked.flag("with_pieces"));
    let tokens = blocking(move || {
        let tokenizer = tokenizer(&model.served)?;
        let specials = if parse { Specials::Parse } else { Specials::AsText };
        let ids = match around {
            true => tokenizer.encode_with_special(&text, specials)?,
            false => tokenizer.encode(&text, specials)?,
        };
        Ok(match pieces {
            true => ids.iter().map(|id| json!({"id": id, "piece": piece(tokenizer, *id)})).collect(),
            false => json!(ids),
        })
    });
    Ok(Json(json!({"tokens": tokens.await?})).into_response())
}

/// A token's text, or its bytes where a character is in several tokens.
fn piece(tokenizer: &Tokenizer, id: u32) -> Value {
    match String::from_utf8(tokenizer.token_bytes(id).unwrap_or_default()) {
        Ok(text) => json!(text),
        Err(cut) => json!(cut.as_bytes()),
    }
}

/// The text of tokens.
pub async fn detokenize(server: &Arc<Server>, asked: &Asked) -> Result<Response, Refusal> {
    let model = server.model(asked.text("model"))?;
    let tokens = ids(asked.needed("tokens")?);
    let text = blocking(move || {
        let vocab = model.served.engine.vocab();
        if let Some(&id) = tokens.iter().find(|id| **id as usize >= vocab) {
            return Err(pasture_engine::Error::Token { id, vocab }.into());
        }
        Ok(tokenizer(&model.served)?.decode(&tokens, Shown::Show)?)
    });
    Ok(Json(json!({"content": text.await?})).into_response())
}

/// The text that a conversation becomes, as the model would be given it.
pub async fn template(server: &Arc<Server>, asked: &mut Asked) -> Result<Response, Refusal> {
    let model = server.model(asked.text("model"))?;
    let messages = asked.needed("messages")?.clone();
    let turn = Turn { messages, tools: chat::tools(asked)?, inputs: chat::inputs(&model, asked)? };
    turn.tools.check()?;
    let rendered = talk::render(&model, &turn).await?;
    Ok(Json(json!({"prompt": rendered.text})).into_response())
}
