//! Elementwise loops in AVX2. What they mean is said in `elementwise.rs`; the oracle is `scalar/vector.rs`.
//!
//! Invariant: rows are read and written through masks of their own length, so no load or store passes a slice's end.

use std::arch::x86_64::*;

use crate::elementwise::Activation;
use crate::scalar::norm_factor;

pub(super) const LANES: usize = 8;

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
#[inline]
#[target_feature(enable = "avx2")]
fn mask(len: usize) -> __m256i {
    let lanes = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
    _mm256_cmpgt_epi32(_mm256_set1_epi32(len.min(LANES) as i32), lanes)
}

/// The first 8 values of a slice, zeros where it ends earlier.
#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn load(x: &[f32]) -> __m256 {
    if x.len() >= LANES {
        // SAFETY: the slice has eight values.
        return unsafe { _mm256_loadu_ps(x.as_ptr()) };
    }
    // SAFETY: the mask has only lanes below the slice's length, and masked lanes are not accessed.
    unsafe { _mm256_maskload_ps(x.as_ptr(), mask(x.len())) }
}

/// Stores as many lanes as the slice has places, 8 at most.
#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn store(x: &mut [f32], values: __m256) {
    if x.len() >= LANES {
        // SAFETY: the slice has eight places.
        return unsafe { _mm256_storeu_ps(x.as_mut_ptr(), values) };
    }
    // SAFETY: the mask has only lanes below the slice's length, and masked lanes are not accessed.
    unsafe { _mm256_maskstore_ps(x.as_mut_ptr(), mask(x.len()), values) }
}

/// The sum of the lanes, in one fixed tree.
#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn total(x: __m256) -> f32 {
    let x = _mm_add_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps::<1>(x));
    let x = _mm_add_ps(x, _mm_movehl_ps(x, x));
    _mm_cvtss_f32(_mm_add_ss(x, _mm_movehdup_ps(x)))
}

/// The largest lane.
#[target_feature(enable = "avx2")]
pub(super) fn largest(x: __m256) -> f32 {
    let x = _mm_max_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps::<1>(x));
    let x = _mm_max_ps(x, _mm_movehl_ps(x, x));
    _mm_cvtss_f32(_mm_max_ss(x, _mm_movehdup_ps(x)))
}

#[target_feature(enable = "avx2")]
pub(super) fn absolute(x: __m256) -> __m256 {
    _mm256_andnot_ps(_mm256_set1_ps(-0.0), x)
}

/// `a` where the mask is set, else `b`.
#[target_feature(enable = "avx2")]
fn choose(mask: __m256, a: __m256, b: __m256) -> __m256 {
    _mm256_blendv_ps(b, a, mask)
}

/// `x · 2^n` for whole `n` in `-151..=129`: in two halves, as neither power may leave the exponent's range.
#[target_feature(enable = "avx2")]
fn scale_by_power(x: __m256, n: __m256) -> __m256 {
    let n = _mm256_cvtps_epi32(n);
    let first = _mm256_srai_epi32::<1>(n);
    let power = |n: __m256i| _mm256_castsi256_ps(_mm256_slli_epi32::<23>(_mm256_add_epi32(n, _mm256_set1_epi32(127))));
    _mm256_mul_ps(_mm256_mul_ps(x, power(first)), power(_mm256_sub_epi32(n, first)))
}

/// `e^x` to about 1e-7 of its value: `2^n · e^r` with `|r| <= ln 2 / 2`, `e^r` by its series to the seventh power.
#[target_feature(enable = "avx2,fma")]
pub(super) fn exp(x: __m256) -> __m256 {
    // The constant comes first: a maximum with a NaN gives its second operand.
    let x = _mm256_min_ps(_mm256_set1_ps(89.0), _mm256_max_ps(_mm256_set1_ps(-105.0), x));
    let n = _mm256_round_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(_mm256_mul_ps(
        x,
        _mm256_set1_ps(std::f32::consts::LOG2_E),
    ));
    // ln 2 in two parts, the first short enough that its product with n is exact.
    let r = _mm256_fnmadd_ps(n, _mm256_set1_ps(0.693_359_4), x);
    let r = _mm256_fnmadd_ps(n, _mm256_set1_ps(-2.121_944_4e-4), r);
    let mut sum = _mm256_set1_ps(1.0 / 5040.0);
    for coefficient in [1.0 / 720.0, 1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 0.5, 1.0, 1.0] {
        sum = _mm256_fmadd_ps(sum, r, _mm256_set1_ps(coefficient));
    }
    scale_by_power(sum, n)
}

