//! NEON (every 64-bit ARM), and its dot products where the processor has them (Cortex-A55 and A76, Apple's A13 and M1,
//! and later).
//!
//! Invariant: a table leaves this module only through `available`, which has asked the processor.

mod attend;
mod float;
mod lanes;
mod quantize;
mod vector;

use std::arch::is_aarch64_feature_detected;

use crate::Format;
use crate::attend::PageKernels;
use crate::isa::{Kernels, VectorKernels};
use crate::linear::{Decode, PackedKernels, Section, TileKernels};
use crate::packed::{self, Compiled};
use crate::scalar;

const KERNELS: Kernels = Kernels {
    name: "neon",
    quantize: quantize::quantize,
    narrow_pairs: scalar::narrow_pairs,
    interleave: scalar::interleave,
    tile_f32: TileKernels::one(float::tile_f32),
    packed: packed_kernels::<lanes::Neon<false>>,
    pairs: scalar::PAIRS,
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
        ..scalar::PAGE
    },
};

static NEON: Kernels = KERNELS;
static DOTPROD: Kernels = Kernels { name: "dotprod", packed: packed_kernels::<lanes::Neon<true>>, ..KERNELS };

/// The tables that this processor can run, slowest first.
pub(crate) fn available() -> Vec<&'static Kernels> {
    let has = is_aarch64_feature_detected!("neon");
    let tables = [(has, &NEON), (has && is_aarch64_feature_detected!("dotprod"), &DOTPROD)];
    tables.into_iter().filter(|(has, _)| *has).map(|(_, table)| table).collect()
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
