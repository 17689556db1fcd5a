//! The table of kernels: one entry per loop, one table per instruction set, chosen once at start.
//!
//! An instruction set overrides what it speeds up and takes the rest from `scalar`. Invariant: a table can be had only
//! on a processor that runs every function in it.

use std::sync::OnceLock;

use crate::Format;
use crate::attend::PageKernels;
use crate::elementwise::Activation;
use crate::gemm::PairKernels;
use crate::linear::{PackedKernels, TileKernels};
use crate::scalar;

/// The loops of one instruction set.
pub struct Kernels {
    /// What `PASTURE_ISA` and `doctor` call it.
    pub(crate) name: &'static str,
    /// Values to 8-bit codes with a scale and sums for each 32: `(x, words of a record's 8-bit section)`.
    pub(crate) quantize: fn(x: &[f32], section: &mut [u32]),
    /// Values to pairs of bf16; the length of `x` is rounded up to even with zero.
    pub(crate) narrow_pairs: fn(x: &[f32], pairs: &mut [u32]),
    /// 16 rows of f32, each `cols` long, to `[cols][16]`.
    pub(crate) interleave: fn(rows: &[f32], cols: usize, panel: &mut [f32]),
    /// The product of a decoded panel, `[cols][16]` f32.
    pub(crate) tile_f32: TileKernels,
    /// What this set has for a packed format.
    pub(crate) packed: fn(Format) -> Option<PackedKernels>,
    /// Tiles of bf16 pairs.
    pub(crate) pairs: PairKernels,
    /// Elementwise loops.
    pub(crate) vector: VectorKernels,
    /// Attention over a page.
    pub(crate) page: PageKernels,
}

/// Turns the pairs `(first[i], second[i])` by angles whose cosines and sines are given.
pub(crate) type Rotate = fn(first: &mut [f32], second: &mut [f32], cos: &[f32], sin: &[f32]);

/// Loops over rows of f32; what they mean is said in `elementwise.rs`, which checks the lengths.
pub(crate) struct VectorKernels {
    pub(crate) sum: fn(x: &[f32]) -> f32,
    /// `Σ (x - mean)²`.
    pub(crate) sum_squares: fn(x: &[f32], mean: f32) -> f32,
    /// `out = (x - mean) / sqrt(squares / len + epsilon)`.
    pub(crate) norm: fn(x: &[f32], mean: f32, squares: f32, epsilon: f32, out: &mut [f32]),
    /// `out *= x + offset`.
    pub(crate) multiply: fn(out: &mut [f32], x: &[f32], offset: f32),
    /// `out += scale · x`.
    pub(crate) add: fn(out: &mut [f32], scale: f32, x: &[f32]),
    pub(crate) scale: fn(x: &mut [f32], scale: f32),
    pub(crate) activate: fn(activation: Activation, x: &mut [f32]),
    pub(crate) rotate: Rotate,
    pub(crate) maximum: fn(x: &[f32]) -> f32,
    /// `x = exp(x - shift)`; gives the sum.
    pub(crate) exp_sum: fn(x: &mut [f32], shift: f32) -> f32,
}

impl Kernels {
    /// The fastest table this processor can run, or the one that the environment's `PASTURE_ISA` names.
    ///
    /// Panics where `PASTURE_ISA` names a set that this processor, or this build, does not have.
    pub fn get() -> &'static Kernels {
        static CHOSEN: OnceLock<&'static Kernels> = OnceLock::new();
        CHOSEN.get_or_init(|| match std::env::var("PASTURE_ISA") {
            Ok(name) => Kernels::named(&name).unwrap_or_else(|| {
                let known: Vec<_> = Kernels::all().iter().map(|kernels| kernels.name).collect();
                panic!("PASTURE_ISA is {name:?} but this machine has {}", known.join(", "))
            }),
            Err(_) => Kernels::all().last().expect("the scalar table is always there"),
        })
    }

    /// Every table this processor can run, slowest first.
    pub fn all() -> &'static [&'static Kernels] {
        static ALL: OnceLock<Vec<&'static Kernels>> = OnceLock::new();
        ALL.get_or_init(|| {
            #[allow(unused_mut, reason = "other processors have the scalar table alone")]
            let mut all = vec![&scalar::KERNELS];
            #[cfg(target_arch = "x86_64")]
            all.extend(crate::x86::available());
            #[cfg(target_arch = "aarch64")]
            all.extend(crate::aarch64::available());
            all
        })
    }

    /// The table of that name, where this processor can run it.
    pub fn named(name: &str) -> Option<&'static Kernels> {
        Kernels::all().iter().copied().find(|kernels| kernels.name == name)
    }

    /// The name of the instruction set.
    pub fn name(&self) -> &'static str {
        self.name
    }
}

/// Loops that are written plainly, and that a compiler can give wider vectors than every processor has.
pub(crate) trait Loops {
    /// Runs them. Inlined, with all that they call, so that the instruction set is the caller's.
    fn run(self);
}

/// Runs loops with the widest vectors of this processor that are of use. Sums and their order stay the same.
pub(crate) fn widely(loops: impl Loops) {
    #[cfg(target_arch = "x86_64")]
    crate::x86::widely(loops);
    #[cfg(not(target_arch = "x86_64"))]
    loops.run();
}

/// Asks for memory that will be read or written soon, where that can be asked.
#[inline]
pub(crate) fn fetch<T>(memory: &[T]) {
    #[cfg(target_arch = "x86_64")]
    crate::x86::fetch(memory);
    #[cfg(not(target_arch = "x86_64"))]
    let _ = memory;
}

/// As [`fetch`], into the cache behind the nearest one.
#[inline]
pub fn fetch_far<T>(memory: &[T]) {
    #[cfg(target_arch = "x86_64")]
    crate::x86::fetch_far(memory);
    #[cfg(not(target_arch = "x86_64"))]
    let _ = memory;
}
