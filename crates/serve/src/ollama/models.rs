//! `/api/version`, `/api/tags`, `/api/ps`, `/api/show`, `/api/embed` and `/api/embeddings`.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Json;
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use crate::fields::Asked;
use crate::models::Entry;
use crate::moment::{rfc3339, since_1970};
use crate::openai::embeddings::{texts, vectors};
use crate::refusal::Refusal;
use crate::served::{Served, Texts};
use crate::state::Server;

/// Ollama's clients read a day centuries ahead as never, and one that is missing as the past.
const NEVER: Duration = Duration::from_secs(292 * 365 * 86_400);

/// The version of this program.
pub fn version() -> Response {
    Json(json!({"version": env!("CARGO_PKG_VERSION")})).into_response()
}

/// All models and adapters, and the models that can be loaded. What is not known (digest, size, time of change) is left out.
pub fn tags(server: &Server) -> Response {
    let one = |served: &Served| json!({"name": served.name, "model": served.name, "details": details(served)});
    let mut models: Vec<Value> = server.shown().iter().map(|entry| one(&entry.model.served)).collect();
    models.extend(server.loadable().iter().map(|name| json!({"name": name, "model": name, "details": {}})));
    Json(json!({"models": models})).into_response()
}

/// What is loaded, for how long, and how much memory it takes.
pub fn running(server: &Server) -> Response {
    let one = |entry: &Entry| {
        let served = &entry.model.served;
        // Nothing is on a graphics card.
        json!({
            "name": served.name, "model": served.name, "size": entry.bytes, "size_vram": 0,
            "expires_at": rfc3339(entry.goes().unwrap_or(since_1970() + NEVER)),
            "context_length": served.engine.context(), "details": details(served),
        })
    };
    let models: Vec<Value> = server.shown().iter().filter(|entry| entry.base.is_none()).map(one).collect();
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

/// The vector of one text, by the older route: as long as the model's own files make it. Without a text there is nothing
/// to do but to load the model.
pub async fn embed_one(server: &Arc<Server>, asked: &Asked) -> Result<Response, Refusal> {
    let model = server.model(asked.text("model"))?;
    let prompt = asked.text("prompt").unwrap_or_default().to_owned();
    if prompt.is_empty() {
        return Ok(Json(json!({"embedding": []})).into_response());
    }
    let mut made = vectors(&model, Texts::Plain(vec![prompt]), true, None).await?;
    server.metrics.tokens(made.tokens, 0);
    Ok(Json(json!({"embedding": made.vectors.pop()})).into_response())
}

/// Vectors of length one, as Ollama makes them.
pub async fn embed(server: &Arc<Server>, asked: &Asked) -> Result<Response, Refusal> {
    let began = Instant::now();
    let model = server.model(asked.text("model"))?;
    let truncate = asked.value("truncate").and_then(Value::as_bool).unwrap_or(true);
    let made = vectors(&model, texts(asked.needed("input")?), truncate, Some(true)).await?;
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
