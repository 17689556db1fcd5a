//! The models of this machine as a hub for others: the routes that `huggingface_hub` and our own pull and push speak, and
//! those of an OCI registry for reading. Which repositories there are, and how one is written, is in `pasture-store`.
//! Invariant: reading needs the scope `pull` (unless reading is open), writing the scope `push`; every text of a request is
//! checked by the store before it becomes a path.

mod files;
mod hub;
mod images;
mod uploads;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::body::Body;
use axum::extract::Request;
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use pasture_store::registry::Registry;
use serde_json::{Value, json};

use crate::body;
use crate::caller::{Caller, Scope};
use crate::limits;
use crate::refusal::Refusal;
use uploads::Ticket;

/// Who may read what is lent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reading {
    /// Who has a key with the scope `pull`.
    Keys,
    /// Everybody, but for private repositories.
    Open,
}

/// A registry that is served.
#[derive(Clone)]
pub struct Lending {
    registry: Registry,
    reading: Reading,
    tickets: Arc<Mutex<HashMap<String, Ticket>>>,
    /// Uploads at once: each holds a file open.
    uploads: Arc<tokio::sync::Semaphore>,
}

/// Uploads at once.
const UPLOADS_MAX: usize = 8;
/// Uploads that are allowed and have not begun or ended.
const TICKETS_MAX: usize = 4096;
/// For how long an allowed upload may begin.
const TICKET_TIME: Duration = Duration::from_secs(24 * 60 * 60);
/// Bytes of a request that is no file: small files of a commit are in it, in base64.
const REQUEST_BYTES: usize = 64 << 20;
/// Bytes of one file.
const FILE_BYTES: u64 = 1 << 40;

/// Why a request is not answered, with the word that hubs' clients look at.
struct Refused(StatusCode, &'static str, String);

type Answered = Result<Response, Refused>;

impl Lending {
    /// Lends a registry.
    pub fn new(registry: Registry, reading: Reading) -> Lending {
        let uploads = Arc::new(tokio::sync::Semaphore::new(UPLOADS_MAX));
        Lending { registry, reading, tickets: Arc::default(), uploads }
    }

    /// Whether a request needs no key: it has a ticket for one upload, or reading is open and it reads.
    pub(crate) fn is_open(&self, request: &Request) -> bool {
        let path = request.uri().path();
        if let Some(ticket) = path.strip_prefix(uploads::PLACE) {
            return request.method() == Method::PUT && self.ticket(ticket).is_some();
        }
        let reads = matches!(*request.method(), Method::GET | Method::HEAD);
        let known = path.starts_with("/api/models") || path.contains("/resolve/") || path.starts_with("/v2/");
        self.reading == Reading::Open && reads && known && is_stranger(request.headers())
    }

    fn ticket(&self, text: &str) -> Option<Ticket> {
        self.tickets.lock().unwrap_or_else(PoisonError::into_inner).get(text).cloned()
    }

    /// Answers a request that is the registry's; gives back one that is not.
    pub(crate) async fn answer(&self, request: Request) -> Result<Response, Request> {
        let Some(path) = decoded(request.uri().path()) else { return Err(request) };
        let (head, body) = request.into_parts();
        let reads = matches!(head.method, Method::GET | Method::HEAD);
        let answered = match (head.method.as_str(), path.as_str()) {
            ("GET", "/api/whoami-v2") => Ok(hub::whoami()),
            ("POST", "/api/repos/create") => hub::create(self, &head, body).await,
            ("POST", "/api/validate-yaml") => Ok(axum::Json(json!({"errors": [], "warnings": []})).into_response()),
            ("GET", "/api/models" | "/api/models/") => hub::search(self, &head),
            (_, path) if path.starts_with("/api/models/") => hub::model(self, path, &head, body).await,
            ("POST", path) if path.ends_with(uploads::BATCH) => uploads::batch(self, path, &head, body).await,
            ("POST", path) if path.ends_with(uploads::VERIFY) => uploads::verify(self, path, body).await,
            ("PUT", path) if path.starts_with(uploads::PLACE) => uploads::take(self, path, body).await,
            (_, "/v2" | "/v2/") if reads => Ok(images::version()),
            (_, path) if reads && path.starts_with("/v2/") => images::answer(self, path, &head).await,
            (_, path) if reads && path.contains("/resolve/") => files::resolve(self, path, &head).await,
            _ => return Err(Request::from_parts(head, body)),
        };
        Ok(answered.unwrap_or_else(Refused::response))
    }

    /// The right to read a repository. Nobody is told that a private one is there.
    fn may_read(&self, headers: &HeaderMap, name: &str) -> Result<(), Refused> {
        let stranger = self.reading == Reading::Open && is_stranger(headers);
        if (stranger && self.registry.is_private(name)) || !self.registry.has(name) {
            return Err(no_repository(name));
        }
        may(Scope::Pull)
    }
}

fn is_stranger(headers: &HeaderMap) -> bool {
    !headers.contains_key(header::AUTHORIZATION) && !headers.contains_key("x-api-key")
}

fn may(scope: Scope) -> Result<(), Refused> {
    match Caller::current().scopes.has(scope) {
        true => Ok(()),
        false => {
            let what = format!("this key may not do that: it lacks the scope {:?}", scope.word());
            Err(Refused(StatusCode::FORBIDDEN, "ScopeMissing", what))
        }
    }
}

fn no_repository(name: &str) -> Refused {
    Refused(
        StatusCode::NOT_FOUND,
        "RepoNotFound",
        format!("there is no repository {} here", crate::refusal::quoted(name)),
    )
}

impl Refused {
    fn wrong(what: impl Into<String>) -> Refused {
        Refused(StatusCode::BAD_REQUEST, "BadRequest", what.into())
    }

    fn response(self) -> Response {
        let Refused(status, code, what) = self;
        let mut response = (status, axum::Json(json!({"error": what}))).into_response();
        let headers = response.headers_mut();
        headers.insert("x-error-code", HeaderValue::from_static(code));
        let plain: String = what.chars().map(|letter| if letter.is_ascii_graphic() { letter } else { ' ' }).collect();
        if let Ok(message) = HeaderValue::from_str(&plain) {
            headers.insert("x-error-message", message);
        }
        if status == StatusCode::SERVICE_UNAVAILABLE {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(5));
        }
        response
    }
}

