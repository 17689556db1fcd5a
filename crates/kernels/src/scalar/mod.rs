//! The plain version of every kernel: the oracle of the faster ones, and what runs where there is none.
//!
//! Loops are written in the order of their formulas; no lane tricks live here.

mod attend;
mod linear;
pub(crate) mod pairs;
mod vector;

use crate::attend::PageKernels;
use crate::gemm::PairKernels;
use crate::isa::{Kernels, VectorKernels};

#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
pub(crate) use linear::{decode_bf16, decode_f16, decode_f32};
pub(crate) use linear::{interleave, narrow_pairs, packed, quantize, tile_f32};
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
pub(crate) use vector::norm_factor;

pub(crate) const VECTOR: VectorKernels = VectorKernels {
    sum: vector::sum,
    sum_squares: vector::sum_squares,
    norm: vector::norm,
    multiply: vector::multiply,
    add: vector::add,
    scale: vector::scale,
    activate: vector::activate,
    rotate: vector::rotate,
    maximum: vector::maximum,
    exp_sum: vector::exp_sum,
};

pub(crate) const PAGE: PageKernels = PageKernels {
    mix: attend::mix::<f32>,
    mix_f16: attend::mix::<half::f16>,
    widen: attend::widen,
    narrow: attend::narrow,
    decode: attend::decode,
};

pub(crate) const PAIRS: PairKernels = PairKernels {
    words: 1,
    row: narrow_pairs,
    wide: pairs::wide,
    tall: pairs::tall,
    join: pairs::join,
    turn: pairs::turn,
};

pub(crate) static KERNELS: Kernels = Kernels {
    name: "scalar",
    quantize,
    narrow_pairs,
    interleave,
    tile_f32: crate::linear::TileKernels::one(tile_f32),
    packed,
    pairs: PAIRS,
    vector: VECTOR,
    page: PAGE,
};
