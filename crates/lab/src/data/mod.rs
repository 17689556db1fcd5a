//! Data to learn from: rows of a file become tokens by the prompt object that chat and serve use.
//! Batches and losses are not here.
#![forbid(unsafe_code)]

mod sample;

pub use sample::{Example, Judged, Preference};
