//! How packed blocks of 256 columns come apart: groups of 32 or 16 columns whose scales are small integers under the
//! block's binary16 ones.
//!
//! Offsets are those of `linear/segments.rs`.

use std::arch::x86_64::*;

use super::blocks::{bytes, halves, load, nibbles, nonlinear, plain};
use super::codes::{Codes, Group};
use crate::formats::NONLINEAR;

#[allow(non_camel_case_types)]
pub(super) struct Q2_K;
#[allow(non_camel_case_types)]
pub(super) struct Q3_K;
#[allow(non_camel_case_types)]
pub(super) struct Q4_K;
#[allow(non_camel_case_types)]
pub(super) struct Q5_K;
#[allow(non_camel_case_types)]
pub(super) struct Q6_K;
#[allow(non_camel_case_types)]
pub(super) struct IQ4_XS;

/// Byte `at` of each word, as an integer in `0..256`.
#[inline]
#[target_feature(enable = "avx512f")]
fn byte(words: __m512i, at: usize) -> __m512i {
    _mm512_and_si512(_mm512_srlv_epi32(words, _mm512_set1_epi32(8 * at as i32)), _mm512_set1_epi32(255))
}

/// `scale · byte` of each row.
#[inline]
#[target_feature(enable = "avx512f")]
fn scaled(scale: __m512, words: __m512i, at: usize) -> __m512 {
    _mm512_mul_ps(scale, _mm512_cvtepi32_ps(byte(words, at)))
}

/// `a` moved right by `by` bits in each 32-bit word (left where `by` is negative), and the bits of `mask` kept in each
/// byte. Bits that cross a byte are outside the mask.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn bits(a: __m512i, by: i32, mask: u8) -> __m512i {
    _mm512_and_si512(_mm512_rorv_epi32(a, _mm512_set1_epi32(by)), bytes(mask))
}

/// The scales and minima of Q4_K and Q5_K: a vector for groups 0 to 3 and one for 4 to 7, a group in each byte.
#[derive(Clone, Copy)]
pub(super) struct SixBits {
    scale: __m512,
    minimum: __m512,
    scales: [__m512i; 2],
    minima: [__m512i; 2],
}

