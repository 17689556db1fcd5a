//! `/v1/embeddings`: vectors of texts, made as the model's own files say.

use std::sync::Arc;

use axum::Json;
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::ask::{ids, in_turn};
use crate::fields::Asked;
use crate::refusal::Refusal;
use crate::served::{Texts, Vectors};
use crate::state::{Model, Server};

/// Embeds texts.
pub async fn answer(server: &Arc<Server>, asked: &Asked) -> Result<Response, Refusal> {
    let model = server.model(asked.text("model"))?;
    let made = vectors(&model, texts(asked.needed("input")?), false, None).await?;
    let as_bytes = asked.text("encoding_format") == Some("base64");
    let object = |(index, vector): (usize, &Vec<f32>)| {
        let vector = match as_bytes {
            true => json!(STANDARD.encode(vector.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<u8>>())),
            false => json!(vector),
        };
        json!({"object": "embedding", "index": index, "embedding": vector})
    };
    let data: Vec<Value> = made.vectors.iter().enumerate().map(object).collect();
    server.metrics.tokens(made.tokens, 0);
    let usage = json!({"prompt_tokens": made.tokens, "total_tokens": made.tokens});
    Ok(Json(json!({"object": "list", "data": data, "model": model.served.name, "usage": usage})).into_response())
}

/// The vectors of texts. It counts as one answer while it waits for its turn.
pub async fn vectors(
    model: &Arc<Model>,
    texts: Texts,
    truncate: bool,
    normalize: Option<bool>,
) -> Result<Vectors, Refusal> {
    if model.served.adapter.is_some() {
        let what =
            "vectors are made by a model without an adapter; name the model that it stands beside, or is made of";
        return Err(Refusal::field("model", what));
    }
    let permit = model.door.admit(1)?;
    in_turn(model, move |served| {
        let made = served.work.embed(texts, truncate, normalize)?;
        permit.took(made.tokens, 0);
        Ok(made)
    })
    .await
}

/// The texts of an `input`.
pub fn texts(input: &Value) -> Texts {
    match input {
        Value::Array(list) if list[0].is_number() => Texts::Ids(vec![ids(input)]),
        Value::Array(list) if list[0].is_array() => Texts::Ids(list.iter().map(ids).collect()),
        Value::Array(list) => Texts::Plain(list.iter().filter_map(|text| text.as_str().map(str::to_owned)).collect()),
        one => Texts::Plain(vec![one.as_str().unwrap_or_default().to_owned()]),
    }
}
