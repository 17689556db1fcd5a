//! The prompt object.

pub mod template;
