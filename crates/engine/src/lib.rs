//! Sequences, scheduling and sampling: from a conversation to tokens and back to text.

#![forbid(unsafe_code)]

pub mod sampling;
