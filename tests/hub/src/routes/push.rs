//! Bringing things to the hub: repositories, the LFS batch with one place or several for each file, commits.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::{is_known, refuse};
use crate::content::{Content, git_sha1, sha256};
use crate::http::{Answer, Request};
use crate::repo::{Gate, Repo};
use crate::state::State;

/// Files from this length on go apart from the commit, and from the second on in pieces of the third.
const LARGE: u64 = 64;
const PIECES: u64 = 4096;
const PIECE: u64 = 1500;

pub(crate) fn answer(state: &State, request: &Request) -> Option<Answer> {
    let path = request.path.as_str();
    match request.method.as_str() {
        // Places of uploads are for whoever knows them, and get no token.
        "PUT" if request.at_store => Some(take(state, request)),
        "POST" if request.at_store && path.starts_with("/done/") => Some(join(state, request)),
        "POST" if !is_known(state, request) => Some(refuse(401, "InvalidToken")),
        "POST" if path == "/api/repos/create" => Some(create(state, &body(request)?)),
        "POST" if path.ends_with("/preupload/main") => Some(modes(&body(request)?)),
        "POST" if path.ends_with(".git/info/lfs/objects/batch") => Some(batch(state, &body(request)?)),
        "POST" if path.ends_with("/verify") => Some(verify(state, &body(request)?)),
        "POST" => {
            let name = path.strip_prefix("/api/models/")?.strip_suffix("/commit/main")?;
            Some(commit(state, name, &request.body))
        }
        _ => None,
    }
}

fn body(request: &Request) -> Option<Value> {
    serde_json::from_slice(&request.body).ok()
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value.get(key).and_then(Value::as_str).unwrap_or_default()
}

fn create(state: &State, body: &Value) -> Answer {
    let name = format!("{}/{}", text(body, "organization"), text(body, "name"));
    let url = json!({"url": format!("http://{}/{name}", state.front), "name": name});
    let mut repos = state.repos();
    if repos.contains_key(&name) {
        return Answer::json(409, &url);
    }
    let private = body.get("private") == Some(&json!(true));
    let repo = Repo::new(&name).gate(if private { Gate::Private } else { Gate::Open });
    repos.insert(name, repo);
    Answer::json(200, &url)
}

fn modes(body: &Value) -> Answer {
    let files = body.get("files").and_then(Value::as_array).into_iter().flatten();
    let rows: Vec<Value> = files
        .map(|file| {
            let large = file.get("size").and_then(Value::as_u64).unwrap_or(0) >= LARGE;
            json!({"path": file["path"], "uploadMode": if large { "lfs" } else { "regular" }, "shouldIgnore": false})
        })
        .collect();
    Answer::json(200, &json!({"files": rows}))
}

/// Where uploads wait until a commit names them: the registry's shelf, which nobody else uses below this.
fn shelf(oid: &str) -> String {
    format!("lfs/{oid}")
}

fn batch(state: &State, body: &Value) -> Answer {
    let objects = body.get("objects").and_then(Value::as_array).into_iter().flatten();
    let row = |object: &Value| {
        let (oid, size) = (text(object, "oid"), object["size"].as_u64().unwrap_or(0));
        let there = state.images().contains_key(&shelf(oid));
        let place = |what: &str| format!("http://{}/{what}/{oid}", state.store);
        let mut upload = json!({"href": place("put"), "header": {"x-signed": "yes"}});
        if size >= PIECES {
            let count = size.div_ceil(PIECE);
            let mut header = json!({"chunk_size": PIECE.to_string()});
            for number in 1..=count {
                header[number.to_string()] = json!(format!("{}?part={number}", place("put")));
            }
            upload = json!({"href": place("done"), "header": header});
        }
        let verify = json!({"href": format!("http://{}/lfs/verify", state.front), "header": {}});
        match there {
            true => json!({"oid": oid, "size": size}),
            false => json!({"oid": oid, "size": size, "actions": {"upload": upload, "verify": verify}}),
        }
    };
    Answer::json(200, &json!({"transfer": "basic", "objects": objects.map(row).collect::<Vec<_>>()}))
}

