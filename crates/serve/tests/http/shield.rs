//! TLS with certificates that change, the audit log, the document of routes, the end on request, connections past the
//! limit, a thread that breaks, two hundred streams at the end, a thousand slow senders.

use std::io::{BufReader, Read, Write};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use pasture_serve::{Audit, Key, Options, Place, Prompts, TlsFiles, openapi, table, verify_audit};
use serde_json::{Value, json};

use crate::client::{connect, get, head, open, post, raw, read_to};
use crate::host::{Host, local};

fn certificate(folder: &Path, name: &str) -> TlsFiles {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let files = TlsFiles { cert: folder.join(format!("{name}.pem")), key: folder.join(format!("{name}.key")) };
    std::fs::write(&files.cert, made.cert.pem()).unwrap();
    std::fs::write(&files.key, made.signing_key.serialize_pem()).unwrap();
    files
}

#[test]
fn tls_shows_its_certificate_and_a_changed_one_without_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let (files, other) = (certificate(folder.path(), "one"), certificate(folder.path(), "two"));
    let kept = folder.path().join("kept.pem");
    std::fs::copy(&files.cert, &kept).unwrap();
    let host = Host::start(Options { tls: Some(files.clone()), ..local() }, Duration::ZERO);
    let place = |cert: &Path| Place { url: format!("https://{}", host.address), key: None, cert: Some(cert.into()) };
    let ready = |cert: &Path| place(cert).ask("GET", "/readyz", None).map(|answer| answer.status);
    assert_eq!(ready(&kept), Ok(200));
    let body = json!({"prompt": "a", "max_tokens": 2, "ignore_eos": true});
    assert_eq!(place(&kept).ask("POST", "/v1/completions", Some(&body)).unwrap().body["usage"]["completion_tokens"], 2);
    assert!(ready(&other.cert).unwrap_err().contains("another certificate"));
    assert_ne!(get_plain(&host), 200);
    // A pair that does not fit changes nothing; one that does is taken.
    std::fs::copy(&other.cert, &files.cert).unwrap();
    std::thread::sleep(Duration::from_millis(1500));
    assert_eq!(ready(&kept), Ok(200));
    std::fs::copy(&other.key, &files.key).unwrap();
    host.wait("the other certificate", |_| ready(&other.cert) == Ok(200));
    assert!(ready(&kept).is_err());
}

fn get_plain(host: &Host) -> u16 {
    get(host.address, "/healthz").status
}

#[test]
fn certificates_that_do_not_fit_say_why() {
    let folder = tempfile::tempdir().unwrap();
    let (one, two) = (certificate(folder.path(), "one"), certificate(folder.path(), "two"));
    let empty = folder.path().join("empty");
    std::fs::write(&empty, "").unwrap();
    let nowhere = folder.path().join("nowhere");
    for (cert, key, part) in [
        (&one.cert, &two.key, "do not go together"),
        (&nowhere, &one.key, "cannot read the certificate"),
        (&one.cert, &nowhere, "cannot read the key"),
        (&empty, &one.key, "there is no certificate in"),
        (&one.cert, &empty, "there is no key in"),
        (&one.cert, &one.cert, "there is no key in"),
    ] {
        let what = TlsFiles { cert: cert.clone(), key: key.clone() }.read().unwrap_err();
        assert!(what.contains(part), "{what}");
    }
}

