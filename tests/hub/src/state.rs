//! What the hub has, what it was asked, and which lies are due.

use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::content::Content;
use crate::lie::Lie;
use crate::repo::Repo;

/// One request that came in.
#[derive(Clone, Debug)]
pub struct Seen {
    /// `GET`, `HEAD` …
    pub method: String,
    /// The decoded path, without the query.
    pub path: String,
    /// Whether it came to the host of large files.
    pub at_store: bool,
    /// Its header `Range`.
    pub range: Option<String>,
    /// Its header `Authorization`.
    pub authorization: Option<String>,
    /// Its header `Accept-Encoding`.
    pub encoding: Option<String>,
    /// Status of the answer.
    pub status: u16,
    /// Bytes of the body that were written out.
    pub sent: u64,
}

/// What the hub has and knows.
pub struct State {
    /// Where the hub listens.
    pub front: SocketAddr,
    /// Where the host of large files listens.
    pub store: SocketAddr,
    /// The token that gated and private repositories ask for.
    pub token: String,
    /// Bytes a second for each connection; 0 is no limit.
    pub pace: AtomicU64,
    pub(crate) stopped: AtomicBool,
    repos: Mutex<BTreeMap<String, Repo>>,
    images: Mutex<BTreeMap<String, Content>>,
    lies: Mutex<Vec<(String, Lie, usize)>>,
    seen: Mutex<Vec<Seen>>,
}

impl State {
    pub(crate) fn new(front: SocketAddr, store: SocketAddr) -> State {
        State {
            front,
            store,
            token: "hf_test_token".to_owned(),
            pace: AtomicU64::new(0),
            stopped: AtomicBool::new(false),
            repos: Mutex::default(),
            images: Mutex::default(),
            lies: Mutex::default(),
            seen: Mutex::default(),
        }
    }

    /// Repositories by name.
    pub fn repos(&self) -> MutexGuard<'_, BTreeMap<String, Repo>> {
        self.repos.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the OCI registry has, by the path below `/v2/`.
    pub fn images(&self) -> MutexGuard<'_, BTreeMap<String, Content>> {
        self.images.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn lies(&self) -> MutexGuard<'_, Vec<(String, Lie, usize)>> {
        self.lies.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn seen(&self) -> MutexGuard<'_, Vec<Seen>> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The lie that is due for a path, if any; it counts as told.
    pub(crate) fn lie_for(&self, path: &str, method: &str) -> Option<Lie> {
        let mut lies = self.lies();
        let due = lies
            .iter_mut()
            .find(|(part, lie, left)| *left > 0 && path.contains(part.as_str()) && lie.is_for(method))?;
        due.2 -= 1;
        Some(due.1.clone())
    }

    pub(crate) fn stop(&self) {
        self.stopped.store(true, Ordering::Relaxed);
        for address in [self.front, self.store] {
            // Wakes the listener, so that it sees that it shall stop.
            drop(TcpStream::connect(address));
        }
    }
}
