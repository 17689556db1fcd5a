//! Loops over a page of values in AVX-512; the oracle is `scalar/attend.rs`.

use std::arch::x86_64::*;

use half::f16;

use super::vector::{load, mask, store};

const LANES: usize = 16;

pub(super) fn mix(weights: &[f32], stride: usize, values: &[f32], dim: usize, out: &mut [f32]) {
    // SAFETY: this table is given out only where the processor has the features.
    unsafe { mix_body(weights, stride, values, dim, out) }
}

#[target_feature(enable = "avx512f")]
fn mix_body(weights: &[f32], stride: usize, values: &[f32], dim: usize, out: &mut [f32]) {
    for (number, out) in out.chunks_mut(4 * dim).enumerate() {
        let weights = &weights[4 * number * stride..];
        match out.len() / dim {
            4 => mix_queries::<4>(weights, stride, values, dim, out),
            3 => mix_queries::<3>(weights, stride, values, dim, out),
            2 => mix_queries::<2>(weights, stride, values, dim, out),
            _ => mix_queries::<1>(weights, stride, values, dim, out),
        }
    }
}

/// `Q` queries, which share the loads of values.
#[inline]
#[target_feature(enable = "avx512f")]
fn mix_queries<const Q: usize>(weights: &[f32], stride: usize, values: &[f32], dim: usize, out: &mut [f32]) {
    let mut first = 0;
    while first < dim {
        let values = &values[first.min(values.len())..];
        let out = &mut out[first..];
        first += match (dim - first) / LANES {
            4.. => mix_columns::<Q, 4>((weights, stride), values, dim, out),
            2..4 => mix_columns::<Q, 2>((weights, stride), values, dim, out),
            1 => mix_columns::<Q, 1>((weights, stride), values, dim, out),
            _ => mix_rest((weights, stride), values, (dim, dim - first), out, Q),
        };
    }
}

/// `N` whole vectors of columns; gives how many columns these are.
#[inline]
#[target_feature(enable = "avx512f")]
fn mix_columns<const Q: usize, const N: usize>(
    (weights, stride): (&[f32], usize),
    values: &[f32],
    dim: usize,
    out: &mut [f32],
) -> usize {
    let mut sums = [[_mm512_setzero_ps(); N]; Q];
    for (query, sums) in sums.iter_mut().enumerate() {
        for (sum, out) in sums.iter_mut().zip(out[query * dim..].as_chunks::<LANES>().0) {
            *sum = load(out);
        }
    }
    let slots = values.len().div_ceil(dim);
    let mut of_queries = [&weights[..slots]; Q];
    for (query, of_query) in of_queries.iter_mut().enumerate() {
        *of_query = &weights[query * stride..][..slots];
    }
    for (slot, value) in values.chunks(dim).enumerate().take(slots) {
        let value: &[[f32; LANES]; N] = value.as_chunks().0[..N].try_into().expect("so many vectors");
        let mut vectors = [_mm512_setzero_ps(); N];
        for (vector, value) in vectors.iter_mut().zip(value) {
            *vector = load(value);
        }
        for (sums, weights) in sums.iter_mut().zip(of_queries) {
            let weight = _mm512_set1_ps(weights[slot]);
            for (sum, value) in sums.iter_mut().zip(vectors) {
                *sum = _mm512_fmadd_ps(value, weight, *sum);
            }
        }
    }
    for (query, sums) in sums.into_iter().enumerate() {
        for (sum, out) in sums.into_iter().zip(out[query * dim..].as_chunks_mut::<LANES>().0) {
            store(out, sum);
        }
    }
    N * LANES
}

/// The last columns, fewer than a vector.
#[target_feature(enable = "avx512f")]
fn mix_rest(
    (weights, stride): (&[f32], usize),
    values: &[f32],
    (dim, width): (usize, usize),
    out: &mut [f32],
    queries: usize,
) -> usize {
    for query in 0..queries {
        let out = &mut out[query * dim..][..width];
        let mut sum = load(out);
        for (slot, value) in values.chunks(dim).enumerate() {
            sum = _mm512_fmadd_ps(load(&value[..width]), _mm512_set1_ps(weights[query * stride + slot]), sum);
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
    for (x, out) in x.chunks(LANES).zip(out.chunks_mut(LANES)) {
        // SAFETY: the mask has only lanes below the slice's length, and masked lanes are not accessed.
        let halves = unsafe { _mm256_maskz_loadu_epi16(mask(x.len()), x.as_ptr().cast()) };
        store(out, _mm512_cvtph_ps(halves));
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
