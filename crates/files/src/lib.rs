//! Floor 1: every file that comes from outside. Tensor containers (safetensors, GGUF, PyTorch), tokenizers, data rows
//! and the prompt object.
//!
//! Files are hostile: every length is checked before it is used, sizes are [`size::Size`], no format can run code, and
//! a reader returns a typed error rather than panic. What the tensors mean belongs to the floors above.

pub mod beneath;
pub mod data;
pub mod dtype;
pub mod durable;
pub mod error;
pub mod extent;
pub mod folder;
pub mod gguf;
pub mod guard;
pub mod index;
pub mod json;
pub mod mmap;
pub mod nearest;
pub mod outline;
pub mod packed;
pub mod prompt;
pub mod pth;
pub mod safetensors;
pub mod size;
pub mod tensors;
pub mod tokenizer;

pub use dtype::Dtype;
pub use error::{Error, Result};
pub use mmap::Bytes;
pub use tensors::{Entry, Tensors};
