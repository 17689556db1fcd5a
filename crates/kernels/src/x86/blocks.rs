//! Blocks of keys and values to f32, for all tables of this processor; the oracle is the format's own loop.
//!
//! Invariant: a value is its code times its block's scale, one product, so the bits are the oracle's.

use std::arch::x86_64::*;

use crate::Format;

pub(super) fn decode(format: Format, blocks: &[u8], out: &mut [f32]) {
    let (halves, rest) = out.as_chunks_mut::<32>();
    match format {
        // SAFETY: this table is given out only where the processor has the features.
        Format::Q8_0 => blocks.as_chunks().0.iter().zip(halves).for_each(|(block, out)| unsafe { q8_0(block, out) }),
        // SAFETY: as above.
        Format::Q4_0 => blocks.as_chunks().0.iter().zip(halves).for_each(|(block, out)| unsafe { q4_0(block, out) }),
        Format::BF16 => {
            let (whole, tail) = blocks.as_chunks::<64>();
            // SAFETY: as above.
            whole.iter().zip(halves).for_each(|(block, out)| unsafe { bf16(block, out) });
            format.dequantize(tail, rest);
        }
        other => other.dequantize(blocks, out),
    }
}

#[target_feature(enable = "avx2,f16c")]
fn q8_0(block: &[u8; 34], out: &mut [f32; 32]) {
    let scale = scale(block[0], block[1]);
    let codes: &[[u8; 8]] = block[2..].as_chunks().0;
    for (codes, out) in codes.iter().zip(out.as_chunks_mut().0) {
        store(_mm256_cvtepi8_epi32(_mm_cvtsi64_si128(i64::from_le_bytes(*codes))), scale, out);
    }
}

#[target_feature(enable = "avx2,f16c")]
fn q4_0(block: &[u8; 18], out: &mut [f32; 32]) {
    let scale = scale(block[0], block[1]);
    let (low, high) = out.split_at_mut(16);
    let codes: &[[u8; 8]] = block[2..].as_chunks().0;
    let outs = low.as_chunks_mut().0.iter_mut().zip(high.as_chunks_mut().0);
    for (codes, (low, high)) in codes.iter().zip(outs) {
        let codes = _mm256_cvtepu8_epi32(_mm_cvtsi64_si128(i64::from_le_bytes(*codes)));
        let middle = _mm256_set1_epi32(8);
        store(_mm256_sub_epi32(_mm256_and_si256(codes, _mm256_set1_epi32(15)), middle), scale, low);
        store(_mm256_sub_epi32(_mm256_srli_epi32::<4>(codes), middle), scale, high);
    }
}

#[target_feature(enable = "avx2,f16c")]
fn bf16(block: &[u8; 64], out: &mut [f32; 32]) {
    for (stored, out) in block.as_chunks::<16>().0.iter().zip(out.as_chunks_mut::<8>().0) {
        // SAFETY: eight stored numbers are the 16 bytes that are read.
        let stored = unsafe { _mm_loadu_si128(stored.as_ptr().cast()) };
        let values = _mm256_slli_epi32::<16>(_mm256_cvtepu16_epi32(stored));
        // SAFETY: eight values are the 32 bytes that are written.
        unsafe { _mm256_storeu_si256(out.as_mut_ptr().cast(), values) };
    }
}

#[inline]
#[target_feature(enable = "avx2,f16c")]
fn scale(low: u8, high: u8) -> __m256 {
    _mm256_cvtph_ps(_mm_set1_epi16(i16::from_le_bytes([low, high])))
}

#[inline]
#[target_feature(enable = "avx2,f16c")]
fn store(codes: __m256i, scale: __m256, out: &mut [f32; 8]) {
    let values = _mm256_mul_ps(_mm256_cvtepi32_ps(codes), scale);
    // SAFETY: eight values are the 32 bytes that are written.
    unsafe { _mm256_storeu_ps(out.as_mut_ptr(), values) };
}