/// `tanh x = 1 - 2 / (e^2x + 1)`, near zero by its series, where the difference would cancel.
#[target_feature(enable = "avx2,fma")]
pub(super) fn tanh(x: __m256) -> __m256 {
    let one = _mm256_set1_ps(1.0);
    let power = exp(_mm256_add_ps(x, x));
    let far = _mm256_sub_ps(one, _mm256_div_ps(_mm256_set1_ps(2.0), _mm256_add_ps(power, one)));
    let square = _mm256_mul_ps(x, x);
    let mut series = _mm256_set1_ps(-17.0 / 315.0);
    for coefficient in [2.0 / 15.0, -1.0 / 3.0, 1.0] {
        series = _mm256_fmadd_ps(series, square, _mm256_set1_ps(coefficient));
    }
    let near = _mm256_cmp_ps::<_CMP_LT_OQ>(absolute(x), _mm256_set1_ps(0.2));
    choose(near, _mm256_mul_ps(series, x), far)
}

/// `x / (1 + e^-kx)`.
#[target_feature(enable = "avx2,fma")]
fn swish(x: __m256, k: f32) -> __m256 {
    let power = exp(_mm256_mul_ps(x, _mm256_set1_ps(-k)));
    _mm256_div_ps(x, _mm256_add_ps(power, _mm256_set1_ps(1.0)))
}

/// `x Φ(x)`: the complement of the error function as `t (a1 + t (a2 + …)) e^-z²` with `t = 1 / (1 + p z)`
/// (Abramowitz & Stegun 7.1.26, within 1.5e-7).
#[target_feature(enable = "avx2,fma")]
fn gelu(x: __m256) -> __m256 {
    let one = _mm256_set1_ps(1.0);
    let z = _mm256_mul_ps(absolute(x), _mm256_set1_ps(std::f32::consts::FRAC_1_SQRT_2));
    let t = _mm256_div_ps(one, _mm256_fmadd_ps(z, _mm256_set1_ps(0.327_591_1), one));
    let mut sum = _mm256_set1_ps(1.061_405_4);
    for coefficient in [-1.453_152_1, 1.421_413_8, -0.284_496_72, 0.254_829_6] {
        sum = _mm256_fmadd_ps(sum, t, _mm256_set1_ps(coefficient));
    }
    let tail = exp(_mm256_fnmadd_ps(z, z, _mm256_setzero_ps()));
    let half = _mm256_mul_ps(_mm256_mul_ps(sum, t), _mm256_mul_ps(tail, _mm256_set1_ps(0.5)));
    let positive = _mm256_cmp_ps::<_CMP_GE_OQ>(x, _mm256_setzero_ps());
    _mm256_mul_ps(x, choose(positive, _mm256_sub_ps(one, half), half))
}

#[target_feature(enable = "avx2,fma")]
fn gelu_tanh(x: __m256) -> __m256 {
    // 0.5 (1 + tanh y) = 1 / (1 + e^-2y), which does not cancel for negative y.
    let cubic = _mm256_fmadd_ps(_mm256_mul_ps(x, x), _mm256_set1_ps(0.044_715), _mm256_set1_ps(1.0));
    let y = _mm256_mul_ps(_mm256_mul_ps(x, cubic), _mm256_set1_ps(-2.0 * 0.797_884_6));
    _mm256_div_ps(x, _mm256_add_ps(exp(y), _mm256_set1_ps(1.0)))
}

#[target_feature(enable = "avx2,fma")]
fn map(x: &mut [f32], function: impl Fn(__m256) -> __m256) {
    for chunk in x.chunks_mut(LANES) {
        let value = function(load(chunk));
        store(chunk, value);
    }
}

#[target_feature(enable = "avx2,fma")]
fn activate_body(activation: Activation, x: &mut [f32]) {
    let zero = _mm256_setzero_ps();
    match activation {
        Activation::Silu => map(x, |x| swish(x, 1.0)),
        Activation::Gelu => map(x, |x| gelu(x)),
        Activation::GeluTanh => map(x, |x| gelu_tanh(x)),
        Activation::GeluQuick => map(x, |x| swish(x, 1.702)),
        Activation::Relu => map(x, |x| _mm256_max_ps(zero, x)),
        Activation::ReluSquared => map(x, |x| {
            let x = _mm256_max_ps(zero, x);
            _mm256_mul_ps(x, x)
        }),
        Activation::Tanh => map(x, |x| tanh(x)),
        Activation::SoftCap(cap) => {
            let (cap, inverse) = (_mm256_set1_ps(cap), _mm256_set1_ps(1.0 / cap));
            map(x, |x| _mm256_mul_ps(cap, tanh(_mm256_mul_ps(x, inverse))));
        }
        Activation::SwishLimited { slope, limit } => {
            let limit = _mm256_set1_ps(limit);
            map(x, |x| swish(_mm256_min_ps(limit, x), slope));
        }
    }
}

