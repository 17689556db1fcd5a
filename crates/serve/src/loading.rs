//! Our own routes for what is loaded: models, and adapters beside them.

use std::sync::Arc;

use axum::Json;
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use crate::ask::blocking;
use crate::fields::Asked;
use crate::refusal::{Refusal, quoted};
use crate::served::Failed;
use crate::state::Server;

/// Loads a model, which was done before this is called: it only has to be there.
pub fn load(server: &Server, asked: &Asked) -> Result<Response, Refusal> {
    asked.needed("model")?;
    let model = server.model(asked.text("model"))?;
    Ok(Json(json!({"model": model.served.name, "loaded": true})).into_response())
}

/// Lets a model go that nobody uses, with its adapters.
pub fn unload(server: &Server, asked: &Asked) -> Result<Response, Refusal> {
    asked.needed("model")?;
    let name = asked.text("model").unwrap_or_default();
    server.models.unload(name)?;
    Ok(Json(json!({"model": name, "loaded": false})).into_response())
}

/// The adapters that are loaded, and those that can be.
pub async fn adapters(server: &Arc<Server>) -> Result<Response, Refusal> {
    let entries = server.shown();
    blocking(move || {
        let one = |entry: &crate::models::Entry| {
            let base = entry.base.as_ref()?;
            Some(json!({"name": entry.model.served.name, "model": base}))
        };
        let loaded: Vec<Value> = entries.iter().filter_map(one).collect();
        let models = entries.iter().filter(|entry| entry.base.is_none()).map(|entry| &entry.model.served);
        let found: std::collections::BTreeSet<String> = models.flat_map(|served| served.work.adapters()).collect();
        Ok(Json(json!({"adapters": loaded, "folder": found})).into_response())
    })
    .await
}

/// Puts an adapter from the program's folder beside a model. Requests that come from now on may name it; those that are
/// under way are not touched.
pub async fn load_adapter(server: &Arc<Server>, asked: &Asked) -> Result<Response, Refusal> {
    asked.needed("adapter")?;
    let model = server.model(asked.text("model"))?;
    let adapter = asked.text("adapter").unwrap_or_default().to_owned();
    let name = asked.text("name").unwrap_or(&adapter).to_owned();
    let plain = |text: &str| {
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        !text.is_empty() && text.len() <= 100 && !text.starts_with('.') && text.bytes().all(fits)
    };
    for (field, text) in [("adapter", &adapter), ("name", &name)] {
        if !plain(text) {
            let what = "names of adapters are letters, digits, points, dashes and underscores";
            return Err(Refusal::field(field, format!("{} is no name: {what}", quoted(text))));
        }
    }
    let (of, base) = (model.clone(), model.served.name.clone());
    let read = blocking(move || {
        of.served.work.adapter(&adapter).map_err(|failed| match failed {
            Failed::Asked(what) => Refusal::field("adapter", what),
            Failed::Here(what) => {
                eprintln!("error: an adapter cannot be loaded: {what:?}");
                Refusal::field("adapter", "the adapter cannot be loaded; the log says why")
            }
        })
    });
    server.models.adapt(&base, &name, read.await?)?;
    Ok(Json(json!({"name": name, "model": base, "loaded": true})).into_response())
}

/// Lets an adapter go that no request holds; a streamed answer that has begun goes on.
pub fn unload_adapter(server: &Server, asked: &Asked) -> Result<Response, Refusal> {
    asked.needed("name")?;
    let name = asked.text("name").unwrap_or_default();
    if server.models.entry(name).is_none_or(|entry| entry.base.is_none()) {
        return Err(Refusal::field("name", format!("no adapter {} is loaded", quoted(name))));
    }
    server.models.unload(name)?;
    Ok(Json(json!({"name": name, "loaded": false})).into_response())
}
