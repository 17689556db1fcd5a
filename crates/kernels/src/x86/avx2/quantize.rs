//! Activations to 8-bit codes in AVX2.

use std::arch::x86_64::*;

use super::vector::{absolute, largest, load};
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

#[target_feature(enable = "avx2,fma")]
fn quantize_block(x: &[f32], at: usize, layout: &CodeLayout, section: &mut [u32]) {
    let x = [load(x), load(&x[8..]), load(&x[16..]), load(&x[24..])];
    let [a, b, c, d] = x.map(|x| absolute(x));
    let largest = largest(_mm256_max_ps(_mm256_max_ps(a, b), _mm256_max_ps(c, d)));
    let inverse = _mm256_set1_ps(if largest > 0.0 { 127.0 / largest } else { 0.0 });
    let [a, b, c, d] = x.map(|x| _mm256_cvtps_epi32(_mm256_mul_ps(x, inverse)));
    // Packing works on halves of vectors, so words of four codes come out as 0 2 4 6 1 3 5 7.
    let codes = _mm256_packs_epi16(_mm256_packs_epi32(a, b), _mm256_packs_epi32(c, d));
    let codes = _mm256_permutevar8x32_epi32(codes, _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7));
    let words: &mut [u32] = &mut section[8 * at..][..8];
    // SAFETY: eight words are the 32 bytes that are stored.
    unsafe { _mm256_storeu_si256(words.as_mut_ptr().cast(), codes) };
    layout.store_sums(at, largest / 127.0, [sum(_mm256_add_epi32(a, b)), sum(_mm256_add_epi32(c, d))], section);
}

/// The sum of the lanes.
#[target_feature(enable = "avx2")]
fn sum(x: __m256i) -> i32 {
    let x = _mm_add_epi32(_mm256_castsi256_si128(x), _mm256_extracti128_si256::<1>(x));
    let x = _mm_add_epi32(x, _mm_shuffle_epi32::<0b_01_00_11_10>(x));
    _mm_cvtsi128_si32(_mm_add_epi32(x, _mm_shuffle_epi32::<0b_10_11_00_01>(x)))
}
