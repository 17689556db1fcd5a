//! What the test hub says: the shapes that clients of the real hub rely on, and that a lie is told as often as it was
//! ordered.
#![allow(clippy::unwrap_used)]
#![forbid(unsafe_code)]

use std::io::{Read, Write};
use std::net::TcpStream;

use pasture_testhub::{Content, Gate, Hub, Lie, Repo};

fn ask(hub: &Hub, line: &str, headers: &str) -> String {
    let mut stream = TcpStream::connect(hub.address()).expect("the hub listens");
    write!(stream, "{line} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n{headers}\r\n").expect("it reads");
    stream.shutdown(std::net::Shutdown::Write).expect("it is open");
    let mut bytes = Vec::new();
    let _ = stream.read_to_end(&mut bytes);
    String::from_utf8_lossy(&bytes).into_owned()
}

fn check(hub: &Hub, line: &str, headers: &str, wanted: &[&str]) {
    let text = ask(hub, line, headers);
    for part in wanted {
        assert!(text.contains(part), "{line}: {text:?} lacks {part:?}");
    }
}

#[test]
fn it_speaks_as_the_hub_does() {
    let hub = Hub::start();
    let repo = Repo::new("a/b").tag("license:mit").small("config.json", "{}");
    let repo = repo.large("model.safetensors", Content::Made { seed: 1, length: 1000 });
    let (commit, sha) = (repo.commit.clone(), repo.files["model.safetensors"].sha256.clone());
    hub.put(repo);
    hub.put(Repo::new("a/gated").gate(Gate::Gated).small("config.json", "{}"));
    check(
        &hub,
        "GET /api/models/a/b/revision/main?blobs=true",
        "",
        &[&commit, "\"gated\":false", "\"size\":1000", &sha],
    );
    check(&hub, "GET /api/models/a/b/tree/main?recursive=true", "", &["\"path\":\"config.json\"", &sha]);
    check(&hub, "GET /a/b/resolve/main/config.json", "", &["200", "x-repo-commit", "etag: \"9e26dfee", "\r\n\r\n{}"]);
    check(
        &hub,
        "HEAD /a/b/resolve/main/model.safetensors",
        "",
        &["302", "x-linked-size: 1000", &sha, "location: http"],
    );
    check(&hub, "GET /a/b/resolve/main/config.json", "range: bytes=1-1\r\n", &["206", "bytes 1-1/2", "\r\n\r\n}"]);
    check(&hub, "GET /a/b/resolve/main/none", "", &["404", "EntryNotFound"]);
    check(&hub, "GET /a/gated/resolve/main/config.json", "", &["401", "GatedRepo"]);
    check(&hub, "GET /a/gated/resolve/main/config.json", "authorization: Bearer no\r\n", &["403", "GatedRepo"]);
    check(&hub, "GET /a/gated/resolve/main/config.json", "authorization: Bearer hf_test_token\r\n", &["200"]);
    check(&hub, "GET /api/models?search=GATED", "", &["a/gated"]);
    check(&hub, "GET /api/models/no/thing", "", &["401", "RepoNotFound"]);
}

#[test]
fn a_lie_is_told_as_often_as_it_was_ordered() {
    let hub = Hub::start();
    hub.put(Repo::new("a/b").small("config.json", "{}"));
    hub.lie("/api/", Lie::Busy(503, 7), 2);
    for status in ["503", "503", "200"] {
        check(&hub, "GET /api/models/a/b", "", &[status]);
    }
    assert_eq!(hub.seen().iter().filter(|seen| seen.status == 503).count(), 2);
}
