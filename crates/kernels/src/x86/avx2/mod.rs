//! AVX2 with FMA and F16C (Haswell, Zen and later).
//!
//! Only float panels are packed here; block formats stay plain and are decoded to f32 panels. Invariant: `KERNELS`
//! leaves this module only through `available`, which has asked the processor.

mod attend;
mod float;
mod pairs;
mod vector;

use crate::Format;
use crate::attend::PageKernels;
use crate::gemm::PairKernels;
use crate::isa::{Kernels, VectorKernels};
use crate::linear::{Decode, PackedKernels, Section};
use crate::scalar;

static KERNELS: Kernels = Kernels {
    name: "avx2",
    quantize: scalar::quantize,
    narrow_pairs: scalar::narrow_pairs,
    interleave: scalar::interleave,
    tile_f32: float::tile_f32,
    packed,
    pairs: PairKernels { wide: pairs::wide, tall: pairs::tall, ..scalar::PAIRS },
    vector: VectorKernels {
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
    },
    page: PageKernels { scores: attend::scores, mix: attend::mix, widen: attend::widen, narrow: attend::narrow },
};

/// The table, where this processor has every feature that its kernels are compiled for.
pub(crate) fn available() -> Option<&'static Kernels> {
    let has = is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") && is_x86_feature_detected!("f16c");
    has.then_some(&KERNELS)
}

fn packed(format: Format) -> Option<PackedKernels> {
    let float = |tile, decode| PackedKernels { fast: (tile, Section::Values), exact: Some(tile), decode: Some(decode) };
    Some(match format {
        Format::F32 => float(float::tile_f32, scalar::decode_f32 as Decode),
        Format::F16 => float(float::tile_f16, scalar::decode_f16),
        Format::BF16 => float(float::tile_bf16, scalar::decode_bf16),
        _ => return None,
    })
}
