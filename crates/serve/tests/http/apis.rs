//! Shapes of answers, and the newer APIs: messages, responses, tools that a template has no place for.

use serde_json::{Value, json};

use crate::client::post;
use crate::host::shared;

fn ask(path: &str, body: Value) -> crate::client::Answer {
    post(shared().address, path, &body)
}

fn chat(more: Value) -> Value {
    let mut body =
        json!({"messages": [{"role": "user", "content": "Hello!"}], "temperature": 1, "seed": 3, "max_tokens": 200});
    more.as_object().unwrap().iter().for_each(|(name, value)| body[name] = value.clone());
    body
}

#[test]
fn an_answer_has_the_shape_that_was_asked_for() {
    let schema = json!({
        "type": "object", "properties": {"n": {"type": "integer", "minimum": 3, "maximum": 40}, "b": {"type": "boolean"}},
        "required": ["n", "b"], "additionalProperties": false,
    });
    let format = json!({"type": "json_schema", "json_schema": {"name": "it", "strict": true, "schema": schema}});
    let is = |text: &Value| {
        let document: Value = serde_json::from_str(text.as_str().unwrap()).unwrap();
        assert!((3..=40).contains(&document["n"].as_i64().unwrap()), "{document}");
        assert!(document["b"].is_boolean());
    };
    let answer = ask("/v1/chat/completions", chat(json!({"response_format": format}))).json();
    is(&answer["choices"][0]["message"]["content"]);
    assert_eq!(answer["choices"][0]["finish_reason"], "stop");
    let streamed = ask("/v1/chat/completions", chat(json!({"response_format": format, "stream": true})));
    let parts = streamed.events();
    let texts = parts.iter().filter_map(|part| part["choices"][0]["delta"]["content"].as_str());
    is(&json!(texts.collect::<String>()));
    let ollama = json!({"messages": [{"role": "user", "content": "Hi"}], "format": schema, "stream": false});
    is(&ask("/api/chat", ollama).json()["message"]["content"]);
    let response = json!({"input": "Hi", "text": {"format": {"type": "json_schema", "name": "it", "schema": schema}}});
    is(&ask("/v1/responses", response).json()["output"][0]["content"][0]["text"]);
    for (name, value, fits) in [
        ("guided_regex", json!("[0-9]{4}"), &|text: &str| text.len() == 4 && text.parse::<u32>().is_ok()),
        ("guided_choice", json!(["a cow", "a sheep"]), &|text: &str| ["a cow", "a sheep"].contains(&text)),
        ("grammar", json!("root ::= \"moo\" [!?]"), &|text: &str| ["moo!", "moo?"].contains(&text)),
    ] as [(&str, Value, &dyn Fn(&str) -> bool); 3]
    {
        let answer = ask("/v1/chat/completions", chat(json!({name: value}))).json();
        let text = answer["choices"][0]["message"]["content"].as_str().unwrap();
        assert!(fits(text), "{name}: {text:?}");
        let answer = ask("/v1/completions", json!({"prompt": "x", "max_tokens": 100, name: value})).json();
        assert!(fits(answer["choices"][0]["text"].as_str().unwrap()), "{name}: {answer}");
    }
}

