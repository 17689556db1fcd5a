//! The program as a server: the same answer over HTTP as from `pasture generate`, what it refuses to begin with, and
//! how it ends.
#![forbid(unsafe_code)]
#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "a test may")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};

fn pasture(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pasture"));
    command.args(arguments).env_remove("PASTURE_API_KEY").current_dir(std::env::temp_dir());
    command.env("PASTURE_RECEIPT", "none");
    let home = concat!(env!("CARGO_TARGET_TMPDIR"), "/serve-home");
    command.env("PASTURE_HOME", home).env("XDG_RUNTIME_DIR", home);
    command
}

fn starter() -> String {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../starter/starter.gguf");
    file.canonicalize().unwrap().to_str().unwrap().to_owned()
}

/// A server that does not outlive its test.
struct Serving(Child);

impl Drop for Serving {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Starts a server; gives it and its address.
fn serve(arguments: &[&str]) -> (Serving, String) {
    started(&mut serving(arguments))
}

fn serving(arguments: &[&str]) -> Command {
    pasture(&[&["serve"], arguments, &["--port", "0", "--json"]].concat())
}

fn started(command: &mut Command) -> (Serving, String) {
    let mut serving = Serving(command.stdout(Stdio::piped()).spawn().unwrap());
    let mut line = String::new();
    BufReader::new(serving.0.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
    let told: Value = serde_json::from_str(&line).unwrap();
    (serving, told["url"].as_str().unwrap().strip_prefix("http://").unwrap().to_owned())
}

fn post(address: &str, path: &str, body: &Value) -> Value {
    let body = body.to_string();
    let mut stream = TcpStream::connect(address).unwrap();
    let length = body.len();
    let head = format!("POST {path} HTTP/1.1\r\nHost: {address}\r\nContent-Type: application/json\r\n");
    write!(stream, "{head}Content-Length: {length}\r\nConnection: close\r\n\r\n{body}").unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    serde_json::from_str(text.split_once("\r\n\r\n").unwrap().1).unwrap_or_else(|_| panic!("{text}"))
}

#[test]
fn an_answer_over_http_is_the_same_as_the_programs() {
    let file = starter();
    let (mut serving, address) = serve(&[&file, "--threads", "1"]);
    for prompt in ["A token is", "Sheep eat grass and"] {
        let arguments =
            ["generate", &file, prompt, "--temperature", "0", "--max-tokens", "24", "--threads", "1", "--json"];
        let output = pasture(&arguments).output().unwrap();
        let wanted: Value = serde_json::from_slice(&output.stdout).unwrap();
        let body = json!({"model": "starter", "prompt": prompt, "temperature": 0, "max_tokens": 24});
        let answer = post(&address, "/v1/completions", &body);
        assert_eq!(answer["choices"][0]["text"], wanted["text"], "{prompt}");
        assert_eq!(answer["usage"]["completion_tokens"], wanted["new_tokens"]);
    }
    let embedding = post(&address, "/v1/embeddings", &json!({"input": "a"}));
    let message = embedding["error"]["message"].as_str().unwrap();
    assert!(message.contains("pooling") && !message.contains('/'), "{message}");
    let told = Command::new("kill").args(["-INT", &serving.0.id().to_string()]).status().unwrap();
    assert!(told.success());
    assert_eq!(serving.0.wait().unwrap().code(), Some(0));
}

fn get(address: &str, path: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n").unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    text
}

#[test]
fn without_a_model_the_starter_is_served_with_a_page_whose_chats_outlive_it() {
    let (serving, address) = serve(&["--threads", "1"]);
    assert!(get(&address, "/").contains("<!doctype html>"));
    let chat = post(&address, "/chats/create", &json!({"title": "kept"}));
    let path = format!("/chats/{}", chat["id"].as_str().unwrap());
    drop(serving);
    let (_serving, address) = serve(&["--threads", "1"]);
    assert!(get(&address, &path).contains("\"title\":\"kept\""));
    let (_serving, address) = serve(&["gpt-4=starter", "starter", "--threads", "1", "--no-page"]);
    let models = get(&address, "/v1/models");
    assert!(models.contains("\"id\":\"gpt-4\"") && models.contains("\"id\":\"starter\""), "{models}");
    assert!(get(&address, "/").contains("leave --no-page out"));
    assert!(get(&address, &path).contains("leave --no-page out"));
}

#[test]
fn what_is_not_safe_is_not_begun() {
    for (arguments, part) in [
        (&["serve", "starter", "--host", "0.0.0.0"][..], "needs a key"),
        (&["serve", "starter", "--host", "192.0.2.1"], "needs a key"),
        (&["serve", "starter", "--api-key", ""], "the key is empty"),
        (&["serve", "starter", "--cors", "*"], "needs an origin"),
        (&["serve", "starter", "starter"], "two of the models"),
    ] {
        let output = pasture(arguments).output().unwrap();
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.code() == Some(2) && text.contains(part), "{arguments:?}: {text}");
    }
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port().to_string();
    let output = pasture(&["serve", "starter", "--port", &port]).output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(74) && text.contains("cannot serve at 127.0.0.1"), "{text}");
}

