//! How packed blocks of 32 columns come apart: codes of 4, 5 and 8 bits under one scale, with or without a minimum.
//!
//! Offsets are those of `linear/segments.rs`: codes first, then fifth bits, then binary16 scale and minimum.

use std::arch::x86_64::*;

use super::codes::{Codes, Group};
use crate::formats::NONLINEAR;

pub(super) struct Q8_0;
pub(super) struct Q4_0;
pub(super) struct Q4_1;
pub(super) struct Q5_0;
pub(super) struct Q5_1;
#[allow(non_camel_case_types)]
pub(super) struct IQ4_NL;
pub(super) struct MXFP4;

/// The vector at byte `at`.
///
/// # Safety
/// 64 bytes can be read there, and the processor has the features.
#[inline]
#[target_feature(enable = "avx512f")]
pub(super) unsafe fn load(block: *const u8, at: usize) -> __m512i {
    // SAFETY: the caller's promise.
    unsafe { _mm512_loadu_si512(block.add(at).cast()) }
}

/// The 16 binary16 at byte `at`.
///
/// # Safety
/// 32 bytes can be read there, and the processor has the features.
#[inline]
#[target_feature(enable = "avx512f")]
pub(super) unsafe fn halves(block: *const u8, at: usize) -> __m512 {
    // SAFETY: the caller's promise.
    _mm512_cvtph_ps(unsafe { _mm256_loadu_si256(block.add(at).cast()) })
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
pub(super) fn bytes(value: u8) -> __m512i {
    _mm512_set1_epi8(value.cast_signed())
}

/// 32 four-bit codes: the low halves of four vectors, then their high halves.
///
/// # Safety
/// 256 bytes can be read at `at`, and the processor has the features.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
pub(super) unsafe fn nibbles(block: *const u8, at: usize) -> [__m512i; 8] {
    let mut codes = [_mm512_setzero_si512(); 8];
    for pair in 0..4 {
        // SAFETY: the caller's promise.
        let both = unsafe { load(block, at + 64 * pair) };
        codes[pair] = _mm512_and_si512(both, bytes(15));
        codes[pair + 4] = _mm512_and_si512(_mm512_srli_epi16::<4>(both), bytes(15));
    }
    codes
}

/// Five-bit codes: four-bit ones, and a word of fifth bits for each row.
///
/// # Safety
/// As for [`nibbles`].
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
unsafe fn five_bits(block: *const u8, high: __m512i) -> [__m512i; 8] {
    // Entry `n` has the bits of `n` as the fifth bits of four bytes.
    let spread = |n: i32| (n & 1) << 4 | (n & 2) << 11 | (n & 4) << 18 | (n & 8) << 25;
    let table: [i32; 16] = std::array::from_fn(|n| spread(n as i32));
    // SAFETY: the table is 64 bytes; the rest is the caller's promise.
    let (table, mut codes) = unsafe { (_mm512_loadu_si512(table.as_ptr().cast()), nibbles(block, 0)) };
    for (at, codes) in codes.iter_mut().enumerate() {
        let bits = _mm512_srlv_epi32(high, _mm512_set1_epi32(4 * at as i32));
        // The permutation looks at the lowest four bits of each index only.
        *codes = _mm512_or_si512(*codes, _mm512_permutexvar_epi32(bits, table));
    }
    codes
}

/// The values of nonlinear four-bit codes, moved up by 128 to be unsigned.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
pub(super) fn nonlinear(codes: [__m512i; 8], values: [i8; 16]) -> [__m512i; 8] {
    let table = values.map(|value| value.cast_unsigned() ^ 0x80);
    // SAFETY: the table is 16 bytes.
    let table = _mm512_broadcast_i32x4(unsafe { _mm_loadu_si128(table.as_ptr().cast()) });
    let mut values = codes;
    for value in &mut values {
        *value = _mm512_shuffle_epi8(table, *value);
    }
    values
}

#[inline]
#[target_feature(enable = "avx512f")]
pub(super) fn plain(codes: [__m512i; 8], scale: __m512) -> Group {
    Group { codes, scales: [scale; 2], minima: [_mm512_setzero_ps(); 2] }
}

/// Twice the four-bit floats of two exponent bits and one of mantissa.
const TWICE_E2M1: [i8; 16] = [0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12];

/// Half of the power of two that each of 16 exponent bytes says; the two least are not normal numbers.
///
/// # Safety
/// 16 bytes can be read at `at`, and the processor has the features.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
unsafe fn half_powers(block: *const u8, at: usize) -> __m512 {
    // SAFETY: the caller's promise.
    let exponents = _mm512_cvtepu8_epi32(unsafe { _mm_loadu_si128(block.add(at).cast()) });
    let normal = _mm512_slli_epi32::<23>(_mm512_sub_epi32(exponents, _mm512_set1_epi32(1)));
    let small = _mm512_sllv_epi32(_mm512_set1_epi32(1 << 21), exponents);
    let is_small = _mm512_cmplt_epi32_mask(exponents, _mm512_set1_epi32(2));
    _mm512_castsi512_ps(_mm512_mask_blend_epi32(is_small, normal, small))
}

/// Implements [`Codes`] for a block of 32 columns.
macro_rules! block {
    ($name:ty, $bytes:expr, $zero:expr, $minima:expr, |$block:ident| $group:expr) => {
        impl Codes for $name {
            const COLS: usize = 32;
            const BYTES: usize = $bytes;
            const HALVES: bool = false;
            const MINIMA: bool = $minima;
            const ZERO: Option<u32> = $zero;
            type Head = ();

            #[inline]
            #[target_feature(enable = "avx512f,avx512bw")]
            unsafe fn head(_block: *const u8) {}

            #[inline]
            #[target_feature(enable = "avx512f,avx512bw")]
            unsafe fn group($block: *const u8, _head: &(), _group: usize) -> Group {
                // SAFETY: the caller's promise; every offset is inside the block.
                unsafe { $group }
            }
        }
    };
}

block!(Q8_0, 34 * 16, Some(7), false, |block| {
    let mut codes = [_mm512_setzero_si512(); 8];
    for (at, codes) in codes.iter_mut().enumerate() {
        *codes = load(block, 64 * at);
    }
    plain(codes, halves(block, 512))
});
block!(Q4_0, 18 * 16, Some(3), false, |block| plain(nibbles(block, 0), halves(block, 256)));
block!(IQ4_NL, 18 * 16, Some(7), false, |block| plain(nonlinear(nibbles(block, 0), NONLINEAR), halves(block, 256)));
block!(MXFP4, 17 * 16, Some(7), false, |block| plain(
    nonlinear(nibbles(block, 0), TWICE_E2M1),
    half_powers(block, 256)
));
block!(Q5_0, 22 * 16, Some(4), false, |block| plain(five_bits(block, load(block, 256)), halves(block, 320)));
block!(Q4_1, 20 * 16, None, true, |block| with_minimum(nibbles(block, 0), halves(block, 256), halves(block, 288)));
block!(Q5_1, 24 * 16, None, true, |block| {
    with_minimum(five_bits(block, load(block, 256)), halves(block, 320), halves(block, 352))
});

/// The minimum of these formats is added, not taken away.
#[inline]
#[target_feature(enable = "avx512f")]
fn with_minimum(codes: [__m512i; 8], scale: __m512, minimum: __m512) -> Group {
    let minimum = _mm512_sub_ps(_mm512_set1_ps(-0.0), minimum);
    Group { codes, scales: [scale; 2], minima: [minimum; 2] }
}
