//! Vectors of sixteen rows, multiplied with VNNI.

use std::arch::x86_64::*;

use crate::linear::{Rows, Tile, TileKernels};
use crate::packed::{Codes, Lanes, Records, compiled, operations};
use crate::x86::fetch_stream;

/// Proof that the processor has AVX-512 with VNNI.
#[derive(Clone, Copy)]
pub(super) struct Avx512(());

impl Avx512 {
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
    fn new() -> Avx512 {
        Avx512(())
    }
}

compiled!(Avx512, "avx512f,avx512bw,avx512vl,avx512vnni", two);

impl Lanes for Avx512 {
    const ROWS: usize = 16;
    const SIGNED: bool = false;
    const MANY: bool = true;
    type Words = __m512i;
    type Floats = __m512;
    type Ready = __m512i;
    type Parts<T: Copy> = [T; 1];

    fn parts<T: Copy>(value: T) -> [T; 1] {
        [value; 1]
    }

    #[inline(always)]
    unsafe fn load(self, at: *const u8) -> __m512i {
        // SAFETY: the caller's promise of 64 bytes; a value of this type is proof of the features.
        unsafe { _mm512_loadu_si512(at.cast()) }
    }

    #[inline(always)]
    unsafe fn load_halves(self, at: *const u8) -> __m512 {
        // SAFETY: the caller's promise of 32 bytes; a value of this type is proof of the features.
        unsafe { _mm512_cvtph_ps(_mm256_loadu_si256(at.cast())) }
    }

    #[inline(always)]
    unsafe fn load_shorts(self, at: *const u8) -> __m512i {
        // SAFETY: the caller's promise of 32 bytes; a value of this type is proof of the features.
        unsafe { _mm512_cvtepu16_epi32(_mm256_loadu_si256(at.cast())) }
    }

    #[inline(always)]
    unsafe fn load_bytes(self, at: *const u8) -> __m512i {
        // SAFETY: the caller's promise of 16 bytes; a value of this type is proof of the features.
        unsafe { _mm512_cvtepu8_epi32(_mm_loadu_si128(at.cast())) }
    }

    operations! {
        "avx512f,avx512bw,avx512vl,avx512vnni";

        fn prefetch(near: *const u8, far: *const u8) { fetch_stream(near, far) }
        fn word(value: u32) -> __m512i { _mm512_set1_epi32(value.cast_signed()) }
        fn and(a: __m512i, b: __m512i) -> __m512i { _mm512_and_si512(a, b) }
        fn or(a: __m512i, b: __m512i) -> __m512i { _mm512_or_si512(a, b) }
        fn shift(a: __m512i, by: i32) -> __m512i { _mm512_rorv_epi32(a, _mm512_set1_epi32(by)) }
        fn top(a: __m512i) -> __m512i { _mm512_srai_epi32::<24>(a) }
        fn lookup(table: [u8; 16], a: __m512i) -> __m512i {
            // SAFETY: the table is 16 bytes.
            let table = unsafe { _mm_loadu_si128(table.as_ptr().cast()) };
            _mm512_shuffle_epi8(_mm512_broadcast_i32x4(table), a)
        }
        fn fifth_bits(a: __m512i, at: usize) -> __m512i {
            // Entry `n` has the bits of `n` as the fifth bits of four bytes.
            let spread = |n: i32| (n & 1) << 4 | (n & 2) << 11 | (n & 4) << 18 | (n & 8) << 25;
            let table: [i32; 16] = std::array::from_fn(|n| spread(n as i32));
            // SAFETY: the table is 64 bytes.
            let table = unsafe { _mm512_loadu_si512(table.as_ptr().cast()) };
            // The permutation looks at the lowest four bits of each index only.
            _mm512_permutexvar_epi32(_mm512_srlv_epi32(a, _mm512_set1_epi32(4 * at as i32)), table)
        }
        fn half_powers(exponents: __m512i) -> __m512 {
            let normal = _mm512_slli_epi32::<23>(_mm512_sub_epi32(exponents, _mm512_set1_epi32(1)));
            let small = _mm512_sllv_epi32(_mm512_set1_epi32(1 << 21), exponents);
            let is_small = _mm512_cmplt_epi32_mask(exponents, _mm512_set1_epi32(2));
            _mm512_castsi512_ps(_mm512_mask_blend_epi32(is_small, normal, small))
        }
        fn as_floats(a: __m512i) -> __m512 { _mm512_castsi512_ps(a) }
        fn float(a: __m512i) -> __m512 { _mm512_cvtepi32_ps(a) }
        fn splat(value: f32) -> __m512 { _mm512_set1_ps(value) }
        fn subtract(a: __m512, b: __m512) -> __m512 { _mm512_sub_ps(a, b) }
        fn multiply(a: __m512, b: __m512) -> __m512 { _mm512_mul_ps(a, b) }
        fn multiply_add(a: __m512, b: __m512, c: __m512) -> __m512 { _mm512_fmadd_ps(a, b, c) }
        fn multiply_take(a: __m512, b: __m512, c: __m512) -> __m512 { _mm512_fnmadd_ps(a, b, c) }
        fn store(out: &mut [f32], a: __m512) { super::vector::store(out, a) }
    }

    #[inline(always)]
    fn ready<C: Codes>(self, codes: __m512i) -> __m512i {
        codes
    }

    /// Two chains: one would wait for each sum.
    #[inline(always)]
    unsafe fn dot<C: Codes, const N: usize>(self, start: u32, codes: &[__m512i], x: *const u32) -> __m512i {
        let mut sums = [self.word(start), self.word(0)];
        for (at, codes) in codes[..N].iter().enumerate() {
            let sum = &mut sums[at % 2];
            // SAFETY: the caller's promise of `N` words; a value of this type is proof of the features.
            *sum = unsafe { _mm512_dpbusd_epi32(*sum, *codes, _mm512_set1_epi32((*x.add(at)).cast_signed())) };
        }
        // SAFETY: a value of this type is proof of the features.
        unsafe { _mm512_add_epi32(sums[0], sums[1]) }
    }

    /// Side by side: each sum would wait for its last product, and the processor does not look far enough ahead to find
    /// another token's.
    #[inline(always)]
    unsafe fn dots<C: Codes, const N: usize, const T: usize, const P: usize>(
        self,
        starts: [u32; T],
        codes: [&[__m512i; 8]; 2],
        first: usize,
        (records, at): (Records, usize),
    ) -> [[__m512i; P]; T] {
        let mut sums = [[self.word(0); P]; T];
        // SAFETY: the caller's promise of `N` words; a value of this type is proof of the features.
        unsafe {
            if T == 1 && P == 1 {
                sums[0][0] = self.dot::<C, N>(starts[0], &codes[0][first..], records.words(0, at));
                return sums;
            }
            for (sums, start) in sums.iter_mut().zip(starts) {
                *sums = [self.word(start); P];
            }
            for number in 0..N {
                for (token, sums) in sums.iter_mut().enumerate() {
                    let word = self.word(records.word(token, at + number));
                    for (sum, codes) in sums.iter_mut().zip(codes) {
                        *sum = _mm512_dpbusd_epi32(*sum, codes[first + number], word);
                    }
                }
            }
        }
        sums
    }
}
