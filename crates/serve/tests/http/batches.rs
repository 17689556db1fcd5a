//! Files and batches as OpenAI's API has them: uploaded, answered line by line as the routes answer, told, cancelled,
//! gone on with by the next server, each key's own.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use pasture_serve::{Book, Keys, NewKey, Options, Scope, Scopes};
use serde_json::{Value, json};

use crate::client::{Answer, get, head, post, raw};
use crate::host::{Host, local};

/// A form with the file and other fields.
fn form(content: &str, fields: &[(&str, &str)]) -> String {
    let part =
        |head: &str, content: &str| format!("--mark\r\nContent-Disposition: form-data; {head}\r\n\r\n{content}\r\n");
    let fields: String = fields.iter().map(|(name, value)| part(&format!("name=\"{name}\""), value)).collect();
    fields + &part("name=\"file\"; filename=\"in.jsonl\"", content) + "--mark--\r\n"
}

fn send(host: &Host, key: &str, method: &str, path: &str, kind: &str, body: &str) -> Answer {
    let key = format!("Bearer {key}");
    let headers = [("Content-Type", kind), ("Authorization", key.as_str())];
    raw(host.address, (head(method, path, &headers, body.len()) + body).as_bytes())
}

fn upload(host: &Host, key: &str, content: &str) -> Answer {
    let form = form(content, &[("purpose", "batch")]);
    send(host, key, "POST", "/v1/files", "multipart/form-data; boundary=mark", &form)
}

fn line(id: &str, url: &str, body: Value) -> String {
    format!("{}\n", json!({"custom_id": id, "method": "POST", "url": url, "body": body}))
}

fn complete(id: &str, tokens: u64) -> String {
    line(id, "/v1/completions", json!({"prompt": "Sheep", "max_tokens": tokens, "temperature": 0, "ignore_eos": true}))
}

/// Uploads lines and makes a batch of them; its id.
fn begin(host: &Host, key: &str, endpoint: &str, content: &str) -> String {
    let file = upload(host, key, content).json()["id"].clone();
    let body = json!({"input_file_id": file, "endpoint": endpoint, "completion_window": "24h"});
    let made = send(host, key, "POST", "/v1/batches", "application/json", &body.to_string());
    assert_eq!(made.status, 200, "{}", made.body);
    made.json()["id"].as_str().unwrap().to_owned()
}

fn told(host: &Host, key: &str, id: &str) -> Value {
    send(host, key, "GET", &format!("/v1/batches/{id}"), "application/json", "").json()
}

/// Waits until a batch has a status.
fn ended(host: &Host, key: &str, id: &str, status: &str) -> Value {
    host.wait(status, |host| told(host, key, id)["status"] == status);
    told(host, key, id)
}

/// The lines of a file.
fn lines(host: &Host, key: &str, file: &Value) -> Vec<Value> {
    let path = format!("/v1/files/{}/content", file.as_str().unwrap());
    let answer = send(host, key, "GET", &path, "application/json", "");
    assert_eq!(answer.header("content-type"), Some("application/octet-stream"));
    answer.lines()
}

#[test]
fn a_batch_answers_as_the_routes_do_and_tells_what_went_wrong() {
    let host = Host::start(local(), Duration::ZERO);
    let bodies = [
        json!({"messages": [{"role": "user", "content": "Hello!"}], "temperature": 0}),
        json!({"messages": [{"role": "user", "content": "Hello!"}], "temprature": 0}),
        json!({"model": "none", "messages": [{"role": "user", "content": "Hello!"}]}),
    ];
    let path = "/v1/chat/completions";
    let content: String =
        bodies.iter().enumerate().map(|(at, body)| line(&format!("r{at}"), path, body.clone())).collect();
    let id = begin(&host, "", path, &content);
    let batch = ended(&host, "", &id, "completed");
    assert_eq!(batch["request_counts"], json!({"total": 3, "completed": 1, "failed": 2}));
    assert_eq!((&batch["object"], &batch["endpoint"], &batch["errors"]), (&json!("batch"), &json!(path), &Value::Null));
    let good = lines(&host, "", &batch["output_file_id"]);
    assert_eq!((good.len(), &good[0]["custom_id"], &good[0]["error"]), (1, &json!("r0"), &Value::Null));
    let response = &good[0]["response"];
    assert_eq!(response["status_code"], 200);
    let alone = post(host.address, path, &bodies[0]).json();
    assert_eq!(response["body"]["choices"], alone["choices"]);
    let wrong = lines(&host, "", &batch["error_file_id"]);
    let statuses: Vec<(&Value, &Value)> = wrong
        .iter()
        .map(|line| (&line["response"]["status_code"], &line["response"]["body"]["error"]["code"]))
        .collect();
    assert_eq!(statuses, [(&json!(400), &json!("unknown_field")), (&json!(404), &json!("model_not_found"))]);

    let content = line("e", "/v1/embeddings", json!({"input": ["a", "b"]}));
    let id = begin(&host, "", "/v1/embeddings", &content);
    let batch = ended(&host, "", &id, "completed");
    let vectors = &lines(&host, "", &batch["output_file_id"])[0]["response"]["body"]["data"];
    assert_eq!(vectors.as_array().unwrap().len(), 2);
    let list = get(host.address, "/v1/batches?limit=1").json();
    assert_eq!((&list["data"][0]["id"], &list["has_more"]), (&json!(id), &json!(true)));
}

