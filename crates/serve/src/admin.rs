//! What whoever runs the server asks it: what it does now, and to end.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use crate::fields::Asked;
use crate::models::Entry;
use crate::moment::{rfc3339, since_1970};
use crate::refusal::Refusal;
use crate::state::Server;

/// What the server does now.
pub fn state(server: &Server) -> Response {
    let entries = server.entries();
    let models = entries.iter().filter(|entry| entry.base.is_none());
    let models: Vec<Value> = models.map(one).collect();
    let up = since_1970().saturating_sub(server.started);
    Json(json!({
        "version": env!("CARGO_PKG_VERSION"),
        "pid": std::process::id(),
        "started": rfc3339(server.started),
        "up_seconds": up.as_secs(),
        "draining": server.draining.load(Ordering::Relaxed),
        "memory_bytes": memory(),
        "connections": server.door.held(),
        "models": models,
    }))
    .into_response()
}

fn one(entry: &Entry) -> Value {
    let model = &entry.model;
    let (counts, engine) = (model.door.counts(), model.served.engine.counts());
    json!({
        "name": model.served.name,
        "family": model.served.family,
        "context": model.served.engine.context(),
        "bytes": entry.bytes,
        "goes": entry.goes().map(rfc3339),
        "in_flight": counts.in_flight,
        "waiting": counts.waiting,
        "waiting_tokens": counts.waiting_tokens,
        "pages": {"free": engine.now.free, "cached": engine.now.cached, "held": engine.now.held},
        "cached_tokens": engine.cached_tokens,
        "preempted": engine.preempted,
    })
}

/// Bytes of memory that the program has in use; none where the system does not say.
fn memory() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib << 10)
}

/// Ends the server as SIGTERM does: answers that are being made may end.
pub fn stop(server: &Arc<Server>, _: &Asked) -> Result<Response, Refusal> {
    if server.draining.load(Ordering::Relaxed) {
        return Err(Refusal::draining());
    }
    server.asked_to_end.notify_one();
    Ok((StatusCode::ACCEPTED, Json(json!({"status": "ending"}))).into_response())
}