/// Folds a row lane by lane in four running values, so that the chain of additions is not what limits.
#[target_feature(enable = "avx2,fma")]
fn fold(x: &[f32], step: impl Fn(__m256, &[f32]) -> __m256) -> __m256 {
    let mut sums = [_mm256_setzero_ps(); 4];
    for chunk in x.chunks(4 * LANES) {
        for (sum, chunk) in sums.iter_mut().zip(chunk.chunks(LANES)) {
            *sum = step(*sum, chunk);
        }
    }
    _mm256_add_ps(_mm256_add_ps(sums[0], sums[1]), _mm256_add_ps(sums[2], sums[3]))
}

#[target_feature(enable = "avx2,fma")]
fn sum_body(x: &[f32]) -> f32 {
    total(fold(x, |sum, x| _mm256_add_ps(sum, load(x))))
}

#[target_feature(enable = "avx2,fma")]
fn sum_squares_body(x: &[f32], mean: f32) -> f32 {
    let mean = _mm256_set1_ps(mean);
    total(fold(x, |sum, x| {
        // A lane past the end is zero, not minus the mean.
        let x = _mm256_and_ps(_mm256_castsi256_ps(mask(x.len())), _mm256_sub_ps(load(x), mean));
        _mm256_fmadd_ps(x, x, sum)
    }))
}

#[target_feature(enable = "avx2,fma")]
fn norm_body(x: &[f32], mean: f32, squares: f32, epsilon: f32, out: &mut [f32]) {
    let factor = _mm256_set1_ps(norm_factor(x.len(), squares, epsilon));
    let mean = _mm256_set1_ps(mean);
    for (out, x) in out.chunks_mut(LANES).zip(x.chunks(LANES)) {
        store(out, _mm256_mul_ps(_mm256_sub_ps(load(x), mean), factor));
    }
}

#[target_feature(enable = "avx2,fma")]
fn multiply_body(out: &mut [f32], x: &[f32], offset: f32) {
    let offset = _mm256_set1_ps(offset);
    for (out, x) in out.chunks_mut(LANES).zip(x.chunks(LANES)) {
        let product = _mm256_mul_ps(load(out), _mm256_add_ps(load(x), offset));
        store(out, product);
    }
}

#[target_feature(enable = "avx2,fma")]
fn add_body(out: &mut [f32], scale: f32, x: &[f32]) {
    let scale = _mm256_set1_ps(scale);
    for (out, x) in out.chunks_mut(LANES).zip(x.chunks(LANES)) {
        let sum = _mm256_fmadd_ps(load(x), scale, load(out));
        store(out, sum);
    }
}

#[target_feature(enable = "avx2,fma")]
fn scale_body(x: &mut [f32], scale: f32) {
    let scale = _mm256_set1_ps(scale);
    map(x, |x| _mm256_mul_ps(x, scale));
}

#[target_feature(enable = "avx2,fma")]
fn rotate_body(first: &mut [f32], second: &mut [f32], cos: &[f32], sin: &[f32]) {
    let pairs = first.chunks_mut(LANES).zip(second.chunks_mut(LANES));
    for ((first, second), (cos, sin)) in pairs.zip(cos.chunks(LANES).zip(sin.chunks(LANES))) {
        let (a, b, cos, sin) = (load(first), load(second), load(cos), load(sin));
        store(first, _mm256_fmsub_ps(a, cos, _mm256_mul_ps(b, sin)));
        store(second, _mm256_fmadd_ps(b, cos, _mm256_mul_ps(a, sin)));
    }
}

#[target_feature(enable = "avx2,fma")]
fn maximum_body(x: &[f32]) -> f32 {
    let lowest = _mm256_set1_ps(f32::NEG_INFINITY);
    let mut found = lowest;
    for x in x.chunks(LANES) {
        found = _mm256_max_ps(choose(_mm256_castsi256_ps(mask(x.len())), load(x), lowest), found);
    }
    largest(found)
}

#[target_feature(enable = "avx2,fma")]
fn exp_sum_body(x: &mut [f32], shift: f32) -> f32 {
    let shift = _mm256_set1_ps(shift);
    let mut sum = _mm256_setzero_ps();
    for x in x.chunks_mut(LANES) {
        let power = exp(_mm256_sub_ps(load(x), shift));
        sum = _mm256_add_ps(sum, _mm256_and_ps(_mm256_castsi256_ps(mask(x.len())), power));
        store(x, power);
    }
    total(sum)
}
