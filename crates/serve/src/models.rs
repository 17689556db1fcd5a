//! Which models and adapters are there: loaded at the start or when a request names them, within a budget of memory, and
//! let go when nobody asked for them in a while. A model in use is never let go; a load that fails ends the requests that
//! wait for it and nothing else.

mod keep;
mod load;

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use axum::http::StatusCode;
use pasture_engine::Adapter;
use pasture_files::nearest::nearest;
use tokio::sync::watch;

use crate::moment::since_1970;
use crate::refusal::{Refusal, quoted};
use crate::served::{Loader, Served};
use crate::state::{Model, no_model};
use crate::visit::Visit;

pub use keep::Keep;

/// Requests that may wait for one model to be loaded.
pub const WAIT_FOR_LOAD: usize = 64;

/// A model, or an adapter of one, that requests may name.
#[derive(Clone)]
pub struct Entry {
    pub model: Arc<Model>,
    /// Bytes that it takes; an adapter's are its model's.
    pub bytes: u64,
    /// The model that an adapter stands beside.
    pub base: Option<String>,
    pub keep: Keep,
    /// When a request last named it.
    pub used: Instant,
    /// Requests that have named it and wait for nothing else.
    leases: Arc<AtomicUsize>,
}

impl Entry {
    /// When it goes, if nobody asks for it until then, since 1970; none where it stays until it is told to go.
    pub fn goes(&self) -> Option<Duration> {
        let Keep::For(time) = self.keep else { return None };
        let left = if self.in_use() { time } else { time.saturating_sub(self.used.elapsed()) };
        Some(since_1970() + left)
    }

    pub fn in_use(&self) -> bool {
        self.leases.load(Ordering::Acquire) > 0 || self.model.door.counts().in_flight > 0
    }
}

/// Holds a model while a request finds its way to it.
pub struct Lease(Arc<AtomicUsize>);

impl Drop for Lease {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Release);
    }
}

/// What became of a load.
type Loaded = Option<Result<(), Refusal>>;

#[derive(Default)]
struct Inner {
    entries: Vec<Entry>,
    loading: HashMap<String, Load>,
}

/// A load that is under way.
struct Load {
    outcome: watch::Receiver<Loaded>,
    /// Bytes that are set aside for it.
    bytes: u64,
    /// Requests that have come to wait for it.
    waiting: usize,
}

/// The models of a server.
pub struct Models {
    inner: Mutex<Inner>,
    loader: Option<Arc<dyn Loader>>,
    /// Bytes that all loaded models may take together.
    memory: u64,
    keep: Keep,
    make: Box<dyn Fn(Served) -> Model + Send + Sync>,
}

