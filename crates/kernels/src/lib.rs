//! Floor 0: number formats and compute loops over slices, chosen once per instruction set, and the thread pool.
//!
//! Kernels do no I/O, no logging, no allocation in a loop, and never fail: a wrong shape is a bug and asserts.

#[cfg(target_arch = "aarch64")]
mod aarch64;
pub mod attend;
pub mod elementwise;
pub mod formats;
pub mod gemm;
pub mod isa;
pub mod linear;
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
mod packed;
pub mod pool;
mod scalar;
#[cfg(target_arch = "x86_64")]
mod x86;

pub use formats::Format;
pub use isa::Kernels;
pub use pool::Pool;
