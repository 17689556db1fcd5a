//! Our own routes for texts: ranked, scored, and what a conversation becomes.

use serde_json::{Value, json};

use crate::client::{Answer, post};
use crate::host::shared;

fn ask(path: &str, body: Value) -> Answer {
    post(shared().address, path, &body)
}

const TEXTS: [&str; 4] = ["Sheep eat grass.", "A token is a piece of text.", "Hay in winter.", "Sheep eat grass."];

/// The cosine of two texts, of the vectors that the route of embeddings gives.
fn cosine(one: &str, other: &str) -> f64 {
    let made = ask("/v1/embeddings", json!({"input": [one, other]})).json();
    let vector = |at: usize| -> Vec<f64> { serde_json::from_value(made["data"][at]["embedding"].clone()).unwrap() };
    let product = |one: &[f64], other: &[f64]| one.iter().zip(other).map(|(one, other)| one * other).sum::<f64>();
    let (one, other) = (vector(0), vector(1));
    product(&one, &other) / (product(&one, &one) * product(&other, &other)).sqrt()
}

fn is_close(one: &Value, other: f64) -> bool {
    (one.as_f64().unwrap() - other).abs() < 1e-4
}

#[test]
fn documents_are_ranked_by_the_cosine_and_the_answer_says_so() {
    let query = "What do sheep eat?";
    let all = ask("/v1/rerank", json!({"model": "starter", "query": query, "documents": TEXTS})).json();
    assert_eq!(
        (&all["scored_by"], &all["object"], &all["model"]),
        (&json!("cosine"), &json!("list"), &json!("starter"))
    );
    let results = all["results"].as_array().unwrap();
    let scores: Vec<f64> = results.iter().map(|result| result["relevance_score"].as_f64().unwrap()).collect();
    assert!(scores.is_sorted_by(|one, other| one >= other), "{scores:?}");
    let places: Vec<u64> = results.iter().map(|result| result["index"].as_u64().unwrap()).collect();
    let mut sorted = places.clone();
    sorted.sort_unstable();
    assert_eq!(sorted, [0, 1, 2, 3]);
    let place = |wanted: u64| places.iter().position(|index| *index == wanted).unwrap();
    assert_eq!(place(0) + 1, place(3), "equal texts stay in their order");
    for result in results {
        let text = TEXTS[result["index"].as_u64().unwrap() as usize];
        assert!(is_close(&result["relevance_score"], cosine(query, text)), "{result}");
        assert!(result["document"].is_null());
    }
    assert!(all["usage"]["total_tokens"].as_u64().unwrap() > 10);

    let documents = json!(["Sheep eat grass.", {"text": "Hay in winter."}]);
    let few = json!({"query": query, "documents": documents, "top_n": 1, "return_documents": true});
    let few = ask("/rerank", few).json();
    assert_eq!(few["results"].as_array().unwrap().len(), 1);
    let index = few["results"][0]["index"].as_u64().unwrap() as usize;
    assert_eq!(few["results"][0]["document"]["text"], ["Sheep eat grass.", "Hay in winter."][index]);
}

#[test]
fn one_text_is_scored_with_many_or_pair_by_pair() {
    let score = |one: Value, other: Value| ask("/v1/score", json!({"text_1": one, "text_2": other}));
    let many = score(json!(TEXTS[0]), json!(TEXTS)).json();
    let scores: Vec<&Value> = many["data"].as_array().unwrap().iter().map(|one| &one["score"]).collect();
    assert_eq!((scores.len(), &many["scored_by"], &many["data"][1]["object"]), (4, &json!("cosine"), &json!("score")));
    assert!(is_close(scores[0], 1.0) && scores[0] == scores[3] && is_close(scores[1], cosine(TEXTS[0], TEXTS[1])));
    let pairs = score(json!([TEXTS[1], TEXTS[2]]), json!([TEXTS[0], TEXTS[2]])).json();
    assert!(is_close(&pairs["data"][0]["score"], scores[1].as_f64().unwrap()));
    assert!(is_close(&pairs["data"][1]["score"], 1.0));
    assert_eq!(ask("/score", json!({"text_1": "a", "text_2": "a"})).status, 200);
    let refused = score(json!(["a", "b"]), json!(["a"]));
    assert!(refused.status == 400 && refused.error().contains("as many in both"), "{}", refused.body);
}