impl SixBits {
    /// # Safety
    /// 256 bytes can be read at `at`, and the processor has the features.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw")]
    unsafe fn load(block: *const u8, at: usize) -> SixBits {
        // SAFETY: the caller's promise.
        let (a, b, c) = unsafe { (load(block, at), load(block, at + 64), load(block, at + 128)) };
        let high = |low: __m512i, top: __m512i| _mm512_or_si512(low, bits(top, 2, 0x30));
        SixBits {
            // SAFETY: the caller's promise.
            scale: unsafe { halves(block, at + 192) },
            // SAFETY: the caller's promise.
            minimum: unsafe { halves(block, at + 224) },
            scales: [bits(a, 0, 63), high(bits(c, 0, 15), a)],
            minima: [bits(b, 0, 63), high(bits(c, 4, 15), b)],
        }
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw")]
    fn group(&self, codes: [__m512i; 8], group: usize) -> Group {
        let scale = scaled(self.scale, self.scales[group / 4], group % 4);
        let minimum = scaled(self.minimum, self.minima[group / 4], group % 4);
        Group { codes, scales: [scale; 2], minima: [minimum; 2] }
    }
}

/// 32 codes of one half of each byte: those of group `group` where two groups share 32 bytes.
///
/// # Safety
/// 512 bytes can be read at each pair of groups, and the processor has the features.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
unsafe fn half_bytes(block: *const u8, at: usize, group: usize) -> [__m512i; 8] {
    let start = at + group / 2 * 512;
    let mut codes = [_mm512_setzero_si512(); 8];
    for (number, codes) in codes.iter_mut().enumerate() {
        // SAFETY: the caller's promise.
        *codes = bits(unsafe { load(block, start + 64 * number) }, (group % 2 * 4) as i32, 15);
    }
    codes
}

/// Implements [`Codes`] for a block of 256 columns.
macro_rules! block {
    (
        $name:ty, $bytes:expr, $halves:expr, $minima:expr, $zero:expr, $head:ty,
        |$start:ident| $load:expr, |$block:ident, $found:ident, $at:ident| $group:expr
    ) => {
        impl Codes for $name {
            const COLS: usize = 256;
            const BYTES: usize = $bytes * 16;
            const HALVES: bool = $halves;
            const MINIMA: bool = $minima;
            const ZERO: Option<u32> = $zero;
            type Head = $head;

            #[inline]
            #[target_feature(enable = "avx512f,avx512bw")]
            unsafe fn head($start: *const u8) -> $head {
                // SAFETY: the caller's promise; every offset is inside the block.
                unsafe { $load }
            }

            #[inline]
            #[target_feature(enable = "avx512f,avx512bw")]
            unsafe fn group($block: *const u8, $found: &$head, $at: usize) -> Group {
                // SAFETY: the caller's promise; every offset is inside the block.
                unsafe { $group }
            }
        }
    };
}

block!(Q4_K, 144, false, true, None, SixBits, |block| SixBits::load(block, 0), |block, head, group| {
    head.group(half_bytes(block, 256, group), group)
});

block!(Q5_K, 176, false, true, None, SixBits, |block| SixBits::load(block, 0), |block, head, group| {
    let mut codes = half_bytes(block, 768, group);
    for (at, codes) in codes.iter_mut().enumerate() {
        let fifth = bits(load(block, 256 + 64 * at), group as i32 - 4, 16);
        *codes = _mm512_or_si512(*codes, fifth);
    }
    head.group(codes, group)
});

block!(Q6_K, 210, true, false, Some(5), __m512, |block| halves(block, 3328), |block, scale, group| {
    let (half, quarter) = (group / 4, group % 4);
    let mut codes = [_mm512_setzero_si512(); 8];
    for (at, codes) in codes.iter_mut().enumerate() {
        let low = load(block, 256 + 1536 * half + 512 * (quarter % 2) + 64 * at);
        let high = load(block, 1280 + 1536 * half + 64 * at);
        let low = bits(low, (quarter / 2 * 4) as i32, 15);
        *codes = _mm512_or_si512(low, bits(high, 2 * quarter as i32 - 4, 0x30));
    }
    // Signed bytes: moved to the top of the word and back.
    let scales = load(block, 64 * (group / 2));
    let signed = |at: usize| {
        let top = _mm512_sllv_epi32(scales, _mm512_set1_epi32(24 - 8 * at as i32));
        _mm512_mul_ps(*scale, _mm512_cvtepi32_ps(_mm512_srai_epi32::<24>(top)))
    };
    let first = group % 2 * 2;
    Group { codes, scales: [signed(first), signed(first + 1)], minima: [_mm512_setzero_ps(); 2] }
});

/// Two bits of each byte, as Q2_K and Q3_K have them: groups 0 to 3 share 32 bytes, and 4 to 7.
///
/// # Safety
/// 1024 bytes can be read, and the processor has the features.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
unsafe fn two_bits(block: *const u8, group: usize) -> [__m512i; 8] {
    let mut codes = [_mm512_setzero_si512(); 8];
    for (at, codes) in codes.iter_mut().enumerate() {
        // SAFETY: the caller's promise.
        *codes = bits(unsafe { load(block, group / 4 * 512 + 64 * at) }, 2 * (group % 4) as i32, 3);
    }
    codes
}

block!(
    Q2_K,
    84,
    true,
    true,
    None,
    [__m512; 2],
    |block| [halves(block, 1280), halves(block, 1312)],
    |block, head, group| {
        let pairs = load(block, 1024 + 64 * (group / 2));
        let (scales, minima) = (bits(pairs, 0, 15), bits(pairs, 4, 15));
        let first = group % 2 * 2;
        Group {
            codes: two_bits(block, group),
            scales: [scaled(head[0], scales, first), scaled(head[0], scales, first + 1)],
            minima: [scaled(head[1], minima, first), scaled(head[1], minima, first + 1)],
        }
    }
);

/// The sixteen six-bit scales of Q3_K, four in a vector.
///
/// # Safety
/// 192 bytes can be read at `at`, and the processor has the features.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
unsafe fn q3_scales(block: *const u8, at: usize) -> [__m512i; 4] {
    // SAFETY: the caller's promise.
    let (a, b, top) = unsafe { (load(block, at), load(block, at + 64), load(block, at + 128)) };
    let join =
        |low: __m512i, by: i32, quarter: i32| _mm512_or_si512(bits(low, by, 15), bits(top, 2 * quarter - 4, 0x30));
    [join(a, 0, 0), join(b, 0, 1), join(a, 4, 2), join(b, 4, 3)]
}

block!(
    Q3_K,
    110,
    true,
    false,
    Some(2),
    (__m512, [__m512i; 4]),
    |block| (halves(block, 1728), q3_scales(block, 1536)),
    |block, head, group| {
        let mut codes = two_bits(block, group);
        for (at, codes) in codes.iter_mut().enumerate() {
            *codes = _mm512_or_si512(*codes, bits(load(block, 1024 + 64 * at), group as i32 - 2, 4));
        }
        let scale = |at: usize| {
            let code = _mm512_cvtepi32_ps(byte(head.1[group / 2], group % 2 * 2 + at));
            _mm512_mul_ps(head.0, _mm512_sub_ps(code, _mm512_set1_ps(32.0)))
        };
        Group { codes, scales: [scale(0), scale(1)], minima: [_mm512_setzero_ps(); 2] }
    }
);

block!(
    IQ4_XS,
    136,
    false,
    false,
    Some(7),
    (__m512, __m512i, __m512i),
    |block| {
        let high = _mm256_loadu_si256(block.add(2112).cast());
        (halves(block, 2144), load(block, 2048), _mm512_cvtepu16_epi32(high))
    },
    |block, head, group| {
        let (scale, low, high) = *head;
        let low = _mm512_srlv_epi32(low, _mm512_set1_epi32(4 * group as i32));
        let high = _mm512_srlv_epi32(high, _mm512_set1_epi32(2 * group as i32));
        let code = _mm512_or_si512(
            _mm512_and_si512(low, _mm512_set1_epi32(15)),
            _mm512_slli_epi32::<4>(_mm512_and_si512(high, _mm512_set1_epi32(3))),
        );
        let step = _mm512_mul_ps(scale, _mm512_sub_ps(_mm512_cvtepi32_ps(code), _mm512_set1_ps(32.0)));
        plain(nonlinear(nibbles(block, 256 * group), NONLINEAR), step)
    }
);
