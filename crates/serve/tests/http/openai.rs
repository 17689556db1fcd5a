//! OpenAI's routes: what comes is what the engine computes, whole and streamed.

use std::path::Path;

use pasture_engine::{Opening, Request};
use pasture_files::tokenizer::Specials;
use serde_json::{Value, json};

use crate::client::{get, post};
use crate::host::shared;

fn chat(more: Value) -> Value {
    let mut body = json!({
        "model": "starter", "messages": [{"role": "user", "content": "Hello!"}], "temperature": 0, "max_tokens": 40,
    });
    more.as_object().unwrap().iter().for_each(|(name, value)| body[name] = value.clone());
    body
}

#[test]
fn the_starter_answers_over_http_as_its_recipe_computed() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../starter/expected.json");
    let expected: Value = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
    for case in &expected["cases"].as_array().unwrap()[..6] {
        let answer = post(
            shared().address,
            "/v1/chat/completions",
            &chat(json!({"messages": case["messages"], "max_tokens": 200})),
        );
        let answer = answer.json();
        assert_eq!(answer["choices"][0]["message"]["content"], case["text"], "{answer}");
        assert_eq!(answer["choices"][0]["finish_reason"], "stop");
        assert_eq!(answer["usage"]["prompt_tokens"], case["prompt_ids"].as_array().unwrap().len());
        assert_eq!(answer["usage"]["completion_tokens"], case["ids"].as_array().unwrap().len());
    }
}

#[test]
fn a_stream_has_the_same_text_logprobs_and_usage_as_the_whole() {
    let ask = |more: Value| post(shared().address, "/v1/chat/completions", &chat(more));
    let sampled = json!({"temperature": 4, "seed": 7, "n": 3, "logprobs": true, "top_logprobs": 2});
    let whole = ask(sampled.clone()).json();
    let mut streamed = sampled;
    streamed["stream"] = json!(true);
    streamed["stream_options"] = json!({"include_usage": true});
    let answer = ask(streamed);
    assert_eq!(answer.header("content-type"), Some("text/event-stream"));
    assert!(answer.body.ends_with("data: [DONE]\n\n"));
    let events = answer.events();
    for index in 0..3 {
        let choice = &whole["choices"][index];
        let of = |event: &&Value| event["choices"][0]["index"] == index;
        let texts = events.iter().filter(of).filter_map(|event| event["choices"][0]["delta"]["content"].as_str());
        assert_eq!(texts.collect::<String>(), choice["message"]["content"].as_str().unwrap());
        let tokens = events.iter().filter(of).filter_map(|event| event["choices"][0]["logprobs"]["content"].as_array());
        let tokens: Vec<Value> = tokens.flatten().cloned().collect();
        assert_eq!(json!(tokens), choice["logprobs"]["content"]);
        assert_eq!(tokens[0]["top_logprobs"].as_array().unwrap().len(), 2);
        let last = events.iter().rfind(of).unwrap();
        assert_eq!(last["choices"][0]["finish_reason"], choice["finish_reason"]);
    }
    assert_eq!(events.last().unwrap()["usage"], whole["usage"]);
    assert!(events.iter().all(|event| event["object"] == "chat.completion.chunk"));
    let different: std::collections::BTreeSet<String> =
        (0..3).map(|index| whole["choices"][index]["message"]["content"].to_string()).collect();
    assert!(different.len() > 1, "answers with one seed differ from each other: {different:?}");
}

#[test]
fn stops_biases_and_limits_reach_the_engine() {
    let text = |more: Value| {
        let answer = post(shared().address, "/v1/chat/completions", &chat(more)).json();
        let choice = answer["choices"][0].clone();
        (
            choice["message"]["content"].as_str().unwrap().to_owned(),
            choice["finish_reason"].as_str().unwrap().to_owned(),
        )
    };
    let stop = || "stop".to_owned();
    assert_eq!(text(json!({})), ("Hello! How can I help you?".to_owned(), stop()));
    assert_eq!(text(json!({"stop": " can"})), ("Hello! How".to_owned(), stop()));
    assert_eq!(text(json!({"stop": ["zzz", "!"]})), ("Hello".to_owned(), stop()));
    assert_eq!(text(json!({"max_tokens": 2})), ("Hello!".to_owned(), "length".to_owned()));
    assert_eq!(text(json!({"max_tokens": null, "max_completion_tokens": 2})).1, "length");
    assert_ne!(text(json!({"logit_bias": {"425": -100}})).0, "Hello! How can I help you?");
    let (long, reason) = text(json!({"ignore_eos": true, "max_tokens": 30}));
    assert!(long.len() > 30 && reason == "length", "{long:?}");
}

