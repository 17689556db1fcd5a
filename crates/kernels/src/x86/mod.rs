//! Kernels for x86-64, one folder per instruction set.

mod avx2;
mod avx512;
mod blocks;

use std::arch::x86_64::{_MM_HINT_T0, _MM_HINT_T1, _mm_prefetch};

use crate::isa::{Kernels, Loops};

/// The tables that this processor can run, slowest first.
pub(crate) fn available() -> Vec<&'static Kernels> {
    avx2::available().into_iter().chain(avx512::available()).flatten().collect()
}

/// Runs plain loops with AVX2, where the processor has it.
pub(crate) fn widely(loops: impl Loops) {
    if is_x86_feature_detected!("avx2") {
        // SAFETY: the processor has AVX2, as was just asked.
        unsafe { with_avx2(loops) }
    } else {
        loops.run();
    }
}

#[target_feature(enable = "avx2")]
fn with_avx2(loops: impl Loops) {
    loops.run();
}

/// Bytes of a cache line.
const LINE: usize = 64;

/// Asks for the lines of some memory.
#[inline]
pub(crate) fn fetch<T>(memory: &[T]) {
    lines(memory).for_each(fetch_at);
}

/// Asks the cache behind the nearest one for the lines of some memory.
#[inline]
pub(crate) fn fetch_far<T>(memory: &[T]) {
    lines(memory).for_each(fetch_far_at);
}

fn lines<T>(memory: &[T]) -> impl Iterator<Item = *const u8> {
    let start = memory.as_ptr().cast::<u8>();
    (0..size_of_val(memory)).step_by(LINE).map(move |at| start.wrapping_add(at))
}

/// Asks for one line, wherever it is.
#[inline(always)]
pub(crate) fn fetch_at<T>(at: *const T) {
    // SAFETY: all processors of this kind have the instruction, and it reads nothing that a program could see.
    unsafe { _mm_prefetch::<_MM_HINT_T0>(at.cast()) };
}

/// Asks for one line that will be written, which no other processor's cache then holds.
#[inline(always)]
pub(crate) fn fetch_to_write<T>(at: *const T) {
    // SAFETY: as for `fetch_at`; processors without this hint pass over it. The intrinsic makes a read of it.
    unsafe { std::arch::asm!("prefetchw [{}]", in(reg) at, options(nostack, readonly, preserves_flags)) };
}

/// Asks the cache behind the nearest one for a line, wherever it is.
#[inline(always)]
pub(crate) fn fetch_far_at<T>(at: *const T) {
    // SAFETY: as for `fetch_at`.
    unsafe { _mm_prefetch::<_MM_HINT_T1>(at.cast()) };
}

/// Asks the nearest cache for the line at `near`, and the one behind it for that at `far`, wherever they are.
#[inline(always)]
pub(crate) fn fetch_stream(near: *const u8, far: *const u8) {
    fetch_at(near);
    fetch_far_at(far);
}
