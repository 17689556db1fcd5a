//! Activations to 8-bit codes in NEON.

use std::arch::aarch64::*;

use super::vector::load;
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

#[target_feature(enable = "neon")]
fn quantize_block(x: &[f32], at: usize, layout: &CodeLayout, section: &mut [u32]) {
    let mut largest = vdupq_n_f32(0.0);
    for x in x.chunks_exact(4) {
        largest = vmaxnmq_f32(largest, vabsq_f32(load(x)));
    }
    let largest = vmaxnmvq_f32(largest);
    let inverse = vdupq_n_f32(if largest > 0.0 { 127.0 / largest } else { 0.0 });
    let code = |x: &[f32]| vcvtnq_s32_f32(vmulq_f32(load(x), inverse));
    let mut sums = [0; 2];
    for (half, (sum, x)) in sums.iter_mut().zip(x.chunks_exact(16)).enumerate() {
        let (a, b, c, d) = (code(x), code(&x[4..]), code(&x[8..]), code(&x[12..]));
        let low = vqmovn_s16(vcombine_s16(vqmovn_s32(a), vqmovn_s32(b)));
        let high = vqmovn_s16(vcombine_s16(vqmovn_s32(c), vqmovn_s32(d)));
        let words: &mut [u32] = &mut section[8 * at + 4 * half..][..4];
        // SAFETY: four words are the 16 bytes that are stored.
        unsafe { vst1q_s8(words.as_mut_ptr().cast(), vcombine_s8(low, high)) };
        *sum = vaddvq_s32(vaddq_s32(vaddq_s32(a, b), vaddq_s32(c, d)));
    }
    layout.store_sums(at, largest / 127.0, sums, section);
}
