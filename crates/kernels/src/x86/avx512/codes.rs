//! Packed block formats times 8-bit activations with VNNI: unsigned codes of 16 rows against signed activations.
//!
//! A format says how its codes, scales and minima come out of a packed block ([`Codes`]); this file owns the loops.
//! Invariant: a (row, token) pair sums its blocks in order in its own accumulator, at every tile width.

use std::arch::x86_64::*;

use super::vector;
use crate::linear::{CodeLayout, PANEL, Rows, Section, TOKENS, Tile};

/// How far ahead of the codes at work memory is asked for.
const AHEAD: usize = 4096;

/// 32 columns of 16 rows, ready to be multiplied.
#[derive(Clone, Copy)]
pub(super) struct Group {
    /// Unsigned codes: four columns of each row in a vector.
    pub(super) codes: [__m512i; 8],
    /// The factor of the first and the last 16 columns' codes; equal where a format has one for all 32.
    pub(super) scales: [__m512; 2],
    /// What is taken away from each value, likewise.
    pub(super) minima: [__m512; 2],
}

/// A packed format. A value is `scale · (code - zero) - minimum`.
pub(super) trait Codes {
    /// Columns of a block.
    const COLS: usize;
    /// Bytes of a block of 16 rows.
    const BYTES: usize;
    /// Scales (and minima) belong to 16 columns, not to 32.
    const HALVES: bool;
    /// There are minima.
    const MINIMA: bool;
    /// The power of two that is the code of zero; none where code zero is zero.
    const ZERO: Option<u32>;
    /// What all groups of a block need.
    type Head: Copy;

    /// # Safety
    /// `block` points to [`Codes::BYTES`] readable bytes, and the processor has the features.
    unsafe fn head(block: *const u8) -> Self::Head;

    /// Columns `32 · group ..` of the block.
    ///
    /// # Safety
    /// As for [`Codes::head`].
    unsafe fn group(block: *const u8, head: &Self::Head, group: usize) -> Group;
}

/// A packed panel times the 8-bit section of each record.
pub(super) fn tile<C: Codes>(panel: &[u8], rows: &Rows<'_>, tokens: usize, tile: &mut Tile) {
    // SAFETY: this table is given out only where the processor has the features; `multiply` checks the lengths.
    unsafe {
        match tokens {
            1 => multiply::<C, 1>(panel, rows, tile),
            2 => multiply::<C, 2>(panel, rows, tile),
            3 => multiply::<C, 3>(panel, rows, tile),
            4 => multiply::<C, 4>(panel, rows, tile),
            5..=8 => multiply::<C, 8>(panel, rows, tile),
            _ => multiply::<C, 16>(panel, rows, tile),
        }
    }
}

/// # Safety
/// The processor has the features.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
unsafe fn multiply<C: Codes, const T: usize>(panel: &[u8], rows: &Rows<'_>, tile: &mut Tile) {
    let (words, stride, cols) = (rows.section(Section::Codes), rows.layout.stride, rows.layout.cols);
    let (layout, blocks) = (CodeLayout::new(cols), cols / C::COLS);
    assert!(cols.is_multiple_of(C::COLS) && panel.len() == blocks * C::BYTES, "a panel of {cols} columns");
    assert!((T - 1) * stride + layout.words <= words.len() && T <= TOKENS, "records of {T} tokens");
    let bytes = C::BYTES / (C::COLS / 32);
    let mut sums = [_mm512_setzero_ps(); T];
    // SAFETY: blocks below `blocks` are inside the panel, and a group's codes, scales and sums inside each of the `T`
    // records, as asserted.
    unsafe {
        for number in 0..blocks {
            let block = panel.as_ptr().add(number * C::BYTES);
            let head = C::head(block);
            for at in 0..C::COLS / 32 {
                if T <= 4 {
                    for line in (0..bytes).step_by(64) {
                        let ahead = block.wrapping_add(at * bytes + line + AHEAD);
                        _mm_prefetch::<_MM_HINT_T0>(ahead.cast());
                    }
                }
                let group = C::group(block, &head, at);
                for (t, sum) in sums.iter_mut().enumerate() {
                    let record = words.as_ptr().add(t * stride);
                    *sum = add_group::<C>(*sum, &group, record, &layout, number * (C::COLS / 32) + at);
                }
            }
        }
    }
    for (sum, out) in sums.into_iter().zip(tile) {
        vector::store(out, sum);
    }
}

