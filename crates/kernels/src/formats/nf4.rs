//! NF4: blocks of 64 four-bit codes under their largest magnitude, the levels at the quantiles of a normal
//! distribution. The scale is binary32 and comes first; a byte holds two neighbors, the first in its high half.
//! Checkpoints that keep codes and scales apart are turned into blocks by `bitsandbytes.rs`.

use bytemuck::{Pod, Zeroable};

use super::Traits;
use super::bitsandbytes::{NF4 as TABLE, encode_four_bit, largest};
use super::block::{Block, Encode, Importance, read_write};

pub const TRAITS: Traits = read_write::<NF4, 64>("NF4", None);

/// One block.
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
pub struct NF4 {
    scale: [u8; 4],
    codes: [u8; 32],
}

impl NF4 {
    /// A block of a scale and codes that were stored apart.
    pub fn from_parts(scale: f32, codes: [u8; 32]) -> NF4 {
        NF4 { scale: scale.to_le_bytes(), codes }
    }
}

impl Block<64> for NF4 {
    fn decode(&self, out: &mut [f32; 64]) {
        let scale = f32::from_le_bytes(self.scale);
        let (pairs, _) = out.as_chunks_mut::<2>();
        for (pair, byte) in pairs.iter_mut().zip(self.codes) {
            *pair = [byte >> 4, byte & 15].map(|code| scale * TABLE.levels[usize::from(code)]);
        }
    }
}

impl Encode<64> for NF4 {
    #[inline(always)]
    fn encode(values: &[f32; 64], _importance: Option<Importance<'_, 64>>) -> NF4 {
        let scale = largest(values);
        let mut codes = [0; 32];
        encode_four_bit(&TABLE, values, scale, &mut codes);
        NF4::from_parts(scale, codes)
    }
}
