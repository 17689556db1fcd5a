//! Floor 3: from a conversation to tokens and back to text. Sequences, the scheduler that says which rows run next,
//! the thread that computes them, and sampling. What a model is stands below; names of models and files above.
//!
//! [`Engine::submit`] takes a [`Request`] and gives a [`Stream`] of events.
//!
//! ```
//! use std::sync::Arc;
//!
//! use pasture_engine::{Engine, EngineOptions, Event, Request, Runner};
//! use pasture_kernels::Pool;
//! use pasture_model::{LoadOptions, Source, load};
//! use pasture_tensor::kv::KvFormat;
//! use pasture_tensor::{Backend, Cpu, Precision};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../../starter/starter.gguf");
//! let backend: Arc<dyn Backend> = Arc::new(Cpu::new(Arc::new(Pool::new(1)), Precision::Exact));
//! let loaded = load(&Source::open(file.as_ref())?, &backend, &LoadOptions::default(), &mut |_, _| {})?;
//! let runner = Runner::new(Arc::new(loaded.decoder), KvFormat::F32);
//! let engine = Engine::start(Box::new(runner), None, EngineOptions::default())?;
//!
//! let mut request = Request::new(vec![1, 271, 201, 425, 3, 2, 201, 1, 270, 201]);
//! request.sampling.temperature = Some(0.0);
//! request.max_tokens = Some(3);
//! for event in engine.submit(request)? {
//!     if let Event::Piece(piece) = event? {
//!         println!("token {}", piece.id);
//!     }
//! }
//! # Ok(())
//! # }
//! ```

#![forbid(unsafe_code)]

mod embed;
pub mod engine;
mod error;
mod forward;
pub mod grammar;
mod prefix;
mod request;
mod runner;
pub mod sampling;
pub mod scheduler;
mod speculate;
mod text;
mod turns;

pub use embed::{Embedding, embed};
pub use engine::{Engine, EngineCounts, EngineOptions};
pub use error::{Error, Result};
pub use forward::{Forward, RopeRule};
pub use pasture_tensor::Adapter;
pub use request::{Answer, Ending, Event, Finish, Opening, Piece, Request, Stream, Usage};
pub use runner::{Logits, Runner, Scored, logits, logits_with, prompt_logprobs};
pub use speculate::draft::Draft as ModelDraft;
pub use speculate::{Propose, Speculation, Wanted};
pub use text::{Pieces, Text};
pub use turns::{Turn, Turns};
