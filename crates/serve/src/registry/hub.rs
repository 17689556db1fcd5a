//! `/api/…` as the Hugging Face hub has it: who one is, what there is, what a repository has, and commits.

use axum::body::Body;
use axum::http::StatusCode;
use axum::http::request::Parts;
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use pasture_store::Digest;
use pasture_store::registry::{Change, Listing};
use serde_json::{Value, json};

use super::{Answered, Lending, REQUEST_BYTES, Refused, asked, base, blocking, may, no_repository, object, whole};
use crate::caller::{Caller, Scope};

/// Files up to this length, which are no weights, are part of a commit; others are uploaded apart.
const SMALL_BYTES: u64 = 1 << 20;
/// Endings of files that are always uploaded apart.
const WEIGHTS: [&str; 8] = ["safetensors", "gguf", "bin", "pt", "pth", "onnx", "h5", "model"];
/// Changes of one commit.
const CHANGES_MAX: usize = 10_000;
/// Repositories that a search tells.
const FOUND_MAX: usize = 1000;

pub(super) fn whoami() -> Response {
    let caller = Caller::current();
    let role = if caller.scopes.has(Scope::Push) { "write" } else { "read" };
    axum::Json(json!({
        "type": "user", "id": &*caller.id, "name": &*caller.name, "fullname": &*caller.name, "orgs": [],
        "auth": {"type": "access_token", "accessToken": {"displayName": &*caller.name, "role": role}},
    }))
    .into_response()
}

pub(super) async fn create(lending: &Lending, head: &Parts, body: Body) -> Answered {
    may(Scope::Push)?;
    let address = base(&head.headers);
    let body = object(body).await?;
    let text = |key: &str| body.get(key).and_then(Value::as_str);
    if let Some(kind) = text("type").filter(|kind| *kind != "model") {
        return Err(Refused::wrong(format!("this registry keeps models, not {}", crate::refusal::quoted(kind))));
    }
    let name = text("name").ok_or_else(|| Refused::wrong("\"name\" is missing"))?;
    let owner = text("organization").map_or_else(|| Caller::current().name.to_string(), str::to_owned);
    let name = if name.contains('/') { name.to_owned() } else { format!("{owner}/{name}") };
    let private = body.get("private").and_then(Value::as_bool).unwrap_or(false)
        || text("visibility").is_some_and(|visibility| visibility == "private");
    let (registry, made) = (lending.registry.clone(), name.clone());
    let fresh = blocking(move || Ok(registry.create(&made, private)?)).await?;
    let body = json!({"url": format!("{address}/{name}"), "name": name, "id": name});
    match fresh {
        true => Ok(axum::Json(body).into_response()),
        // Clients that do not mind read the address of a 409 too.
        false => Ok((StatusCode::CONFLICT, axum::Json(body)).into_response()),
    }
}

pub(super) fn search(lending: &Lending, head: &Parts) -> Answered {
    may(Scope::Pull)?;
    let words = asked(head, "search").unwrap_or_default().to_lowercase();
    let limit = asked(head, "limit").and_then(|limit| limit.parse().ok()).unwrap_or(FOUND_MAX).min(FOUND_MAX);
    let mut rows = Vec::new();
    for name in lending.registry.names() {
        let fits = words.split_whitespace().all(|word| name.to_lowercase().contains(word));
        if rows.len() >= limit || !fits || lending.may_read(&head.headers, &name).is_err() {
            continue;
        }
        rows.extend(lending.registry.listing(&name, "main")?.map(|listing| listing.info(false)));
    }
    Ok(axum::Json(json!(rows)).into_response())
}

