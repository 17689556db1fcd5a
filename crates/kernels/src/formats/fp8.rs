//! FP8: blocks of 64 E4M3 under a binary32 scale, which comes first. Checkpoints keep one scale for a whole tensor, for
//! each row or for each square; it is repeated here, so that a value is the product of the same two numbers.

use bytemuck::{Pod, Zeroable};

use super::Traits;
use super::bitsandbytes::largest;
use super::block::{Block, Encode, Importance, read_write};
use super::e4m3::VALUES;
use super::small_float::E4M3;

pub const TRAITS: Traits = read_write::<FP8, 64>("FP8", None);

/// One block.
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
pub struct FP8 {
    scale: [u8; 4],
    codes: [u8; 64],
}

impl Block<64> for FP8 {
    fn decode(&self, out: &mut [f32; 64]) {
        let scale = f32::from_le_bytes(self.scale);
        *out = self.codes.map(|code| VALUES[usize::from(code)] * scale);
    }
}

impl Encode<64> for FP8 {
    #[inline(always)]
    fn encode(values: &[f32; 64], _importance: Option<Importance<'_, 64>>) -> FP8 {
        let scale = largest(values) / E4M3.max();
        let inverse = if scale == 0.0 { 0.0 } else { 1.0 / scale };
        FP8 { scale: scale.to_le_bytes(), codes: values.map(|value| E4M3.encode_saturating(value * inverse)) }
    }
}
