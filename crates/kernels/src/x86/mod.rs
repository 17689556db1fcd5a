//! Kernels for x86-64, one folder per instruction set.

pub(crate) mod avx512;

use crate::isa::Kernels;

/// The tables that this processor can run, slowest first.
pub(crate) fn available() -> Vec<&'static Kernels> {
    avx512::available().into_iter().collect()
}
