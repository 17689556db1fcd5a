//! Ollama's routes and our own.

use serde_json::{Value, json};

use crate::client::{get, post};
use crate::host::shared;

const ANSWER: &str = "Hello! How can I help you?";

#[test]
fn chat_and_generate_stream_lines_or_come_whole() {
    let address = shared().address;
    let messages = json!([{"role": "user", "content": "Hello!"}]);
    let options = json!({"temperature": 0, "num_ctx": 512});
    for (path, key, ask) in [
        ("/api/chat", "message", json!({"model": "starter:latest", "messages": messages, "options": options})),
        ("/api/generate", "response", json!({"model": "starter", "prompt": "Hello!", "options": options})),
    ] {
        let text = |object: &Value| match key {
            "message" => object["message"]["content"].as_str().unwrap().to_owned(),
            _ => object["response"].as_str().unwrap().to_owned(),
        };
        let streamed = post(address, path, &ask);
        assert_eq!(streamed.header("content-type"), Some("application/x-ndjson"));
        assert_eq!(streamed.header("x-pasture-unused"), Some("options.num_ctx"));
        let lines = streamed.lines();
        assert_eq!(lines.iter().map(text).collect::<String>(), ANSWER, "{path}");
        let last = lines.last().unwrap();
        assert!(last["done"] == true && last["done_reason"] == "stop" && last["eval_count"] == 9, "{last}");
        assert!(lines[..lines.len() - 1].iter().all(|line| line["done"] == false));
        let mut whole = ask.clone();
        whole["stream"] = json!(false);
        let whole = post(address, path, &whole).json();
        assert_eq!((text(&whole).as_str(), &whole["prompt_eval_count"]), (ANSWER, &last["prompt_eval_count"]));
        let asks_nothing = post(address, path, &json!({"model": "starter"})).json();
        assert_eq!(asks_nothing["done_reason"], "load");
    }
}

#[test]
fn raw_text_is_gone_on_with_as_a_completion() {
    let address = shared().address;
    let options = json!({"temperature": 0, "num_predict": 8});
    let raw = json!({"model": "starter", "prompt": "A token is", "raw": true, "stream": false, "options": options});
    let raw = post(address, "/api/generate", &raw).json();
    let other = json!({"prompt": "A token is", "temperature": 0, "max_tokens": 8});
    let other = post(address, "/v1/completions", &other).json();
    assert_eq!(raw["response"], other["choices"][0]["text"]);
    assert_eq!(raw["done_reason"], "length");
    let wrong = json!({"model": "starter", "prompt": "x", "raw": true, "system": "y"});
    assert!(post(address, "/api/generate", &wrong).error().contains("system"));
}

#[test]
fn models_are_listed_and_shown_and_texts_embedded() {
    let address = shared().address;
    assert!(get(address, "/api/version").json()["version"].is_string());
    assert_eq!(get(address, "/api/tags").json()["models"][0]["model"], "starter");
    let shown = post(address, "/api/show", &json!({"model": "starter"})).json();
    assert_eq!(shown["details"]["family"], "llama");
    assert!(shown["template"].as_str().unwrap().contains("message"));
    let embedded = post(address, "/api/embed", &json!({"model": "starter", "input": "Sheep"})).json();
    let vector: Vec<f64> = serde_json::from_value(embedded["embeddings"][0].clone()).unwrap();
    assert!((vector.iter().map(|value| value * value).sum::<f64>() - 1.0).abs() < 1e-4);
    let older = post(address, "/api/embeddings", &json!({"model": "starter", "prompt": "Sheep"})).json();
    let plain = post(address, "/v1/embeddings", &json!({"input": "Sheep"})).json();
    assert_eq!(older["embedding"], plain["data"][0]["embedding"]);
    assert_eq!(post(address, "/api/embeddings", &json!({"model": "starter"})).json(), json!({"embedding": []}));
    let missing = post(address, "/api/show", &json!({"model": "nobody"}));
    assert!(missing.status == 404 && missing.json()["error"].is_string());
}

#[test]
fn tokens_of_a_text_give_the_text() {
    let address = shared().address;
    let tokens = post(address, "/tokenize", &json!({"content": "Sheep eat grass, <|im_end|>"})).json();
    let text = post(address, "/detokenize", &json!({"tokens": tokens["tokens"]})).json();
    assert_eq!(text["content"], "Sheep eat grass, <|im_end|>");
    let parsed = post(address, "/tokenize", &json!({"content": "<|im_end|>", "parse_special": true})).json();
    assert_eq!(parsed["tokens"], json!([2]));
    let wrong = post(address, "/detokenize", &json!({"tokens": [1_000_000]}));
    assert!(wrong.status == 400 && wrong.error().contains("vocabulary"));
}

#[test]
fn health_and_counts_are_there() {
    let host = shared();
    assert_eq!(get(host.address, "/healthz").json()["status"], "ok");
    assert_eq!(get(host.address, "/readyz").json()["status"], "ready");
    assert!(host.metric("pasture_http_requests_total{route=\"/healthz\",status=\"200\"}") >= 1);
}
