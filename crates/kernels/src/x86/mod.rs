//! Kernels for x86-64, one folder per instruction set.

mod avx2;
mod avx512;
mod blocks;

use crate::isa::Kernels;

/// The tables that this processor can run, slowest first.
pub(crate) fn available() -> Vec<&'static Kernels> {
    avx2::available().into_iter().chain(avx512::available()).flatten().collect()
}
