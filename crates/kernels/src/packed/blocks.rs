//! How packed blocks of 32 columns come apart: codes of 4, 5 and 8 bits under one scale, with or without a minimum.
//!
//! Offsets are those of `linear/segments.rs`: codes first, then fifth bits, then binary16 scale and minimum.

use super::{Block, Codes, Group, Lanes};
use crate::formats::NONLINEAR;

pub(super) struct Q8_0;
pub(super) struct Q4_0;
pub(super) struct Q4_1;
pub(super) struct Q5_0;
pub(super) struct Q5_1;
#[allow(non_camel_case_types)]
pub(super) struct IQ4_NL;
pub(super) struct MXFP4;

/// Twice the four-bit floats of two exponent bits and one of mantissa.
const TWICE_E2M1: [i8; 16] = [0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12];

impl<L: Lanes> Block<L> {
    /// 32 four-bit codes: the low halves of four vectors, then their high halves.
    ///
    /// # Safety
    /// 256 bytes at `at` are inside the block.
    #[inline(always)]
    pub(super) unsafe fn nibbles(self, at: usize) -> [L::Words; 8] {
        let mut codes = [self.lanes.word(0); 8];
        for pair in 0..4 {
            // SAFETY: the caller's promise.
            let both = unsafe { self.load(at + 64 * pair) };
            codes[pair] = self.bits(both, 0, 15);
            codes[pair + 4] = self.bits(both, 4, 15);
        }
        codes
    }

    /// Five-bit codes: four-bit ones, and a word of fifth bits for each row.
    ///
    /// # Safety
    /// 320 bytes are inside the block.
    #[inline(always)]
    unsafe fn five_bits(self) -> [L::Words; 8] {
        // SAFETY: the caller's promise.
        let (high, mut codes) = unsafe { (self.load(256), self.nibbles(0)) };
        for (at, codes) in codes.iter_mut().enumerate() {
            *codes = self.lanes.or(*codes, self.lanes.fifth_bits(high, at));
        }
        codes
    }

    /// The values of nonlinear four-bit codes, moved up by 128 to be unsigned.
    #[inline(always)]
    pub(super) fn nonlinear(self, mut codes: [L::Words; 8], values: [i8; 16]) -> [L::Words; 8] {
        let table = values.map(|value| value.cast_unsigned() ^ 0x80);
        for codes in &mut codes {
            *codes = self.lanes.lookup(table, *codes);
        }
        codes
    }

    #[inline(always)]
    pub(super) fn plain(self, codes: [L::Words; 8], scale: L::Floats) -> Group<L> {
        Group { codes, scales: [scale; 2], minima: [self.lanes.splat(0.0); 2] }
    }

    /// The minimum of these formats is added, not taken away.
    #[inline(always)]
    fn with_minimum(self, codes: [L::Words; 8], scale: L::Floats, minimum: L::Floats) -> Group<L> {
        let minimum = self.lanes.subtract(self.lanes.splat(-0.0), minimum);
        Group { codes, scales: [scale; 2], minima: [minimum; 2] }
    }
}

/// Implements [`Codes`] for a block of 32 columns.
macro_rules! block {
    ($name:ty, $bytes:expr, $zero:expr, $largest:expr, $minima:expr, |$block:ident| $group:expr) => {
        impl Codes for $name {
            const COLS: usize = 32;
            const BYTES: usize = $bytes * 16;
            const HALVES: bool = false;
            const MINIMA: bool = $minima;
            const ZERO: Option<u32> = $zero;
            const LARGEST: usize = $largest;
            type Head<L: Lanes> = ();

            #[inline(always)]
            unsafe fn head<L: Lanes>(_block: Block<L>) {}

            #[inline(always)]
            unsafe fn group<L: Lanes>($block: Block<L>, _head: &(), _group: usize) -> Group<L> {
                // SAFETY: the caller's promise; every offset is inside the block.
                unsafe { $group }
            }
        }
    };
}

block!(Q8_0, 34, Some(7), 128, false, |block| {
    let mut codes = [block.lanes.word(0); 8];
    for (at, codes) in codes.iter_mut().enumerate() {
        *codes = block.load(64 * at);
    }
    block.plain(codes, block.halves(512))
});
block!(Q4_0, 18, Some(3), 15, false, |block| block.plain(block.nibbles(0), block.halves(256)));
block!(IQ4_NL, 18, Some(7), 127, false, |block| {
    block.plain(block.nonlinear(block.nibbles(0), NONLINEAR), block.halves(256))
});
block!(MXFP4, 17, Some(7), 12, false, |block| {
    block.plain(block.nonlinear(block.nibbles(0), TWICE_E2M1), block.lanes.half_powers(block.bytes(256)))
});
block!(Q5_0, 22, Some(4), 31, false, |block| block.plain(block.five_bits(), block.halves(320)));
block!(Q4_1, 20, None, 15, true, |block| block.with_minimum(block.nibbles(0), block.halves(256), block.halves(288)));
block!(Q5_1, 24, None, 31, true, |block| block.with_minimum(block.five_bits(), block.halves(320), block.halves(352)));
