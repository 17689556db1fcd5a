//! TQ1_0: 256 ternary codes under one binary16 scale, value `scale * (digit - 1)`. A byte holds five digits of base
//! three as a fraction of 256, so that multiplying by 3 moves the next digit out at the top.

use bytemuck::{Pod, Zeroable};

use super::Traits;
use super::block::{Block, Encode, Importance, half_from_f32, half_to_f32, read_write};
use super::tq2_0::digits;

pub const TRAITS: Traits = read_write::<TQ1_0, 256>("TQ1_0", Some(34));

/// One block. The digits of value `start + stride * n + j` stand `n`th in byte `j` of a part.
#[allow(non_camel_case_types)]
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
pub struct TQ1_0 {
    digits: [[u8; 4]; 13],
    scale: [u8; 2],
}

/// A part of the block: its first byte, its first value, how many bytes it has and how many digits are in each.
const PARTS: [(usize, usize, usize, usize); 3] = [(0, 0, 32, 5), (32, 160, 16, 5), (48, 240, 4, 4)];

impl Block<256> for TQ1_0 {
    fn decode(&self, out: &mut [f32; 256]) {
        let scale = half_to_f32(self.scale);
        for (byte, start, stride, count) in PARTS {
            for at in 0..stride {
                let mut left = self.digits.as_flattened()[byte + at];
                for digit in 0..count {
                    let top = ((u16::from(left) * 3) >> 8) as u8;
                    left = left.wrapping_mul(3);
                    out[start + stride * digit + at] = scale * (f32::from(top) - 1.0);
                }
            }
        }
    }
}

impl Encode<256> for TQ1_0 {
    #[inline(always)]
    fn encode(values: &[f32; 256], _importance: Option<Importance<'_, 256>>) -> TQ1_0 {
        let (scale, found) = digits(values);
        let mut block = TQ1_0 { digits: [[0; 4]; 13], scale: half_from_f32(scale) };
        for (byte, start, stride, count) in PARTS {
            for at in 0..stride {
                // Always five places: the last part leaves the lowest empty.
                let number = (0..5).fold(0u16, |number, digit| {
                    number * 3 + if digit < count { u16::from(found[start + stride * digit + at]) } else { 0 }
                });
                // Of 243 to of 256, rounded up so that no digit falls short.
                block.digits.as_flattened_mut()[byte + at] = (number * 256).div_ceil(243) as u8;
            }
        }
        block
    }
}
