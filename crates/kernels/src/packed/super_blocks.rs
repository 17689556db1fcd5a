//! How packed blocks of 256 columns come apart: groups of 32 or 16 columns whose scales are small integers under the
//! block's binary16 ones.
//!
//! Offsets are those of `linear/segments.rs`.

use super::{Block, Codes, Group, Lanes};
use crate::formats::NONLINEAR;

#[allow(non_camel_case_types)]
pub(super) struct Q2_K;
#[allow(non_camel_case_types)]
pub(super) struct Q3_K;
#[allow(non_camel_case_types)]
pub(super) struct Q4_K;
#[allow(non_camel_case_types)]
pub(super) struct Q5_K;
#[allow(non_camel_case_types)]
pub(super) struct Q6_K;
#[allow(non_camel_case_types)]
pub(super) struct IQ4_XS;

/// The scales and minima of Q4_K and Q5_K: a vector for groups 0 to 3 and one for 4 to 7, a group in each byte.
#[derive(Clone, Copy)]
pub(super) struct SixBits<L: Lanes> {
    scale: L::Floats,
    minimum: L::Floats,
    scales: [L::Words; 2],
    minima: [L::Words; 2],
}

impl<L: Lanes> Block<L> {
    /// # Safety
    /// 256 bytes are inside the block.
    #[inline(always)]
    unsafe fn six_bits(self) -> SixBits<L> {
        // SAFETY: the caller's promise.
        let (a, b, c) = unsafe { (self.load(0), self.load(64), self.load(128)) };
        let (low, top) = ([self.bits(c, 0, 15), self.bits(c, 4, 15)], [self.bits(a, 2, 0x30), self.bits(b, 2, 0x30)]);
        SixBits {
            // SAFETY: the caller's promise.
            scale: unsafe { self.halves(192) },
            // SAFETY: the caller's promise.
            minimum: unsafe { self.halves(224) },
            scales: [self.bits(a, 0, 63), self.lanes.or(low[0], top[0])],
            minima: [self.bits(b, 0, 63), self.lanes.or(low[1], top[1])],
        }
    }

    #[inline(always)]
    fn six_bit_group(self, head: &SixBits<L>, codes: [L::Words; 8], group: usize) -> Group<L> {
        let scale = self.scaled(head.scale, head.scales[group / 4], group % 4);
        let minimum = self.scaled(head.minimum, head.minima[group / 4], group % 4);
        Group { codes, scales: [scale; 2], minima: [minimum; 2] }
    }

    /// 32 codes of one half of each byte: those of group `group` where two groups share 32 bytes.
    ///
    /// # Safety
    /// 512 bytes at each pair of groups are inside the block.
    #[inline(always)]
    unsafe fn half_bytes(self, at: usize, group: usize) -> [L::Words; 8] {
        let start = at + group / 2 * 512;
        let mut codes = [self.lanes.word(0); 8];
        for (number, codes) in codes.iter_mut().enumerate() {
            // SAFETY: the caller's promise.
            *codes = self.bits(unsafe { self.load(start + 64 * number) }, (group % 2 * 4) as i32, 15);
        }
        codes
    }

    /// Two bits of each byte, as Q2_K and Q3_K have them: groups 0 to 3 share 32 bytes, and 4 to 7.
    ///
    /// # Safety
    /// 1024 bytes are inside the block.
    #[inline(always)]
    unsafe fn two_bits(self, group: usize) -> [L::Words; 8] {
        let mut codes = [self.lanes.word(0); 8];
        for (at, codes) in codes.iter_mut().enumerate() {
            // SAFETY: the caller's promise.
            *codes = self.bits(unsafe { self.load(group / 4 * 512 + 64 * at) }, 2 * (group % 4) as i32, 3);
        }
        codes
    }

    /// The sixteen six-bit scales of Q3_K, four in a vector.
    ///
    /// # Safety
    /// 192 bytes at `at` are inside the block.
    #[inline(always)]
    unsafe fn q3_scales(self, at: usize) -> [L::Words; 4] {
        // SAFETY: the caller's promise.
        let (a, b, top) = unsafe { (self.load(at), self.load(at + 64), self.load(at + 128)) };
        let mut scales = [a, b, a, b];
        for (quarter, scales) in scales.iter_mut().enumerate() {
            let low = self.bits(*scales, (quarter / 2 * 4) as i32, 15);
            *scales = self.lanes.or(low, self.bits(top, 2 * quarter as i32 - 4, 0x30));
        }
        scales
    }
}

