//! A push to a hub: the repository, what of each file is there, the large ones by LFS (one request, or pieces where the
//! hub asks for them), and one commit of it all.
//! LFS: <https://github.com/git-lfs/git-lfs/blob/main/docs/api/batch.md>; pieces as the Hugging Face hub has them.

use std::collections::{BTreeMap, BTreeSet};

use base64::Engine as _;
use serde_json::{Value, json};

use super::error::{Error, Result};
use super::wire::{Sent, Wire};
use super::{File, Push, Step, Visibility};
use crate::Digest;
use crate::git;
use crate::pull::{Error as Broken, Network};

const LFS: &str = "application/vnd.git-lfs+json";
const JSON: &str = "application/json";
/// Files that are asked about at once.
const BATCH: usize = 100;
/// The hub looks at the beginning of a file to tell texts from other files.
const SAMPLE: u64 = 512;

/// What a push did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pushed {
    /// Where it can be looked at.
    pub url: String,
    /// The commit; that which was there where nothing had to change.
    pub commit: Option<String>,
    /// Files that were sent.
    pub sent: Vec<String>,
    /// Files that were there already.
    pub there: Vec<String>,
    /// Bytes of large files that were sent.
    pub bytes: u64,
}

/// How a file travels.
struct Way<'a> {
    file: &'a File,
    /// The digest of a large file; a small one is part of the commit.
    large: Option<Digest>,
}