#[test]
fn files_are_taken_in_listed_read_and_removed() {
    let host = Host::start(local(), Duration::ZERO);
    let content = complete("a", 1) + "\n" + &complete("b", 1);
    let file = upload(&host, "", &content).json();
    assert_eq!(
        (&file["object"], &file["filename"], &file["purpose"]),
        (&json!("file"), &json!("in.jsonl"), &json!("batch"))
    );
    assert_eq!(file["bytes"].as_u64(), Some(content.len() as u64));
    let path = format!("/v1/files/{}", file["id"].as_str().unwrap());
    assert_eq!(get(host.address, &path).json(), file);
    assert_eq!(get(host.address, &format!("{path}/content")).body, content);
    let kept = form(
        "{}",
        &[("purpose", "batch"), ("expires_after[anchor]", "created_at"), ("expires_after[seconds]", "3600")],
    );
    let kept = send(&host, "", "POST", "/v1/files", "multipart/form-data; boundary=mark", &kept).json();
    assert_eq!(kept["expires_at"].as_i64().unwrap() - kept["created_at"].as_i64().unwrap(), 3600);
    let ids = |query: &str| {
        let list = get(host.address, &format!("/v1/files{query}")).json();
        list["data"].as_array().unwrap().iter().map(|file| file["id"].clone()).collect::<Vec<Value>>()
    };
    assert_eq!(ids("?order=asc"), [file["id"].clone(), kept["id"].clone()]);
    assert_eq!(ids(&format!("?limit=1&after={}", kept["id"].as_str().unwrap())), [file["id"].clone()]);
    assert!(ids("?purpose=batch_output").is_empty());
    let gone = send(&host, "", "DELETE", &path, "application/json", "");
    assert_eq!(gone.json(), json!({"id": file["id"], "object": "file", "deleted": true}));
    for path in
        [path.clone(), format!("{path}/content"), "/v1/files/file-none".to_owned(), "/v1/batches/none".to_owned()]
    {
        assert_eq!(get(host.address, &path).status, 404, "{path}");
    }
    assert_eq!(send(&host, "", "DELETE", &path, "application/json", "").status, 404);
}