#[test]
fn what_cannot_be_ranked_is_a_400_that_names_the_field() {
    let check = |path: &str, body: Value, param: &str, part: &str| {
        let answer = ask(path, body.clone());
        assert_eq!((answer.status, &answer.json()["error"]["param"]), (400, &json!(param)), "{body}: {}", answer.body);
        assert!(answer.error().contains(part), "{body}: {}", answer.error());
    };
    let long = "grass ".repeat(2000);
    let rank = |more: Value| {
        let mut body = json!({"query": "a", "documents": ["b"]});
        more.as_object().unwrap().iter().for_each(|(name, value)| body[name] = value.clone());
        body
    };
    check("/v1/rerank", json!({"documents": ["a"]}), "query", "missing");
    check("/v1/rerank", json!({"query": "a"}), "documents", "missing");
    check("/v1/rerank", rank(json!({"documents": []})), "documents", "1 to 1000");
    check("/v1/rerank", rank(json!({"documents": [{"title": "a"}]})), "documents", "`text`");
    check("/v1/rerank", rank(json!({"top_n": 0})), "top_n", "from 1");
    check("/v1/rerank", rank(json!({"texts": ["a"]})), "texts", "not known");
    check("/v1/rerank", rank(json!({"rank_fields": ["a"]})), "rank_fields", "not supported yet");
    check("/v1/rerank", rank(json!({"documents": ["a", long]})), "documents", "too long");
    check("/v1/rerank", rank(json!({"query": long})), "query", "too long");
    check("/v1/score", json!({"text_1": "a"}), "text_2", "missing");
    assert_eq!(ask("/v1/rerank", rank(json!({"documents": [long], "truncate": true}))).status, 200);
    assert_eq!(ask("/v1/rerank", rank(json!({"user": "anna"}))).header("x-pasture-unused"), Some("user"));
}

#[test]
fn a_conversation_becomes_the_text_that_the_model_is_given() {
    let messages = json!([{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hello!"}]);
    let made = ask("/apply-template", json!({"model": "starter", "messages": messages})).json();
    let text = made["prompt"].as_str().unwrap();
    assert!(text.contains("Be brief.") && text.ends_with("<|im_start|>assistant\n"), "{text:?}");
    let tokens = ask("/tokenize", json!({"content": text, "parse_special": true})).json();
    let pieces = json!({"content": "Hi 🐑", "with_pieces": true});
    let pieces = ask("/tokenize", pieces).json();
    let bytes = pieces["tokens"].as_array().unwrap().iter().flat_map(|token| match &token["piece"] {
        Value::String(text) => text.as_bytes().to_vec(),
        cut => cut.as_array().unwrap().iter().map(|byte| byte.as_u64().unwrap() as u8).collect(),
    });
    assert_eq!(String::from_utf8(bytes.collect()).unwrap(), "Hi 🐑");
    let chat = json!({"messages": messages, "max_tokens": 1, "temperature": 0});
    let chat = ask("/v1/chat/completions", chat).json();
    assert!(chat["system_fingerprint"].as_str().unwrap().starts_with("b"), "{chat}");
    assert_eq!(chat["usage"]["prompt_tokens"], tokens["tokens"].as_array().unwrap().len());
    for (body, part) in [
        (json!({}), "\"messages\" is missing"),
        (json!({"messages": messages, "temperature": 0}), "\"temperature\" is not known"),
        (json!({"messages": messages, "add_generation_prompt": false}), "not supported yet"),
        (json!({"messages": messages, "chat_template_kwargs": {"nothing": 1}}), "nothing"),
    ] {
        let answer = ask("/apply-template", body.clone());
        assert!(answer.status == 400 && answer.error().contains(part), "{body}: {}", answer.body);
    }
}