impl Models {
    /// The models that are loaded already; these stay until they are told to go.
    pub fn new(
        served: Vec<Served>,
        loader: Option<Arc<dyn Loader>>,
        memory: u64,
        keep: Keep,
        make: Box<dyn Fn(Served) -> Model + Send + Sync>,
    ) -> Models {
        let models = Models { inner: Mutex::default(), loader, memory, keep, make };
        for served in served {
            // An adapter of the command line stands beside the model with the same engine, which came before it.
            let base = served.adapter.as_ref().and_then(|_| models.beside(&served));
            models.insert(served, base.as_ref(), Keep::Given);
        }
        models
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn beside(&self, served: &Served) -> Option<Entry> {
        let inner = self.lock();
        let same = |entry: &&Entry| entry.base.is_none() && Arc::ptr_eq(&entry.model.served.work, &served.work);
        inner.entries.iter().find(same).cloned()
    }

    fn insert(&self, served: Served, base: Option<&Entry>, keep: Keep) {
        let bytes = if base.is_some() { 0 } else { served.bytes };
        let model = match base {
            None => (self.make)(served),
            Some(base) => {
                let Model { door, turn, grammars, .. } = &*base.model;
                Model { served, door: door.clone(), turn: turn.clone(), grammars: grammars.clone() }
            }
        };
        let base = base.map(|base| base.model.served.name.clone());
        let entry = Entry { model: Arc::new(model), bytes, base, keep, used: Instant::now(), leases: Arc::default() };
        self.lock().entries.push(entry);
    }

    /// All that is loaded, models and adapters.
    pub fn entries(&self) -> Vec<Entry> {
        self.lock().entries.clone()
    }

    /// A model or adapter that is loaded.
    pub fn entry(&self, name: &str) -> Option<Entry> {
        let inner = self.lock();
        at(&inner.entries, name).map(|at| inner.entries[at].clone())
    }

    /// Names that a request may use although they are not loaded.
    pub fn loadable(&self) -> Vec<String> {
        let Some(loader) = &self.loader else { return Vec::new() };
        let loaded = self.entries();
        let names = loader.names().into_iter();
        names.filter(|name| loaded.iter().all(|entry| entry.model.served.name != *name)).collect()
    }

    /// The model of that name, with or without Ollama's `:latest`; the only one where none is named.
    pub fn find(&self, name: Option<&str>) -> Result<Arc<Model>, Refusal> {
        let inner = self.lock();
        let Some(name) = name else {
            let mut models = inner.entries.iter().filter(|entry| entry.base.is_none());
            return match (models.next(), models.next()) {
                (Some(only), None) => Ok(only.model.clone()),
                _ => Err(Refusal::field("model", "the field \"model\" is missing, and there is not exactly one model")),
            };
        };
        let found = at(&inner.entries, name).map(|at| inner.entries[at].model.clone());
        let names = || inner.entries.iter().map(|entry| entry.model.served.name.as_str());
        found.ok_or_else(|| no_model(name, nearest(name, names().filter(|name| Visit::may_use(name)))))
    }

    /// Takes a model that is loaded for a request.
    fn take(&self, name: Option<&str>) -> Option<Lease> {
        let mut inner = self.lock();
        let at = match name {
            Some(name) => at(&inner.entries, name)?,
            None => inner.entries.iter().position(|entry| entry.base.is_none())?,
        };
        let base = inner.entries[at].base.clone();
        let entry = &mut inner.entries[at];
        entry.used = Instant::now();
        entry.leases.fetch_add(1, Ordering::AcqRel);
        let lease = Lease(entry.leases.clone());
        if let Some(base) = base.and_then(|base| self::at(&inner.entries, &base)) {
            inner.entries[base].used = Instant::now();
        }
        Some(lease)
    }

    /// For how long a model stays when nobody asks for it; what was given at the start stays anyway.
    pub fn keep(&self, name: &str, keep: Keep) {
        let mut inner = self.lock();
        if let Some(at) = at(&inner.entries, name).filter(|at| inner.entries[*at].keep != Keep::Given) {
            inner.entries[at].keep = keep;
        }
    }

    /// Lets models go whose time is over.
    pub fn sweep(&self) {
        let gone: Vec<Entry> = {
            let mut inner = self.lock();
            // Whoever waited for a load has found the model by then.
            let over = |entry: &Entry| {
                let idle = entry.used.elapsed();
                entry.base.is_none() && idle >= SWEEP && entry.keep.is_over(idle)
            };
            let names: Vec<String> =
                inner.entries.iter().filter(|entry| over(entry)).map(|entry| entry.model.served.name.clone()).collect();
            names.iter().flat_map(|name| inner.let_go(name)).collect()
        };
        // Weights are freed here, and nobody waits for the lock meanwhile.
        drop(gone);
    }

    /// Lets a model go with its adapters, or one adapter. False where it is in use.
    pub fn unload(&self, name: &str) -> Result<(), Refusal> {
        let gone = {
            let mut inner = self.lock();
            if at(&inner.entries, name).is_none() {
                return Err(not_found(format!("no model {} is loaded", quoted(name))));
            }
            inner.let_go(name)
        };
        match gone.is_empty() {
            true => Err(busy(format!("the model {} is in use; try again later", quoted(name)), 5)),
            false => Ok(()),
        }
    }

    /// Puts an adapter beside a model that is loaded; from now on requests may name it.
    pub fn adapt(&self, base: &str, name: &str, adapter: Arc<Adapter>) -> Result<(), Refusal> {
        let found = {
            let inner = self.lock();
            if at(&inner.entries, name).is_some() {
                return Err(Refusal::field("name", format!("the name {} is taken", quoted(name))));
            }
            at(&inner.entries, base).map(|at| inner.entries[at].clone())
        };
        let found = found.filter(|entry| entry.base.is_none());
        let entry = found.ok_or_else(|| not_found(format!("no model {} is loaded", quoted(base))))?;
        if entry.model.served.adapter.is_some() {
            let what = "has adapters of its own, whose place another would take; load the model that it is made of";
            return Err(Refusal::field("model", format!("the model {} {what}", quoted(base))));
        }
        let served = Served { name: name.to_owned(), adapter: Some(adapter), ..entry.model.served.clone() };
        self.insert(served, Some(&entry), Keep::Forever);
        Ok(())
    }
}

impl Inner {
    /// Takes a model that nobody uses out, with its adapters.
    fn let_go(&mut self, name: &str) -> Vec<Entry> {
        let Some(at) = at(&self.entries, name) else { return Vec::new() };
        let name = self.entries[at].model.served.name.clone();
        let belongs = |entry: &Entry| entry.model.served.name == name || entry.base.as_deref() == Some(&name);
        if self.entries.iter().any(|entry| belongs(entry) && self.uses(entry)) {
            return Vec::new();
        }
        let (gone, stay) = std::mem::take(&mut self.entries).into_iter().partition(belongs);
        self.entries = stay;
        gone
    }

    /// Whether somebody uses it. An adapter shares its model's door, so that only its own leases tell.
    fn uses(&self, entry: &Entry) -> bool {
        match entry.base {
            Some(_) => entry.leases.load(Ordering::Acquire) > 0,
            None => entry.in_use(),
        }
    }
}

fn at(entries: &[Entry], name: &str) -> Option<usize> {
    let plain = name.strip_suffix(":latest").unwrap_or(name);
    let is = |entry: &Entry| entry.model.served.name == name || entry.model.served.name == plain;
    entries.iter().position(is)
}

fn not_found(message: String) -> Refusal {
    Refusal { param: Some("model".to_owned()), ..Refusal::new(StatusCode::NOT_FOUND, "model_not_found", message) }
}

fn busy(message: String, seconds: u64) -> Refusal {
    let status = StatusCode::SERVICE_UNAVAILABLE;
    Refusal { retry_after: Some(seconds), ..Refusal::new(status, "model_busy", message) }
}

/// Seconds between two looks at whose time is over.
pub const SWEEP: Duration = Duration::from_secs(1);
