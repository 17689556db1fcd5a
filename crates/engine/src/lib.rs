//! Floor 3: from a conversation to tokens and back to text. Sequences, the scheduler that says which rows run next,
//! the thread that computes them, and sampling. What a model is stands below; names of models and files above.
//!
//! [`Engine::submit`] takes a [`Request`] and gives a [`Stream`] of events.

#![forbid(unsafe_code)]

pub mod engine;
mod error;
mod forward;
mod request;
mod runner;
pub mod sampling;
pub mod scheduler;
mod text;

pub use engine::{Engine, EngineOptions, Prefix};
pub use error::{Error, Result};
pub use forward::{Forward, RopeRule};
pub use request::{Answer, Ending, Event, Finish, Opening, Piece, Request, Stream, Usage};
pub use runner::{Logits, Runner, logits};
pub use text::{Pieces, Text};
