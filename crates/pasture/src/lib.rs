//! Pasture as a library: copy, modify and reuse open-weight AI models on your own computer.
//!
//! One noun, [`Model`], and plain verbs. Settings that you do not make are those of the model's own files.
//!
//! ```no_run
//! use pasture::Model;
//!
//! fn main() -> pasture::Result<()> {
//!     let model = Model::load("my-model.gguf")?; // a file, a folder, or a name from a cache on this machine
//!     println!("{}", model.chat("Why is the sky blue?")?);
//!
//!     let mut talk = model.session().system("You are a pirate.").temperature(0.7);
//!     for piece in talk.say("Who are you?") {
//!         print!("{}", piece?);
//!     }
//!     Ok(())
//! }
//! ```
//!
//! A model is tuned by [`Tune`], and changed by `model.merge(&adapter)?.quantize("Q4_K_M")?.save("small.gguf")?`.
//!
//! One floor down is [`engine`]: requests of token ids, several answers at once, log-probabilities.
//! Two floors down is [`model`]: the spec, the decoder and its one forward.
//! Nothing here touches the network but [`store::pull`], where it is asked to, and no file can run code.

#![forbid(unsafe_code)]

mod adapter;
mod assistant;
mod change;
mod completion;
mod draft;
mod embed;
mod error;
mod evaluation;
mod handle;
mod options;
mod prepare;
mod session;
mod tuning;

pub use adapter::Adapter;
pub use assistant::{check_assistant_setting, find_assistant, preamble_of};
pub use completion::Completion;
pub use draft::Draft;
pub use embed::{EmbedOptions, Embeddings, TextPrompt};
pub use error::{Error, Result};
pub use evaluation::Evaluation;
pub use handle::{Model, prompt_of};
pub use options::{Device, LoadOptions, Prepare};
pub use pasture_engine as engine;
pub use pasture_engine::sampling::SamplingOptions;
pub use pasture_engine::{Answer, Event, Finish, Usage};
pub use pasture_files as files;
pub use pasture_lab as lab;
pub use pasture_lab::data;
pub use pasture_model as model;
pub use pasture_model::Pooling;
pub use pasture_store as store;
pub use pasture_tensor::Precision;
pub use pasture_tensor::kv::KvFormat;
pub use prepare::{PackedFile, prepare};
pub use session::{Message, Reply, Session, Stats};
pub use tuning::Tune;