/// # Safety
/// `record` holds the parts of `layout`, with more than `at` blocks, and the processor has the features.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
unsafe fn add_group<C: Codes>(
    sum: __m512,
    group: &Group,
    record: *const u32,
    layout: &CodeLayout,
    at: usize,
) -> __m512 {
    // SAFETY: the caller's promise.
    unsafe {
        let scale = _mm512_set1_ps(record.add(layout.scales + at).cast::<f32>().read());
        let mut sum = sum;
        if C::HALVES {
            let low = products(start::<C>(record.add(layout.halves + 2 * at)), &group.codes[..4], record.add(8 * at));
            let high =
                products(start::<C>(record.add(layout.halves + 2 * at + 1)), &group.codes[4..], record.add(8 * at + 4));
            let product = _mm512_mul_ps(_mm512_cvtepi32_ps(low), group.scales[0]);
            let product = _mm512_fmadd_ps(_mm512_cvtepi32_ps(high), group.scales[1], product);
            sum = _mm512_fmadd_ps(product, scale, sum);
        } else {
            let product = products(start::<C>(record.add(layout.sums + at)), &group.codes, record.add(8 * at));
            let product = _mm512_mul_ps(_mm512_cvtepi32_ps(product), group.scales[0]);
            sum = _mm512_fmadd_ps(product, scale, sum);
        }
        match (C::MINIMA, C::HALVES) {
            (true, true) => {
                let part = |at: usize| _mm512_set1_ps(record.add(layout.float_halves + at).cast::<f32>().read());
                sum = _mm512_fnmadd_ps(group.minima[0], part(2 * at), sum);
                _mm512_fnmadd_ps(group.minima[1], part(2 * at + 1), sum)
            }
            (true, false) => {
                let part = _mm512_set1_ps(record.add(layout.float_sums + at).cast::<f32>().read());
                _mm512_fnmadd_ps(group.minima[0], part, sum)
            }
            (false, _) => sum,
        }
    }
}

/// The accumulator's start: what the codes' zero point will add, taken away.
///
/// # Safety
/// `negated` points to the negated sum of the activations' codes, and the processor has the features.
#[inline]
#[target_feature(enable = "avx512f")]
unsafe fn start<C: Codes>(negated: *const u32) -> __m512i {
    match C::ZERO {
        // SAFETY: the caller's promise.
        Some(shift) => _mm512_set1_epi32((unsafe { *negated } << shift).cast_signed()),
        None => _mm512_setzero_si512(),
    }
}

/// # Safety
/// `words` points to one word of activations for each vector of codes, and the processor has the features.
#[inline]
#[target_feature(enable = "avx512f,avx512vnni")]
unsafe fn products(start: __m512i, codes: &[__m512i], words: *const u32) -> __m512i {
    let mut sum = start;
    for (at, codes) in codes.iter().enumerate() {
        // SAFETY: the caller's promise.
        let x = _mm512_set1_epi32(unsafe { *words.add(at) }.cast_signed());
        sum = _mm512_dpbusd_epi32(sum, *codes, x);
    }
    sum
}

/// A packed panel to `[cols][16]` f32: exactly the values that the format's own decoder gives.
pub(super) fn decode<C: Codes>(panel: &[u8], cols: usize, out: &mut [f32]) {
    assert!(cols.is_multiple_of(C::COLS) && panel.len() == cols / C::COLS * C::BYTES, "a panel of {cols} columns");
    assert_eq!(out.len(), cols * PANEL, "a decoded panel");
    for (block, out) in panel.chunks_exact(C::BYTES).zip(out.chunks_exact_mut(C::COLS * PANEL)) {
        // SAFETY: this table is given out only where the processor has the features; the block is whole.
        unsafe { decode_block::<C>(block, out) };
    }
}

/// # Safety
/// `block` has [`Codes::BYTES`] bytes, and the processor has the features.
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
unsafe fn decode_block<C: Codes>(block: &[u8], out: &mut [f32]) {
    let zero = _mm512_set1_ps(C::ZERO.map_or(0.0, |shift| (1_u32 << shift) as f32));
    // SAFETY: the caller's promise.
    let head = unsafe { C::head(block.as_ptr()) };
    for (at, out) in out.chunks_exact_mut(32 * PANEL).enumerate() {
        // SAFETY: the caller's promise.
        let group = unsafe { C::group(block.as_ptr(), &head, at) };
        for (col, out) in out.chunks_exact_mut(PANEL).enumerate() {
            let byte = _mm512_srlv_epi32(group.codes[col / 4], _mm512_set1_epi32((col % 4 * 8) as i32));
            let code = _mm512_cvtepi32_ps(_mm512_and_si512(byte, _mm512_set1_epi32(255)));
            let half = if C::HALVES { col / 16 } else { 0 };
            let mut value = _mm512_mul_ps(group.scales[half], _mm512_sub_ps(code, zero));
            if C::MINIMA {
                value = _mm512_sub_ps(value, group.minima[half]);
            }
            vector::store(out, value);
        }
    }
}

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
