//! Floor 4: what is done to models and measured of them: tuning, merging, quantizing, evaluation and their receipts.
#![forbid(unsafe_code)]

pub mod change;
pub mod data;
pub mod evaluate;
pub mod export;
pub mod merge;
pub mod plan;
pub mod quantize;
pub mod receipt;
pub mod tune;
