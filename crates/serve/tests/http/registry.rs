//! The registry over HTTP: who may read and write, what an upload must be, and that no path of a request leads elsewhere.

use std::time::Duration;

use pasture_serve::{Key, Lending, Options, Reading};
use pasture_store::registry::Registry;
use pasture_store::{Digest, Environment};
use serde_json::{Value, json};

use crate::client::{Answer, raw};
use crate::host::{Host, local};

const KEY: &str = "lab-key";

fn host(reading: Reading) -> (Host, tempfile::TempDir) {
    let home = tempfile::tempdir().unwrap();
    let environment = Environment::of(|_| None, Some(home.path().into()));
    let registry = Registry::of(&environment).unwrap();
    let options = Options { key: Key::new(KEY), registry: Some(Lending::new(registry, reading)), ..local() };
    (Host::start(options, Duration::ZERO), home)
}

fn send(host: &Host, method: &str, path: &str, key: Option<&str>, extra: &[(&str, &str)], body: &[u8]) -> Answer {
    let mut head = format!("{method} {path} HTTP/1.1\r\nhost: {}\r\nconnection: close\r\n", host.address);
    for (name, value) in extra {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    if let Some(key) = key {
        head.push_str(&format!("authorization: Bearer {key}\r\n"));
    }
    head.push_str(&format!("content-length: {}\r\n\r\n", body.len()));
    raw(host.address, &[head.as_bytes(), body].concat())
}

fn post(host: &Host, path: &str, body: &Value) -> Answer {
    send(host, "POST", path, Some(KEY), &[("content-type", "application/json")], body.to_string().as_bytes())
}

/// The address of an upload, below the host.
fn place(host: &Host, content: &[u8]) -> Option<String> {
    let objects = json!([{"oid": Digest::of(content).hexadecimal(), "size": content.len()}]);
    let batch =
        post(host, "/lab/sheep.git/info/lfs/objects/batch", &json!({"operation": "upload", "objects": objects}));
    assert_eq!(batch.status, 200, "{}", batch.body);
    let address = batch.json().pointer("/objects/0/actions/upload/href")?.as_str()?.to_owned();
    Some(address[address.find("/registry/").unwrap()..].to_owned())
}

fn create(host: &Host, private: bool) {
    let body = json!({"name": "sheep", "organization": "lab", "private": private});
    assert_eq!(post(host, "/api/repos/create", &body).status, 200);
    assert_eq!(post(host, "/api/repos/create", &body).status, 409);
}

fn filled(host: &Host, content: &[u8]) -> String {
    let place = place(host, content).unwrap();
    assert_eq!(send(host, "PUT", &place, None, &[], content).status, 200);
    let oid = Digest::of(content).hexadecimal();
    let lines = [
        json!({"key": "header", "value": {"summary": "first"}}),
        json!({"key": "file", "value": {"path": "README.md", "content": "aGVsbG8=", "encoding": "base64"}}),
        json!({"key": "lfsFile", "value": {"path": "sub/a.gguf", "algo": "sha256", "oid": oid, "size": content.len()}}),
    ];
    let body = lines.map(|line| line.to_string()).join("\n");
    let done = send(host, "POST", "/api/models/lab/sheep/commit/main", Some(KEY), &[], body.as_bytes());
    assert_eq!(done.status, 200, "{}", done.body);
    done.json()["commitOid"].as_str().unwrap().to_owned()
}

#[test]
fn what_is_pushed_is_read_back() {
    let (host, _home) = host(Reading::Keys);
    create(&host, false);
    let content = b"GGUF and wool";
    let commit = filled(&host, content);
    assert_eq!(place(&host, content), None, "what is there is not wanted again");
    let get = |path: &str, extra: &[(&str, &str)]| send(&host, "GET", path, Some(KEY), extra, b"");
    let info = get("/api/models/lab/sheep/revision/main?blobs=true", &[]).json();
    assert_eq!((info["sha"].as_str(), info["siblings"].as_array().map(Vec::len)), (Some(commit.as_str()), Some(2)));
    assert_eq!(get("/api/models/lab/sheep", &[]).json()["id"], "lab/sheep");
    let whole = get("/lab/sheep/resolve/main/sub/a.gguf", &[]);
    assert_eq!((whole.status, whole.body.as_bytes()), (200, &content[..]));
    assert_eq!(whole.header("x-repo-commit"), Some(commit.as_str()));
    assert_eq!(whole.header("etag"), Some(format!("\"{}\"", Digest::of(content).hexadecimal()).as_str()));
    let part = get(&format!("/lab/sheep/resolve/{commit}/sub/a.gguf"), &[("range", "bytes=5-7")]);
    assert_eq!((part.status, part.body.as_str(), part.header("content-range")), (206, "and", Some("bytes 5-7/13")));
    assert_eq!(get("/lab/sheep/resolve/main/sub/a.gguf", &[("range", "bytes=13-")]).status, 416);
    let tree = get("/api/models/lab/sheep/tree/main", &[]).json();
    assert_eq!((tree[0]["path"].as_str(), tree[1]["type"].as_str()), (Some("README.md"), Some("directory")));
    assert_eq!(get("/api/models/lab/sheep/tree/main/sub", &[]).json()[0]["path"], "sub/a.gguf");
    assert_eq!(get("/api/models?search=shee", &[]).json()[0]["id"], "lab/sheep");
    let manifest = get("/v2/lab/sheep/manifests/latest", &[]).json();
    let digest = manifest["layers"][0]["digest"].as_str().unwrap().to_owned();
    assert_eq!(get(&format!("/v2/lab/sheep/blobs/{digest}"), &[]).body, "hello");
    let head = send(&host, "HEAD", "/lab/sheep/resolve/main/sub/a.gguf", Some(KEY), &[], b"");
    assert_eq!((head.header("content-length"), head.body.as_str()), (Some("13"), ""));
}

#[test]
fn an_upload_must_be_what_was_announced() {
    let (host, _home) = host(Reading::Keys);
    create(&host, false);
    let place = place(&host, b"wool").unwrap();
    for wrong in [&b"woof"[..], b"woolly", b"woo", b""] {
        assert_eq!(send(&host, "PUT", &place, None, &[], wrong).status, 400, "{wrong:?}");
    }
    assert_eq!(send(&host, "PUT", "/registry/uploads/guessed", None, &[], b"wool").status, 401);
    assert_eq!(send(&host, "PUT", "/registry/uploads/guessed", Some(KEY), &[], b"wool").status, 404);
    assert_eq!(send(&host, "PUT", &place, None, &[], b"wool").status, 200);
    assert_eq!(send(&host, "PUT", &place, None, &[], b"wool").status, 401, "a ticket is for one upload");
}

#[test]
fn names_and_paths_of_requests_stay_inside() {
    let (host, home) = host(Reading::Keys);
    create(&host, false);
    std::fs::write(home.path().join("secret"), "secret").unwrap();
    let up = "%2e%2e%2f".repeat(8);
    for path in [
        format!("/lab/sheep/resolve/main/{up}secret"),
        format!("/lab/sheep/resolve/{up}secret/x"),
        format!("/{up}secret/resolve/main/x"),
        format!("/api/models/{up}secret"),
        format!("/api/models/lab/sheep/tree/{up}"),
        format!("/v2/{up}/manifests/latest"),
        "/v2/lab/sheep/blobs/sha256:../../../secret".to_owned(),
        "/lab/sheep/resolve/main/../../../../secret".to_owned(),
    ] {
        let answer = send(&host, "GET", &path, Some(KEY), &[], b"");
        assert!((400..500).contains(&answer.status), "{path}: {}", answer.status);
        assert!(!answer.body.contains("secret\"") || !answer.body.contains(home.path().to_str().unwrap()), "{path}");
    }
    for name in ["../x", "a/b/c", "..", "a--b", ""] {
        let body = json!({"name": name, "organization": "lab"});
        assert_eq!(post(&host, "/api/repos/create", &body).status, 400, "{name:?}");
    }
    for line in [
        json!({"key": "file", "value": {"path": "../x", "content": ""}}),
        json!({"key": "lfsFile", "value": {"path": "x", "oid": "../../x", "size": 1}}),
        json!({"key": "lfsFile", "value": {"path": "x", "oid": "0".repeat(64), "size": 1}}),
        json!({"key": "copyFile", "value": {"path": "x"}}),
        json!({"key": "file"}),
    ] {
        let body = format!("{}\n{line}", json!({"key": "header", "value": {"summary": "x"}}));
        let answer = send(&host, "POST", "/api/models/lab/sheep/commit/main", Some(KEY), &[], body.as_bytes());
        assert_eq!(answer.status, 400, "{line}");
    }
}

#[test]
fn reading_may_be_open_and_writing_never_is() {
    let (host, _home) = host(Reading::Open);
    create(&host, false);
    filled(&host, b"GGUF");
    let strange = |method: &str, path: &str| send(&host, method, path, None, &[], b"").status;
    assert_eq!(strange("GET", "/lab/sheep/resolve/main/README.md"), 200);
    assert_eq!(strange("GET", "/api/models/lab/sheep"), 200);
    assert_eq!(strange("GET", "/v2/lab/sheep/manifests/latest"), 200);
    for path in ["/api/repos/create", "/api/models/lab/sheep/commit/main", "/lab/sheep.git/info/lfs/objects/batch"] {
        assert_eq!(strange("POST", path), 401, "{path}");
    }
    assert_eq!(strange("GET", "/v1/models"), 401);
    let private = json!({"name": "goat", "organization": "lab", "private": true});
    assert_eq!(post(&host, "/api/repos/create", &private).status, 200);
    assert_eq!(strange("GET", "/api/models/lab/goat"), 404);
    assert_eq!(send(&host, "GET", "/api/models/lab/goat", Some(KEY), &[], b"").status, 200);
    let rows = send(&host, "GET", "/api/models", None, &[], b"").json();
    assert_eq!(rows.as_array().map(Vec::len), Some(1));
}

#[test]
fn without_a_registry_there_are_no_such_routes() {
    let host = Host::start(Options { key: Key::new(KEY), ..local() }, Duration::ZERO);
    assert_eq!(send(&host, "GET", "/api/whoami-v2", Some(KEY), &[], b"").status, 404);
    assert_eq!(send(&host, "GET", "/lab/sheep/resolve/main/README.md", None, &[], b"").status, 401);
}
