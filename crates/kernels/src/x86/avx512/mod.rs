//! AVX-512 with VNNI and BF16 (Zen 4 and later, Cooper Lake, Sapphire Rapids and later).
//!
//! Each kernel is a safe wrapper that checks lengths around a body that may assume the features. Invariant: `KERNELS`
//! leaves this module only through `available`, which has asked the processor.

mod attend;
mod blocks;
mod codes;
mod float;
mod pairs;
mod super_blocks;
mod vector;

use crate::Format;
use crate::attend::PageKernels;
use crate::gemm::PairKernels;
use crate::isa::{Kernels, VectorKernels};
use crate::linear::{Decode, PackedKernels, Section};
use crate::scalar;

static KERNELS: Kernels = Kernels {
    name: "avx512",
    quantize: codes::quantize,
    narrow_pairs: float::narrow_pairs,
    interleave: float::interleave,
    tile_f32: float::tile_f32,
    packed,
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

fn packed(format: Format) -> Option<PackedKernels> {
    let float = |tile, decode| PackedKernels { fast: (tile, Section::Values), exact: Some(tile), decode: Some(decode) };
    Some(match format {
        Format::F32 => float(float::tile_f32, scalar::decode_f32 as Decode),
        Format::F16 => float(float::tile_f16, scalar::decode_f16),
        Format::BF16 => PackedKernels {
            fast: (float::tile_bf16_pairs, Section::Pairs),
            exact: Some(float::tile_bf16),
            decode: Some(float::decode_bf16),
        },
        Format::Q8_0 => quantized::<blocks::Q8_0>(),
        Format::Q4_0 => quantized::<blocks::Q4_0>(),
        Format::Q4_1 => quantized::<blocks::Q4_1>(),
        Format::Q5_0 => quantized::<blocks::Q5_0>(),
        Format::Q5_1 => quantized::<blocks::Q5_1>(),
        Format::IQ4_NL => quantized::<blocks::IQ4_NL>(),
        Format::MXFP4 => quantized::<blocks::MXFP4>(),
        Format::Q2_K => quantized::<super_blocks::Q2_K>(),
        Format::Q3_K => quantized::<super_blocks::Q3_K>(),
        Format::Q4_K => quantized::<super_blocks::Q4_K>(),
        Format::Q5_K => quantized::<super_blocks::Q5_K>(),
        Format::Q6_K => quantized::<super_blocks::Q6_K>(),
        Format::IQ4_XS => quantized::<super_blocks::IQ4_XS>(),
        _ => return None,
    })
}

fn quantized<C: codes::Codes>() -> PackedKernels {
    PackedKernels { fast: (codes::tile::<C>, Section::Codes), exact: None, decode: Some(codes::decode::<C>) }
}
