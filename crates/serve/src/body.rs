//! Reading a request's body: its type first, then at most so many bytes in so much time, then JSON.

use axum::body::{Body, Bytes, HttpBody};
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
    is_of_type(request.headers(), "application/json")?;
    let bytes = bytes(request.into_body(), max).await?;
    let wrong = |what: String| Refusal::wrong(what).code("invalid_json");
    match pasture_files::json::parse(&bytes, "the body").map_err(|error| wrong(error.to_string()))? {
        Value::Object(object) => Ok(object),
        _ => Err(wrong("the body must be a JSON object".to_owned())),
    }
}

/// A whole body of at most so many bytes, whose parts follow each other in time.
pub async fn bytes(mut body: Body, max: usize) -> Result<Vec<u8>, Refusal> {
    let too_long = || {
        let message = format!("the body is longer than {} MiB", max >> 20);
        Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, "body_too_large", message)
    };
    if body.size_hint().lower() > max as u64 {
        return Err(too_long());
    }
    let mut bytes = Vec::new();
    while let Some(data) = part(&mut body).await? {
        if bytes.len() + data.len() > max {
            return Err(too_long());
        }
        bytes.extend_from_slice(&data);
    }
    Ok(bytes)
}

/// The next part of a body; none at its end.
pub async fn part(body: &mut Body) -> Result<Option<Bytes>, Refusal> {
    let late = |_| Refusal::new(StatusCode::REQUEST_TIMEOUT, "timeout", "the body did not arrive in time");
    loop {
        let frame = tokio::time::timeout(limits::BODY_TIME, body.frame()).await.map_err(late)?;
        let Some(frame) = frame else { return Ok(None) };
        let frame = frame.map_err(|_| Refusal::wrong("the body broke off"))?;
        if let Ok(data) = frame.into_data() {
            return Ok(Some(data));
        }
    }
}

/// The content type of a body that must have this one, and must not be compressed.
pub fn is_of_type<'h>(headers: &'h HeaderMap, wanted: &str) -> Result<&'h str, Refusal> {
    let unsupported =
        |message: String| Refusal::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type", message);
    let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let essence = kind.split(';').next().unwrap_or_default().trim();
    if !essence.eq_ignore_ascii_case(wanted) {
        return Err(unsupported(format!("the content type must be {wanted}")));
    }
    if headers.get(header::CONTENT_ENCODING).is_some_and(|encoding| encoding != "identity") {
        return Err(unsupported("compressed bodies are not read".to_owned()));
    }
    Ok(kind)
}