#[test]
fn what_does_not_fit_is_a_400_that_names_it() {
    let host = Host::start(local(), Duration::ZERO);
    let kind = "multipart/form-data; boundary=mark";
    let check = |answer: Answer, status: u16, part: &str| {
        assert!(answer.status == status && answer.error().contains(part), "{} {}", answer.status, answer.body);
    };
    let ask = |fields: &[(&str, &str)]| send(&host, "", "POST", "/v1/files", kind, &form("{}", fields));
    check(ask(&[]), 400, "\"purpose\" is missing");
    check(ask(&[("purpose", "assistants")]), 400, "\"purpose\" must be one of batch");
    check(ask(&[("purpose", "batch"), ("color", "red")]), 400, "\"color\" is not known");
    check(ask(&[("purpose", "batch"), ("expires_after[seconds]", "9")]), 400, "from 3600");
    check(ask(&[("purpose", "batch"), ("expires_after[seconds]", "3600")]), 400, "anchor\" is missing");
    check(send(&host, "", "POST", "/v1/files", kind, "--mark--"), 400, "\"file\" is missing");
    check(send(&host, "", "POST", "/v1/files", kind, "nonsense"), 400, "begin with its boundary");
    check(send(&host, "", "POST", "/v1/files", "application/json", "{}"), 415, "multipart/form-data");
    check(upload(&host, "", ""), 400, "1 byte");
    check(upload(&host, "", &"\n".repeat(50_001)), 400, "50000 lines");
    let file = upload(&host, "", &complete("a", 1)).json()["id"].clone();
    let batch = |more: Value| {
        let mut body = json!({"input_file_id": file, "endpoint": "/v1/completions", "completion_window": "24h"});
        more.as_object().unwrap().iter().for_each(|(name, value)| body[name] = value.clone());
        post(host.address, "/v1/batches", &body)
    };
    check(batch(json!({"input_file_id": "file-none"})), 404, "no such file");
    check(batch(json!({"endpoint": "/v1/responses"})), 400, "\"endpoint\" must be one of");
    check(batch(json!({"completion_window": "1h"})), 400, "\"completion_window\"");
    check(batch(json!({"metadata": {"a": 1}})), 400, "\"metadata\"");
    check(batch(json!({"prompt": "a"})), 400, "\"prompt\" is not known");
    check(get(host.address, "/v1/batches?order=asc"), 400, "\"order\" is not known");
    check(get(host.address, "/v1/files?limit=0"), 400, "\"limit\"");
    check(get(host.address, "/v1/files?after=file-none"), 400, "\"after\"");
    check(get(host.address, "/v1/files?limit=1&limit=1"), 400, "twice");
    check(get(host.address, "/v1/files?after=%ff"), 400, "no part of a query");
    let document = get(host.address, "/openapi.json").json();
    let queries = |path: &str| -> Vec<Value> {
        let parameters = document["paths"][path]["get"]["parameters"].as_array().unwrap().clone();
        parameters.into_iter().map(|parameter| parameter["name"].clone()).collect()
    };
    assert_eq!(queries("/v1/files"), ["after", "limit", "order", "purpose"]);
    assert_eq!(queries("/v1/batches"), ["after", "limit"]);
    let good =
        batch(json!({"metadata": {"a": "b"}, "output_expires_after": {"anchor": "created_at", "seconds": 3600}}));
    let id = good.json()["id"].as_str().unwrap().to_owned();
    let told = ended(&host, "", &id, "completed");
    assert_eq!(told["metadata"], json!({"a": "b"}));
    let output = get(host.address, &format!("/v1/files/{}", told["output_file_id"].as_str().unwrap())).json();
    assert_eq!(output["expires_at"].as_i64().unwrap() - output["created_at"].as_i64().unwrap(), 3600);
    check(post(host.address, &format!("/v1/batches/{id}/cancel"), &json!({})), 409, "nothing to cancel");
    let wrong = begin(&host, "", "/v1/completions", "not json\n");
    assert_eq!(ended(&host, "", &wrong, "failed")["errors"]["data"][0]["line"], 1);
}

#[test]
fn a_batch_is_gone_on_with_by_the_next_server_and_no_line_is_answered_twice() {
    let folder = tempfile::tempdir().unwrap();
    let options = || Options { batches: Some(folder.path().join("batches.sqlite")), slots: 4, ..local() };
    let mut host = Host::start(options(), Duration::from_millis(5));
    let content: String = (0..12).map(|at| complete(&format!("r{at}"), 10)).collect();
    let id = begin(&host, "", "/v1/completions", &content);
    let done = |host: &Host| told(host, "", &id)["request_counts"]["completed"].as_u64().unwrap();
    host.wait("some answers", |host| done(host) >= 2);
    let end = host.end(Duration::ZERO);
    host.join(end);
    drop(host);
    let host = Host::start(options(), Duration::ZERO);
    let before = done(&host);
    assert!(before >= 2, "{before}");
    let batch = ended(&host, "", &id, "completed");
    assert_eq!(batch["request_counts"], json!({"total": 12, "completed": 12, "failed": 0}));
    let answers = lines(&host, "", &batch["output_file_id"]);
    let names: Vec<String> = answers.iter().map(|line| line["custom_id"].as_str().unwrap().to_owned()).collect();
    assert_eq!(names, (0..12).map(|at| format!("r{at}")).collect::<Vec<_>>());
    let texts: std::collections::BTreeSet<String> =
        answers.iter().map(|line| line["response"]["body"]["choices"][0]["text"].to_string()).collect();
    assert_eq!(texts.len(), 1, "{texts:?}");
}

