//! `/api/version`, `/api/tags`, `/api/show` and `/api/embed`.

use std::sync::Arc;
use std::time::Instant;

use axum::Json;
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use crate::fields::Asked;
use crate::openai::embeddings::vectors;
use crate::refusal::Refusal;
use crate::served::Served;
use crate::state::Server;
use crate::visit::Visit;

/// The version of this program.
pub fn version() -> Response {
    Json(json!({"version": env!("CARGO_PKG_VERSION")})).into_response()
}

/// The served models. What is not known (digest, size, time of change) is left out.
pub fn tags(server: &Server) -> Response {
    let one = |served: &Served| json!({"name": served.name, "model": served.name, "details": details(served)});
    let models: Vec<Value> = server
        .models
        .iter()
        .map(|model| &model.served)
        .filter(|served| Visit::may_use(&served.name))
        .map(one)
        .collect();
    Json(json!({"models": models})).into_response()
}

/// What a model is.
pub fn show(server: &Server, asked: &Asked) -> Result<Response, Refusal> {
    let model = server.model(asked.text("model").or(asked.text("name")))?;
    let served = &model.served;
    let family = served.family;
    let info = json!({
        "general.architecture": family,
        format!("{family}.context_length"): served.engine.context(),
        format!("{family}.vocab_size"): served.engine.vocab(),
    });
    Ok(Json(json!({
        "template": served.prompt.template_source().unwrap_or_default(),
        "details": details(served),
        "model_info": info,
        "capabilities": capabilities(served),
    }))
    .into_response())
}

/// What requests may ask of it.
fn capabilities(served: &Served) -> Vec<&'static str> {
    let format = served.prompt.answer_format();
    let known = [
        ("completion", true),
        ("tools", format.calls.is_some()),
        ("thinking", format.reasoning.is_some() || format.channels),
    ];
    known.into_iter().filter(|(_, has)| *has).map(|(name, _)| name).collect()
}

fn details(served: &Served) -> Value {
    json!({"family": served.family, "families": [served.family]})
}

/// Vectors of length one, as Ollama makes them.
pub async fn embed(server: &Arc<Server>, asked: &Asked) -> Result<Response, Refusal> {
    let began = Instant::now();
    let model = server.model(asked.text("model"))?.clone();
    let truncate = asked.value("truncate").and_then(Value::as_bool).unwrap_or(true);
    let made = vectors(&model, asked.needed("input")?, truncate, Some(true)).await?;
    server.metrics.tokens(made.tokens, 0);
    Ok(Json(json!({
        "model": model.served.name,
        "embeddings": made.vectors,
        "total_duration": u64::try_from(began.elapsed().as_nanos()).unwrap_or(u64::MAX),
        "load_duration": 0,
        "prompt_eval_count": made.tokens,
    }))
    .into_response())
}
