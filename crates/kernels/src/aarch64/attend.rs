//! Loops over a page of keys or values in NEON; the oracle is `scalar/attend.rs`.
//!
//! Invariant: a product sums four columns side by side and then the lanes in one fixed tree, whatever is beside it.

use std::arch::aarch64::*;

use half::f16;

use super::vector::{LANES, load, store};

pub(super) fn scores(queries: &[f32], keys: &[f32], dim: usize, scores: &mut [f32], stride: usize) {
    // SAFETY: this table is given out only where the processor has the features.
    unsafe { scores_body(queries, keys, dim, scores, stride) }
}

#[target_feature(enable = "neon")]
fn scores_body(queries: &[f32], keys: &[f32], dim: usize, scores: &mut [f32], stride: usize) {
    for (at, query) in queries.chunks_exact(dim).enumerate() {
        for (key, score) in keys.chunks_exact(dim).zip(&mut scores[at * stride..]) {
            let mut sums = [vdupq_n_f32(0.0); 4];
            for (query, key) in query.chunks(4 * LANES).zip(key.chunks(4 * LANES)) {
                for (sum, (query, key)) in sums.iter_mut().zip(query.chunks(LANES).zip(key.chunks(LANES))) {
                    *sum = vfmaq_f32(*sum, load(query), load(key));
                }
            }
            *score = vaddvq_f32(vaddq_f32(vaddq_f32(sums[0], sums[1]), vaddq_f32(sums[2], sums[3])));
        }
    }
}

pub(super) fn mix(weights: &[f32], stride: usize, values: &[f32], dim: usize, out: &mut [f32]) {
    // SAFETY: this table is given out only where the processor has the features.
    unsafe { mix_body(weights, stride, values, dim, out) }
}

#[target_feature(enable = "neon")]
fn mix_body(weights: &[f32], stride: usize, values: &[f32], dim: usize, out: &mut [f32]) {
    let slots = values.len() / dim;
    for (at, out) in out.chunks_exact_mut(dim).enumerate() {
        let weights = &weights[at * stride..][..slots];
        for (first, out) in (0..dim).step_by(LANES).zip(out.chunks_mut(LANES)) {
            let mut sum = load(out);
            for (slot, weight) in weights.iter().enumerate() {
                let value = &values[slot * dim + first..][..out.len()];
                sum = vfmaq_n_f32(sum, load(value), *weight);
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
        unsafe { widen_some(x, out) };
    }
    (crate::scalar::PAGE.widen)(tail, rest);
}

#[target_feature(enable = "neon")]
fn widen_some(x: &[f16; LANES], out: &mut [f32; LANES]) {
    // SAFETY: four f16 are the 8 bytes that are read.
    store(out, vcvt_f32_f16(vreinterpret_f16_u8(unsafe { vld1_u8(x.as_ptr().cast()) })));
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
