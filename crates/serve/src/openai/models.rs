//! `/v1/models`: what is served.

use axum::Json;
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use crate::models::Entry;
use crate::refusal::Refusal;
use crate::registry::decoded;
use crate::state::Server;

/// All models and adapters, and the models that can be loaded.
pub fn list(server: &Server) -> Response {
    let mut models: Vec<Value> = server.shown().iter().map(|entry| object(server, entry)).collect();
    models.extend(server.loadable().iter().map(|name| named(server, name)));
    Json(json!({"object": "list", "data": models})).into_response()
}

/// The model that the path names.
pub fn one(server: &Server, path: &str) -> Result<Response, Refusal> {
    let name = decoded(path.strip_prefix("/v1/models/").unwrap_or_default()).unwrap_or_default();
    if server.loadable().contains(&name) {
        return Ok(Json(named(server, &name)).into_response());
    }
    let model = server.model(Some(&name))?;
    match server.models.entry(&model.served.name) {
        Some(entry) => Ok(Json(object(server, &entry)).into_response()),
        None => Ok(Json(named(server, &model.served.name)).into_response()),
    }
}

/// What is said of a model whose files have not been read.
fn named(server: &Server, name: &str) -> Value {
    json!({"id": name, "object": "model", "created": server.started.as_secs(), "owned_by": "pasture"})
}

fn object(server: &Server, entry: &Entry) -> Value {
    let served = &entry.model.served;
    let mut object = named(server, &served.name);
    object["max_model_len"] = json!(served.engine.context());
    if let Some(base) = &entry.base {
        // As vLLM tells which models are adapters.
        (object["root"], object["parent"]) = (json!(served.name), json!(base));
    }
    object
}
