//! Elementwise loops in NEON. What they mean is said in `elementwise.rs`; the oracle is `scalar/vector.rs`.
//!
//! Invariant: rows are read and written in parts of at most their own length, so no load or store passes a slice's end.

use std::arch::aarch64::*;

use crate::elementwise::Activation;
use crate::scalar::norm_factor;

pub(super) const LANES: usize = 4;

/// Defines safe entries for bodies that may assume the features.
macro_rules! entries {
    ($($(#[$doc:meta])* fn $name:ident($($argument:ident: $type:ty),*) $(-> $result:ty)? = $body:ident;)*) => {
        $($(#[$doc])*
        pub(super) fn $name($($argument: $type),*) $(-> $result)? {
            // SAFETY: the table that holds this function is given out only where the processor has the features.
            unsafe { $body($($argument),*) }
        })*
    };
}

entries! {
    fn sum(x: &[f32]) -> f32 = sum_body;
    fn sum_squares(x: &[f32], mean: f32) -> f32 = sum_squares_body;
    fn norm(x: &[f32], mean: f32, squares: f32, epsilon: f32, out: &mut [f32]) = norm_body;
    fn multiply(out: &mut [f32], x: &[f32], offset: f32) = multiply_body;
    fn add(out: &mut [f32], scale: f32, x: &[f32]) = add_body;
    fn scale(x: &mut [f32], scale: f32) = scale_body;
    fn activate(activation: Activation, x: &mut [f32]) = activate_body;
    fn rotate(first: &mut [f32], second: &mut [f32], cos: &[f32], sin: &[f32]) = rotate_body;
    fn maximum(x: &[f32]) -> f32 = maximum_body;
    fn exp_sum(x: &mut [f32], shift: f32) -> f32 = exp_sum_body;
}

/// All ones in the first `len` lanes.
#[target_feature(enable = "neon")]
fn mask(len: usize) -> uint32x4_t {
    // SAFETY: four words are the 16 bytes that are read.
    let lanes = unsafe { vld1q_u32([0, 1, 2, 3].as_ptr()) };
    vcltq_u32(lanes, vdupq_n_u32(len.min(LANES) as u32))
}

/// The first 4 values of a slice, zeros where it ends earlier.
#[inline]
#[target_feature(enable = "neon")]
pub(super) fn load(x: &[f32]) -> float32x4_t {
    if let Some(x) = x.first_chunk::<LANES>() {
        // SAFETY: the slice has four values.
        return unsafe { vld1q_f32(x.as_ptr()) };
    }
    let mut four = [0.0; LANES];
    four[..x.len()].copy_from_slice(x);
    // SAFETY: the array has four values.
    unsafe { vld1q_f32(four.as_ptr()) }
}

/// Stores as many lanes as the slice has places, 4 at most.
#[inline]
#[target_feature(enable = "neon")]
pub(super) fn store(x: &mut [f32], values: float32x4_t) {
    if let Some(x) = x.first_chunk_mut::<LANES>() {
        // SAFETY: the slice has four places.
        return unsafe { vst1q_f32(x.as_mut_ptr(), values) };
    }
    let mut four = [0.0; LANES];
    // SAFETY: the array has four places.
    unsafe { vst1q_f32(four.as_mut_ptr(), values) };
    x.copy_from_slice(&four[..x.len()]);
}

/// `x · 2^n` for whole `n` in `-151..=129`: in two halves, as neither power may leave the exponent's range.
#[target_feature(enable = "neon")]
fn scale_by_power(x: float32x4_t, n: float32x4_t) -> float32x4_t {
    let n = vcvtq_s32_f32(n);
    let first = vshrq_n_s32::<1>(n);
    let power = |n: int32x4_t| vreinterpretq_f32_s32(vshlq_n_s32::<23>(vaddq_s32(n, vdupq_n_s32(127))));
    vmulq_f32(vmulq_f32(x, power(first)), power(vsubq_s32(n, first)))
}

/// `e^x` to about 1e-7 of its value: `2^n · e^r` with `|r| <= ln 2 / 2`, `e^r` by its series to the seventh power.
#[target_feature(enable = "neon")]
pub(super) fn exp(x: float32x4_t) -> float32x4_t {
    // The constant comes first: a maximum with a NaN gives its second operand.
    let x = vminq_f32(vdupq_n_f32(89.0), vmaxq_f32(vdupq_n_f32(-105.0), x));
    let n = vrndnq_f32(vmulq_f32(x, vdupq_n_f32(std::f32::consts::LOG2_E)));
    // ln 2 in two parts, the first short enough that its product with n is exact.
    let r = vfmsq_f32(x, n, vdupq_n_f32(0.693_359_4));
    let r = vfmsq_f32(r, n, vdupq_n_f32(-2.121_944_4e-4));
    let mut sum = vdupq_n_f32(1.0 / 5040.0);
    for coefficient in [1.0 / 720.0, 1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 0.5, 1.0, 1.0] {
        sum = vfmaq_f32(vdupq_n_f32(coefficient), sum, r);
    }
    scale_by_power(sum, n)
}

/// `tanh x = 1 - 2 / (e^2x + 1)`, near zero by its series, where the difference would cancel.
#[target_feature(enable = "neon")]
pub(super) fn tanh(x: float32x4_t) -> float32x4_t {
    let one = vdupq_n_f32(1.0);
    let power = exp(vaddq_f32(x, x));
    let far = vsubq_f32(one, vdivq_f32(vdupq_n_f32(2.0), vaddq_f32(power, one)));
    let square = vmulq_f32(x, x);
    let mut series = vdupq_n_f32(-17.0 / 315.0);
    for coefficient in [2.0 / 15.0, -1.0 / 3.0, 1.0] {
        series = vfmaq_f32(vdupq_n_f32(coefficient), series, square);
    }
    let near = vcltq_f32(vabsq_f32(x), vdupq_n_f32(0.2));
    vbslq_f32(near, vmulq_f32(series, x), far)
}

/// `x / (1 + e^-kx)`.
#[target_feature(enable = "neon")]
fn swish(x: float32x4_t, k: f32) -> float32x4_t {
    let power = exp(vmulq_f32(x, vdupq_n_f32(-k)));
    vdivq_f32(x, vaddq_f32(power, vdupq_n_f32(1.0)))
}

/// `x Φ(x)`: the complement of the error function as `t (a1 + t (a2 + …)) e^-z²` with `t = 1 / (1 + p z)`
/// (Abramowitz & Stegun 7.1.26, within 1.5e-7).
#[target_feature(enable = "neon")]
fn gelu(x: float32x4_t) -> float32x4_t {
    let one = vdupq_n_f32(1.0);
    let z = vmulq_f32(vabsq_f32(x), vdupq_n_f32(std::f32::consts::FRAC_1_SQRT_2));
    let t = vdivq_f32(one, vfmaq_f32(one, z, vdupq_n_f32(0.327_591_1)));
    let mut sum = vdupq_n_f32(1.061_405_4);
    for coefficient in [-1.453_152_1, 1.421_413_8, -0.284_496_72, 0.254_829_6] {
        sum = vfmaq_f32(vdupq_n_f32(coefficient), sum, t);
    }
    let tail = exp(vfmsq_f32(vdupq_n_f32(0.0), z, z));
    let half = vmulq_f32(vmulq_f32(sum, t), vmulq_f32(tail, vdupq_n_f32(0.5)));
    let positive = vcgeq_f32(x, vdupq_n_f32(0.0));
    vmulq_f32(x, vbslq_f32(positive, vsubq_f32(one, half), half))
}

#[target_feature(enable = "neon")]
fn gelu_tanh(x: float32x4_t) -> float32x4_t {
    // 0.5 (1 + tanh y) = 1 / (1 + e^-2y), which does not cancel for negative y.
    let cubic = vfmaq_f32(vdupq_n_f32(1.0), vmulq_f32(x, x), vdupq_n_f32(0.044_715));
    let y = vmulq_f32(vmulq_f32(x, cubic), vdupq_n_f32(-2.0 * 0.797_884_6));
    vdivq_f32(x, vaddq_f32(exp(y), vdupq_n_f32(1.0)))
}

#[target_feature(enable = "neon")]
fn map(x: &mut [f32], function: impl Fn(float32x4_t) -> float32x4_t) {
    for chunk in x.chunks_mut(LANES) {
        let value = function(load(chunk));
        store(chunk, value);
    }
}

#[target_feature(enable = "neon")]
fn activate_body(activation: Activation, x: &mut [f32]) {
    let zero = vdupq_n_f32(0.0);
    match activation {
        Activation::Silu => map(x, |x| swish(x, 1.0)),
        Activation::Gelu => map(x, |x| gelu(x)),
        Activation::GeluTanh => map(x, |x| gelu_tanh(x)),
        Activation::GeluQuick => map(x, |x| swish(x, 1.702)),
        Activation::Relu => map(x, |x| vmaxq_f32(zero, x)),
        Activation::ReluSquared => map(x, |x| {
            let x = vmaxq_f32(zero, x);
            vmulq_f32(x, x)
        }),
        Activation::Tanh => map(x, |x| tanh(x)),
        Activation::SoftCap(cap) => {
            let (cap, inverse) = (vdupq_n_f32(cap), vdupq_n_f32(1.0 / cap));
            map(x, |x| vmulq_f32(cap, tanh(vmulq_f32(x, inverse))));
        }
        Activation::SwishLimited { slope, limit } => {
            let limit = vdupq_n_f32(limit);
            map(x, |x| swish(vminq_f32(limit, x), slope));
        }
    }
}

/// Folds a row lane by lane in four running values, so that the chain of additions is not what limits.
#[target_feature(enable = "neon")]
fn fold(x: &[f32], step: impl Fn(float32x4_t, &[f32]) -> float32x4_t) -> float32x4_t {
    let mut sums = [vdupq_n_f32(0.0); 4];
    for chunk in x.chunks(4 * LANES) {
        for (sum, chunk) in sums.iter_mut().zip(chunk.chunks(LANES)) {
            *sum = step(*sum, chunk);
        }
    }
    vaddq_f32(vaddq_f32(sums[0], sums[1]), vaddq_f32(sums[2], sums[3]))
}

#[target_feature(enable = "neon")]
fn sum_body(x: &[f32]) -> f32 {
    vaddvq_f32(fold(x, |sum, x| vaddq_f32(sum, load(x))))
}

#[target_feature(enable = "neon")]
fn sum_squares_body(x: &[f32], mean: f32) -> f32 {
    let mean = vdupq_n_f32(mean);
    vaddvq_f32(fold(x, |sum, x| {
        // A lane past the end is zero, not minus the mean.
        let x = vbslq_f32(mask(x.len()), vsubq_f32(load(x), mean), vdupq_n_f32(0.0));
        vfmaq_f32(sum, x, x)
    }))
}

#[target_feature(enable = "neon")]
fn norm_body(x: &[f32], mean: f32, squares: f32, epsilon: f32, out: &mut [f32]) {
    let factor = vdupq_n_f32(norm_factor(x.len(), squares, epsilon));
    let mean = vdupq_n_f32(mean);
    for (out, x) in out.chunks_mut(LANES).zip(x.chunks(LANES)) {
        store(out, vmulq_f32(vsubq_f32(load(x), mean), factor));
    }
}

#[target_feature(enable = "neon")]
fn multiply_body(out: &mut [f32], x: &[f32], offset: f32) {
    let offset = vdupq_n_f32(offset);
    for (out, x) in out.chunks_mut(LANES).zip(x.chunks(LANES)) {
        let product = vmulq_f32(load(out), vaddq_f32(load(x), offset));
        store(out, product);
    }
}

#[target_feature(enable = "neon")]
fn add_body(out: &mut [f32], scale: f32, x: &[f32]) {
    let scale = vdupq_n_f32(scale);
    for (out, x) in out.chunks_mut(LANES).zip(x.chunks(LANES)) {
        let sum = vfmaq_f32(load(out), load(x), scale);
        store(out, sum);
    }
}

#[target_feature(enable = "neon")]
fn scale_body(x: &mut [f32], scale: f32) {
    let scale = vdupq_n_f32(scale);
    map(x, |x| vmulq_f32(x, scale));
}

#[target_feature(enable = "neon")]
fn rotate_body(first: &mut [f32], second: &mut [f32], cos: &[f32], sin: &[f32]) {
    let pairs = first.chunks_mut(LANES).zip(second.chunks_mut(LANES));
    for ((first, second), (cos, sin)) in pairs.zip(cos.chunks(LANES).zip(sin.chunks(LANES))) {
        let (a, b, cos, sin) = (load(first), load(second), load(cos), load(sin));
        store(first, vfmsq_f32(vmulq_f32(a, cos), b, sin));
        store(second, vfmaq_f32(vmulq_f32(a, sin), b, cos));
    }
}

#[target_feature(enable = "neon")]
fn maximum_body(x: &[f32]) -> f32 {
    let lowest = vdupq_n_f32(f32::NEG_INFINITY);
    let mut found = lowest;
    for x in x.chunks(LANES) {
        found = vmaxnmq_f32(vbslq_f32(mask(x.len()), load(x), lowest), found);
    }
    vmaxnmvq_f32(found)
}

#[target_feature(enable = "neon")]
fn exp_sum_body(x: &mut [f32], shift: f32) -> f32 {
    let shift = vdupq_n_f32(shift);
    let mut sum = vdupq_n_f32(0.0);
    for x in x.chunks_mut(LANES) {
        let power = exp(vsubq_f32(load(x), shift));
        sum = vaddq_f32(sum, vbslq_f32(mask(x.len()), power, vdupq_n_f32(0.0)));
        store(x, power);
    }
    vaddvq_f32(sum)
}
