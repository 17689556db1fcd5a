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
    let all = [&["serve"], arguments, &["--port", "0", "--json"]].concat();
    let mut serving = Serving(pasture(&all).stdout(Stdio::piped()).spawn().unwrap());
    let mut line = String::new();
    BufReader::new(serving.0.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
    let told: Value = serde_json::from_str(&line).unwrap();
    assert_eq!(told["models"], json!(["starter"]));
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

#[test]
fn what_is_not_safe_is_not_begun() {
    for (arguments, part) in [
        (&["serve", "starter", "--host", "0.0.0.0"][..], "needs a key"),
        (&["serve", "starter", "--host", "192.0.2.1"], "needs a key"),
        (&["serve", "starter", "--api-key", ""], "the key is empty"),
        (&["serve", "starter", "--cors", "*"], "needs an origin"),
        (&["serve", "starter", "starter"], "two of the models"),
        (&["serve"], "required"),
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