impl From<Refusal> for Refused {
    /// A body that does not come as it should, in the words of hubs.
    fn from(refusal: Refusal) -> Refused {
        let code = match refusal.status {
            StatusCode::PAYLOAD_TOO_LARGE => "TooLarge",
            StatusCode::REQUEST_TIMEOUT => "Timeout",
            _ => "BadRequest",
        };
        Refused(refusal.status, code, refusal.message)
    }
}

impl From<pasture_store::Error> for Refused {
    /// What the client can change; a file that cannot be read or written is told in the log only.
    fn from(error: pasture_store::Error) -> Refused {
        use pasture_store::Error as E;
        match error {
            E::BadName { .. } | E::Unusable { .. } => Refused::wrong(error.to_string()),
            error => {
                eprintln!("error: the registry: {:?}", error.to_string());
                Refused(StatusCode::INTERNAL_SERVER_ERROR, "Internal", "the registry's disk failed".to_owned())
            }
        }
    }
}

/// Runs what waits for the disk on a thread that may.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T, Refused> + Send + 'static) -> Result<T, Refused> {
    let ended = tokio::task::spawn_blocking(work).await;
    ended.unwrap_or_else(|_| Err(Refused(StatusCode::INTERNAL_SERVER_ERROR, "Internal", "it failed".to_owned())))
}

/// A whole body, of at most so many bytes.
async fn whole(body: Body, most: usize) -> Result<Vec<u8>, Refused> {
    Ok(body::bytes(body, most).await?)
}

/// A whole body as JSON.
async fn object(body: Body) -> Result<Value, Refused> {
    let bytes = whole(body, limits::BODY_BYTES).await?;
    pasture_files::json::parse(&bytes, "the body").map_err(|fault| Refused::wrong(fault.to_string()))
}

/// A path without its `%` codes; none where they are wrong or make no text.
pub fn decoded(path: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(path.len());
    let mut rest = path.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'%' => {
                let digit = |byte: Option<u8>| char::from(byte?).to_digit(16);
                u8::try_from(digit(rest.next())? * 16 + digit(rest.next())?).ok()?
            }
            byte => byte,
        });
    }
    String::from_utf8(bytes).ok()
}

/// A value of a query.
fn asked(head: &Parts, name: &str) -> Option<String> {
    let pairs = head.uri.query()?.split('&').map(|pair| pair.split_once('=').unwrap_or((pair, "")));
    let mut values = pairs.filter(|(known, _)| *known == name);
    values.next().and_then(|(_, value)| decoded(&value.replace('+', " ")))
}

/// The address by which the client came.
fn base(headers: &HeaderMap) -> String {
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or("localhost");
    let secure = headers.get("x-forwarded-proto").is_some_and(|proto| proto == "https");
    format!("{}://{host}", if secure { "https" } else { "http" })
}