#[test]
fn a_cancelled_batch_stops_and_requests_come_before_batches() {
    let host = Host::start(Options { slots: 1, ..local() }, Duration::from_millis(5));
    let content: String = (0..50).map(|at| complete(&format!("r{at}"), 20)).collect();
    let id = begin(&host, "", "/v1/completions", &content);
    host.wait("an answer", |host| told(host, "", &id)["request_counts"]["completed"].as_u64().unwrap() >= 1);
    let answer = post(host.address, "/v1/completions", &json!({"prompt": "Sheep", "max_tokens": 2}));
    assert_eq!(answer.status, 200, "{}", answer.body);
    let told = post(host.address, &format!("/v1/batches/{id}/cancel"), &json!({})).json();
    assert_eq!(told["status"], "cancelling");
    let batch = ended(&host, "", &id, "cancelled");
    let count = batch["request_counts"]["completed"].as_u64().unwrap();
    assert!((1..50).contains(&count), "{batch}");
    assert_eq!(lines(&host, "", &batch["output_file_id"]).len() as u64, count);
    host.wait("it is under way no longer", |host| host.metric("pasture_batches") == 0);
    host.wait("nothing is computed", |host| host.metric("pasture_answers_in_flight{model=\"starter\"}") == 0);
}

#[test]
fn a_batch_is_its_keys_own_and_pays_with_its_tokens() {
    let folder = tempfile::tempdir().unwrap();
    let path: PathBuf = folder.path().join("keys.sqlite");
    let book = Book::open(&path).unwrap();
    let new = |name: &str, tokens: Option<u64>| NewKey {
        name: name.into(),
        scopes: Scopes::of(&[Scope::Infer]),
        models: None,
        rate: None,
        tokens,
        in_flight: Some(1),
        expires: None,
    };
    let (_, anna) = book.add(&new("anna", None)).unwrap();
    let (_, bert) = book.add(&new("bert", None)).unwrap();
    let (_, poor) = book.add(&new("poor", Some(3))).unwrap();
    let options = || {
        let keys = Some(Arc::new(Keys::watch(&path).unwrap()));
        Options { keys, batches: Some(folder.path().join("batches.sqlite")), ..local() }
    };
    let host = Host::start(options(), Duration::ZERO);
    let content: String = (0..6).map(|at| complete(&format!("r{at}"), 3)).collect();
    let id = begin(&host, &anna, "/v1/completions", &content);
    let batch = ended(&host, &anna, &id, "completed");
    assert_eq!(batch["request_counts"]["completed"], 6);
    let output = batch["output_file_id"].as_str().unwrap();
    for (method, path) in [
        ("GET", format!("/v1/files/{output}")),
        ("GET", format!("/v1/files/{output}/content")),
        ("DELETE", format!("/v1/files/{output}")),
        ("GET", format!("/v1/batches/{id}")),
        ("POST", format!("/v1/batches/{id}/cancel")),
    ] {
        assert_eq!(send(&host, &bert, method, &path, "application/json", "").status, 404, "{path}");
    }
    let embed = json!({"input_file_id": "x", "endpoint": "/v1/embeddings", "completion_window": "24h"});
    let refused = send(&host, &anna, "POST", "/v1/batches", "application/json", &embed.to_string());
    assert!(refused.status == 403 && refused.error().contains("\"embed\""), "{}", refused.body);
    // The first line uses up the tokens of the day; the others wait for the next.
    let id = begin(&host, &poor, "/v1/completions", &content);
    host.wait("the tokens are used", |_| {
        book.list().is_ok_and(|keys| {
            let poor = keys.iter().find(|key| key.key.name == "poor").unwrap();
            book.used(&poor.id).unwrap().iter().any(|used| used.tokens >= 3)
        })
    });
    // A batch that waits holds up no other.
    let other = begin(&host, &anna, "/v1/completions", &content);
    assert_eq!(ended(&host, &anna, &other, "completed")["request_counts"]["completed"], 6);
    assert_eq!(told(&host, &poor, &id)["error"]["code"], "insufficient_quota");
    drop(host);
    // The batch is the key's, and the key is gone.
    book.revoke("poor").unwrap();
    let host = Host::start(options(), Duration::ZERO);
    let (_, fresh) = book.add(&new("fresh", None)).unwrap();
    host.wait("the key", |host| send(host, &fresh, "GET", "/v1/batches", "application/json", "").status == 200);
    assert_eq!(send(&host, &fresh, "GET", &format!("/v1/batches/{id}"), "application/json", "").status, 404);
    assert_eq!(send(&host, &poor, "GET", "/v1/batches", "application/json", "").status, 401);
}
