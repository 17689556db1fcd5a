//! Vectors of eight rows: codes times activations by `maddubs` in 16 bits, or with AVX-VNNI in 32.
//!
//! Invariant: no sum of 16 bits overflows, whatever the codes: as many products are added there as the format's largest
//! code allows.

use std::arch::x86_64::*;

use crate::linear::{Rows, Tile, TileKernels};
use crate::packed::{Codes, Lanes, compiled, operations};
use crate::x86::fetch_stream;

/// Proof that the processor has AVX2 with FMA and F16C, and AVX-VNNI too where `VNNI`.
#[derive(Clone, Copy)]
pub(super) struct Avx2<const VNNI: bool>(());

impl Avx2<false> {
    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    fn new() -> Self {
        Avx2(())
    }
}

impl Avx2<true> {
    #[inline]
    #[target_feature(enable = "avx2,fma,f16c,avxvnni")]
    fn new() -> Self {
        Avx2(())
    }
}

compiled!(Avx2<false>, "avx2,fma,f16c");
compiled!(Avx2<true>, "avx2,fma,f16c,avxvnni");

impl<const VNNI: bool> Lanes for Avx2<VNNI> {
    const ROWS: usize = 8;
    const SIGNED: bool = !VNNI;
    type Words = __m256i;
    type Floats = __m256;
    /// The unsigned factor, and the codes with their signs where they have signs.
    type Ready = [__m256i; 2];
    type Parts<T: Copy> = [T; 2];

    fn parts<T: Copy>(value: T) -> [T; 2] {
        [value; 2]
    }

    #[inline(always)]
    unsafe fn load(self, at: *const u8) -> __m256i {
        // SAFETY: the caller's promise of 32 bytes; a value of this type is proof of the features.
        unsafe { _mm256_loadu_si256(at.cast()) }
    }

    #[inline(always)]
    unsafe fn load_halves(self, at: *const u8) -> __m256 {
        // SAFETY: the caller's promise of 16 bytes; a value of this type is proof of the features.
        unsafe { _mm256_cvtph_ps(_mm_loadu_si128(at.cast())) }
    }

    #[inline(always)]
    unsafe fn load_shorts(self, at: *const u8) -> __m256i {
        // SAFETY: the caller's promise of 16 bytes; a value of this type is proof of the features.
        unsafe { _mm256_cvtepu16_epi32(_mm_loadu_si128(at.cast())) }
    }

    #[inline(always)]
    unsafe fn load_bytes(self, at: *const u8) -> __m256i {
        // SAFETY: the caller's promise of 8 bytes; a value of this type is proof of the features.
        unsafe { _mm256_cvtepu8_epi32(_mm_loadl_epi64(at.cast())) }
    }

    operations! {
        "avx2,fma,f16c";

        fn prefetch(near: *const u8, far: *const u8) { fetch_stream(near, far) }
        fn word(value: u32) -> __m256i { _mm256_set1_epi32(value.cast_signed()) }
        fn and(a: __m256i, b: __m256i) -> __m256i { _mm256_and_si256(a, b) }
        fn or(a: __m256i, b: __m256i) -> __m256i { _mm256_or_si256(a, b) }
        fn shift(a: __m256i, by: i32) -> __m256i {
            if by >= 0 {
                _mm256_srlv_epi32(a, _mm256_set1_epi32(by))
            } else {
                _mm256_sllv_epi32(a, _mm256_set1_epi32(-by))
            }
        }
        fn top(a: __m256i) -> __m256i { _mm256_srai_epi32::<24>(a) }
        fn lookup(table: [u8; 16], a: __m256i) -> __m256i {
            // SAFETY: the table is 16 bytes.
            let table = unsafe { _mm_loadu_si128(table.as_ptr().cast()) };
            _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(table), a)
        }
        fn fifth_bits(a: __m256i, at: usize) -> __m256i {
            // The byte that holds the four bits, in all four bytes of its word; then one bit in each.
            let source = |word: i32| 0x0101_0101 * (4 * word + at as i32 / 2);
            let index = _mm256_setr_epi32(source(0), source(1), source(2), source(3), source(0), source(1), source(2), source(3));
            let bit = _mm256_set1_epi32(if at.is_multiple_of(2) { 0x0804_0201 } else { 0x8040_2010_u32.cast_signed() });
            let is_set = _mm256_cmpeq_epi8(_mm256_and_si256(_mm256_shuffle_epi8(a, index), bit), bit);
            _mm256_and_si256(is_set, _mm256_set1_epi8(16))
        }
        fn half_powers(exponents: __m256i) -> __m256 {
            let normal = _mm256_slli_epi32::<23>(_mm256_sub_epi32(exponents, _mm256_set1_epi32(1)));
            let small = _mm256_sllv_epi32(_mm256_set1_epi32(1 << 21), exponents);
            let is_small = _mm256_cmpgt_epi32(_mm256_set1_epi32(2), exponents);
            _mm256_castsi256_ps(_mm256_blendv_epi8(normal, small, is_small))
        }
        fn as_floats(a: __m256i) -> __m256 { _mm256_castsi256_ps(a) }
        fn float(a: __m256i) -> __m256 { _mm256_cvtepi32_ps(a) }
        fn splat(value: f32) -> __m256 { _mm256_set1_ps(value) }
        fn subtract(a: __m256, b: __m256) -> __m256 { _mm256_sub_ps(a, b) }
        fn multiply(a: __m256, b: __m256) -> __m256 { _mm256_mul_ps(a, b) }
        fn multiply_add(a: __m256, b: __m256, c: __m256) -> __m256 { _mm256_fmadd_ps(a, b, c) }
        fn multiply_take(a: __m256, b: __m256, c: __m256) -> __m256 { _mm256_fnmadd_ps(a, b, c) }
        fn store(out: &mut [f32], a: __m256) { super::vector::store(out, a) }
    }

    #[inline(always)]
    fn ready<C: Codes>(self, codes: __m256i) -> [__m256i; 2] {
        if !VNNI && C::ZERO == Some(7) {
            // SAFETY: a value of this type is proof of the features.
            unsafe {
                let signed = _mm256_xor_si256(codes, _mm256_set1_epi8(-128));
                [_mm256_abs_epi8(signed), signed]
            }
        } else {
            [codes; 2]
        }
    }

    #[inline(always)]
    unsafe fn dot<C: Codes, const N: usize>(self, start: u32, codes: &[[__m256i; 2]], x: *const u32) -> __m256i {
        // The sum of two products with activations of -127 to 127 fits so often into 16 bits.
        let run = (i16::MAX as usize / (2 * 127 * C::LARGEST)).max(1);
        let mut sum = self.word(start);
        // SAFETY: the caller's promise of `N` words; a value of this type is proof of the features.
        unsafe {
            let mut pairs = _mm256_setzero_si256();
            for (at, [codes, signed]) in codes[..N].iter().enumerate() {
                let x = _mm256_set1_epi32((*x.add(at)).cast_signed());
                if VNNI {
                    sum = _mm256_dpbusd_avx_epi32(sum, *codes, x);
                    continue;
                }
                let x = if C::ZERO == Some(7) { _mm256_sign_epi8(x, *signed) } else { x };
                let product = _mm256_maddubs_epi16(*codes, x);
                pairs = if at.is_multiple_of(run) { product } else { _mm256_add_epi16(pairs, product) };
                if (at + 1).is_multiple_of(run) || at + 1 == N {
                    sum = _mm256_add_epi32(sum, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
                }
            }
        }
        sum
    }
}
