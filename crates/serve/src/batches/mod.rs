//! `/v1/files` and `/v1/batches`: requests in a file that are answered when there is time, each caller's own. What a line
//! asks is answered by the route that it names; what runs when is in `runner.rs`.

mod book;
mod form;
pub mod limits;
mod lines;
mod runner;
#[cfg(test)]
mod tests;
mod work;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use axum::Json;
use axum::body::Bytes;
use axum::extract::Request;
use axum::http::{HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};
use tokio::sync::mpsc::{Sender, channel};
use tokio::sync::{Semaphore, watch};

pub use book::Book;
use book::{NewFile, Range};
pub use runner::go_on;
use work::NewBatch;

use crate::ask::blocking;
use crate::body;
use crate::caller::{Caller, Scope};
use crate::fields::{Asked, BATCHES_QUERY, Body, Effect, FILES_QUERY, Field, Kind, of};
use crate::refusal::{Refusal, quoted};
use crate::registry::decoded;
use crate::routes::with_unused;
use crate::state::Server;
use crate::telling::Parts;

/// What a route does with files and batches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act {
    /// Lists files.
    Files,
    /// Takes one in.
    Upload,
    /// Tells of one.
    File,
    /// Gives its bytes.
    Content,
    /// Removes it.
    Delete,
    /// Lists batches.
    Batches,
    /// Makes one.
    Create,
    /// Tells of one.
    Batch,
    /// Ends it.
    Cancel,
}

impl Act {
    /// How it is asked.
    pub fn method(self) -> Method {
        match self {
            Act::Upload | Act::Create | Act::Cancel => Method::POST,
            Act::Delete => Method::DELETE,
            _ => Method::GET,
        }
    }

    /// What its query may say.
    pub fn query(self) -> &'static [Field] {
        match self {
            Act::Files => FILES_QUERY,
            Act::Batches => BATCHES_QUERY,
            _ => &[],
        }
    }

    /// Its body, and the type of that.
    pub fn body(self) -> Option<(Body, &'static str)> {
        match self {
            Act::Upload => Some((Body::Upload, FORM)),
            Act::Create => Some((Body::Batch, "application/json")),
            _ => None,
        }
    }
}

const FORM: &str = "multipart/form-data";

/// The routes whose requests a batch may hold, and the scope that each needs.
const ENDPOINTS: [(&str, Body, Scope); 3] = [
    ("/v1/chat/completions", Body::Chat, Scope::Infer),
    ("/v1/completions", Body::Completion, Scope::Infer),
    ("/v1/embeddings", Body::Embeddings, Scope::Embed),
];

fn endpoint(path: &str) -> Option<(Body, Scope)> {
    ENDPOINTS.iter().find(|(other, ..)| *other == path).map(|(_, body, scope)| (*body, *scope))
}

/// Files and batches of a server.
pub struct Batches {
    book: Book,
    /// Forms that are taken in.
    uploads: Semaphore,
    /// Lines that may be computed.
    turns: Semaphore,
    /// Lines that are computed.
    computing: Mutex<usize>,
    /// Batches that are under way, by their numbers; true asks for the end.
    under_way: Mutex<HashMap<i64, watch::Sender<bool>>>,
}

impl Batches {
    /// Those of a book, for a server with so many slots.
    pub fn new(book: Book, slots: usize) -> Batches {
        let turns = Semaphore::new(limits::at_once(slots));
        let uploads = Semaphore::new(limits::UPLOADS);
        Batches { book, uploads, turns, computing: Mutex::default(), under_way: Mutex::default() }
    }

