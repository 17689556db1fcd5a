//! What all requests share: the models with their doors, the options, what is counted, and whether the end is near.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use pasture_files::nearest::nearest;
use tokio::sync::{Semaphore, watch};

use crate::admission::{Admission, Room};
use crate::metrics::Metrics;
use crate::refusal::{Refusal, quoted};
use crate::served::Served;
use crate::server::Options;

/// A model with its door.
pub struct Model {
    pub served: Served,
    pub door: Arc<Admission>,
    /// Work beside the engine's thread goes one after the other.
    pub turn: Semaphore,
}

/// What all requests share.
pub struct Server {
    pub models: Vec<Arc<Model>>,
    pub options: Options,
    pub metrics: Metrics,
    /// Set when no more requests are wanted.
    pub draining: AtomicBool,
    /// True when what is still being made must end.
    pub stop: watch::Sender<bool>,
    /// When it began, since 1970.
    pub started: Duration,
}

impl Server {
    pub fn new(models: Vec<Served>, options: Options) -> Server {
        let model = |served: Served| {
            let queue = options.queue.unwrap_or(8 * options.slots);
            let room = Room { slots: options.slots, queue, tokens: 4 * served.engine.context() };
            Arc::new(Model { served, door: Arc::new(Admission::new(room)), turn: Semaphore::new(1) })
        };
        let models = models.into_iter().map(model).collect();
        Server {
            models,
            options,
            metrics: Metrics::default(),
            draining: AtomicBool::new(false),
            stop: watch::Sender::new(false),
            started: crate::moment::since_1970(),
        }
    }

    /// The model of that name, with or without Ollama's `:latest`; the only one where none is named.
    pub fn model(&self, name: Option<&str>) -> Result<&Arc<Model>, Refusal> {
        let names = || self.models.iter().map(|model| model.served.name.as_str());
        let Some(name) = name else {
            return match self.models.as_slice() {
                [only] => Ok(only),
                _ => Err(Refusal::field("model", "the field \"model\" is missing, and several are served")),
            };
        };
        let plain = name.strip_suffix(":latest").unwrap_or(name);
        let found = self.models.iter().find(|model| model.served.name == name || model.served.name == plain);
        found.ok_or_else(|| {
            let near = nearest(name, names()).map(|near| format!("; did you mean {near:?}?")).unwrap_or_default();
            let message = format!("no model {} is served{near}", quoted(name));
            let status = axum::http::StatusCode::NOT_FOUND;
            Refusal { param: Some("model".to_owned()), ..Refusal::new(status, "model_not_found", message) }
        })
    }
}
