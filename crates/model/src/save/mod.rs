//! Saving: a checkpoint, or what was made of one, as a Hugging Face folder or a GGUF file. Names and layouts come from
//! the reversible name tables, structure from the spec; tensors are streamed, one at a time. A container that cannot
//! say all of a model is refused before the first byte is written.

mod express;
mod folder;
mod fresh;
mod gguf;
mod keys;
mod same;
mod targets;
mod tokens;
mod tuned;

pub use folder::{FolderPlan, Make, plan_folder};
pub use fresh::write_fresh;
pub use gguf::{GgufPlan, plan_gguf};
pub use same::difference;
pub use targets::{Content, Encode, Own, Target, encode_plainly};
pub use tuned::save_tuned;

/// Told the bytes that are written and the bytes there are.
pub type Progress<'a> = &'a mut dyn FnMut(u64, u64);
