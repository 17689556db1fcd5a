//! Loops over a page of values in AVX-512; the oracle is `scalar/attend.rs`.

use std::arch::x86_64::*;

use half::f16;

use super::vector::{load, mask, store};

const LANES: usize = 16;

/// A stored value.
pub(super) trait Value: Sized {
    /// The first 16 of some, zeros where they end earlier.
    ///
    /// # Safety
    /// The processor has the features.
    unsafe fn vector(some: &[Self]) -> __m512;
}

impl Value for f32 {
    #[inline]
    #[target_feature(enable = "avx512f")]
    unsafe fn vector(some: &[f32]) -> __m512 {
        load(some)
    }
}

impl Value for f16 {
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl")]
    unsafe fn vector(some: &[f16]) -> __m512 {
        // SAFETY: the mask has only lanes below the slice's length, and masked lanes are not accessed.
        _mm512_cvtph_ps(unsafe { _mm256_maskz_loadu_epi16(mask(some.len()), some.as_ptr().cast()) })
    }
}

pub(super) fn mix<V: Value>(weights: &[f32], stride: usize, values: &[V], dim: usize, out: &mut [f32]) {
    // SAFETY: this table is given out only where the processor has the features.
    unsafe { mix_body(weights, stride, values, dim, out) }
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
fn mix_body<V: Value>(weights: &[f32], stride: usize, values: &[V], dim: usize, out: &mut [f32]) {
    for (number, out) in out.chunks_mut(4 * dim).enumerate() {
        let weights = &weights[4 * number * stride..];
        match out.len() / dim {
            4 => mix_queries::<V, 4>(weights, stride, values, dim, out),
            3 => mix_queries::<V, 3>(weights, stride, values, dim, out),
            2 => mix_queries::<V, 2>(weights, stride, values, dim, out),
            _ => mix_queries::<V, 1>(weights, stride, values, dim, out),
        }
    }
}

/// `Q` queries, which share the loads of values.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
fn mix_queries<V: Value, const Q: usize>(weights: &[f32], stride: usize, values: &[V], dim: usize, out: &mut [f32]) {
    let mut first = 0;
    while first < dim {
        let values = &values[first.min(values.len())..];
        let out = &mut out[first..];
        first += match (dim - first) / LANES {
            4.. => mix_columns::<V, Q, 4>((weights, stride), values, dim, out),
            2..4 => mix_columns::<V, Q, 2>((weights, stride), values, dim, out),
            1 => mix_columns::<V, Q, 1>((weights, stride), values, dim, out),
            _ => mix_rest((weights, stride), values, (dim, dim - first), out, Q),
        };
    }
}

/// `N` whole vectors of columns; gives how many columns these are.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
fn mix_columns<V: Value, const Q: usize, const N: usize>(
    (weights, stride): (&[f32], usize),
    values: &[V],
    dim: usize,
    out: &mut [f32],
) -> usize {
    let mut sums = [[_mm512_setzero_ps(); N]; Q];
    // Arrays, not slices: sums of a number that is not known here would go through memory.
    for (query, sums) in sums.iter_mut().enumerate() {
        let out: &[[f32; LANES]; N] = out[query * dim..].as_chunks().0.first_chunk().expect("so many columns");
        for (sum, out) in sums.iter_mut().zip(out) {
            *sum = load(out);
        }
    }
    let slots = values.len().div_ceil(dim);
    let mut of_queries = [&weights[..slots]; Q];
    for (query, of_query) in of_queries.iter_mut().enumerate() {
        *of_query = &weights[query * stride..][..slots];
    }
    for slot in 0..slots {
        let value: &[[V; LANES]; N] = values[slot * dim..].as_chunks().0.first_chunk().expect("so many columns");
        let mut vectors = [_mm512_setzero_ps(); N];
        for (vector, value) in vectors.iter_mut().zip(value) {
            // SAFETY: the processor has the features.
            *vector = unsafe { V::vector(value) };
        }
        for (sums, weights) in sums.iter_mut().zip(of_queries) {
            let weight = _mm512_set1_ps(weights[slot]);
            for (sum, value) in sums.iter_mut().zip(vectors) {
                *sum = _mm512_fmadd_ps(value, weight, *sum);
            }
        }
    }
    for (query, sums) in sums.iter().enumerate() {
        let out: &mut [[f32; LANES]; N] = out[query * dim..].as_chunks_mut().0.first_chunk_mut().expect("as before");
        for (sum, out) in sums.iter().zip(out) {
            store(out, *sum);
        }
    }
    N * LANES
}

/// The last columns, fewer than a vector.
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
fn mix_rest<V: Value>(
    (weights, stride): (&[f32], usize),
    values: &[V],
    (dim, width): (usize, usize),
    out: &mut [f32],
    queries: usize,
) -> usize {
    for query in 0..queries {
        let out = &mut out[query * dim..][..width];
        let mut sum = load(out);
        for (slot, value) in values.chunks(dim).enumerate() {
            // SAFETY: the processor has the features.
            let value = unsafe { V::vector(&value[..width]) };
            sum = _mm512_fmadd_ps(value, _mm512_set1_ps(weights[query * stride + slot]), sum);
        }
        store(out, sum);
    }
    width
}

pub(super) fn widen(x: &[f16], out: &mut [f32]) {
    // SAFETY: this table is given out only where the processor has the features.
    unsafe { widen_body(x, out) }
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
fn widen_body(x: &[f16], out: &mut [f32]) {
    let (whole, tail) = x.as_chunks::<LANES>();
    let (out, rest) = out.as_chunks_mut::<LANES>();
    // SAFETY: the processor has the features.
    unsafe {
        whole.iter().zip(out).for_each(|(x, out)| store(out, f16::vector(x)));
        store(rest, f16::vector(tail));
    }
}

pub(super) fn narrow(x: &[f32], out: &mut [f16]) {
    // SAFETY: this table is given out only where the processor has the features.
    unsafe { narrow_body(x, out) }
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
fn narrow_body(x: &[f32], out: &mut [f16]) {
    for (x, out) in x.chunks(LANES).zip(out.chunks_mut(LANES)) {
        let halves = _mm512_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(load(x));
        // SAFETY: the mask has only lanes below the slice's length, and masked lanes are not accessed.
        unsafe { _mm256_mask_storeu_epi16(out.as_mut_ptr().cast(), mask(out.len()), halves) };
    }
}
