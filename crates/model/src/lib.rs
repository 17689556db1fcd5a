//! Floor 2: what a model is. Families are pages of data, a layer is a list of residual branches, one decoder runs
//! them all, and a name table that reads both ways connects them with files.

#![forbid(unsafe_code)]

mod adapters;
mod batch;
pub mod config;
mod decoder;
mod error;
mod expert_cache;
pub mod families;
mod graph;
mod kv;
mod load;
mod mixers;
pub mod names;
mod need;
mod pool;
mod rope;
pub mod save;
mod sites;
pub mod spec;
mod weights;

pub use adapters::{AdapterFacts, adapter_bytes, combine_adapters, load_adapter, save_adapter};
pub use batch::{Batch, Span};
pub use config::Config;
pub use decoder::{Decoder, Hidden};
pub use error::{Error, Result};
pub use expert_cache::{ExpertCache, ExpertCounts};
pub use graph::graph;
pub use kv::{KeptPage, Kv, KvShape, PageCount, SequenceId};
pub use load::{
    LoadOptions, Loaded, Prepared, Slot, Source, Survey, UnknownKeys, Unused, build, build_quantized, compare_prepared,
    load, packed_layout, parameters, prepare, prepared_bytes, survey,
};
pub use need::{Need, Running, check_kv, kv_bytes};
pub use pool::{EmbedRules, Pooling, normalize};
pub use rope::{RopeSpec, Scaling};
pub use sites::{Kind, Module, Parameter, Sites};
