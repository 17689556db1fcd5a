//! Elementwise loops in AVX-512. What they mean is said in `elementwise.rs`; the oracle is `scalar/vector.rs`.
//!
//! Invariant: rows are read and written through masks of their own length, so no load or store passes a slice's end.

use std::arch::x86_64::*;

use crate::elementwise::Activation;
use crate::scalar::norm_factor;

const LANES: usize = 16;

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

#[target_feature(enable = "avx512f")]
pub(super) fn mask(len: usize) -> __mmask16 {
    if len >= LANES { !0 } else { (1 << len) - 1 }
}

/// The first 16 values of a slice, zeros where it ends earlier.
#[inline]
#[target_feature(enable = "avx512f")]
pub(super) fn load(x: &[f32]) -> __m512 {
    if x.len() >= LANES {
        // SAFETY: the slice has sixteen values.
        return unsafe { _mm512_loadu_ps(x.as_ptr()) };
    }
    // SAFETY: the mask has only lanes below the slice's length, and masked lanes are not accessed.
    unsafe { _mm512_maskz_loadu_ps(mask(x.len()), x.as_ptr()) }
}

/// Stores as many lanes as the slice has places, 16 at most. Through a mask only where it must: what reads it next would
/// wait until it is in the cache.
#[inline]
#[target_feature(enable = "avx512f")]
pub(super) fn store(x: &mut [f32], values: __m512) {
    if x.len() >= LANES {
        // SAFETY: the slice has sixteen places.
        return unsafe { _mm512_storeu_ps(x.as_mut_ptr(), values) };
    }
    // SAFETY: the mask has only lanes below the slice's length, and masked lanes are not accessed.
    unsafe { _mm512_mask_storeu_ps(x.as_mut_ptr(), mask(x.len()), values) }
}

/// `e^x` to about 1e-7 of its value.
#[target_feature(enable = "avx512f")]
pub(super) fn exp(x: __m512) -> __m512 {
    // The constant comes first: a minimum with a NaN gives its second operand.
    exp_below(_mm512_min_ps(_mm512_set1_ps(89.0), x))
}

/// The same where `x` is at most 89: `2^n · e^r` with `|r| <= ln 2 / 2`. `e^r` is `1 + r` and the sum of higher powers whose
/// largest error there is the least (Remez), 3e-9 of its value.
#[target_feature(enable = "avx512f")]
fn exp_below(x: __m512) -> __m512 {
    let x = _mm512_max_ps(_mm512_set1_ps(-105.0), x);
    let n = _mm512_roundscale_ps::<8>(_mm512_mul_ps(x, _mm512_set1_ps(std::f32::consts::LOG2_E)));
    // ln 2 in two parts, the first short enough that its product with n is exact.
    let r = _mm512_fnmadd_ps(n, _mm512_set1_ps(0.693_359_4), x);
    let r = _mm512_fnmadd_ps(n, _mm512_set1_ps(-2.121_944_4e-4), r);
    let mut sum = _mm512_set1_ps(0.001_381_454);
    for coefficient in [0.008_368_745, 0.041_668_39, 0.166_665_21, 0.499_999_94, 1.0, 1.0] {
        sum = _mm512_fmadd_ps(sum, r, _mm512_set1_ps(coefficient));
    }
    _mm512_scalef_ps(sum, n)
}

/// `tanh x = 1 - 2 / (e^2x + 1)`, near zero by its series, where the difference would cancel.
#[target_feature(enable = "avx512f")]
pub(super) fn tanh(x: __m512) -> __m512 {
    let one = _mm512_set1_ps(1.0);
    let power = exp(_mm512_add_ps(x, x));
    let far = _mm512_sub_ps(one, _mm512_div_ps(_mm512_set1_ps(2.0), _mm512_add_ps(power, one)));
    let square = _mm512_mul_ps(x, x);
    let mut series = _mm512_set1_ps(-17.0 / 315.0);
    for coefficient in [2.0 / 15.0, -1.0 / 3.0, 1.0] {
        series = _mm512_fmadd_ps(series, square, _mm512_set1_ps(coefficient));
    }
    let near = _mm512_cmp_ps_mask::<_CMP_LT_OQ>(_mm512_abs_ps(x), _mm512_set1_ps(0.2));
    _mm512_mask_mul_ps(far, near, series, x)
}

