//! What all requests share: the models with their doors, the options, what is counted, and whether the end is near.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use pasture_engine::grammar::{GrammarError, Grammars};
use tokio::sync::{Notify, Semaphore, watch};

use crate::admission::{Admission, Room};
use crate::batches::{self, Batches};
use crate::chats::Book;
use crate::connections::Door;
use crate::metrics::Metrics;
use crate::models::{Entry, Lease, Models};
use crate::refusal::{Refusal, quoted};
use crate::served::Served;
use crate::server::Options;
use crate::visit::Visit;

/// A model with its door.
pub struct Model {
    pub served: Served,
    /// An adapter's is its model's.
    pub door: Arc<Admission>,
    /// Work beside the engine's thread goes one after the other.
    pub turn: Arc<Semaphore>,
    /// What makes grammars for its vocabulary; built by the first request that asks for one.
    pub grammars: Arc<OnceLock<Result<Grammars, GrammarError>>>,
}

impl Model {
    /// What makes grammars for the model's vocabulary. The first call takes up to a second.
    pub fn grammars(&self) -> Result<&Grammars, Refusal> {
        let build = || {
            let none = || GrammarError("this model came without a tokenizer".to_owned());
            let tokenizer = self.served.prompt.tokenizer().ok_or_else(none)?;
            Grammars::new(tokenizer, self.served.engine.vocab(), self.served.prompt.stop_ids())
        };
        self.grammars.get_or_init(build).as_ref().map_err(|error| Refusal::wrong(error.to_string()))
    }
}

/// What all requests share.
pub struct Server {
    pub models: Arc<Models>,
    pub options: Options,
    /// What the web page keeps.
    pub chats: Arc<Book>,
    /// Files, and requests that are answered when there is time.
    pub batches: Arc<Batches>,
    pub metrics: Metrics,
    /// Set when no more requests are wanted.
    pub draining: AtomicBool,
    /// True when what is still being made must end.
    pub stop: watch::Sender<bool>,
    /// Told when a client with the right to do so asks for the end.
    pub asked_to_end: Notify,
    /// Connections.
    pub door: Door,
    /// When it began, since 1970.
    pub started: Duration,
}

impl Server {
    pub fn new(models: Vec<Served>, options: Options, chats: Book, batches: batches::Book) -> Server {
        let (slots, queue) = (options.slots, options.queue.unwrap_or(8 * options.slots));
        let make = move |served: Served| {
            let room = Room { slots, queue, tokens: 4 * served.engine.context() };
            let (door, turn) = (Arc::new(Admission::new(room)), Arc::new(Semaphore::new(1)));
            Model { served, door, turn, grammars: Arc::default() }
        };
        let models = Models::new(models, options.loader.clone(), options.memory, options.keep, Box::new(make));
        let door = Door::new(options.connections);
        let batches = Arc::new(Batches::new(batches, options.slots));
        Server {
            models: Arc::new(models),
            options,
            chats: Arc::new(chats),
            batches,
            metrics: Metrics::default(),
            draining: AtomicBool::new(false),
            stop: watch::Sender::new(false),
            asked_to_end: Notify::new(),
            door,
            started: crate::moment::since_1970(),
        }
    }

    /// Whether no more requests are wanted, or what is being made must end.
    pub fn is_ending(&self) -> bool {
        self.draining.load(Ordering::Relaxed) || *self.stop.borrow()
    }

    /// Can the audit log be written, where there is one?
    pub fn is_told(&self) -> bool {
        self.options.audit.as_ref().is_none_or(|audit| audit.works())
    }

    /// The model that a request asks for and may use.
    pub fn model(&self, name: Option<&str>) -> Result<Arc<Model>, Refusal> {
        let model = self.models.find(name)?;
        if !Visit::may_use(&model.served.name) {
            return Err(no_model(name.unwrap_or_default(), None));
        }
        if let Some(visit) = Visit::current() {
            visit.model(&model.served.name);
        }
        Ok(model)
    }

    /// Loads the model that a request asks for, where it may use it, and holds it.
    pub async fn open(&self, name: Option<&str>) -> Result<Option<Lease>, Refusal> {
        let plain = name.map(|name| name.strip_suffix(":latest").unwrap_or(name));
        match (name, plain) {
            (Some(name), Some(plain)) if !Visit::may_use(name) && !Visit::may_use(plain) => Ok(None),
            _ => self.models.open(name).await,
        }
    }

    /// All that is loaded, models and adapters.
    pub fn entries(&self) -> Vec<Entry> {
        self.models.entries()
    }

    /// What is loaded and the request may use.
    pub fn shown(&self) -> Vec<Entry> {
        self.entries().into_iter().filter(|entry| Visit::may_use(&entry.model.served.name)).collect()
    }

    /// Names that the request may use although they are not loaded.
    pub fn loadable(&self) -> Vec<String> {
        self.models.loadable().into_iter().filter(|name| Visit::may_use(name)).collect()
    }
}

/// A model that is not there, or not for whoever asks.
pub fn no_model(name: &str, near: Option<&str>) -> Refusal {
    let near = near.map(|near| format!("; did you mean {near:?}?")).unwrap_or_default();
    let message = format!("no model {} is served{near}", quoted(name));
    let status = axum::http::StatusCode::NOT_FOUND;
    Refusal { param: Some("model".to_owned()), ..Refusal::new(status, "model_not_found", message) }
}