#[test]
fn a_completion_is_what_the_engine_gives_for_text_ids_and_lists() {
    let host = shared();
    let tokenizer = host.prompt.tokenizer().unwrap();
    let ids = tokenizer.encode_with_special("A token is", Specials::AsText).unwrap();
    let mut request = Request { max_tokens: Some(8), opening: Opening::GoesOn, ..Request::new(ids.clone()) };
    request.sampling.temperature = Some(0.0);
    request.stop_ids = host.prompt.stop_ids().to_vec();
    let wanted = host.engine.submit(request).unwrap().answer().unwrap();
    let ask = |prompt: Value, more: Value| {
        let mut body = json!({"model": "starter", "prompt": prompt, "temperature": 0, "max_tokens": 8});
        more.as_object().unwrap().iter().for_each(|(name, value)| body[name] = value.clone());
        post(host.address, "/v1/completions", &body)
    };
    for prompt in [json!("A token is"), json!(ids)] {
        assert_eq!(ask(prompt, json!({})).json()["choices"][0]["text"], wanted.text);
    }
    let both = ask(json!(["A token is", "Sheep"]), json!({"n": 2})).json();
    let choices = both["choices"].as_array().unwrap();
    assert_eq!(choices.iter().map(|choice| choice["index"].as_u64().unwrap()).collect::<Vec<_>>(), [0, 1, 2, 3]);
    assert!(choices[0]["text"] == wanted.text && choices[1]["text"] == wanted.text);
    assert!(choices[2]["text"] == choices[3]["text"] && choices[2]["text"] != wanted.text);
    let streamed = ask(json!(["A token is", "Sheep"]), json!({"stream": true, "echo": true}));
    let of = |index: u64| {
        let events = streamed.events().into_iter().filter(move |event| event["choices"][0]["index"] == index);
        events.filter_map(|event| event["choices"][0]["text"].as_str().map(str::to_owned)).collect::<String>()
    };
    assert_eq!(of(0), format!("A token is{}", wanted.text));
    assert_eq!(of(1), format!("Sheep{}", choices[2]["text"].as_str().unwrap()));
}

#[test]
fn an_echoed_prompt_has_the_probabilities_that_sampling_gives() {
    let host = shared();
    let ask = |body: Value| post(host.address, "/v1/completions", &body).json();
    let base = json!({"prompt": "A token is", "echo": true, "logprobs": 1, "temperature": 0});
    let mut all = base.clone();
    all["max_tokens"] = json!(6);
    let all = ask(all);
    let text = all["choices"][0]["text"].as_str().unwrap().to_owned();
    let logprobs = &all["choices"][0]["logprobs"];
    // The whole as a prompt: what was sampled has the same probability as a part of the prompt.
    let ids = host.prompt.tokenizer().unwrap().encode_with_special("A token is", Specials::AsText).unwrap();
    let sampled = host.engine.submit({
        let mut request = Request { max_tokens: Some(6), ..Request::new(ids.clone()) };
        request.sampling.temperature = Some(0.0);
        request
    });
    let whole: Vec<u32> = ids.iter().copied().chain(sampled.unwrap().answer().unwrap().ids).collect();
    let scored = ask(json!({"prompt": whole, "echo": true, "logprobs": 1, "max_tokens": 0}));
    let again = &scored["choices"][0]["logprobs"];
    assert_eq!(scored["choices"][0]["text"], text);
    assert_eq!((&again["tokens"], &again["text_offset"]), (&logprobs["tokens"], &logprobs["text_offset"]));
    assert!(logprobs["token_logprobs"][0].is_null());
    let close = |one: &Value, other: &Value| (one.as_f64().unwrap() - other.as_f64().unwrap()).abs() < 1e-4;
    for at in 1..whole.len() {
        assert!(close(&again["token_logprobs"][at], &logprobs["token_logprobs"][at]), "token {at}");
    }
    let empty = post(host.address, "/v1/completions", &json!({"prompt": "x", "max_tokens": 0}));
    assert!(empty.status == 400 && empty.error().contains("max_tokens"));
}

#[test]
fn embeddings_come_as_numbers_and_as_bytes() {
    let ask = |body: Value| post(shared().address, "/v1/embeddings", &body).json();
    let plain = ask(json!({"model": "starter", "input": ["Sheep eat grass.", "A token"]}));
    let vector: Vec<f32> = serde_json::from_value(plain["data"][1]["embedding"].clone()).unwrap();
    let bytes = ask(json!({"input": "A token", "encoding_format": "base64"}));
    use base64::Engine as _;
    let text = bytes["data"][0]["embedding"].as_str().unwrap();
    let bytes = base64::engine::general_purpose::STANDARD.decode(text).unwrap();
    let same: Vec<f32> = bytes.chunks(4).map(|four| f32::from_le_bytes(four.try_into().unwrap())).collect();
    assert_eq!(vector, same);
    assert_eq!(plain["data"].as_array().unwrap().len(), 2);
    assert!(plain["usage"]["total_tokens"].as_u64().unwrap() > 4);
}

#[test]
fn models_are_listed_and_an_unknown_one_is_named() {
    let host = shared();
    assert_eq!(get(host.address, "/v1/models").json()["data"][0]["id"], "starter");
    assert_eq!(get(host.address, "/v1/models/starter").json()["id"], "starter");
    let missing = post(host.address, "/v1/chat/completions", &chat(json!({"model": "startr"})));
    assert!(missing.status == 404 && missing.error().contains("did you mean \"starter\""), "{}", missing.body);
    assert_eq!(missing.json()["error"]["code"], "model_not_found");
}

#[test]
fn a_prompt_that_does_not_fit_is_refused_with_numbers() {
    let body = chat(json!({"max_tokens": 100_000}));
    let answer = post(shared().address, "/v1/chat/completions", &body);
    assert_eq!((answer.status, &answer.json()["error"]["code"]), (400, &json!("context_length_exceeded")));
    assert!(answer.error().contains("100000"));
}
