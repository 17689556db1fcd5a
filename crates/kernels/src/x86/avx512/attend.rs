//! Loops over a page of keys or values in AVX-512; the oracle is `scalar/attend.rs`.
//!
//! Invariant: a product sums 16 columns side by side and then the lanes in one fixed tree, so its bits do not depend on
//! the page's other slots.

use std::arch::x86_64::*;

use half::f16;

use super::vector::{load, mask, store};
use crate::attend::SLOT_GROUP;

const LANES: usize = 16;

pub(super) fn scores(queries: &[f32], keys: &[f32], dim: usize, scores: &mut [f32], stride: usize) {
    // SAFETY: this table is given out only where the processor has the features.
    unsafe { scores_body(queries, keys, dim, scores, stride) }
}

#[target_feature(enable = "avx512f,avx512dq")]
fn scores_body(queries: &[f32], keys: &[f32], dim: usize, scores: &mut [f32], stride: usize) {
    for (group, keys) in keys.chunks_exact(SLOT_GROUP * dim).enumerate() {
        for (at, query) in queries.chunks_exact(dim).enumerate() {
            let mut sums = [_mm512_setzero_ps(); SLOT_GROUP];
            let whole = dim / LANES * LANES;
            for first in (0..whole).step_by(LANES) {
                let query = load(&query[first..first + LANES]);
                for (slot, sum) in sums.iter_mut().enumerate() {
                    *sum = _mm512_fmadd_ps(load(&keys[slot * dim + first..][..LANES]), query, *sum);
                }
            }
            if whole < dim {
                // The query's lanes past its end are zero, but a key's would be the next key's values, and those of
                // a slot never written may be anything.
                let query = load(&query[whole..]);
                for (slot, sum) in sums.iter_mut().enumerate() {
                    *sum = _mm512_fmadd_ps(load(&keys[slot * dim + whole..(slot + 1) * dim]), query, *sum);
                }
            }
            store(&mut scores[at * stride + group * SLOT_GROUP..], lane_sums(sums));
        }
    }
}

/// Lane `i` of the result is the sum of the lanes of `sums[i]`, for all in one tree.
#[target_feature(enable = "avx512f,avx512dq")]
fn lane_sums(sums: [__m512; 16]) -> __m512 {
    // Each step halves the number of vectors and joins neighbors: after it, a vector holds partial sums of both.
    let mut eights = [_mm512_setzero_ps(); 8];
    for (at, out) in eights.iter_mut().enumerate() {
        let (a, b) = (sums[at], sums[at + 8]);
        let (low, high) = (_mm512_shuffle_f32x4::<0x44>(a, b), _mm512_shuffle_f32x4::<0xee>(a, b));
        *out = _mm512_add_ps(low, high);
    }
    let mut fours = [_mm512_setzero_ps(); 4];
    for (at, out) in fours.iter_mut().enumerate() {
        let (a, b) = (eights[at], eights[at + 4]);
        let (low, high) = (_mm512_shuffle_f32x4::<0x88>(a, b), _mm512_shuffle_f32x4::<0xdd>(a, b));
        *out = _mm512_add_ps(low, high);
    }
    // 128-bit lanes of `fours[at]` belong to at, at + 8, at + 4, at + 12.
    let mut twos = [_mm512_setzero_ps(); 2];
    for (at, out) in twos.iter_mut().enumerate() {
        let (a, b) = (fours[at], fours[at + 2]);
        *out = _mm512_add_ps(_mm512_unpacklo_ps(a, b), _mm512_unpackhi_ps(a, b));
    }
    // Words of a 128-bit lane of `twos[at]`: two of `at`, `at + 2` each, alternating.
    let (a, b) = (twos[0], twos[1]);
    let one = _mm512_add_ps(_mm512_unpacklo_ps(a, b), _mm512_unpackhi_ps(a, b));
    // Word w of 128-bit lane l belongs to sum w' + [0, 8, 4, 12][l], with w' = [0, 1, 2, 3][w].
    _mm512_shuffle_f32x4::<0xd8>(one, one)
}

pub(super) fn mix(weights: &[f32], stride: usize, values: &[f32], dim: usize, out: &mut [f32]) {
    // SAFETY: this table is given out only where the processor has the features.
    unsafe { mix_body(weights, stride, values, dim, out) }
}

#[target_feature(enable = "avx512f")]
fn mix_body(weights: &[f32], stride: usize, values: &[f32], dim: usize, out: &mut [f32]) {
    let slots = values.len() / dim;
    for (at, out) in out.chunks_exact_mut(dim).enumerate() {
        let weights = &weights[at * stride..][..slots];
        for first in (0..dim).step_by(4 * LANES) {
            let width = (dim - first).min(4 * LANES);
            if width == 4 * LANES {
                mix_columns::<4>(weights, &values[first..], dim, &mut out[first..first + width]);
            } else {
                for first in (first..dim).step_by(LANES) {
                    let width = (dim - first).min(LANES);
                    mix_columns::<1>(weights, &values[first..], dim, &mut out[first..first + width]);
                }
            }
        }
    }
}

#[inline]
#[target_feature(enable = "avx512f")]
fn mix_columns<const N: usize>(weights: &[f32], values: &[f32], dim: usize, out: &mut [f32]) {
    let mut sums = [_mm512_setzero_ps(); N];
    for (sum, out) in sums.iter_mut().zip(out.chunks(LANES)) {
        *sum = load(out);
    }
    let width = out.len();
    for (slot, weight) in weights.iter().enumerate() {
        let weight = _mm512_set1_ps(*weight);
        let value = &values[slot * dim..][..width];
        for (sum, value) in sums.iter_mut().zip(value.chunks(LANES)) {
            *sum = _mm512_fmadd_ps(load(value), weight, *sum);
        }
    }
    for (sum, out) in sums.into_iter().zip(out.chunks_mut(LANES)) {
        store(out, sum);
    }
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
