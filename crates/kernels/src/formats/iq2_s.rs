//! IQ2_S: 256 values under one binary16 scale; each eight are an entry of a grid of 1024, with eight sign bits; a
//! four-bit scale `s` of each 16 counts as `(s + 1/2) / 4`. Only read here.

use bytemuck::{Pod, Zeroable};

use super::Traits;
use super::block::{Block, half_to_f32, read_only};
use super::iq_grids::{IQ2_S as GRID, eight, signed};

pub const TRAITS: Traits = read_only::<IQ2_S, 256>("IQ2_S", Some(22));

/// One block. The top two bits of four grid numbers share a byte of `high`, the first in the lowest bits.
#[allow(non_camel_case_types)]
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
pub struct IQ2_S {
    scale: [u8; 2],
    low: [u8; 32],
    signs: [u8; 32],
    high: [u8; 8],
    scales: [u8; 8],
}

impl Block<256> for IQ2_S {
    fn decode(&self, out: &mut [f32; 256]) {
        let scale = half_to_f32(self.scale);
        let (eights, _) = out.as_chunks_mut::<8>();
        for (at, (out, (low, signs))) in eights.iter_mut().zip(self.low.iter().zip(self.signs)).enumerate() {
            let high = self.high[at / 4] >> (at % 4 * 2) & 3;
            let entry = usize::from(*low) | usize::from(high) << 8;
            let scale = scale * (0.5 + f32::from(self.scales[at / 4] >> (at / 2 % 2 * 4) & 15)) * 0.25;
            *out = signed(scale, eight(GRID[entry]), signs);
        }
    }
}
