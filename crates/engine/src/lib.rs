//! Sequences, scheduling and sampling.

pub mod sampling;
