//! `/v1/models`: what is served.

use axum::Json;
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use crate::refusal::Refusal;
use crate::state::{Model, Server};
use crate::visit::Visit;

/// All served models.
pub fn list(server: &Server) -> Response {
    let models: Vec<Value> = server
        .models
        .iter()
        .filter(|model| Visit::may_use(&model.served.name))
        .map(|model| object(server, model))
        .collect();
    Json(json!({"object": "list", "data": models})).into_response()
}

/// The model that the path names.
pub fn one(server: &Server, path: &str) -> Result<Response, Refusal> {
    let name = path.strip_prefix("/v1/models/").unwrap_or_default().replace("%2F", "/").replace("%2f", "/");
    Ok(Json(object(server, server.model(Some(&name))?)).into_response())
}

fn object(server: &Server, model: &Model) -> Value {
    json!({
        "id": model.served.name, "object": "model", "created": server.started.as_secs(), "owned_by": "pasture",
        "max_model_len": model.served.engine.context(),
    })
}