/// `/api/models/OWNER/NAME/…`; a name without owner has one part.
pub(super) async fn model(lending: &Lending, path: &str, head: &Parts, body: Body) -> Answered {
    let rest = path.trim_start_matches("/api/models/");
    let parts: Vec<&str> = rest.split('/').collect();
    const WORDS: [&str; 5] = ["revision", "tree", "preupload", "commit", "paths-info"];
    let at = parts.iter().skip(1).position(|part| WORDS.contains(part)).map_or(parts.len(), |at| at + 1);
    let (name, word) = (parts[..at].join("/"), parts.get(at).copied());
    let tail = parts.get(at + 1..).unwrap_or_default().join("/");
    let revision = if tail.is_empty() { "main".to_owned() } else { tail };
    match (head.method.as_str(), word) {
        ("GET", None | Some("revision")) => {
            let listing = listing(lending, head, name, revision).await?;
            let with_blobs = asked(head, "blobs").is_some_and(|text| !text.eq_ignore_ascii_case("false"));
            Ok(axum::Json(listing.info(with_blobs)).into_response())
        }
        ("GET", Some("tree")) => tree(lending, head, name, revision).await,
        ("POST", Some("paths-info")) => paths(lending, head, body, name, revision).await,
        ("POST", Some("preupload")) => preupload(lending, body, &name).await,
        ("POST", Some("commit")) => commit(lending, head, body, name, revision).await,
        _ => Err(Refused(StatusCode::NOT_FOUND, "NotFound", "this registry has no such route".to_owned())),
    }
}

async fn listing(lending: &Lending, head: &Parts, name: String, revision: String) -> Result<Listing, Refused> {
    lending.may_read(&head.headers, &name)?;
    let registry = lending.registry.clone();
    let found = blocking(move || Ok(registry.listing(&name, &revision)?)).await?;
    found.ok_or_else(|| Refused(StatusCode::NOT_FOUND, "RevisionNotFound", "there is no such revision".to_owned()))
}

/// Behind the revision may stand a folder, and a revision may have slashes: the longest that is one counts.
async fn tree(lending: &Lending, head: &Parts, name: String, rest: String) -> Answered {
    lending.may_read(&head.headers, &name)?;
    let parts: Vec<&str> = rest.split('/').collect();
    for count in (1..=parts.len()).rev() {
        let (revision, folder) = (parts[..count].join("/"), parts[count..].join("/"));
        let (registry, name) = (lending.registry.clone(), name.clone());
        let Some(listing) = blocking(move || Ok(registry.listing(&name, &revision)?)).await? else { continue };
        let recursive = asked(head, "recursive").is_some_and(|text| matches!(text.as_str(), "true" | "True" | "1"));
        let inside = |path: &str| match folder.is_empty() {
            true => Some(path.to_owned()),
            false => path.strip_prefix(&folder)?.strip_prefix('/').map(str::to_owned),
        };
        let mut rows: Vec<Value> = Vec::new();
        for entry in &listing.entries {
            let Some(path) = inside(&entry.path) else { continue };
            match path.split_once('/').filter(|_| !recursive) {
                None => rows.push(entry.row()),
                Some((first, _)) => {
                    let path = if folder.is_empty() { first.to_owned() } else { format!("{folder}/{first}") };
                    let row = json!({"type": "directory", "path": path, "size": 0, "oid": listing.commit});
                    if rows.last() != Some(&row) {
                        rows.push(row);
                    }
                }
            }
        }
        return Ok(axum::Json(json!(rows)).into_response());
    }
    Err(Refused(StatusCode::NOT_FOUND, "RevisionNotFound", "there is no such revision".to_owned()))
}

async fn paths(lending: &Lending, head: &Parts, body: Body, name: String, revision: String) -> Answered {
    let listing = listing(lending, head, name, revision).await?;
    let body = object(body).await?;
    let wanted = body.get("paths").and_then(Value::as_array).cloned().unwrap_or_default();
    let is_wanted = |path: &str| wanted.iter().any(|text| text.as_str() == Some(path));
    let rows: Vec<Value> = listing.entries.iter().filter(|entry| is_wanted(&entry.path)).map(|one| one.row()).collect();
    Ok(axum::Json(json!(rows)).into_response())
}