/// Brings files to a repository of the network's hub, which is made where it is not there.
pub fn to_hub(network: &Network, push: &Push, watch: &mut dyn FnMut(Step<'_>)) -> Result<Pushed> {
    push.check_name()?;
    let wire = Wire::new(network)?;
    wire.check(&format!("{:?} (a push needs the hub)", push.repo))?;
    create(&wire, push)?;
    let listed = there(&wire, &push.repo)?;
    let modes = modes(&wire, push)?;
    let mut pushed = Pushed {
        url: wire.at(&format!("/{}", push.repo)).text(),
        commit: listed.0,
        sent: Vec::new(),
        there: Vec::new(),
        bytes: 0,
    };
    let mut ways = Vec::new();
    for file in &push.files {
        watch(Step::Reads(&file.path));
        let large = if modes.contains(&file.path) { Some(file.digest()?) } else { None };
        let digest = match &large {
            Some(digest) => digest.hexadecimal(),
            None => git::digest(&file.whole()?),
        };
        if listed.1.get(&file.path) == Some(&digest) {
            watch(Step::There(&file.path));
            pushed.there.push(file.path.clone());
        } else {
            ways.push(Way { file, large });
        }
    }
    if ways.is_empty() {
        return Ok(pushed);
    }
    let large: Vec<&Way<'_>> = ways.iter().filter(|way| way.large.is_some()).collect();
    for batch in large.chunks(BATCH) {
        pushed.bytes += upload(&wire, &push.repo, batch, watch)?;
    }
    pushed.commit = Some(commit(&wire, push, &ways)?);
    pushed.sent = ways.iter().map(|way| way.file.path.clone()).collect();
    Ok(pushed)
}

fn unsound(wire: &Wire, what: &str, why: &str) -> Error {
    Broken::Answer { host: wire.host(), what: what.to_owned(), why: why.to_owned() }.into()
}

fn bytes(value: &Value) -> Vec<u8> {
    value.to_string().into_bytes()
}

fn create(wire: &Wire, push: &Push) -> Result<()> {
    let (owner, name) = push.repo.split_once('/').ok_or_else(|| Error::Target { text: push.repo.clone() })?;
    let private = push.visibility == Visibility::Private;
    let body = bytes(&json!({"type": "model", "name": name, "organization": owner, "private": private}));
    let what = format!("to make the repository {:?}", push.repo);
    let reply = wire.bring(false, &wire.at("/api/repos/create"), &[], &Sent::Bytes(JSON, &body), &what)?;
    match reply.status {
        // It is there already.
        200..=299 | 409 => Ok(()),
        _ => Err(Error::Refused { host: wire.host(), what, why: reply.why() }),
    }
}

/// The commit, and the digest of each file that is there by its path: SHA-256 of a large one, git's of a small one.
fn there(wire: &Wire, repo: &str) -> Result<(Option<String>, BTreeMap<String, String>)> {
    let what = format!("what {repo:?} has");
    let found = wire.get(&format!("/api/models/{repo}/revision/main?blobs=true"), &what)?.unwrap_or_default();
    let text = |value: &Value, key: &str| value.get(key).and_then(Value::as_str).map(str::to_owned);
    let row = |row: &Value| {
        let digest = row.get("lfs").and_then(|large| text(large, "sha256")).or_else(|| text(row, "blobId"));
        Some((text(row, "rfilename")?, digest?))
    };
    let rows = found.get("siblings").and_then(Value::as_array).into_iter().flatten();
    Ok((text(&found, "sha"), rows.filter_map(row).collect()))
}

/// Paths that the hub wants apart from the commit.
fn modes(wire: &Wire, push: &Push) -> Result<BTreeSet<String>> {
    let url = wire.at(&format!("/api/models/{}/preupload/main", push.repo));
    let what = format!("files for {:?}", push.repo);
    let mut large = BTreeSet::new();
    for files in push.files.chunks(BATCH) {
        let row = |file: &File| {
            let mut sample = Vec::new();
            let fault = |fault| pasture_files::Error::read(file.path.as_ref(), fault);
            std::io::Read::read_to_end(&mut file.read(0, SAMPLE)?, &mut sample).map_err(fault)?;
            let sample = base64::engine::general_purpose::STANDARD.encode(sample);
            Ok(json!({"path": file.path, "size": file.bytes, "sample": sample}))
        };
        let rows = files.iter().map(row).collect::<Result<Vec<Value>>>()?;
        let reply = wire.brought(false, &url, &[], &Sent::Bytes(JSON, &bytes(&json!({"files": rows}))), &what)?;
        let answer = reply.json(&wire.host(), &what)?;
        let modes = answer.get("files").and_then(Value::as_array);
        for row in modes.ok_or_else(|| unsound(wire, &what, "it has no list of files"))? {
            let text = |key: &str| row.get(key).and_then(Value::as_str).unwrap_or_default();
            if text("uploadMode") == "lfs" {
                large.insert(text("path").to_owned());
            }
        }
    }
    Ok(large)
}

/// Sends the files of a batch that the hub lacks, and gives the bytes that went.
fn upload(wire: &Wire, repo: &str, batch: &[&Way<'_>], watch: &mut dyn FnMut(Step<'_>)) -> Result<u64> {
    let what = format!("an upload to {repo:?}");
    let objects: Vec<Value> =
        batch.iter().filter_map(|way| Some(json!({"oid": way.large?.hexadecimal(), "size": way.file.bytes}))).collect();
    let body = bytes(&json!({"operation": "upload", "transfers": ["basic", "multipart"], "hash_algo": "sha256",
                             "objects": objects, "ref": {"name": "main"}}));
    let url = wire.at(&format!("/{repo}.git/info/lfs/objects/batch"));
    let accept = [("accept".to_owned(), LFS.to_owned())];
    let answer = wire.brought(false, &url, &accept, &Sent::Bytes(LFS, &body), &what)?.json(&wire.host(), &what)?;
    let rows = answer.get("objects").and_then(Value::as_array);
    let rows = rows.ok_or_else(|| unsound(wire, &what, "it has no list of objects"))?;
    let mut sent = 0;
    for way in batch {
        let Some(digest) = way.large else { continue };
        let oid = digest.hexadecimal();
        let row = rows.iter().find(|row| row.get("oid").and_then(Value::as_str) == Some(&oid));
        let row = row.ok_or_else(|| unsound(wire, &what, "it leaves a file out"))?;
        if let Some(error) = row.get("error") {
            let why = error.get("message").and_then(Value::as_str).unwrap_or("no reason").to_owned();
            return Err(Error::Refused { host: wire.host(), what: format!("{:?}", way.file.path), why });
        }
        let Some(action) = row.pointer("/actions/upload") else {
            watch(Step::There(&way.file.path));
            continue;
        };
        one(wire, way.file, &oid, action, watch)?;
        sent += way.file.bytes;
        if let Some(verify) = row.pointer("/actions/verify") {
            let (url, headers) = place(wire, verify, &what)?;
            let body = bytes(&json!({"oid": oid, "size": way.file.bytes}));
            wire.brought(
                false,
                &url,
                &headers,
                &Sent::Bytes(LFS, &body),
                &format!("{:?} as it arrived", way.file.path),
            )?;
        }
    }
    Ok(sent)
}

/// Where an action goes, and with which headers.
fn place(wire: &Wire, action: &Value, what: &str) -> Result<(crate::pull::url::Url, Vec<(String, String)>)> {
    let href =
        action.get("href").and_then(Value::as_str).ok_or_else(|| unsound(wire, what, "an action has no href"))?;
    let headers = action.get("header").and_then(Value::as_object).into_iter().flatten();
    let headers = headers.filter_map(|(name, value)| Some((name.clone(), value.as_str()?.to_owned()))).collect();
    Ok((wire.named(href, what)?, headers))
}

/// Sends one file: whole, or in the pieces whose addresses the hub gives.
fn one(wire: &Wire, file: &File, oid: &str, action: &Value, watch: &mut dyn FnMut(Step<'_>)) -> Result<()> {
    let what = format!("{:?}", file.path);
    let (url, mut headers) = place(wire, action, &what)?;
    let size =
        action.pointer("/header/chunk_size").and_then(|size| size.as_u64().or_else(|| size.as_str()?.parse().ok()));
    let Some(size) = size else {
        let open = || Ok(file.read(0, file.bytes)?);
        wire.brought(true, &url, &headers, &Sent::Piece(file.bytes, &open), &what)?;
        watch(Step::Sent(&file.path, file.bytes));
        return Ok(());
    };
    let mut pieces: BTreeMap<u64, String> = BTreeMap::new();
    headers.retain(|(name, value)| match name.parse() {
        Ok(number) => pieces.insert(number, value.clone()).is_some(),
        Err(_) => false,
    });
    if size == 0
        || pieces.len() as u64 != file.bytes.div_ceil(size)
        || pieces.keys().copied().ne(1..=pieces.len() as u64)
    {
        return Err(unsound(wire, &what, "its pieces do not make the file"));
    }
    let mut parts = Vec::new();
    for (number, address) in pieces {
        let from = (number - 1) * size;
        let length = size.min(file.bytes - from);
        let open = || Ok(file.read(from, length)?);
        let url = wire.named(&address, &what)?;
        let reply = wire.brought(true, &url, &[], &Sent::Piece(length, &open), &what)?;
        let etag = reply.etag.ok_or_else(|| unsound(wire, &what, "a piece got no etag"))?;
        parts.push(json!({"partNumber": number, "etag": etag}));
        watch(Step::Sent(&file.path, length));
    }
    let body = bytes(&json!({"oid": oid, "parts": parts}));
    wire.brought(false, &url, &[("accept".to_owned(), LFS.to_owned())], &Sent::Bytes(LFS, &body), &what)?;
    Ok(())
}

/// One line for each file, and one for the commit itself.
fn commit(wire: &Wire, push: &Push, ways: &[Way<'_>]) -> Result<String> {
    let header = json!({"key": "header", "value": {"summary": push.message, "description": ""}});
    let mut lines = vec![header.to_string()];
    for way in ways {
        let path = &way.file.path;
        lines.push(match way.large {
            Some(digest) => {
                let oid = digest.hexadecimal();
                json!({"key": "lfsFile", "value": {"path": path, "algo": "sha256", "oid": oid, "size": way.file.bytes}})
            }
            None => {
                let content = base64::engine::general_purpose::STANDARD.encode(way.file.whole()?);
                json!({"key": "file", "value": {"path": path, "encoding": "base64", "content": content}})
            }
        }
        .to_string());
    }
    let what = format!("the commit to {:?}", push.repo);
    let url = wire.at(&format!("/api/models/{}/commit/main", push.repo));
    let body = lines.join("\n").into_bytes();
    let reply = wire.brought(false, &url, &[], &Sent::Bytes("application/x-ndjson", &body), &what)?;
    let answer = reply.json(&wire.host(), &what)?;
    let commit = answer.get("commitOid").and_then(Value::as_str);
    commit.map(str::to_owned).ok_or_else(|| unsound(wire, &what, "it names no commit"))
}
