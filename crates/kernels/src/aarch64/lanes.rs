//! Vectors of four rows: codes times activations by dot products of four, or by products in 16 bits that are added in
//! pairs and then into 32 bits.
//!
//! Invariant: no sum of 16 bits overflows: two products of at most 128 times 127 fit.

use std::arch::aarch64::*;
use std::arch::asm;

use crate::linear::{Rows, Tile, TileKernels};
use crate::packed::{Codes, Lanes, compiled, operations};

/// Proof that the processor has NEON, and its dot products too where `DOT`.
#[derive(Clone, Copy)]
pub(super) struct Neon<const DOT: bool>(());

impl Neon<false> {
    #[inline]
    #[target_feature(enable = "neon")]
    fn new() -> Self {
        Neon(())
    }
}

impl Neon<true> {
    #[inline]
    #[target_feature(enable = "neon,dotprod")]
    fn new() -> Self {
        Neon(())
    }
}

compiled!(Neon<false>, "neon");
compiled!(Neon<true>, "neon,dotprod");

/// `sum` and the products of four signed codes of each row with word `LANE` of `x`.
#[inline]
#[target_feature(enable = "neon,dotprod")]
fn dot_by_lane<const LANE: usize>(mut sum: int32x4_t, codes: int8x16_t, x: uint32x4_t) -> int32x4_t {
    // SAFETY: the instruction reads and writes these registers only. It has no stable intrinsic yet.
    unsafe {
        asm!(
            "sdot {sum:v}.4s, {codes:v}.16b, {x:v}.4b[{lane}]",
            sum = inlateout(vreg) sum,
            codes = in(vreg) codes,
            x = in(vreg) x,
            lane = const LANE,
            options(pure, nomem, nostack, preserves_flags),
        );
    }
    sum
}

/// `sum` and the products of four signed codes of each row with the word that is everywhere in `x`.
#[inline]
#[target_feature(enable = "neon")]
fn dot_by_pairs(sum: int32x4_t, codes: int8x16_t, x: uint32x4_t) -> int32x4_t {
    let x = vreinterpretq_s8_u32(x);
    let low = vmull_s8(vget_low_s8(codes), vget_low_s8(x));
    vpadalq_s16(sum, vpaddq_s16(low, vmull_high_s8(codes, x)))
}

impl<const DOT: bool> Lanes for Neon<DOT> {
    const ROWS: usize = 4;
    const SIGNED: bool = true;
    type Words = uint32x4_t;
    type Floats = float32x4_t;
    /// Signed codes; those whose zero is not 128 are below it anyway.
    type Ready = int8x16_t;
    type Parts<T: Copy> = [T; 4];

    fn parts<T: Copy>(value: T) -> [T; 4] {
        [value; 4]
    }

    #[inline(always)]
    unsafe fn load(self, at: *const u8) -> uint32x4_t {
        // SAFETY: the caller's promise of 16 bytes; a value of this type is proof of the features.
        unsafe { vreinterpretq_u32_u8(vld1q_u8(at)) }
    }

    #[inline(always)]
    unsafe fn load_halves(self, at: *const u8) -> float32x4_t {
        // SAFETY: the caller's promise of 8 bytes; a value of this type is proof of the features.
        unsafe { vcvt_f32_f16(vreinterpret_f16_u8(vld1_u8(at))) }
    }

    #[inline(always)]
    unsafe fn load_shorts(self, at: *const u8) -> uint32x4_t {
        // SAFETY: the caller's promise of 8 bytes; a value of this type is proof of the features.
        unsafe { vmovl_u16(vreinterpret_u16_u8(vld1_u8(at))) }
    }

    #[inline(always)]
    unsafe fn load_bytes(self, at: *const u8) -> uint32x4_t {
        // SAFETY: the caller's promise of 4 bytes; a value of this type is proof of the features.
        unsafe {
            let bytes = vreinterpret_u8_u32(vdup_n_u32(at.cast::<u32>().read_unaligned()));
            vmovl_u16(vget_low_u16(vmovl_u8(bytes)))
        }
    }

    /// The processor finds the stream itself; nothing was measured here.
    #[inline(always)]
    fn prefetch(self, _near: *const u8, _far: *const u8) {}

