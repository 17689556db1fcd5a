//! MXFP4: 32 four-bit floats under a power of two, the scale's byte first, in two layouts of the same numbers.
//! GGUF pairs element `j` with `j + 16`, knows no NaN scale and rounds halves toward zero; Open Compute's blocks pair
//! neighbors, as checkpoints with separate blocks and scales do, and round halves to even.

use bytemuck::{Pod, Zeroable};

use super::Traits;
use super::block::{Block, Encode, Importance, coded, pack_nibbles, read_write, unpack_nibbles};
use super::mx;
use super::recode::Coded;
use super::small_float::E2M1;

pub const TRAITS: Traits = coded::<MXFP4, 32>("MXFP4", Some(39));
pub const OCP_TRAITS: Traits = read_write::<MXFP4_OCP, 32>("MXFP4_OCP", None);

/// GGUF's block.
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
pub struct MXFP4 {
    scale: u8,
    codes: [u8; 16],
}

/// Half way between the magnitudes.
const MIDDLES: [f32; 7] = [0.25, 0.75, 1.25, 1.75, 2.5, 3.5, 5.0];

/// GGUF has `2^128` where Open Compute has NaN; halved, as the magnitudes are doubled then.
fn half_scale(code: u8) -> f32 {
    match code {
        0 => f32::from_bits(1 << 21),
        1 => f32::from_bits(1 << 22),
        _ => f32::from_bits(u32::from(code - 1) << 23),
    }
}

impl Block<32> for MXFP4 {
    fn decode(&self, out: &mut [f32; 32]) {
        let half = half_scale(self.scale);
        *out = unpack_nibbles(&self.codes).map(|code| half * (2.0 * E2M1.decode(code)));
    }
}

impl Coded<32> for MXFP4 {
    const LEVELS: [f32; 2] = [0.0, 0.5];

    fn nearest(value: f32) -> (f32, u8) {
        let code = nearest(value);
        (E2M1.decode(code), code)
    }

    fn put(&mut self, codes: &[u8; 32]) {
        self.codes = pack_nibbles(codes);
    }
}

impl Encode<32> for MXFP4 {
    #[inline(always)]
    fn encode(values: &[f32; 32], _importance: Option<Importance<'_, 32>>) -> MXFP4 {
        let largest = values.iter().fold(0.0f32, |largest, value| largest.max(value.abs()));
        // Through the logarithm in f32, as the reference does: a number just beneath a power of two counts as that.
        let scale = if largest > 0.0 { (largest.log2().floor() + 125.0).clamp(0.0, 254.0) as u8 } else { 0 };
        let inverse = 0.5 / half_scale(scale);
        MXFP4 { scale, codes: pack_nibbles(&values.map(|value| nearest(value * inverse))) }
    }
}

/// The code of the nearest level, the lesser magnitude of two as near; there is no negative zero.
pub(super) fn nearest(value: f32) -> u8 {
    let code = MIDDLES.iter().fold(0, |code, middle| code + u8::from(value.abs() > *middle));
    if value < 0.0 && code != 0 { code | 8 } else { code }
}

/// The block of a checkpoint that keeps scales apart: element `2 j` in the low half of byte `j`.
pub fn from_pairs(scale: u8, pairs: &[u8; 16]) -> [u8; 17] {
    bytemuck::cast(MXFP4 { scale, codes: pack_nibbles(&unpack_pairs(pairs)) })
}

fn pack_pairs(codes: &[u8; 32]) -> [u8; 16] {
    std::array::from_fn(|at| (codes[2 * at] & 15) | codes[2 * at + 1] << 4)
}

fn unpack_pairs(bytes: &[u8; 16]) -> [u8; 32] {
    std::array::from_fn(|at| bytes[at / 2] >> (at % 2 * 4) & 15)
}

mx::block! {
    /// Open Compute's block, neighbors sharing a byte.
    MXFP4_OCP, 16, E2M1, |code| E2M1.decode(code), pack_pairs, unpack_pairs
}