/// Implements [`Codes`] for a block of 256 columns.
macro_rules! block {
    (
        $name:ty, $bytes:expr, $halves:expr, $minima:expr, $zero:expr, $largest:expr, |$L:ident| $head:ty,
        |$start:ident| $load:expr, |$block:ident, $found:ident, $at:ident| $group:expr
    ) => {
        impl Codes for $name {
            const COLS: usize = 256;
            const BYTES: usize = $bytes * 16;
            const HALVES: bool = $halves;
            const MINIMA: bool = $minima;
            const ZERO: Option<u32> = $zero;
            const LARGEST: usize = $largest;
            type Head<$L: Lanes> = $head;

            #[inline(always)]
            unsafe fn head<$L: Lanes>($start: Block<$L>) -> $head {
                // SAFETY: the caller's promise; every offset is inside the block.
                unsafe { $load }
            }

            #[inline(always)]
            unsafe fn group<$L: Lanes>($block: Block<$L>, $found: &$head, $at: usize) -> Group<$L> {
                // SAFETY: the caller's promise; every offset is inside the block.
                unsafe { $group }
            }
        }
    };
}

block!(Q4_K, 144, false, true, None, 15, |L| SixBits<L>, |block| block.six_bits(), |block, head, group| {
    block.six_bit_group(head, block.half_bytes(256, group), group)
});

block!(Q5_K, 176, false, true, None, 31, |L| SixBits<L>, |block| block.six_bits(), |block, head, group| {
    let mut codes = block.half_bytes(768, group);
    for (at, codes) in codes.iter_mut().enumerate() {
        let fifth = block.bits(block.load(256 + 64 * at), group as i32 - 4, 16);
        *codes = block.lanes.or(*codes, fifth);
    }
    block.six_bit_group(head, codes, group)
});

block!(Q6_K, 210, true, false, Some(5), 63, |L| L::Floats, |block| block.halves(3328), |block, scale, group| {
    let (lanes, half, quarter) = (block.lanes, group / 4, group % 4);
    let mut codes = [lanes.word(0); 8];
    for (at, codes) in codes.iter_mut().enumerate() {
        let low = block.load(256 + 1536 * half + 512 * (quarter % 2) + 64 * at);
        let high = block.load(1280 + 1536 * half + 64 * at);
        let low = block.bits(low, (quarter / 2 * 4) as i32, 15);
        *codes = lanes.or(low, block.bits(high, 2 * quarter as i32 - 4, 0x30));
    }
    let words = block.load(64 * (group / 2));
    let mut scales = [*scale; 2];
    for (at, scale) in scales.iter_mut().enumerate() {
        let byte = lanes.top(lanes.shift(words, 8 * (group % 2 * 2 + at) as i32 - 24));
        *scale = lanes.multiply(*scale, lanes.float(byte));
    }
    Group { codes, scales, minima: [lanes.splat(0.0); 2] }
});

block!(
    Q2_K,
    84,
    true,
    true,
    None,
    3,
    |L| [L::Floats; 2],
    |block| [block.halves(1280), block.halves(1312)],
    |block, head, group| {
        let pairs = block.load(1024 + 64 * (group / 2));
        let (scales, minima) = (block.bits(pairs, 0, 15), block.bits(pairs, 4, 15));
        let first = group % 2 * 2;
        Group {
            codes: block.two_bits(group),
            scales: [block.scaled(head[0], scales, first), block.scaled(head[0], scales, first + 1)],
            minima: [block.scaled(head[1], minima, first), block.scaled(head[1], minima, first + 1)],
        }
    }
);

block!(
    Q3_K,
    110,
    true,
    false,
    Some(2),
    7,
    |L| (L::Floats, [L::Words; 4]),
    |block| (block.halves(1728), block.q3_scales(1536)),
    |block, head, group| {
        let lanes = block.lanes;
        let mut codes = block.two_bits(group);
        for (at, codes) in codes.iter_mut().enumerate() {
            *codes = lanes.or(*codes, block.bits(block.load(1024 + 64 * at), group as i32 - 2, 4));
        }
        let mut scales = [head.0; 2];
        for (at, scale) in scales.iter_mut().enumerate() {
            let code = lanes.float(block.byte(head.1[group / 2], group % 2 * 2 + at));
            *scale = lanes.multiply(*scale, lanes.subtract(code, lanes.splat(32.0)));
        }
        Group { codes, scales, minima: [lanes.splat(0.0); 2] }
    }
);

block!(
    IQ4_XS,
    136,
    false,
    false,
    Some(7),
    127,
    |L| (L::Floats, L::Words, L::Words),
    |block| (block.halves(2144), block.load(2048), block.shorts(2112)),
    |block, head, group| {
        let (lanes, (scale, low, high)) = (block.lanes, *head);
        let low = lanes.and(lanes.shift(low, 4 * group as i32), lanes.word(15));
        let high = lanes.and(lanes.shift(high, 2 * group as i32 - 4), lanes.word(0x30));
        let step = lanes.multiply(scale, lanes.subtract(lanes.float(lanes.or(low, high)), lanes.splat(32.0)));
        block.plain(block.nonlinear(block.nibbles(256 * group), NONLINEAR), step)
    }
);
