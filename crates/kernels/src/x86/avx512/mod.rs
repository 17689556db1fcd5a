//! AVX-512 with VNNI (Ice Lake, Zen 4 and later). A second table is for processors that multiply bf16 besides; Intel's do so
//! at half the rate of f32, so there it comes first in the order of speed, else last.
//!
//! Each kernel is a safe wrapper that checks lengths around a body that may assume the features. Invariant: a table leaves
//! this module only through `available`, which has asked the processor.

mod attend;
mod bf16;
mod float;
mod lanes;
mod pairs;
mod panels;
mod quantize;
mod vector;

use crate::Format;
use crate::attend::PageKernels;
use crate::isa::{Kernels, VectorKernels};
use crate::linear::{Decode, PackedKernels, Section, TileKernels};
use crate::packed;
use crate::scalar;

const KERNELS: Kernels = Kernels {
    name: "avx512",
    quantize: quantize::quantize,
    narrow_pairs: pairs::narrow_pairs,
    interleave: panels::interleave,
    tile_f32: float::TILES_F32,
    packed: packed_kernels::<false>,
    pairs: pairs::BY_FLOATS,
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
    page: PageKernels {
        mix: attend::mix::<f32>,
        mix_f16: attend::mix::<half::f16>,
        widen: attend::widen,
        narrow: attend::narrow,
        decode: super::blocks::decode,
    },
};

static AVX512: Kernels = KERNELS;
static AVX512_BF16: Kernels =
    Kernels { name: "avx512bf16", packed: packed_kernels::<true>, pairs: pairs::BY_PAIRS, ..KERNELS };

/// The tables, where this processor has every feature that their kernels are compiled for; slowest first.
pub(crate) fn available() -> [Option<&'static Kernels>; 2] {
    let has = is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512dq")
        && is_x86_feature_detected!("avx512vl")
        && is_x86_feature_detected!("avx512vnni");
    let (floats, pairs) =
        (has.then_some(&AVX512), (has && is_x86_feature_detected!("avx512bf16")).then_some(&AVX512_BF16));
    if is_intel() { [pairs, floats] } else { [floats, pairs] }
}

fn is_intel() -> bool {
    let vendor = std::arch::x86_64::__cpuid(0);
    [vendor.ebx, vendor.edx, vendor.ecx].map(u32::to_le_bytes).as_flattened() == b"GenuineIntel"
}

fn packed_kernels<const PAIRS: bool>(format: Format) -> Option<PackedKernels> {
    let float = |tile, decode| PackedKernels {
        fast: (tile, Section::Values),
        apart: None,
        exact: Some(tile),
        decode: Some(decode),
    };
    Some(match format {
        Format::F32 => float(float::TILES_F32, scalar::decode_f32 as Decode),
        Format::F16 => float(float::TILES_F16, scalar::decode_f16),
        Format::BF16 if PAIRS => PackedKernels {
            fast: (TileKernels { one: bf16::tile, two: Some(bf16::two) }, Section::Pairs),
            ..float(float::TILES_BF16, panels::decode_bf16)
        },
        Format::BF16 => float(float::TILES_BF16, panels::decode_bf16),
        _ => return packed::kernels::<lanes::Avx512>(format),
    })
}