/// A command with folders of its own, which must end well.
fn said(home: &Path, arguments: &[&str]) -> String {
    let output = pasture(arguments).env("PASTURE_HOME", home).env("XDG_RUNTIME_DIR", home).output().unwrap();
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

#[test]
fn a_model_of_a_running_server_goes_when_it_is_told_to() {
    let home = tempfile::tempdir().unwrap();
    let home = home.path();
    let (mut serving, _) = serve_in(home);
    let state = |home: &Path| -> Value { serde_json::from_str(&said(home, &["ps", "--json"])).unwrap() };
    let models = state(home)["servers"][0]["models"].clone();
    assert!(models[0]["bytes"].as_u64().unwrap() > 1 << 20 && models[0]["goes"].is_null(), "{models}");
    assert!(said(home, &["ps"]).contains("stays"));
    assert!(said(home, &["stop", "starter"]).contains("starter is no longer loaded at http://127.0.0.1"));
    assert_eq!(state(home)["servers"][0]["models"], json!([]));
    let again = pasture(&["stop", "starter", "--json"]).env("PASTURE_HOME", home).env("XDG_RUNTIME_DIR", home).output();
    let again = again.unwrap();
    let text = String::from_utf8_lossy(&again.stderr);
    assert!(again.status.code() == Some(66) && text.contains("no model \"starter\" is loaded"), "{text}");
    assert!(said(home, &["stop"]).contains("is ending"));
    assert_eq!(serving.0.wait().unwrap().code(), Some(0));
}

/// A server with folders of its own; gives it and its address.
fn serve_in(home: &Path) -> (Serving, String) {
    let mut command = pasture(&["serve", "starter", "--port", "0", "--json", "--threads", "1"]);
    command.env("PASTURE_HOME", home).env("XDG_RUNTIME_DIR", home).stdout(Stdio::piped());
    let mut serving = Serving(command.spawn().unwrap());
    let mut line = String::new();
    BufReader::new(serving.0.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
    let told: Value = serde_json::from_str(&line).unwrap();
    (serving, told["url"].as_str().unwrap().strip_prefix("http://").unwrap().to_owned())
}

#[test]
fn a_batch_of_a_server_that_is_killed_is_ended_by_the_next_one() {
    let home = tempfile::tempdir().unwrap();
    let (serving, address) = serve_in(home.path());
    let line = |at: usize| {
        let body = json!({"prompt": "Sheep", "max_tokens": 20, "ignore_eos": true, "temperature": 0});
        json!({"custom_id": format!("r{at}"), "method": "POST", "url": "/v1/completions", "body": body})
    };
    let lines: String = (0..60).map(|at| format!("{}\n", line(at))).collect();
    let part = |head: &str, text: &str| format!("--x\r\nContent-Disposition: form-data; {head}\r\n\r\n{text}\r\n");
    let form = part("name=\"purpose\"", "batch") + &part("name=\"file\"; filename=\"in.jsonl\"", &lines) + "--x--";
    let mut stream = TcpStream::connect(&address).unwrap();
    let head =
        format!("POST /v1/files HTTP/1.1\r\nHost: {address}\r\nContent-Type: multipart/form-data; boundary=x\r\n");
    write!(stream, "{head}Content-Length: {}\r\nConnection: close\r\n\r\n{form}", form.len()).unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    let file: Value = serde_json::from_str(text.split_once("\r\n\r\n").unwrap().1).unwrap();
    let batch = json!({"input_file_id": file["id"], "endpoint": "/v1/completions", "completion_window": "24h"});
    let path = format!("/v1/batches/{}", post(&address, "/v1/batches", &batch)["id"].as_str().unwrap());
    let told = |address: &str| -> Value {
        serde_json::from_str(get(address, &path).split_once("\r\n\r\n").unwrap().1).unwrap()
    };
    let until = |address: &str, holds: &dyn Fn(&Value) -> bool| {
        let found = (0..1200).map(|_| {
            std::thread::sleep(std::time::Duration::from_millis(50));
            told(address)
        });
        found.into_iter().find(|batch| holds(batch)).expect("a minute is enough")
    };
    let done = |batch: &Value| batch["request_counts"]["completed"].as_u64().unwrap();
    let before = done(&until(&address, &|batch| done(batch) > 2));
    // SIGKILL.
    drop(serving);
    let (_serving, address) = serve_in(home.path());
    let batch = until(&address, &|batch| batch["status"] == "completed");
    assert!(before > 2 && done(&batch) == 60 && batch["error_file_id"].is_null(), "{batch}");
    let content = get(&address, &format!("/v1/files/{}/content", batch["output_file_id"].as_str().unwrap()));
    let mut names: Vec<String> = content
        .split_once("\r\n\r\n")
        .unwrap()
        .1
        .lines()
        .map(|line| {
            let line: Value = serde_json::from_str(line).unwrap();
            line["custom_id"].as_str().unwrap().to_owned()
        })
        .collect();
    assert_eq!(names.len(), 60);
    names.sort();
    names.dedup();
    assert_eq!(names.len(), 60, "no line is answered twice");
}

#[test]
fn a_server_on_a_network_has_keys_tells_what_it_did_and_ends_when_asked() {
    let home = tempfile::tempdir().unwrap();
    let home = home.path();
    let key = said(home, &["keys", "add", "anna", "--scopes", "infer"]);
    let log = home.join("audit.jsonl").to_str().unwrap().to_owned();
    let arguments = ["serve", &starter(), "--host", "0.0.0.0", "--port", "0", "--json", "--audit", &log];
    let mut command = pasture(&arguments);
    command.env("PASTURE_HOME", home).env("XDG_RUNTIME_DIR", home).stdout(Stdio::piped());
    let mut serving = Serving(command.spawn().unwrap());
    let mut line = String::new();
    BufReader::new(serving.0.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
    let told: Value = serde_json::from_str(&line).unwrap();
    let port = told["url"].as_str().unwrap().rsplit(':').next().unwrap().to_owned();
    let status = |key: &str| {
        let mut stream = TcpStream::connect(format!("127.0.0.1:{port}")).unwrap();
        let head = format!("GET /v1/models HTTP/1.1\r\nHost: a\r\nConnection: close\r\nx-api-key: {key}\r\n\r\n");
        stream.write_all(head.as_bytes()).unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        text.split(' ').nth(1).unwrap().parse::<u16>().unwrap()
    };
    assert_eq!((status(&key), status("wrong")), (200, 401));
    let state: Value = serde_json::from_str(&said(home, &["ps", "--json"])).unwrap();
    assert_eq!(state["servers"][0]["models"][0]["name"], "starter");
    let url = format!("http://127.0.0.1:{port}");
    let refused = pasture(&["ps", "--url", &url, "--api-key", &key]).output().unwrap();
    let text = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(refused.status.code() == Some(69) && text.contains("lacks the scope \"admin\""), "{text}");
    assert!(said(home, &["stop"]).contains("is ending"));
    assert_eq!(serving.0.wait().unwrap().code(), Some(0));
    assert!(said(home, &["serve", "--verify-audit", &log]).contains("6 lines are as they were written"));
    let text = std::fs::read_to_string(&log).unwrap();
    assert!(!text.contains(&key) && text.lines().count() == 6, "{text}");
    assert!(said(home, &["ps"]).is_empty());
    std::fs::write(&log, text.replace("\"status\":401", "\"status\":200")).unwrap();
    let refused = pasture(&["serve", "--verify-audit", &log]).output().unwrap();
    assert_eq!(refused.status.code(), Some(65));
}

const QUESTION: &str = "What does a sheep eat?";

/// A home with two adapters of the starter, and an assistant that is made of both.
fn with_pirate() -> tempfile::TempDir {
    let home = tempfile::tempdir().unwrap();
    let at = |name: &str| home.path().join(name).to_str().unwrap().to_owned();
    let line = |at: usize| {
        let said = ["Arr, the sea!", "Arr, rum and salt!", "Ahoy, a ship!"][at % 3];
        let messages = json!([{"role": "user", "content": QUESTION}, {"role": "assistant", "content": said}]);
        format!("{}\n", json!({ "messages": messages }))
    };
    std::fs::write(at("sea.jsonl"), (0..12).map(line).collect::<String>()).unwrap();
    for (out, steps) in [("one", "6"), ("two", "3")] {
        let tune = ["tune", &starter(), &at("sea.jsonl"), "--out", &at(out), "--steps", steps, "--batch", "4"];
        let how = ["--rank", "4", "--learning-rate", "0.02", "--report=false", "--held-out", "0"];
        said(home.path(), &[&tune[..], &how].concat());
    }
    std::fs::write(at("ship.txt"), "The ship is called Wool.\n").unwrap();
    let file = format!(
        "base = {:?}\nsystem = \"You are a pirate.\"\nstop = [\"zzz\"]\ndocuments = [\"ship.txt\"]\n\
         adapters = [\"one\", {{ path = \"two\", weight = 0.5 }}]\n[settings]\ntemperature = 0\nmax_tokens = 20\n",
        starter()
    );
    std::fs::write(at("pirate.toml"), file).unwrap();
    said(home.path(), &["create", "pirate", "-f", &at("pirate.toml")]);
    home
}

/// What `pasture chat` answers to one question.
fn chatted(home: &Path, model: &str) -> String {
    let mut command = pasture(&["chat", model, "--threads", "1"]);
    command.env("PASTURE_HOME", home).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(format!("{QUESTION}\n").as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

#[test]
fn an_assistant_with_adapters_answers_in_every_api_as_in_a_conversation() {
    let place = with_pirate();
    let home = place.path();
    let answer = chatted(home, "pirate");
    assert!(!answer.is_empty() && answer != chatted(home, &starter()));
    let generated = said(home, &["generate", "pirate", "A token is", "--threads", "1", "--json"]);
    let generated: Value = serde_json::from_str(&generated).unwrap();
    let plain = ["generate", &starter(), "A token is", "--temperature", "0", "--max-tokens", "20", "--threads", "1"];
    let plain: Value = serde_json::from_str(&said(home, &[&plain[..], &["--json"]].concat())).unwrap();
    assert!(generated["text"] != plain["text"], "the adapters change it: {generated}");
    for arguments in [&["pirate", "--threads", "1"][..], &["--on-demand", "--threads", "1"]] {
        let (_serving, address) = started(serving(arguments).env("PASTURE_HOME", home).env("XDG_RUNTIME_DIR", home));
        let messages = json!([{"role": "user", "content": QUESTION}]);
        for (path, body, at) in [
            ("/v1/chat/completions", json!({"messages": messages}), "/choices/0/message/content"),
            ("/v1/responses", json!({"input": QUESTION}), "/output/0/content/0/text"),
            ("/v1/messages", json!({"messages": messages, "max_tokens": 20}), "/content/0/text"),
            ("/api/chat", json!({"messages": messages, "stream": false}), "/message/content"),
            ("/api/generate", json!({"prompt": QUESTION, "stream": false}), "/response"),
        ] {
            let mut body = body;
            body["model"] = json!("pirate");
            let told = post(&address, path, &body);
            assert_eq!(
                told.pointer(at).and_then(Value::as_str).map(str::trim),
                Some(answer.as_str()),
                "{path}: {told}"
            );
        }
        let goes_on = json!({"model": "pirate", "prompt": "A token is"});
        let told = post(&address, "/v1/completions", &goes_on);
        assert_eq!(told["choices"][0]["text"], generated["text"]);
        assert_eq!(told["usage"]["completion_tokens"], generated["new_tokens"]);
        let refused = post(&address, "/v1/embeddings", &json!({"model": "pirate", "input": "a"}));
        assert!(refused["error"]["message"].as_str().is_some_and(|text| text.contains("adapter")), "{refused}");
    }
    let one = format!("more={}", home.join("one").display());
    for arguments in [&["serve", "pirate", "--adapter", &one][..], &["embed", "pirate", "a"]] {
        let output = pasture(arguments).env("PASTURE_HOME", home).output().unwrap();
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && text.contains("adapters"), "{arguments:?}: {text}");
    }
}
