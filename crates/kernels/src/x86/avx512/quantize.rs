//! Activations to 8-bit codes in AVX-512.

use std::arch::x86_64::*;

use super::vector;
use crate::linear::CodeLayout;

/// The 8-bit section of a record; the plain version is its oracle, bit for bit.
pub(super) fn quantize(x: &[f32], section: &mut [u32]) {
    assert!(x.len().is_multiple_of(32), "8-bit activations come in blocks of 32");
    let layout = CodeLayout::new(x.len());
    assert_eq!(section.len(), layout.words, "words of an 8-bit section");
    for (at, x) in x.chunks_exact(32).enumerate() {
        // SAFETY: this table is given out only where the processor has the features.
        unsafe { quantize_block(x, at, &layout, section) };
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
fn quantize_block(x: &[f32], at: usize, layout: &CodeLayout, section: &mut [u32]) {
    let (low, high) = (vector::load(&x[..16]), vector::load(&x[16..]));
    let largest = _mm512_reduce_max_ps(_mm512_max_ps(_mm512_abs_ps(low), _mm512_abs_ps(high)));
    let inverse = _mm512_set1_ps(if largest > 0.0 { 127.0 / largest } else { 0.0 });
    let code = |x: __m512| _mm512_cvtps_epi32(_mm512_mul_ps(x, inverse));
    let (low, high) = (code(low), code(high));
    for (half, codes) in [low, high].into_iter().enumerate() {
        let words: &mut [u32] = &mut section[8 * at + 4 * half..][..4];
        // SAFETY: four words are the 16 bytes that are stored.
        unsafe { _mm_storeu_si128(words.as_mut_ptr().cast(), _mm512_cvtsepi32_epi8(codes)) };
    }
    layout.store_sums(at, largest / 127.0, [_mm512_reduce_add_epi32(low), _mm512_reduce_add_epi32(high)], section);
}