#[test]
fn a_shape_that_would_not_be_kept_is_a_400_that_names_the_field() {
    let check = |more: Value, part: &str| {
        let answer = ask("/v1/chat/completions", chat(more.clone()));
        assert_eq!(answer.status, 400, "{more}: {}", answer.body);
        assert!(answer.error().contains(part), "{more}: {}", answer.error());
    };
    let schema = |schema: Value| json!({"response_format": {"type": "json_schema", "json_schema": {"schema": schema}}});
    check(schema(json!({"uniqueItems": true})), "\"uniqueItems\"");
    check(schema(json!({"$ref": "http://127.0.0.1:1/x"})), "leads out of the schema");
    check(json!({"response_format": {"type": "xml"}}), "text, json_object or json_schema");
    check(json!({"guided_regex": "("}), "guided_regex");
    check(json!({"guided_regex": "a", "guided_choice": ["b"]}), "both say");
    check(json!({"guided_regex": "a", "ignore_eos": true}), "ignore_eos");
    check(json!({"grammar": "x ::= \"a\""}), "no rule \"root\"");
    let tool = json!({"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}});
    check(json!({"tools": [tool]}), "tool");
    check(json!({"tools": [{"type": "web_search"}]}), "web_search");
    check(json!({"tool_choice": "required"}), "no \"tools\"");
}

#[test]
fn messages_answer_whole_and_in_events() {
    let body = json!({
        "model": "starter", "max_tokens": 30, "temperature": 0, "system": "Be brief.",
        "messages": [{"role": "user", "content": [{"type": "text", "text": "Hello!"}]}],
    });
    let chat = json!({
        "max_tokens": 30, "temperature": 0,
        "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hello!"}],
    });
    let chat = ask("/v1/chat/completions", chat).json();
    let text = chat["choices"][0]["message"]["content"].as_str().unwrap();
    let whole = ask("/v1/messages", body.clone()).json();
    assert_eq!(whole["content"], json!([{"type": "text", "text": text}]));
    // What was known already is counted apart.
    let counts = ["input_tokens", "cache_read_input_tokens"].map(|key| whole["usage"][key].as_u64().unwrap());
    assert_eq!(counts.iter().sum::<u64>(), chat["usage"]["prompt_tokens"].as_u64().unwrap());
    let reason = if chat["choices"][0]["finish_reason"] == "stop" { "end_turn" } else { "max_tokens" };
    assert_eq!(whole["stop_reason"], reason);
    let mut streamed = body.clone();
    streamed["stream"] = json!(true);
    let answer = ask("/v1/messages", streamed);
    let events = answer.events();
    let names: Vec<&str> = events.iter().filter_map(|event| event["type"].as_str()).collect();
    assert_eq!((names[0], names[1]), ("message_start", "content_block_start"));
    assert_eq!(names[names.len() - 3..], ["content_block_stop", "message_delta", "message_stop"]);
    let texts = events.iter().filter_map(|event| event["delta"]["text"].as_str());
    assert_eq!(texts.collect::<String>(), text);
    let mut count = body.clone();
    count.as_object_mut().unwrap().retain(|name, _| ["model", "system", "messages"].contains(&name.as_str()));
    let counted = ask("/v1/messages/count_tokens", count).json();
    assert_eq!(counted["input_tokens"], chat["usage"]["prompt_tokens"]);
    let wrong = ask("/v1/messages", json!({"messages": [{"role": "user", "content": "x"}]}));
    assert_eq!((wrong.status, wrong.json()["type"].clone()), (400, json!("error")));
    assert!(wrong.json()["error"]["message"].as_str().unwrap().contains("max_tokens"));
}

#[test]
fn a_stop_sequence_is_named() {
    let body = json!({
        "max_tokens": 100, "temperature": 0, "stop_sequences": ["e"], "messages": [{"role": "user", "content": "Hello!"}],
    });
    let answer = ask("/v1/messages", body).json();
    assert_eq!((&answer["stop_reason"], &answer["stop_sequence"]), (&json!("stop_sequence"), &json!("e")));
}

#[test]
fn responses_answer_whole_and_in_numbered_events() {
    let body = json!({"input": "Hello!", "instructions": "Be brief.", "temperature": 0, "max_output_tokens": 30});
    let whole = ask("/v1/responses", body.clone()).json();
    let text = whole["output"][0]["content"][0]["text"].as_str().unwrap();
    assert_eq!((&whole["object"], &whole["output"][0]["type"]), (&json!("response"), &json!("message")));
    let items = json!([
        {"role": "system", "content": "Be brief."},
        {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Hello!"}]},
    ]);
    let other = ask("/v1/responses", json!({"input": items, "temperature": 0, "max_output_tokens": 30})).json();
    assert_eq!(other["output"][0]["content"][0]["text"], text);
    let mut streamed = body;
    streamed["stream"] = json!(true);
    let events = ask("/v1/responses", streamed).events();
    let numbers: Vec<u64> = events.iter().map(|event| event["sequence_number"].as_u64().unwrap()).collect();
    assert_eq!(numbers, (0..events.len() as u64).collect::<Vec<u64>>());
    assert_eq!(events[0]["type"], "response.created");
    let texts = events.iter().filter(|event| event["type"] == "response.output_text.delta");
    assert_eq!(texts.filter_map(|event| event["delta"].as_str()).collect::<String>(), text);
    let last = events.last().unwrap();
    assert_eq!(last["response"]["output"][0]["content"][0]["text"], text);
    assert_eq!(last["response"]["status"], whole["status"]);
    let stored = ask("/v1/responses", json!({"input": "x", "previous_response_id": "resp_1"}));
    assert_eq!(stored.status, 400);
    assert!(stored.error().contains("not stored"), "{}", stored.error());
}
