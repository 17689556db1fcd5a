//! IQ2_XS: 256 values under one binary16 scale; each eight are an entry of a grid of 512, with seven sign bits; a
//! four-bit scale `s` of each 16 counts as `(s + 1/2) / 4`. Only read here.

use bytemuck::{Pod, Zeroable};

use super::Traits;
use super::block::{Block, half_to_f32, read_only};
use super::iq_grids::{IQ2_XS as GRID, eight, signed, signs};

pub const TRAITS: Traits = read_only::<IQ2_XS, 256>("IQ2_XS", Some(17));

/// One block. A 16-bit word has nine bits of grid number and seven sign bits; the even scales are the low halves.
#[allow(non_camel_case_types)]
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
pub struct IQ2_XS {
    scale: [u8; 2],
    words: [[u8; 2]; 32],
    scales: [u8; 8],
}

impl Block<256> for IQ2_XS {
    fn decode(&self, out: &mut [f32; 256]) {
        let scale = half_to_f32(self.scale);
        let (eights, _) = out.as_chunks_mut::<8>();
        for (at, (out, word)) in eights.iter_mut().zip(self.words).enumerate() {
            let word = u16::from_le_bytes(word);
            let scale = scale * (0.5 + f32::from(self.scales[at / 4] >> (at / 2 % 2 * 4) & 15)) * 0.25;
            *out = signed(scale, eight(GRID[usize::from(word & 511)]), signs(u32::from(word >> 9)));
        }
    }
}
