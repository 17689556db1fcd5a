//! FP4: blocks of 64 four-bit floats of bitsandbytes under their largest magnitude, laid out as NF4's blocks are: a
//! binary32 scale, then bytes of two neighbors, the first in the high half.

use bytemuck::{Pod, Zeroable};

use super::Traits;
use super::bitsandbytes::{FP4 as TABLE, encode_four_bit, largest};
use super::block::{Block, Encode, Importance, read_write};

pub const TRAITS: Traits = read_write::<FP4, 64>("FP4", None);

/// One block.
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
pub struct FP4 {
    scale: [u8; 4],
    codes: [u8; 32],
}

impl Block<64> for FP4 {
    fn decode(&self, out: &mut [f32; 64]) {
        let scale = f32::from_le_bytes(self.scale);
        let (pairs, _) = out.as_chunks_mut::<2>();
        for (pair, byte) in pairs.iter_mut().zip(self.codes) {
            *pair = [byte >> 4, byte & 15].map(|code| scale * TABLE.levels[usize::from(code)]);
        }
    }
}

impl Encode<64> for FP4 {
    #[inline(always)]
    fn encode(values: &[f32; 64], _importance: Option<Importance<'_, 64>>) -> FP4 {
        let scale = largest(values);
        let mut codes = [0; 32];
        encode_four_bit(&TABLE, values, scale, &mut codes);
        FP4 { scale: scale.to_le_bytes(), codes }
    }
}
