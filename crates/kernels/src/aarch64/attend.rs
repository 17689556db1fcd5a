//! Loops over a page of values in NEON; the oracle is `scalar/attend.rs`.

use std::arch::aarch64::*;

use half::f16;

use super::vector::{LANES, load, store};

/// A stored value.
pub(super) trait Value: Sized {
    /// The first 4 of some, zeros where they end earlier.
    ///
    /// # Safety
    /// The processor has the features.
    unsafe fn vector(some: &[Self]) -> float32x4_t;
}

impl Value for f32 {
    #[inline]
    #[target_feature(enable = "neon")]
    unsafe fn vector(some: &[f32]) -> float32x4_t {
        load(some)
    }
}

impl Value for f16 {
    #[inline]
    #[target_feature(enable = "neon")]
    unsafe fn vector(some: &[f16]) -> float32x4_t {
        if let Some(some) = some.first_chunk() {
            return widened(some);
        }
        let mut lanes = [f16::ZERO; LANES];
        lanes[..some.len()].copy_from_slice(some);
        widened(&lanes)
    }
}

pub(super) fn mix<V: Value>(weights: &[f32], stride: usize, values: &[V], dim: usize, out: &mut [f32]) {
    // SAFETY: this table is given out only where the processor has the features.
    unsafe { mix_body(weights, stride, values, dim, out) }
}

#[target_feature(enable = "neon")]
fn mix_body<V: Value>(weights: &[f32], stride: usize, values: &[V], dim: usize, out: &mut [f32]) {
    let slots = values.len() / dim;
    for (at, out) in out.chunks_exact_mut(dim).enumerate() {
        let weights = &weights[at * stride..][..slots];
        for (first, out) in (0..dim).step_by(LANES).zip(out.chunks_mut(LANES)) {
            let mut sum = load(out);
            for (slot, weight) in weights.iter().enumerate() {
                // SAFETY: the processor has the features.
                let value = unsafe { V::vector(&values[slot * dim + first..][..out.len()]) };
                sum = vfmaq_n_f32(sum, value, *weight);
            }
            store(out, sum);
        }
    }
}

pub(super) fn widen(x: &[f16], out: &mut [f32]) {
    let (x, tail) = x.as_chunks::<LANES>();
    let (out, rest) = out.as_chunks_mut::<LANES>();
    for (x, out) in x.iter().zip(out) {
        // SAFETY: this table is given out only where the processor has the features.
        unsafe { store(out, widened(x)) };
    }
    (crate::scalar::PAGE.widen)(tail, rest);
}

#[target_feature(enable = "neon")]
fn widened(x: &[f16; LANES]) -> float32x4_t {
    // SAFETY: four f16 are the 8 bytes that are read.
    vcvt_f32_f16(vreinterpret_f16_u8(unsafe { vld1_u8(x.as_ptr().cast()) }))
}

pub(super) fn narrow(x: &[f32], out: &mut [f16]) {
    let (x, tail) = x.as_chunks::<LANES>();
    let (out, rest) = out.as_chunks_mut::<LANES>();
    for (x, out) in x.iter().zip(out) {
        // SAFETY: this table is given out only where the processor has the features.
        unsafe { narrow_some(x, out) };
    }
    (crate::scalar::PAGE.narrow)(tail, rest);
}

#[target_feature(enable = "neon")]
fn narrow_some(x: &[f32; LANES], out: &mut [f16; LANES]) {
    let halves = vreinterpret_u8_f16(vcvt_f16_f32(load(x)));
    // SAFETY: four f16 are the 8 bytes that are written.
    unsafe { vst1_u8(out.as_mut_ptr().cast(), halves) };
}
