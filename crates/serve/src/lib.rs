//! Floor 4: HTTP interfaces; the only crate that is async. Routes of OpenAI's and Ollama's APIs over engines that are
//! given to it, with limits, keys and rules against browsers' attacks from the first request on.
//!
//! [`run`] serves until the program is told to end. What a model is, and how it is loaded, stands below and above.
#![forbid(unsafe_code)]

mod admin;
mod admission;
mod anthropic;
mod ask;
mod audit;
mod batches;
mod body;
mod bridge;
mod caller;
mod chats;
mod connections;
mod control;
mod fields;
mod guard;
mod keys;
mod limits;
mod loading;
mod metrics;
mod models;
pub mod moment;
mod ollama;
mod openai;
mod openapi;
mod own;
mod page;
mod random;
mod rank;
mod refusal;
mod registry;
mod routes;
mod served;
mod server;
mod shape;
mod sqlite;
mod state;
mod talk;
mod telling;
mod tls;
mod tools;
mod visit;

pub use std::net::{IpAddr, SocketAddr};

pub use audit::{Audit, Checked, Prompts, verify as verify_audit};
pub use caller::{Caller, Scope, Scopes};
pub use control::{Answer, Place, Told, running};
pub use fields::page as fields_page;
pub use guard::{Key, PUBLIC_NEEDS_KEY, is_loopback};
pub use keys::{Book, KEYS_FILE, KeyError, Keys, NewKey, Record, Use};
pub use models::Keep;
pub use openapi::document as openapi;
pub use random::random_key;
pub use registry::{Lending, Reading};
pub use routes::{Access, Row, table};
pub use served::{Failed, Loader, Scored, Served, Texts, Vectors, Work};
pub use server::{Listening, Options, StartError, run, start};
pub use tls::TlsFiles;