#[test]
fn each_request_is_told_once_with_what_it_took_and_nothing_that_was_said() {
    let folder = tempfile::tempdir().unwrap();
    for (prompts, name) in [(Prompts::LeftOut, "without"), (Prompts::Told, "with")] {
        let path = folder.path().join(name);
        let audit = Arc::new(Audit::open(&path, prompts).unwrap());
        let host = Host::start(Options { audit: Some(audit.clone()), ..local() }, Duration::from_millis(5));
        let said = "a secret\n{\"forged\": true}";
        let body = |stream: bool| json!({"prompt": said, "max_tokens": 3, "ignore_eos": true, "stream": stream});
        assert_eq!(post(host.address, "/v1/completions", &body(false)).status, 200);
        assert_eq!(post(host.address, "/v1/completions", &body(true)).status, 200);
        assert_eq!(post(host.address, "/v1/completions", &json!({"prompt": said, "x": 1})).status, 400);
        assert_eq!(get(host.address, "/nowhere%0a%1b[2J").status, 404);
        let long = json!({"prompt": said, "max_tokens": 400, "ignore_eos": true, "stream": true});
        let mut left = open(host.address, "/v1/completions", &long);
        read_to(&mut left, "data: ");
        drop(left);
        assert_eq!(get(host.address, "/healthz").status, 200);
        host.wait("its place is free", |host| host.metric("pasture_answers_in_flight{model=\"starter\"}") == 0);
        audit.finish();
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(text.contains("a secret"), prompts == Prompts::Told);
        assert!(!text.contains("/healthz") && !text.contains('\u{1b}'));
        let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(verify_audit(&path).unwrap().lines, lines.len() as u64);
        let told = |path: &str| lines.iter().filter(|line| line["path"] == path).collect::<Vec<_>>();
        let completions = told("/v1/completions");
        let ended = |end: Value| completions.iter().filter(|line| line["end"] == end).collect::<Vec<_>>();
        assert_eq!((ended(json!("done")).len(), ended(json!("left")).len(), completions.len()), (2, 1, 4));
        for line in ended(json!("done")) {
            assert_eq!(
                (&line["new_tokens"], &line["status"], &line["model"]),
                (&json!(3), &json!(200), &json!("starter"))
            );
            assert!(line["prompt_tokens"].as_u64().unwrap() > 3 && line["key"] == "local");
        }
        let refused = ended(Value::Null)[0];
        assert_eq!((&refused["status"], &refused["why"]), (&json!(400), &json!("unknown_field")));
        assert_eq!(told("/nowhere%0a%1b[2J")[0]["status"], 404);
    }
}

#[test]
fn every_route_stands_in_the_document_with_its_fields() {
    let host = crate::host::shared();
    let document = get(host.address, "/openapi.json").json();
    assert_eq!(document, openapi());
    for row in table() {
        let path = row.path.replace("{*", "{");
        let operation = &document["paths"][&path][row.method().as_str().to_ascii_lowercase()];
        assert!(operation["operationId"].is_string(), "{path}");
        let open = row.access == pasture_serve::Access::Open;
        assert_eq!(operation["security"] == json!([]), open, "{path}");
        assert_eq!(operation["responses"]["401"].is_object(), !open, "{path}");
    }
    let routes: usize =
        document["paths"].as_object().unwrap().values().map(|path| path.as_object().unwrap().len()).sum();
    assert_eq!(routes, table().len());
    let names: std::collections::BTreeSet<&str> = document["paths"]
        .as_object()
        .unwrap()
        .values()
        .flat_map(|path| path.as_object().unwrap().values())
        .map(|operation| operation["operationId"].as_str().unwrap())
        .collect();
    assert_eq!(names.len(), table().len(), "names are the routes' own");
    let chat =
        &document["paths"]["/v1/chat/completions"]["post"]["requestBody"]["content"]["application/json"]["schema"];
    assert_eq!(chat["properties"]["n"]["anyOf"][0], json!({"type": "integer", "minimum": 1, "maximum": 16}));
    assert!(chat["properties"]["messages"].is_object() && chat["additionalProperties"] == false);
}

#[test]
fn whoever_has_the_right_sees_the_state_and_ends_the_server() {
    let key = "one-of-this-run";
    let mut host = Host::start(Options { control: Key::new(key), key: Key::new("main"), ..local() }, Duration::ZERO);
    let place = Place { url: format!("http://{}", host.address), key: Some(key.to_owned()), cert: None };
    let state = place.ask("GET", "/admin/state", None).unwrap().body;
    assert_eq!((&state["models"][0]["name"], &state["draining"]), (&json!("starter"), &json!(false)));
    assert!(state["memory_bytes"].as_u64().is_none_or(|bytes| bytes > 1 << 20) && state["connections"] == 1);
    let other = Place { key: Some("wrong".to_owned()), ..place.clone() };
    assert_eq!(other.ask("GET", "/admin/state", None).unwrap().status, 401);
    assert_eq!(place.ask("POST", "/admin/stop", Some(&json!({}))).unwrap().status, 202);
    host.ends_when_asked();
    let address = host.address;
    host.wait("its end", |_| std::net::TcpStream::connect(address).is_err());
    assert!(
        Place { url: "ftp://x".to_owned(), ..place.clone() }.ask("GET", "/", None).unwrap_err().contains("http://")
    );
    assert!(place.ask("GET", "/", None).unwrap_err().contains("cannot reach"));
}