    /// How many have not ended.
    pub fn active(&self) -> usize {
        self.under_way.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Removes what is older than it may be.
    pub fn sweep(&self) {
        // A failure is in the log already, and the next sweep tries again.
        let _ = self.book.sweep();
    }
}

/// The answer of a route.
pub async fn answer(act: Act, server: &Arc<Server>, request: Request) -> Result<Response, Refusal> {
    let (caller, path) = (Caller::current().id, request.uri().path().to_owned());
    let mut parts = path.trim_start_matches("/v1/").split('/');
    let id = parts.nth(1).unwrap_or_default().to_owned();
    let batches = server.batches.clone();
    match act {
        Act::Files | Act::Batches => {
            let asked = queried(request.uri().query(), act.query(), server.options.lenient)?;
            let range = range(&asked, if act == Act::Files { limits::FILES_LISTED } else { limits::BATCHES_LISTED });
            let read = move || match act {
                Act::Files => batches.book.files(&caller, &range),
                _ => batches.book.batches(&caller, &range),
            };
            Ok(with_unused(Json(list(blocking(read).await?)).into_response(), &asked))
        }
        Act::Upload => upload(server, request).await,
        Act::File => Ok(Json(blocking(move || batches.book.file(&caller, &id)).await?).into_response()),
        Act::Content => content(batches, &caller, id).await,
        Act::Delete => {
            let gone = json!({"id": id, "object": "file", "deleted": true});
            blocking(move || batches.book.delete_file(&caller, &id)).await?;
            Ok(Json(gone).into_response())
        }
        Act::Create => create(server, request).await,
        Act::Batch => Ok(Json(blocking(move || batches.book.batch(&caller, &id)).await?).into_response()),
        Act::Cancel => {
            let (number, told) = blocking(move || batches.book.cancel(&caller, &id)).await?;
            runner::cancel(server, number);
            Ok(Json(told).into_response())
        }
    }
}

/// Takes a file in.
async fn upload(server: &Arc<Server>, request: Request) -> Result<Response, Refusal> {
    let busy = |_| {
        let message = format!("{} files are being taken in, and more are not; try again later", limits::UPLOADS);
        let refusal = Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "uploads_busy", message);
        Refusal { retry_after: Some(5), ..refusal }
    };
    let _turn = server.batches.uploads.try_acquire().map_err(busy)?;
    let kind = body::is_of_type(request.headers(), FORM)?.to_owned();
    let bytes = body::bytes(request.into_body(), limits::FILE_BYTES + limits::FIELD_BYTES * limits::PARTS).await?;
    let form = form::read(&kind, &bytes).map_err(|what| Refusal::wrong(what).code("invalid_form"))?;
    let asked = Asked::check(form.fields, of(Body::Upload), server.options.lenient)?;
    let name = asked.needed("file")?.as_str().unwrap_or_default().to_owned();
    asked.needed("purpose")?;
    let content = form.content.ok_or_else(|| Refusal::field("file", "\"file\" of the form must be a file"))?;
    if name.is_empty() || name.len() > limits::NAME_BYTES || name.chars().any(char::is_control) {
        let message =
            format!("the name of the file must have 1 to {} bytes, and no control letters", limits::NAME_BYTES);
        return Err(Refusal::field("file", message));
    }
    let lines = content.split_inclusive(|byte| *byte == b'\n').take(limits::LINES + 1).count();
    if content.is_empty() || content.len() > limits::FILE_BYTES || lines > limits::LINES {
        let (most, lines) = (limits::FILE_BYTES >> 20, limits::LINES);
        return Err(Refusal::field("file", format!("a file has 1 byte to {most} MiB, and at most {lines} lines")));
    }
    let file = NewFile { name, content: content.to_vec(), kept: kept(&asked, "expires_after")? };
    drop(bytes);
    let (batches, caller) = (server.batches.clone(), Caller::current().id);
    let made = blocking(move || batches.book.add_file(&caller, &file)).await?;
    Ok(with_unused(Json(made).into_response(), &asked))
}

/// For how many seconds a file is kept, as a field says it.
fn kept(asked: &Asked, field: &str) -> Result<u64, Refusal> {
    let (anchor, seconds) = (format!("{field}.anchor"), format!("{field}.seconds"));
    match (asked.value(&anchor), asked.whole(&seconds)) {
        (None, None) => Ok(limits::KEPT.1),
        (Some(_), Some(seconds)) => Ok(seconds),
        (Some(_), None) => asked.needed(&seconds).map(|_| 0),
        (None, Some(_)) => asked.needed(&anchor).map(|_| 0),
    }
}

/// The bytes of a file, line by line as the client takes them.
async fn content(batches: Arc<Batches>, caller: &str, id: String) -> Result<Response, Refusal> {
    let (of, caller) = (batches.clone(), caller.to_owned());
    let (name, number, bytes) = blocking(move || of.book.content(&caller, &id)).await?;
    let (sender, pieces) = channel(2);
    tokio::task::spawn_blocking(move || write(&batches.book, number, &sender));
    let mut response = Response::new(axum::body::Body::from_stream(Parts(pieces)));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    // So that one that breaks off is seen.
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(bytes));
    let plain: String = name
        .chars()
        .map(|letter| if letter.is_ascii_alphanumeric() || ".-_".contains(letter) { letter } else { '_' })
        .collect();
    if let Ok(value) = HeaderValue::from_str(&format!("attachment; filename=\"{plain}\"")) {
        headers.insert(header::CONTENT_DISPOSITION, value);
    }
    Ok(response)
}