/// `x / (1 + e^-kx)`.
#[target_feature(enable = "avx512f")]
fn swish(x: __m512, k: f32) -> __m512 {
    let power = exp(_mm512_mul_ps(x, _mm512_set1_ps(-k)));
    _mm512_div_ps(x, _mm512_add_ps(power, _mm512_set1_ps(1.0)))
}

/// `x Φ(x)`: the complement of the error function as `t (a1 + t (a2 + …)) e^-z²` with `t = 1 / (1 + p z)`
/// (Abramowitz & Stegun 7.1.26, within 1.5e-7).
#[target_feature(enable = "avx512f")]
fn gelu(x: __m512) -> __m512 {
    let one = _mm512_set1_ps(1.0);
    let z = _mm512_mul_ps(_mm512_abs_ps(x), _mm512_set1_ps(std::f32::consts::FRAC_1_SQRT_2));
    let t = _mm512_div_ps(one, _mm512_fmadd_ps(z, _mm512_set1_ps(0.327_591_1), one));
    let mut sum = _mm512_set1_ps(1.061_405_4);
    for coefficient in [-1.453_152_1, 1.421_413_8, -0.284_496_72, 0.254_829_6] {
        sum = _mm512_fmadd_ps(sum, t, _mm512_set1_ps(coefficient));
    }
    let tail = exp(_mm512_fnmadd_ps(z, z, _mm512_setzero_ps()));
    let half = _mm512_mul_ps(_mm512_mul_ps(sum, t), _mm512_mul_ps(tail, _mm512_set1_ps(0.5)));
    let positive = _mm512_cmp_ps_mask::<_CMP_GE_OQ>(x, _mm512_setzero_ps());
    _mm512_mul_ps(x, _mm512_mask_sub_ps(half, positive, one, half))
}

#[target_feature(enable = "avx512f")]
fn gelu_tanh(x: __m512) -> __m512 {
    // 0.5 (1 + tanh y) = 1 / (1 + e^-2y), which does not cancel for negative y.
    let cubic = _mm512_fmadd_ps(_mm512_mul_ps(x, x), _mm512_set1_ps(0.044_715), _mm512_set1_ps(1.0));
    let y = _mm512_mul_ps(_mm512_mul_ps(x, cubic), _mm512_set1_ps(-2.0 * 0.797_884_6));
    _mm512_div_ps(x, _mm512_add_ps(exp(y), _mm512_set1_ps(1.0)))
}

#[target_feature(enable = "avx512f")]
fn map(x: &mut [f32], function: impl Fn(__m512) -> __m512) {
    for chunk in x.chunks_mut(LANES) {
        let value = function(load(chunk));
        store(chunk, value);
    }
}

#[target_feature(enable = "avx512f")]
fn activate_body(activation: Activation, x: &mut [f32]) {
    let zero = _mm512_setzero_ps();
    match activation {
        Activation::Silu => map(x, |x| swish(x, 1.0)),
        Activation::Gelu => map(x, |x| gelu(x)),
        Activation::GeluTanh => map(x, |x| gelu_tanh(x)),
        Activation::GeluQuick => map(x, |x| swish(x, 1.702)),
        Activation::Relu => map(x, |x| _mm512_max_ps(zero, x)),
        Activation::ReluSquared => map(x, |x| {
            let x = _mm512_max_ps(zero, x);
            _mm512_mul_ps(x, x)
        }),
        Activation::Tanh => map(x, |x| tanh(x)),
        Activation::SoftCap(cap) => {
            let (cap, inverse) = (_mm512_set1_ps(cap), _mm512_set1_ps(1.0 / cap));
            map(x, |x| _mm512_mul_ps(cap, tanh(_mm512_mul_ps(x, inverse))));
        }
        Activation::SwishLimited { slope, limit } => {
            let limit = _mm512_set1_ps(limit);
            map(x, |x| swish(_mm512_min_ps(limit, x), slope));
        }
    }
}

