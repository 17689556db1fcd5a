//! Texts compared with each other: `/v1/rerank` as Jina's, Cohere's and llama.cpp's clients ask for it, `/v1/score` as
//! vLLM's do. No model that runs here has a head that judges pairs, so a score is the cosine of two vectors, and every
//! answer says so.

use std::sync::Arc;

use axum::Json;
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use crate::ask::id;
use crate::fields::Asked;
use crate::moment::since_1970;
use crate::openai::embeddings::vectors;
use crate::refusal::Refusal;
use crate::served::{Texts, Vectors};
use crate::state::{Model, Server};

/// What scores are, in answers.
const SCORED_BY: &str = "cosine";

/// Documents in the order in which they answer a question, the best first.
pub async fn rerank(server: &Arc<Server>, asked: &Asked) -> Result<Response, Refusal> {
    let model = server.model(asked.text("model"))?;
    let query = asked.needed("query")?.as_str().unwrap_or_default().to_owned();
    let documents = texts(asked.needed("documents")?);
    let top = asked.whole("top_n").and_then(|top| usize::try_from(top).ok()).unwrap_or(usize::MAX);
    let question = embedded(&model, asked, "query", Texts::Questions(vec![query])).await?;
    let found = embedded(&model, asked, "documents", Texts::Plain(documents.clone())).await?;
    let scores = found.vectors.iter().map(|vector| cosine(&question.vectors[0], vector));
    let mut ranked: Vec<(usize, f64)> = scores.enumerate().collect();
    // Equal ones stay in their order.
    ranked.sort_by(|(_, one), (_, other)| other.total_cmp(one));
    ranked.truncate(top);
    let told = |(index, score): (usize, f64)| {
        let mut result = json!({"index": index, "relevance_score": score});
        if asked.flag("return_documents") {
            result["document"] = json!({"text": documents[index]});
        }
        result
    };
    let results: Vec<Value> = ranked.into_iter().map(told).collect();
    let mut answer = answer(server, &model, "rerank-", question.tokens + found.tokens);
    answer["results"] = json!(results);
    Ok(Json(answer).into_response())
}

/// How alike texts are: one with many, or pair by pair.
pub async fn score(server: &Arc<Server>, asked: &Asked) -> Result<Response, Refusal> {
    let model = server.model(asked.text("model"))?;
    let (first, second) = (texts(asked.needed("text_1")?), texts(asked.needed("text_2")?));
    if first.len() != 1 && first.len() != second.len() {
        let (first, second) = (first.len(), second.len());
        let message =
            format!("\"text_1\" has {first} texts and \"text_2\" {second}: give one in \"text_1\", or as many in both");
        return Err(Refusal::field("text_1", message));
    }
    let first = embedded(&model, asked, "text_1", Texts::Plain(first)).await?;
    let second = embedded(&model, asked, "text_2", Texts::Plain(second)).await?;
    let scores = first.vectors.iter().cycle().zip(&second.vectors).map(|(one, other)| cosine(one, other));
    let told = |(index, score): (usize, f64)| json!({"index": index, "object": "score", "score": score});
    let data: Vec<Value> = scores.enumerate().map(told).collect();
    let mut answer = answer(server, &model, "score-", first.tokens + second.tokens);
    answer["data"] = json!(data);
    Ok(Json(answer).into_response())
}

/// What both answers begin with. The tokens are counted.
fn answer(server: &Server, model: &Model, prefix: &str, tokens: usize) -> Value {
    server.metrics.tokens(tokens, 0);
    json!({
        "id": id(prefix),
        "object": "list",
        "created": since_1970().as_secs(),
        "model": model.served.name,
        "scored_by": SCORED_BY,
        "usage": {"prompt_tokens": tokens, "completion_tokens": 0, "total_tokens": tokens},
    })
}

/// The texts of a field: one, a list, or a list of objects.
fn texts(value: &Value) -> Vec<String> {
    let text = |one: &Value| one.as_str().or_else(|| one["text"].as_str()).unwrap_or_default().to_owned();
    match value {
        Value::Array(list) => list.iter().map(text).collect(),
        one => vec![text(one)],
    }
}

/// Vectors that are one long. What is wrong with a text is wrong with its field.
async fn embedded(model: &Arc<Model>, asked: &Asked, field: &str, texts: Texts) -> Result<Vectors, Refusal> {
    let made = vectors(model, texts, asked.flag("truncate"), Some(true)).await;
    made.map_err(|refusal| Refusal { param: refusal.param.or_else(|| Some(field.to_owned())), ..refusal })
}

/// The product of two vectors that are one long.
fn cosine(one: &[f32], other: &[f32]) -> f64 {
    let sum: f64 = one.iter().zip(other).map(|(one, other)| f64::from(*one) * f64::from(*other)).sum();
    sum.clamp(-1.0, 1.0)
}
