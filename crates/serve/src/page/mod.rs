//! The web page at `/`, built from `web/` and part of the program, and what it is told of the served models. Nothing on
//! it may come from elsewhere or be made of text: the rules stand in `RULES`.

use axum::Json;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use pasture_engine::sampling::{FIELDS, Range};
use rust_embed::{Embed, EmbeddedFile};
use serde_json::{Map, Value, json};

use crate::random::hex;
use crate::refusal::Refusal;
use crate::state::{Model, Server};

#[derive(Embed)]
#[folder = "page"]
struct Files;

/// What a browser holds the page to. `trusted-types 'none'` forbids every way to make elements or code of a text.
const RULES: &str = "default-src 'none'; script-src 'self'; style-src 'self'; font-src 'self'; connect-src 'self'; \
    img-src 'self' data: blob:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; \
    require-trusted-types-for 'script'; trusted-types 'none'";

/// Settings that the page shows; the others are asked for by programs.
const SHOWN: &[&str] = &[
    "temperature",
    "top_p",
    "top_k",
    "min_p",
    "typical_p",
    "repetition_penalty",
    "frequency_penalty",
    "presence_penalty",
    "dry_multiplier",
    "mirostat_tau",
    "seed",
];

/// The page itself, or a part of it, by the path of the request.
pub fn part(path: &str, asked: &HeaderMap) -> Result<Response, Refusal> {
    let name = path.strip_prefix("/page/").unwrap_or("index.html");
    let none = || Refusal::new(StatusCode::NOT_FOUND, "not_found", "the page has no such part");
    let file = Files::get(name).ok_or_else(none)?;
    let tag = tag(&file);
    let known = asked.get(header::IF_NONE_MATCH).and_then(|known| known.to_str().ok());
    let mut response = match known.is_some_and(|known| known.split(',').any(|other| other.trim() == tag)) {
        true => StatusCode::NOT_MODIFIED.into_response(),
        false => file.data.into_response(),
    };
    let headers = response.headers_mut();
    for (name, value) in [
        (header::CONTENT_TYPE, kind(name)),
        (header::CONTENT_SECURITY_POLICY, RULES),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::CACHE_CONTROL, "no-cache"),
        (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
        (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
        (HeaderName::from_static("permissions-policy"), "camera=(), geolocation=(), microphone=()"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    if let Ok(tag) = HeaderValue::from_str(&tag) {
        headers.insert(header::ETAG, tag);
    }
    Ok(response)
}

fn tag(file: &EmbeddedFile) -> String {
    let digest = file.metadata.sha256_hash();
    format!("\"{}\"", hex(&digest[..16]))
}

fn kind(name: &str) -> &'static str {
    match name.rsplit('.').next().unwrap_or_default() {
        "html" => "text/html; charset=utf-8",
        "js" => "text/javascript; charset=utf-8",
        "css" => "text/css; charset=utf-8",
        "svg" => "image/svg+xml",
        "woff2" => "font/woff2",
        _ => "text/plain; charset=utf-8",
    }
}

/// What the page shows of the models: the settings in force where a request makes none, and the room.
pub fn facts(server: &Server) -> Response {
    let models: Vec<Value> = server.shown().iter().map(|entry| of_model(&entry.model)).collect();
    let settings: Vec<Value> = FIELDS.iter().filter(|field| SHOWN.contains(&field.name)).map(of_setting).collect();
    Json(json!({
        "version": env!("CARGO_PKG_VERSION"), "models": models, "settings": settings,
        "chats": {"file": server.options.chats.is_some(), "text_bytes": crate::chats::limits::TEXT_BYTES},
    }))
    .into_response()
}

fn of_model(model: &Model) -> Value {
    let defaults: Map<String, Value> =
        model.served.defaults.present().into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
    json!({
        "id": model.served.name, "family": model.served.family, "context": model.served.engine.context(),
        "defaults": defaults, "max_tokens": model.served.prompt.defaults().max_new_tokens,
    })
}

fn of_setting(field: &pasture_engine::sampling::Field) -> Value {
    let (low, high, whole) = match field.range {
        Range::Real(low, high) | Range::Above(low, high) => (json!(low), json!(high), false),
        // Larger whole numbers are not exact in a browser.
        Range::Whole(low, high) => (json!(low), json!(high.min(1 << 53)), true),
        _ => (Value::Null, Value::Null, false),
    };
    json!({
        "name": field.name, "meaning": field.meaning, "range": field.range.to_string(),
        "min": low, "max": high, "whole": whole,
    })
}
