//! A model hub on loopback for tests: it speaks the public API of the Hugging Face hub and of an OCI registry as far as
//! clients use it, counts what it sent, and lies as told. No part of the product; nothing here is fast or safe to expose.
#![forbid(unsafe_code)]

mod content;
mod http;
mod lie;
mod repo;
mod routes;
mod state;

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::Ordering;

pub use content::{Content, git_sha1, hex, sha256};
pub use http::{Answer, Body, Request};
pub use lie::Lie;
pub use repo::{Gate, Repo, Stored};
pub use state::{Seen, State};

/// A running hub; it stops when this is dropped.
pub struct Hub {
    state: Arc<State>,
}

impl Hub {
    /// Starts a hub on two free ports of loopback: the hub itself, and the other host that large files come from.
    pub fn start() -> Hub {
        let listen = || {
            let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
            let address = listener.local_addr().expect("a listener has an address");
            (listener, address)
        };
        let ((front, at), (store, other)) = (listen(), listen());
        let state = Arc::new(State::new(at, other));
        for listener in [front, store] {
            let state = Arc::clone(&state);
            std::thread::spawn(move || serve(&listener, &state));
        }
        Hub { state }
    }

    /// The address for `HF_ENDPOINT`.
    pub fn url(&self) -> String {
        format!("http://{}", self.state.front)
    }

    /// Host and port of the hub.
    pub fn address(&self) -> SocketAddr {
        self.state.front
    }

    /// Host and port of the other host, from which large files come.
    pub fn other_address(&self) -> SocketAddr {
        self.state.store
    }

    /// What the routes work on.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// Adds or replaces a repository.
    pub fn put(&self, repo: Repo) {
        self.state.repos().insert(repo.name.clone(), repo);
    }

    /// Lies the next `times` times that a request's path holds `path`.
    pub fn lie(&self, path: &str, lie: Lie, times: usize) {
        self.state.lies().push((path.to_owned(), lie, times));
    }

    /// Speaks the truth again.
    pub fn repent(&self) {
        self.state.lies().clear();
    }

    /// Sends bodies at so many bytes a second on each connection; 0 is as fast as it goes.
    pub fn pace(&self, bytes_per_second: u64) {
        self.state.pace.store(bytes_per_second, Ordering::Relaxed);
    }

    /// Every request so far.
    pub fn seen(&self) -> Vec<Seen> {
        self.state.seen().clone()
    }

    /// Bytes of bodies sent to requests whose path holds that.
    pub fn sent(&self, path: &str) -> u64 {
        self.state.seen().iter().filter(|seen| seen.path.contains(path)).map(|seen| seen.sent).sum()
    }

    /// Forgets what was seen.
    pub fn forget(&self) {
        self.state.seen().clear();
    }
}

impl Drop for Hub {
    fn drop(&mut self) {
        self.state.stop();
    }
}

fn serve(listener: &TcpListener, state: &Arc<State>) {
    for stream in listener.incoming() {
        if state.stopped.load(Ordering::Relaxed) {
            return;
        }
        let Ok(stream) = stream else { continue };
        let state = Arc::clone(state);
        std::thread::spawn(move || http::converse(stream, &state));
    }
}
