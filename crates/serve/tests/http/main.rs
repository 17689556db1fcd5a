//! The server over loopback, as a client sees it: the starter behind every route, limits and keys by the server's own
//! tables, and what happens when clients leave or too many come.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, reason = "a test may")]

mod apis;
mod batches;
mod chats;
mod client;
mod host;
mod keys;
mod load;
mod models;
mod ollama;
mod openai;
mod own;
mod registry;
mod safety;
mod shield;
