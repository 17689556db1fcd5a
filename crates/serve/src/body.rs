//! Reading a request's body: its type first, then at most so many bytes in so much time, then JSON.

use axum::body::{Body, HttpBody};
use axum::http::{HeaderMap, Request, StatusCode, header};
use http_body_util::BodyExt;
use serde_json::{Map, Value};

use crate::limits;
use crate::refusal::Refusal;

/// The JSON object of a request.
pub async fn object(request: Request<Body>) -> Result<Map<String, Value>, Refusal> {
    object_within(request, limits::BODY_BYTES).await
}

/// The JSON object of a request of at most so many bytes.
pub async fn object_within(request: Request<Body>, max: usize) -> Result<Map<String, Value>, Refusal> {
    check_type(request.headers())?;
    let too_long = || {
        let message = format!("the body is longer than {} MiB", max >> 20);
        Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, "body_too_large", message)
    };
    let mut body = request.into_body();
    if body.size_hint().lower() > max as u64 {
        return Err(too_long());
    }
    let mut bytes = Vec::new();
    loop {
        let frame = tokio::time::timeout(limits::BODY_TIME, body.frame()).await;
        let late = || Refusal::new(StatusCode::REQUEST_TIMEOUT, "timeout", "the body did not arrive in time");
        let Some(frame) = frame.map_err(|_| late())? else { break };
        let frame = frame.map_err(|_| Refusal::wrong("the body broke off"))?;
        let Ok(data) = frame.into_data() else { continue };
        if bytes.len() + data.len() > max {
            return Err(too_long());
        }
        bytes.extend_from_slice(&data);
    }
    let wrong = |what: String| Refusal::wrong(what).code("invalid_json");
    match pasture_files::json::parse(&bytes, "the body").map_err(|error| wrong(error.to_string()))? {
        Value::Object(object) => Ok(object),
        _ => Err(wrong("the body must be a JSON object".to_owned())),
    }
}

fn check_type(headers: &HeaderMap) -> Result<(), Refusal> {
    let unsupported = |message| Refusal::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type", message);
    let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let essence = kind.split(';').next().unwrap_or_default().trim();
    if !essence.eq_ignore_ascii_case("application/json") {
        return Err(unsupported("the content type must be application/json"));
    }
    if headers.get(header::CONTENT_ENCODING).is_some_and(|encoding| encoding != "identity") {
        return Err(unsupported("compressed bodies are not read"));
    }
    Ok(())
}