async fn preupload(lending: &Lending, body: Body, name: &str) -> Answered {
    may(Scope::Push)?;
    if !lending.registry.has(name) {
        return Err(no_repository(name));
    }
    let body = object(body).await?;
    let files = body.get("files").and_then(Value::as_array).ok_or_else(|| Refused::wrong("\"files\" is missing"))?;
    let row = |file: &Value| {
        let path = file.get("path").and_then(Value::as_str).ok_or_else(|| Refused::wrong("a file has no \"path\""))?;
        let size = file.get("size").and_then(Value::as_u64).unwrap_or(u64::MAX);
        let ending = path.rsplit('.').next().unwrap_or_default();
        let large = size > SMALL_BYTES || WEIGHTS.contains(&ending);
        Ok(json!({"path": path, "uploadMode": if large { "lfs" } else { "regular" }, "shouldIgnore": false}))
    };
    let rows = files.iter().map(row).collect::<Result<Vec<Value>, Refused>>()?;
    Ok(axum::Json(json!({"files": rows})).into_response())
}

async fn commit(lending: &Lending, head: &Parts, body: Body, name: String, branch: String) -> Answered {
    may(Scope::Push)?;
    if !lending.registry.has(&name) {
        return Err(no_repository(&name));
    }
    if asked(head, "create_pr").is_some_and(|text| text == "1" || text == "true") {
        return Err(Refused::wrong("this registry has no pull requests; commit to a branch"));
    }
    let address = base(&head.headers);
    let body = whole(body, REQUEST_BYTES).await?;
    let Commit { message, parent, changes } = Commit::read(&body)?;
    let (registry, at) = (lending.registry.clone(), name.clone());
    let work = move || Ok(registry.change(&at, &branch, parent.as_deref(), &changes, &message)?);
    let commit = blocking(work).await?;
    let url = format!("{address}/{name}/commit/{commit}");
    Ok(axum::Json(json!({"success": true, "commitOid": commit, "commitUrl": url, "hookOutput": ""})).into_response())
}

/// A commit as it is sent: a line for each change, after a line that says what it is.
struct Commit {
    message: String,
    parent: Option<String>,
    changes: Vec<Change>,
}

impl Commit {
    fn read(body: &[u8]) -> Result<Commit, Refused> {
        let mut commit = Commit { message: String::new(), parent: None, changes: Vec::new() };
        for line in body.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            let row = pasture_files::json::parse(line, "a line of the commit");
            let row = row.map_err(|fault| Refused::wrong(fault.to_string()))?;
            let value = row.get("value").ok_or_else(|| Refused::wrong("a line of the commit has no \"value\""))?;
            let text = |key: &str| value.get(key).and_then(Value::as_str);
            let needed = |key: &str| {
                text(key).map(str::to_owned).ok_or_else(|| Refused::wrong(format!("a change has no {key:?}")))
            };
            match row.get("key").and_then(Value::as_str).unwrap_or_default() {
                "header" => {
                    commit.message = text("summary").unwrap_or("commit").to_owned();
                    commit.parent = text("parentCommit").map(str::to_owned);
                }
                "file" => {
                    let content = needed("content")?;
                    let content = match text("encoding") {
                        Some("base64") => base64::engine::general_purpose::STANDARD
                            .decode(content)
                            .map_err(|_| Refused::wrong("a file's content is no base64"))?,
                        _ => content.into_bytes(),
                    };
                    commit.changes.push(Change::Small { path: needed("path")?, content });
                }
                "lfsFile" => {
                    let digest = Digest::parse(&format!("sha256:{}", needed("oid")?)).map_err(Refused::wrong)?;
                    commit.changes.push(Change::Large { path: needed("path")?, digest });
                }
                "deletedFile" | "deletedFolder" => {
                    let path = needed("path")?.trim_end_matches('/').to_owned();
                    commit.changes.push(Change::Gone { path });
                }
                other => {
                    let what = format!("a commit here has no lines of {}", crate::refusal::quoted(other));
                    return Err(Refused::wrong(what));
                }
            }
            if commit.changes.len() > CHANGES_MAX {
                return Err(Refused::wrong(format!("a commit has at most {CHANGES_MAX} changes")));
            }
        }
        Ok(commit)
    }
}