/// Bytes that are sent at once, where lines are short.
const PIECE: usize = 64 << 10;

fn write(book: &Book, file: i64, pieces: &Sender<Bytes>) {
    let (mut from, mut piece) = (0, Vec::new());
    // What cannot be read ends the answer before its length.
    while let Ok(Some((line, text))) = book.line(file, from) {
        from = line + 1;
        piece.extend_from_slice(&text);
        if piece.len() >= PIECE && pieces.blocking_send(std::mem::take(&mut piece).into()).is_err() {
            return;
        }
    }
    if !piece.is_empty() {
        let _ = pieces.blocking_send(piece.into());
    }
}

/// Makes a batch, which begins at once.
async fn create(server: &Arc<Server>, request: Request) -> Result<Response, Refusal> {
    let asked = Asked::check(body::object(request).await?, of(Body::Batch), server.options.lenient)?;
    let text = |name: &str| Ok::<String, Refusal>(asked.needed(name)?.as_str().unwrap_or_default().to_owned());
    let (input, path) = (text("input_file_id")?, text("endpoint")?);
    asked.needed("completion_window")?;
    let caller = Caller::current();
    if let Some((_, scope)) = endpoint(&path).filter(|(_, scope)| !caller.scopes.has(*scope)) {
        return Err(Refusal::without(scope));
    }
    let metadata = metadata(asked.value("metadata"))?;
    let batch = NewBatch { endpoint: path, input, metadata, kept: kept(&asked, "output_expires_after")? };
    let batches = server.batches.clone();
    let (number, told) = blocking(move || batches.book.create(&caller.id, &batch)).await?;
    runner::begin(server, number);
    Ok(with_unused(Json(told).into_response(), &asked))
}

fn metadata(value: Option<&Value>) -> Result<Option<serde_json::Map<String, Value>>, Refusal> {
    let (entries, name, text) = limits::METADATA;
    let Some(value) = value else { return Ok(None) };
    let good = |(key, value): (&String, &Value)| {
        let fits = |value: &str| value.chars().count() <= text;
        key.chars().count() <= name && value.as_str().is_some_and(fits)
    };
    let object = value.as_object().filter(|object| object.len() <= entries && object.iter().all(good));
    let wrong = || {
        let what = format!("\"metadata\" must be an object of at most {entries} texts of {text} characters");
        Refusal::field("metadata", format!("{what}, whose names have {name}"))
    };
    Ok(Some(object.ok_or_else(wrong)?.clone()))
}

fn list((data, more): (Vec<Value>, bool)) -> Value {
    let id = |one: Option<&Value>| one.map_or(Value::Null, |one| one["id"].clone());
    let (first, last) = (id(data.first()), id(data.last()));
    json!({"object": "list", "data": data, "first_id": first, "last_id": last, "has_more": more})
}

/// What the query of a list says, by its table.
fn queried(query: Option<&str>, table: &[Field], lenient: bool) -> Result<Asked, Refusal> {
    let mut given = serde_json::Map::new();
    for pair in query.unwrap_or_default().split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let plain = |text: &str| decoded(&text.replace('+', " "));
        let wrong = || Refusal::wrong(format!("{} is no part of a query", quoted(pair)));
        let (name, value) = plain(name).zip(plain(value)).ok_or_else(wrong)?;
        let counts =
            table.iter().any(|field| field.name == name && matches!(field.effect, Effect::Effective(Kind::Whole(..))));
        let value = value.parse::<u64>().ok().filter(|_| counts).map_or_else(|| json!(value), |number| json!(number));
        if given.insert(name.clone(), value).is_some() {
            return Err(Refusal::field(name.clone(), format!("{} comes twice in the query", quoted(&name))));
        }
    }
    Asked::check(given, table, lenient)
}

/// The part of a list that is asked for; so many where nothing is said.
fn range(asked: &Asked, usual: usize) -> Range {
    let text = |name: &str| asked.text(name).map(str::to_owned);
    Range {
        after: text("after"),
        limit: asked.whole("limit").and_then(|limit| usize::try_from(limit).ok()).unwrap_or(usual),
        ascending: asked.text("order") == Some("asc"),
        purpose: text("purpose"),
    }
}
