//! Tiles of bf16 pairs without bf16 products: halves are widened to f32. One row of two panels is in registers at once.

use std::arch::x86_64::*;

use crate::gemm::{Out, PANEL, PANELS, Side};
use crate::scalar::pairs::put;
use crate::x86::fetch;

/// Lanes of a vector.
const LANES: usize = 8;

/// Rows of [`PANELS`] panels.
pub(super) fn wide(side: Side<'_>, panels: [&[u32]; PANELS], out: Out<'_, '_>) {
    some(side, &panels, out);
}

/// Rows of one panel.
pub(super) fn tall(side: Side<'_>, panel: &[u32], out: Out<'_, '_>) {
    some(side, &[panel], out);
}

fn some(side: Side<'_>, panels: &[&[u32]], out: Out<'_, '_>) {
    out.rows.iter().for_each(|values| fetch(values));
    for (number, panel) in panels.iter().enumerate() {
        for (three, rows) in out.rows.chunks_mut(3).enumerate() {
            // SAFETY: this table is given out only where the processor has the features; the body checks the lengths.
            let sums = unsafe { multiply(side, 3 * three, panel) };
            for (values, sums) in rows.iter_mut().zip(&sums) {
                // Columns may end before the panels do.
                let values = values.get_mut(number * PANEL..).unwrap_or_default();
                put(values, sums, out.adds);
            }
        }
    }
}

/// Three rows of one panel.
///
/// # Safety
/// The processor has the features.
#[target_feature(enable = "avx2,fma")]
unsafe fn multiply(side: Side<'_>, first: usize, panel: &[u32]) -> [[f32; PANEL]; 3] {
    let steps = panel.len() / PANEL;
    let mut out = [[0.0; PANEL]; 3];
    if steps == 0 {
        return out;
    }
    assert!((first + 2) * side.row + (steps - 1) * side.step < side.words.len(), "words of {steps} steps");
    let upper = _mm256_set1_epi32(0xffff_0000_u32.cast_signed());
    let mut sums = [[_mm256_setzero_ps(); 2]; 3];
    // SAFETY: steps below `steps` are inside the panel, and row and step inside the words, as asserted.
    unsafe {
        for step in 0..steps {
            let halves: [__m256i; 2] =
                std::array::from_fn(|half| _mm256_loadu_si256(panel.as_ptr().add(step * PANEL + half * LANES).cast()));
            for (row, sums) in sums.iter_mut().enumerate() {
                let word = *side.words.as_ptr().add((first + row) * side.row + step * side.step);
                let (low, high) = (f32::from_bits(word << 16), f32::from_bits(word & 0xffff_0000));
                for (sum, half) in sums.iter_mut().zip(halves) {
                    let even = _mm256_castsi256_ps(_mm256_slli_epi32::<16>(half));
                    let odd = _mm256_castsi256_ps(_mm256_and_si256(half, upper));
                    *sum = _mm256_fmadd_ps(even, _mm256_set1_ps(low), *sum);
                    *sum = _mm256_fmadd_ps(odd, _mm256_set1_ps(high), *sum);
                }
            }
        }
    }
    for (out, sums) in out.iter_mut().zip(sums) {
        for (out, sum) in out.chunks_exact_mut(LANES).zip(sums) {
            // SAFETY: a chunk has a vector's eight places.
            unsafe { _mm256_storeu_ps(out.as_mut_ptr(), sum) };
        }
    }
    out
}