/// Folds a row lane by lane in four running values, so that the chain of additions is not what limits.
#[target_feature(enable = "avx512f")]
fn fold(x: &[f32], step: impl Fn(__m512, &[f32]) -> __m512) -> __m512 {
    let mut sums = [_mm512_setzero_ps(); 4];
    for chunk in x.chunks(4 * LANES) {
        for (sum, chunk) in sums.iter_mut().zip(chunk.chunks(LANES)) {
            *sum = step(*sum, chunk);
        }
    }
    _mm512_add_ps(_mm512_add_ps(sums[0], sums[1]), _mm512_add_ps(sums[2], sums[3]))
}

#[target_feature(enable = "avx512f")]
fn sum_body(x: &[f32]) -> f32 {
    _mm512_reduce_add_ps(fold(x, |sum, x| _mm512_add_ps(sum, load(x))))
}

#[target_feature(enable = "avx512f")]
fn sum_squares_body(x: &[f32], mean: f32) -> f32 {
    let mean = _mm512_set1_ps(mean);
    _mm512_reduce_add_ps(fold(x, |sum, x| {
        // A lane past the end is zero, not minus the mean.
        let x = _mm512_maskz_sub_ps(mask(x.len()), load(x), mean);
        _mm512_fmadd_ps(x, x, sum)
    }))
}

#[target_feature(enable = "avx512f")]
fn norm_body(x: &[f32], mean: f32, squares: f32, epsilon: f32, out: &mut [f32]) {
    let factor = _mm512_set1_ps(norm_factor(x.len(), squares, epsilon));
    let mean = _mm512_set1_ps(mean);
    for (out, x) in out.chunks_mut(LANES).zip(x.chunks(LANES)) {
        store(out, _mm512_mul_ps(_mm512_sub_ps(load(x), mean), factor));
    }
}

#[target_feature(enable = "avx512f")]
fn multiply_body(out: &mut [f32], x: &[f32], offset: f32) {
    let offset = _mm512_set1_ps(offset);
    for (out, x) in out.chunks_mut(LANES).zip(x.chunks(LANES)) {
        let product = _mm512_mul_ps(load(out), _mm512_add_ps(load(x), offset));
        store(out, product);
    }
}

#[target_feature(enable = "avx512f")]
fn add_body(out: &mut [f32], scale: f32, x: &[f32]) {
    let scale = _mm512_set1_ps(scale);
    for (out, x) in out.chunks_mut(LANES).zip(x.chunks(LANES)) {
        let sum = _mm512_fmadd_ps(load(x), scale, load(out));
        store(out, sum);
    }
}

#[target_feature(enable = "avx512f")]
fn scale_body(x: &mut [f32], scale: f32) {
    let scale = _mm512_set1_ps(scale);
    map(x, |x| _mm512_mul_ps(x, scale));
}

#[target_feature(enable = "avx512f")]
fn rotate_body(first: &mut [f32], second: &mut [f32], cos: &[f32], sin: &[f32]) {
    let pairs = first.chunks_mut(LANES).zip(second.chunks_mut(LANES));
    for ((first, second), (cos, sin)) in pairs.zip(cos.chunks(LANES).zip(sin.chunks(LANES))) {
        let (a, b, cos, sin) = (load(first), load(second), load(cos), load(sin));
        store(first, _mm512_fmsub_ps(a, cos, _mm512_mul_ps(b, sin)));
        store(second, _mm512_fmadd_ps(b, cos, _mm512_mul_ps(a, sin)));
    }
}

#[target_feature(enable = "avx512f")]
fn maximum_body(x: &[f32]) -> f32 {
    let lowest = _mm512_set1_ps(f32::NEG_INFINITY);
    let mut largest = lowest;
    for x in x.chunks(LANES) {
        largest = _mm512_max_ps(_mm512_mask_mov_ps(lowest, mask(x.len()), load(x)), largest);
    }
    _mm512_reduce_max_ps(largest)
}

#[target_feature(enable = "avx512f")]
fn exp_sum_body(x: &mut [f32], shift: f32) -> f32 {
    let shift = _mm512_set1_ps(shift);
    let mut sum = _mm512_setzero_ps();
    for x in x.chunks_mut(LANES) {
        let power = exp_below(_mm512_sub_ps(load(x), shift));
        sum = _mm512_mask_add_ps(sum, mask(x.len()), sum, power);
        store(x, power);
    }
    _mm512_reduce_add_ps(sum)
}