fn take(state: &State, request: &Request) -> Answer {
    let oid = request.path.trim_start_matches("/put/");
    let content = Content::of(&request.body);
    match request.asked("part") {
        Some(part) => {
            let etag = format!("\"{}\"", git_sha1(&content));
            state.images().insert(format!("{}/{part}", shelf(oid)), content);
            Answer::new(200).header("etag", &etag)
        }
        None if request.header("x-signed") != Some("yes") || sha256(&content) != oid => refuse(400, "BadUpload"),
        None => {
            state.images().insert(shelf(oid), content);
            Answer::new(200)
        }
    }
}

fn join(state: &State, request: &Request) -> Answer {
    let oid = request.path.trim_start_matches("/done/");
    let parts = body(request).and_then(|body| body["parts"].as_array().cloned()).unwrap_or_default();
    let mut whole = Vec::new();
    let mut images = state.images();
    for part in &parts {
        let Some(content) = images.get(&format!("{}/{}", shelf(oid), part["partNumber"])) else {
            return refuse(400, "BadUpload");
        };
        if text(part, "etag") != format!("\"{}\"", git_sha1(content)) {
            return refuse(400, "BadUpload");
        }
        whole.extend(content.read(0, usize::MAX >> 1));
    }
    let content = Content::of(whole);
    if sha256(&content) != oid {
        return refuse(400, "BadUpload");
    }
    images.insert(shelf(oid), content);
    Answer::json(200, &json!({"success": true}))
}

fn verify(state: &State, body: &Value) -> Answer {
    let there = state.images().get(&shelf(text(body, "oid"))).map(Content::length);
    if there.is_some() && there == body["size"].as_u64() { Answer::new(200) } else { refuse(404, "EntryNotFound") }
}

fn commit(state: &State, name: &str, lines: &[u8]) -> Answer {
    let mut repos = state.repos();
    let Some(repo) = repos.get_mut(name) else { return refuse(404, "RepoNotFound") };
    let mut kinds = BTreeSet::new();
    for line in lines.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
        let Ok(row) = serde_json::from_slice::<Value>(line) else { return refuse(400, "BadCommit") };
        let (kind, value) = (text(&row, "key").to_owned(), &row["value"]);
        let path = text(value, "path");
        match kind.as_str() {
            "header" if !text(value, "summary").is_empty() => {}
            "file" => match decoded(text(value, "content")) {
                Some(bytes) => repo.add(path, Content::of(bytes), false),
                None => return refuse(400, "BadCommit"),
            },
            "lfsFile" => {
                let Some(content) = state.images().get(&shelf(text(value, "oid"))).cloned() else {
                    return refuse(400, "BadCommit");
                };
                repo.add(path, content, true);
            }
            _ => return refuse(400, "BadCommit"),
        }
        kinds.insert(kind);
    }
    if !kinds.contains("header") {
        return refuse(400, "BadCommit");
    }
    let url = format!("http://{}/{name}/commit/{}", state.front, repo.commit);
    Answer::json(200, &json!({"success": true, "commitOid": repo.commit, "commitUrl": url}))
}

/// Base64 with its padding.
fn decoded(text: &str) -> Option<Vec<u8>> {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut bytes = Vec::new();
    for four in text.as_bytes().chunks(4) {
        let mut word = 0u32;
        let padding = four.iter().filter(|letter| **letter == b'=').count();
        for letter in four {
            let value = if *letter == b'=' { 0 } else { LETTERS.iter().position(|known| known == letter)? as u32 };
            word = word << 6 | value;
        }
        if four.len() != 4 || padding > 2 {
            return None;
        }
        bytes.extend_from_slice(&word.to_be_bytes()[1..4 - padding]);
    }
    Some(bytes)
}