#[test]
fn a_connection_past_the_limit_is_closed_and_a_place_that_is_free_is_taken() {
    let host = Host::start(Options { connections: 3, ..local() }, Duration::ZERO);
    // Each is answered before the next comes, so that all three are in.
    let hold = |_| {
        let mut stream = connect(host.address);
        stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
        let mut reader = BufReader::new(stream);
        read_to(&mut reader, "200 OK");
        reader
    };
    let held: Vec<_> = (0..3).map(hold).collect();
    host.wait("a full house", |host| raw(host.address, head("GET", "/healthz", &[], 0).as_bytes()).head.is_empty());
    drop(held);
    host.wait("a free place", |host| raw(host.address, head("GET", "/healthz", &[], 0).as_bytes()).status == 200);
}

#[test]
fn a_computation_that_breaks_fails_its_requests_and_no_others() {
    let host = Host::start(local(), Duration::from_millis(5));
    let body = json!({"prompt": "a", "max_tokens": 3});
    assert_eq!(post(host.address, "/v1/completions", &body).status, 200);
    let long = json!({"prompt": "Sheep", "max_tokens": 300, "ignore_eos": true, "stream": true});
    let mut stream = open(host.address, "/v1/completions", &long);
    read_to(&mut stream, "data: ");
    host.panics.store(true, Ordering::SeqCst);
    let mut rest = String::new();
    stream.read_to_string(&mut rest).unwrap();
    assert!(rest.contains("internal_error") && !rest.contains("[DONE]"), "{rest}");
    let began = Instant::now();
    assert_eq!(post(host.address, "/v1/completions", &body).status, 200);
    assert!(began.elapsed() < Duration::from_secs(20));
    assert_eq!(get(host.address, "/readyz").status, 200);
    host.panics.store(true, Ordering::SeqCst);
    let refused = post(host.address, "/v1/completions", &body);
    assert!(refused.status == 500 && !refused.body.contains("broken on purpose"), "{}", refused.body);
    assert_eq!(host.metric("pasture_requests_ended_total{end=\"failed\"}"), 2);
}

#[test]
fn two_hundred_streams_at_the_end_all_have_their_last_word() {
    let options = Options { slots: 200, drain: Duration::from_millis(500), ..local() };
    let mut host = Host::start(options, Duration::from_millis(20));
    let long = json!({"prompt": "Sheep", "max_tokens": 400, "ignore_eos": true, "stream": true});
    let mut streams: Vec<_> = (0..200).map(|_| open(host.address, "/v1/completions", &long)).collect();
    host.wait("all are in", |host| host.metric("pasture_requests_accepted_total") == 200);
    let end = host.end(Duration::from_millis(100));
    for stream in &mut streams {
        let mut rest = String::new();
        stream.read_to_string(&mut rest).expect("no connection is reset");
        assert!(rest.starts_with("HTTP/1.1 200") && rest.trim_end().ends_with('0'), "{rest}");
        assert!(rest.contains("shutting_down") || rest.contains("[DONE]"), "{rest}");
    }
    host.join(end);
}

#[test]
fn a_thousand_slow_senders_are_closed_and_hold_nobody_up() {
    let host = Host::start(Options { head_time: Duration::from_secs(3), ..local() }, Duration::ZERO);
    let mut slow: Vec<_> = (0..1000).map(|_| connect(host.address)).collect();
    slow.iter_mut().for_each(|stream| stream.write_all(b"G").unwrap());
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(1) {
        assert_eq!(get(host.address, "/healthz").status, 200);
        for stream in &mut slow {
            let _ = stream.write_all(b"E");
        }
        std::thread::sleep(Duration::from_millis(300));
    }
    host.wait("they are closed", |host| host.metric("pasture_connections") == 1);
}
