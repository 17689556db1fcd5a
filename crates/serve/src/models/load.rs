//! Loading a model that a request names: one load at a time for each name, a bounded number of requests that wait for it,
//! and room made by letting go of models that nobody uses.

use std::sync::Arc;

use tokio::sync::watch;

use super::{Entry, Keep, Lease, Load, Loaded, Models, WAIT_FOR_LOAD, at, busy};
use crate::refusal::{Refusal, quoted};
use crate::served::{Failed, Loader};

impl Models {
    /// Sees to it that a model is loaded, and holds it. None where there is no such model, or none is named and there are
    /// several: [`Models::find`] says so then.
    ///
    /// # Errors
    /// When it cannot be loaded: no memory, broken files, too many requests that wait for it.
    pub async fn open(self: &Arc<Models>, name: Option<&str>) -> Result<Option<Lease>, Refusal> {
        if let Some(lease) = self.take(name) {
            return Ok(Some(lease));
        }
        let (Some(name), Some(loader)) = (name, self.loader.clone()) else { return Ok(None) };
        let known = loader.clone();
        let plain = name.strip_suffix(":latest").unwrap_or(name).to_owned();
        let full = name.to_owned();
        let found = tokio::task::spawn_blocking(move || {
            let names = known.names();
            [full, plain].into_iter().find(|name| names.contains(name))
        });
        let Some(name) = found.await.map_err(|error| Refusal::ours(&error.to_string()))? else { return Ok(None) };
        let mut outcome = self.begin(&name, loader)?;
        let ended = outcome.wait_for(Option::is_some).await.map(|loaded| loaded.clone());
        match ended {
            Ok(Some(Ok(()))) => Ok(self.take(Some(&name))),
            Ok(Some(Err(refusal))) => Err(refusal),
            _ => Err(Refusal::ours("a load ended without a word")),
        }
    }

    /// The outcome of the load of this name, which begins now unless it is under way.
    fn begin(self: &Arc<Models>, name: &str, loader: Arc<dyn Loader>) -> Result<watch::Receiver<Loaded>, Refusal> {
        let mut inner = self.lock();
        if let Some(load) = inner.loading.get_mut(name) {
            if load.waiting == WAIT_FOR_LOAD {
                return Err(busy(format!("too many requests wait for the model {}", quoted(name)), 5));
            }
            load.waiting += 1;
            return Ok(load.outcome.clone());
        }
        let (sender, outcome) = watch::channel(None);
        if at(&inner.entries, name).is_some() {
            // Another load ended between the look and the lock.
            sender.send_replace(Some(Ok(())));
            return Ok(outcome);
        }
        inner.loading.insert(name.to_owned(), Load { outcome: outcome.clone(), bytes: 0, waiting: 1 });
        drop(inner);
        let (models, name) = (self.clone(), name.to_owned());
        // Not the request's own task: who asked may leave, others wait as well.
        tokio::task::spawn_blocking(move || {
            let result = models.load(&name, &*loader);
            models.lock().loading.remove(&name);
            sender.send_replace(Some(result));
        });
        Ok(outcome)
    }

    fn load(&self, name: &str, loader: &dyn Loader) -> Result<(), Refusal> {
        let needed = loader.bytes(name).map_err(|failed| refused(name, failed))?;
        self.make_room(name, needed)?;
        let served = loader.load(name).map_err(|failed| refused(name, failed))?;
        self.insert(served, None, self.keep);
        Ok(())
    }

    /// Lets models go, the longest unused first, until there is room for so many bytes.
    fn make_room(&self, name: &str, needed: u64) -> Result<(), Refusal> {
        let mib = |bytes: u64| bytes.div_ceil(1 << 20);
        if needed > self.memory {
            let (needed, memory) = (mib(needed), mib(self.memory));
            let what =
                format!("the model {} needs {needed} MiB, but all models together may take {memory}", quoted(name));
            return Err(Refusal::wrong(what).code("model_too_large"));
        }
        let mut gone: Vec<Entry> = Vec::new();
        let mut inner = self.lock();
        loop {
            let loading: u64 = inner.loading.values().map(|load| load.bytes).sum();
            let taken = inner.entries.iter().map(|entry| entry.bytes).sum::<u64>() + loading;
            if taken + needed <= self.memory {
                if let Some(load) = inner.loading.get_mut(name) {
                    load.bytes = needed;
                }
                break;
            }
            let idle = |entry: &&Entry| {
                let owns = |other: &Entry| other.base.as_ref() == Some(&entry.model.served.name);
                entry.base.is_none()
                    && matches!(entry.keep, Keep::For(_))
                    && !entry.in_use()
                    && !inner.entries.iter().any(|other| owns(other) && inner.uses(other))
            };
            let victim = inner.entries.iter().filter(idle).min_by_key(|entry| entry.used);
            let Some(victim) = victim.map(|entry| entry.model.served.name.clone()) else {
                let (needed, free) = (mib(needed), mib(self.memory.saturating_sub(taken)));
                let what =
                    format!("the model {} needs {needed} MiB, and {free} are free until others end", quoted(name));
                return Err(busy(what, 10));
            };
            gone.extend(inner.let_go(&victim));
        }
        drop(inner);
        // Their threads end with the last handle, and the weights with these.
        drop(gone);
        Ok(())
    }
}

/// A load that failed: the client is told which model, the log why.
fn refused(name: &str, failed: Failed) -> Refusal {
    let (Failed::Asked(what) | Failed::Here(what)) = failed;
    eprintln!("error: a model cannot be loaded: {what:?}");
    let status = axum::http::StatusCode::INTERNAL_SERVER_ERROR;
    Refusal::new(status, "model_load_failed", format!("the model {} cannot be loaded; the log says why", quoted(name)))
}
