//! Floor 1: tensors, stored weights, the backend's coarse operations, and the tape that remembers them.
//!
//! A tensor is a dense row-major matrix: rows are tokens, columns are features. No strides, no broadcasting,
//! no views. Nothing here knows a model family, a file or a request.

#![forbid(unsafe_code)]

pub mod adapter;
pub mod backend;
pub mod cpu;
pub mod kv;
pub mod memory;
pub mod ops;
pub mod reference;
pub mod tape;
mod tensor;
mod weight;

pub use adapter::{Adapter, AdapterSite, Dropout, Magnitude, Route};
pub use backend::{Backend, Precision};
pub use cpu::Cpu;
pub use ops::{Ops, activate::Activation, linear::Linear, norm::Norm, rope::RopeTable};
pub use tensor::{NodeId, Tensor};
pub use weight::{Layout, Vector, Weight, WeightId};
