//! Loops over a page of values in AVX2; the oracle is `scalar/attend.rs`.

use std::arch::x86_64::*;

use half::f16;

use super::vector::{LANES, load, store};

/// A stored value.
pub(super) trait Value: Sized {
    /// The first 8 of some, zeros where they end earlier.
    ///
    /// # Safety
    /// The processor has the features.
    unsafe fn vector(some: &[Self]) -> __m256;
}

impl Value for f32 {
    #[inline]
    #[target_feature(enable = "avx2")]
    unsafe fn vector(some: &[f32]) -> __m256 {
        load(some)
    }
}

impl Value for f16 {
    #[inline]
    #[target_feature(enable = "avx2,f16c")]
    unsafe fn vector(some: &[f16]) -> __m256 {
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

#[target_feature(enable = "avx2,fma,f16c")]
fn mix_body<V: Value>(weights: &[f32], stride: usize, values: &[V], dim: usize, out: &mut [f32]) {
    let slots = values.len() / dim;
    for (at, out) in out.chunks_exact_mut(dim).enumerate() {
        let weights = &weights[at * stride..][..slots];
        for (first, out) in (0..dim).step_by(LANES).zip(out.chunks_mut(LANES)) {
            let mut sum = load(out);
            for (slot, weight) in weights.iter().enumerate() {
                // SAFETY: the processor has the features.
                let value = unsafe { V::vector(&values[slot * dim + first..][..out.len()]) };
                sum = _mm256_fmadd_ps(value, _mm256_set1_ps(*weight), sum);
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

#[target_feature(enable = "avx2,f16c")]
fn widened(x: &[f16; LANES]) -> __m256 {
    // SAFETY: eight f16 are the 16 bytes that are read.
    _mm256_cvtph_ps(unsafe { _mm_loadu_si128(x.as_ptr().cast()) })
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

#[target_feature(enable = "avx2,f16c")]
fn narrow_some(x: &[f32; LANES], out: &mut [f16; LANES]) {
    let halves = _mm256_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(load(x));
    // SAFETY: eight f16 are the 16 bytes that are written.
    unsafe { _mm_storeu_si128(out.as_mut_ptr().cast(), halves) };
}
