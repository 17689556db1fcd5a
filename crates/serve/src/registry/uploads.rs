//! Large files on their way in, by the LFS protocol: a batch tells which are wanted and where each goes, a PUT brings one
//! and is checked while it arrives, a verification asks whether it is there. The place of an upload is a ticket that
//! cannot be guessed, because clients send no key there.

use std::sync::PoisonError;
use std::time::Instant;

use axum::body::{Body, HttpBody};
use axum::http::StatusCode;
use axum::http::request::Parts;
use axum::response::{IntoResponse, Response};
use pasture_store::Digest;
use serde_json::{Value, json};

use super::{
    Answered, FILE_BYTES, Lending, Refused, TICKET_TIME, TICKETS_MAX, base, blocking, may, no_repository, object,
};
use crate::caller::Scope;
use crate::random::random_key;

pub(super) const BATCH: &str = ".git/info/lfs/objects/batch";
pub(super) const VERIFY: &str = ".git/info/lfs/objects/verify";
pub(super) const PLACE: &str = "/registry/uploads/";

/// Files of one batch.
const BATCH_MAX: usize = 1000;
/// Parts of a body that wait for the disk.
const PARTS: usize = 16;

/// The right to upload one file.
#[derive(Clone)]
pub(super) struct Ticket {
    name: String,
    digest: Digest,
    bytes: u64,
    made: Instant,
}

pub(super) async fn batch(lending: &Lending, path: &str, head: &Parts, body: Body) -> Answered {
    may(Scope::Push)?;
    let name = path.trim_start_matches('/').trim_end_matches(BATCH).to_owned();
    if !lending.registry.has(&name) {
        return Err(no_repository(&name));
    }
    let address = base(&head.headers);
    let body = object(body).await?;
    if body.get("operation").and_then(Value::as_str) != Some("upload") {
        return Err(Refused::wrong("files are fetched from their place in the repository; a batch uploads"));
    }
    if body.get("hash_algo").and_then(Value::as_str).is_some_and(|algorithm| algorithm != "sha256") {
        return Err(Refused::wrong("\"hash_algo\" is sha256"));
    }
    let objects =
        body.get("objects").and_then(Value::as_array).ok_or_else(|| Refused::wrong("\"objects\" is missing"))?;
    if objects.len() > BATCH_MAX {
        return Err(Refused::wrong(format!("a batch has at most {BATCH_MAX} objects")));
    }
    let rows = objects.iter().map(|object| row(lending, &name, &address, object)).collect::<Result<Vec<Value>, _>>()?;
    let answer = axum::Json(json!({"transfer": "basic", "hash_algo": "sha256", "objects": rows}));
    Ok(([("content-type", "application/vnd.git-lfs+json")], answer).into_response())
}

/// What is to be done for one file: nothing where it is there.
fn row(lending: &Lending, name: &str, address: &str, object: &Value) -> Result<Value, Refused> {
    let oid = object.get("oid").and_then(Value::as_str).unwrap_or_default();
    let digest = Digest::parse(&format!("sha256:{oid}")).map_err(Refused::wrong)?;
    let bytes =
        object.get("size").and_then(Value::as_u64).ok_or_else(|| Refused::wrong("an object has no \"size\""))?;
    if bytes > FILE_BYTES {
        let error = json!({"code": 422, "message": "the file is larger than this registry takes"});
        return Ok(json!({"oid": oid, "size": bytes, "error": error}));
    }
    if lending.registry.blob(name, &digest)?.is_some_and(|(_, length)| length == bytes) {
        return Ok(json!({"oid": oid, "size": bytes}));
    }
    let ticket = lending.allow(Ticket { name: name.to_owned(), digest, bytes, made: Instant::now() })?;
    Ok(json!({"oid": oid, "size": bytes, "authenticated": true, "actions": {
        "upload": {"href": format!("{address}{PLACE}{ticket}"), "header": {}},
        "verify": {"href": format!("{address}/{name}{VERIFY}"), "header": {}},
    }}))
}

impl Lending {
    /// Keeps the right to an upload under a word that cannot be guessed.
    fn allow(&self, ticket: Ticket) -> Result<String, Refused> {
        let word = random_key().map_err(|error| Refused::wrong(error.to_string()))?;
        let mut tickets = self.tickets.lock().unwrap_or_else(PoisonError::into_inner);
        tickets.retain(|_, ticket| ticket.made.elapsed() < TICKET_TIME);
        if tickets.len() >= TICKETS_MAX {
            return Err(busy("too many uploads are under way"));
        }
        tickets.insert(word.clone(), ticket);
        Ok(word)
    }
}

fn busy(what: &str) -> Refused {
    Refused(StatusCode::SERVICE_UNAVAILABLE, "Busy", what.to_owned())
}

/// Takes the bytes of a file. They go to the disk as they come, and get their name when their digest is right.
pub(super) async fn take(lending: &Lending, path: &str, mut body: Body) -> Answered {
    let word = path.trim_start_matches(PLACE).to_owned();
    let ticket = lending.ticket(&word).filter(|ticket| ticket.made.elapsed() < TICKET_TIME);
    let gone =
        || Refused(StatusCode::NOT_FOUND, "NotFound", "there is no such upload; ask for a batch again".to_owned());
    let Ticket { name, digest, bytes, .. } = ticket.ok_or_else(gone)?;
    if body.size_hint().exact().is_some_and(|length| length != bytes) {
        return Err(Refused::wrong(format!("the body must have the {bytes} bytes that were announced")));
    }
    let _turn = lending.uploads.try_acquire().map_err(|_| busy("too many uploads are under way"))?;
    let registry = lending.registry.clone();
    let (sender, mut parts) = tokio::sync::mpsc::channel::<axum::body::Bytes>(PARTS);
    let writing = tokio::spawn(blocking(move || {
        let mut incoming = registry.receive(&name, digest, bytes)?;
        while let Some(data) = parts.blocking_recv() {
            incoming.put(&data)?;
        }
        Ok(incoming.finish()?)
    }));
    let mut fault = None;
    loop {
        match crate::body::part(&mut body).await {
            // The writer has said why it takes no more.
            Ok(Some(data)) => {
                if sender.send(data).await.is_err() {
                    break;
                }
            }
            Ok(None) => break,
            Err(refused) => {
                fault = Some(refused.into());
                break;
            }
        }
    }
    drop(sender);
    let written = writing.await.unwrap_or_else(|_| Err(busy("the upload was given up")));
    if let Some(fault) = fault {
        return Err(fault);
    }
    written?;
    lending.tickets.lock().unwrap_or_else(PoisonError::into_inner).remove(&word);
    Ok(Response::default())
}

pub(super) async fn verify(lending: &Lending, path: &str, body: Body) -> Answered {
    may(Scope::Push)?;
    let name = path.trim_start_matches('/').trim_end_matches(VERIFY).to_owned();
    let body = object(body).await?;
    let oid = body.get("oid").and_then(Value::as_str).unwrap_or_default();
    let digest = Digest::parse(&format!("sha256:{oid}")).map_err(Refused::wrong)?;
    let size = body.get("size").and_then(Value::as_u64);
    match lending.registry.blob(&name, &digest)? {
        Some((_, bytes)) if size.is_none_or(|size| size == bytes) => Ok(Response::default()),
        _ => Err(Refused(StatusCode::NOT_FOUND, "EntryNotFound", "that file is not here".to_owned())),
    }
}