    operations! {
        "neon";

        fn word(value: u32) -> uint32x4_t { vdupq_n_u32(value) }
        fn and(a: uint32x4_t, b: uint32x4_t) -> uint32x4_t { vandq_u32(a, b) }
        fn or(a: uint32x4_t, b: uint32x4_t) -> uint32x4_t { vorrq_u32(a, b) }
        fn shift(a: uint32x4_t, by: i32) -> uint32x4_t { vshlq_u32(a, vdupq_n_s32(-by)) }
        fn top(a: uint32x4_t) -> uint32x4_t { vreinterpretq_u32_s32(vshrq_n_s32::<24>(vreinterpretq_s32_u32(a))) }
        fn lookup(table: [u8; 16], a: uint32x4_t) -> uint32x4_t {
            // SAFETY: the table is 16 bytes.
            let table = unsafe { vld1q_u8(table.as_ptr()) };
            vreinterpretq_u32_u8(vqtbl1q_u8(table, vreinterpretq_u8_u32(a)))
        }
        fn fifth_bits(a: uint32x4_t, at: usize) -> uint32x4_t {
            // The byte that holds the four bits, in all four bytes of its word; then one bit in each.
            let words: [u32; 4] = std::array::from_fn(|word| 0x0101_0101 * (4 * word + at / 2) as u32);
            // SAFETY: four words are 16 bytes.
            let index = vreinterpretq_u8_u32(unsafe { vld1q_u32(words.as_ptr()) });
            let bit = vdupq_n_u32(if at.is_multiple_of(2) { 0x0804_0201 } else { 0x8040_2010 });
            let is_set = vtstq_u8(vqtbl1q_u8(vreinterpretq_u8_u32(a), index), vreinterpretq_u8_u32(bit));
            vreinterpretq_u32_u8(vandq_u8(is_set, vdupq_n_u8(16)))
        }
        fn half_powers(exponents: uint32x4_t) -> float32x4_t {
            let normal = vshlq_n_u32::<23>(vsubq_u32(exponents, vdupq_n_u32(1)));
            let small = vshlq_u32(vdupq_n_u32(1 << 21), vreinterpretq_s32_u32(exponents));
            vreinterpretq_f32_u32(vbslq_u32(vcltq_u32(exponents, vdupq_n_u32(2)), small, normal))
        }
        fn as_floats(a: uint32x4_t) -> float32x4_t { vreinterpretq_f32_u32(a) }
        fn float(a: uint32x4_t) -> float32x4_t { vcvtq_f32_s32(vreinterpretq_s32_u32(a)) }
        fn splat(value: f32) -> float32x4_t { vdupq_n_f32(value) }
        fn subtract(a: float32x4_t, b: float32x4_t) -> float32x4_t { vsubq_f32(a, b) }
        fn multiply(a: float32x4_t, b: float32x4_t) -> float32x4_t { vmulq_f32(a, b) }
        fn multiply_add(a: float32x4_t, b: float32x4_t, c: float32x4_t) -> float32x4_t { vfmaq_f32(c, a, b) }
        fn multiply_take(a: float32x4_t, b: float32x4_t, c: float32x4_t) -> float32x4_t { vfmsq_f32(c, a, b) }
        fn store(out: &mut [f32], a: float32x4_t) { super::vector::store(out, a); }
    }

    #[inline(always)]
    fn ready<C: Codes>(self, codes: uint32x4_t) -> int8x16_t {
        const { assert!(2 * 127 * C::LARGEST <= i16::MAX as usize, "two products fit into 16 bits") };
        let flip = if C::ZERO == Some(7) { 0x8080_8080 } else { 0 };
        // SAFETY: a value of this type is proof of the features.
        unsafe { vreinterpretq_s8_u32(veorq_u32(codes, vdupq_n_u32(flip))) }
    }

    #[inline(always)]
    unsafe fn dot<C: Codes, const N: usize>(self, start: u32, codes: &[int8x16_t], x: *const u32) -> uint32x4_t {
        // SAFETY: the caller's promise of `N` words, which are whole fours; a value of this type is proof of the features.
        unsafe {
            let mut sum = vdupq_n_s32(start.cast_signed());
            for (number, codes) in codes[..N].as_chunks::<4>().0.iter().enumerate() {
                let x = x.add(4 * number);
                if DOT {
                    let words = vld1q_u32(x);
                    sum = dot_by_lane::<0>(sum, codes[0], words);
                    sum = dot_by_lane::<1>(sum, codes[1], words);
                    sum = dot_by_lane::<2>(sum, codes[2], words);
                    sum = dot_by_lane::<3>(sum, codes[3], words);
                } else {
                    for (at, codes) in codes.iter().enumerate() {
                        sum = dot_by_pairs(sum, *codes, vdupq_n_u32(*x.add(at)));
                    }
                }
            }
            vreinterpretq_u32_s32(sum)
        }
    }
}
