//! Floor 0: number formats and compute loops over slices, chosen once per instruction set, and the thread pool.
//!
//! Kernels do no I/O, no logging, no allocation in a loop, and never fail: a wrong shape is a bug and asserts.

pub mod formats;

pub use formats::Format;
