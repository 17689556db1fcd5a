//! AVX2 with FMA and F16C (Haswell, Zen and later).
//!
//! A second table is for processors that have AVX-VNNI besides (Alder Lake, Zen 5 and later). Invariant: a table
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
use crate::linear::{Decode, PackedKernels, Section, TileKernels};
use crate::packed::{self, Compiled};
use crate::scalar;

const KERNELS: Kernels = Kernels {
    name: "avx2",
    quantize: quantize::quantize,
    narrow_pairs: scalar::narrow_pairs,
    interleave: scalar::interleave,
    tile_f32: TileKernels::one(float::tile_f32),
    packed: packed_kernels::<lanes::Avx2<false>>,
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
    page: PageKernels {
        mix: attend::mix::<f32>,
        mix_f16: attend::mix::<half::f16>,
        widen: attend::widen,
        narrow: attend::narrow,
        decode: super::blocks::decode,
    },
};

static AVX2: Kernels = KERNELS;
static AVX_VNNI: Kernels = Kernels { name: "avxvnni", packed: packed_kernels::<lanes::Avx2<true>>, ..KERNELS };

/// The tables, where this processor has every feature that their kernels are compiled for; slowest first.
pub(crate) fn available() -> [Option<&'static Kernels>; 2] {
    let has = is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") && is_x86_feature_detected!("f16c");
    [has.then_some(&AVX2), (has && is_x86_feature_detected!("avxvnni")).then_some(&AVX_VNNI)]
}

fn packed_kernels<S: Compiled>(format: Format) -> Option<PackedKernels> {
    let float = |tile, decode| {
        let tile = TileKernels::one(tile);
        PackedKernels { fast: (tile, Section::Values), apart: None, exact: Some(tile), decode: Some(decode) }
    };
    Some(match format {
        Format::F32 => float(float::tile_f32, scalar::decode_f32 as Decode),
        Format::F16 => float(float::tile_f16, scalar::decode_f16),
        Format::BF16 => float(float::tile_bf16, scalar::decode_bf16),
        _ => return packed::kernels::<S>(format),
    })
}
