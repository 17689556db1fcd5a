//! AVX-512 with VNNI and BF16 (Zen 4 and later, Cooper Lake, Sapphire Rapids and later).
//!
//! Each kernel is a safe wrapper that checks lengths around a body that may assume the features. Invariant: `KERNELS`
//! leaves this module only through `available`, which has asked the processor.

mod attend;
mod float;
mod lanes;
mod pairs;
mod quantize;
mod vector;

use crate::Format;
use crate::attend::PageKernels;
use crate::gemm::PairKernels;
use crate::isa::{Kernels, VectorKernels};
use crate::linear::{Decode, PackedKernels, Section};
use crate::packed;
use crate::scalar;

static KERNELS: Kernels = Kernels {
    name: "avx512",
    quantize: quantize::quantize,
    narrow_pairs: float::narrow_pairs,
    interleave: float::interleave,
    tile_f32: float::tile_f32,
    packed: packed_kernels,
    pairs: PairKernels { wide: pairs::wide, tall: pairs::tall, join: pairs::join, turn: pairs::turn },
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
    let has = is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512dq")
        && is_x86_feature_detected!("avx512vl")
        && is_x86_feature_detected!("avx512vnni")
        && is_x86_feature_detected!("avx512bf16");
    has.then_some(&KERNELS)
}

fn packed_kernels(format: Format) -> Option<PackedKernels> {
    let float = |tile, decode| PackedKernels { fast: (tile, Section::Values), exact: Some(tile), decode: Some(decode) };
    Some(match format {
        Format::F32 => float(float::tile_f32, scalar::decode_f32 as Decode),
        Format::F16 => float(float::tile_f16, scalar::decode_f16),
        Format::BF16 => PackedKernels {
            fast: (float::tile_bf16_pairs, Section::Pairs),
            exact: Some(float::tile_bf16),
            decode: Some(float::decode_bf16),
        },
        _ => return packed::kernels::<lanes::Avx512>(format),
    })
}
