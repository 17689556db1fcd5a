//! IQ3_S: 256 values in groups of 32 under one binary16 scale; each four are an entry of a grid of 512, each eight
//! have eight sign bits; a group's four-bit scale `s` counts as `2 s + 1`. Only read here.

use bytemuck::{Pod, Zeroable};

use super::Traits;
use super::block::{Block, half_to_f32, read_only};
use super::iq_grids::{IQ3_S as GRID, four, signed};

pub const TRAITS: Traits = read_only::<IQ3_S, 256>("IQ3_S", Some(21));

const LEVELS: [f32; 8] = [1.0, 3.0, 5.0, 7.0, 9.0, 11.0, 13.0, 15.0];

/// One block. A byte of `high` has the ninth bits of a group's eight grid numbers, the first in the lowest bit.
#[allow(non_camel_case_types)]
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
pub struct IQ3_S {
    scale: [u8; 2],
    low: [[u8; 2]; 32],
    high: [u8; 8],
    signs: [u8; 32],
    scales: [u8; 4],
}

impl Block<256> for IQ3_S {
    fn decode(&self, out: &mut [f32; 256]) {
        let scale = half_to_f32(self.scale);
        let (eights, _) = out.as_chunks_mut::<8>();
        for (at, (out, (low, signs))) in eights.iter_mut().zip(self.low.iter().zip(self.signs)).enumerate() {
            let group = at / 4;
            let scale = scale * (1.0 + 2.0 * f32::from(self.scales[group / 2] >> (group % 2 * 4) & 15));
            let fours: [[f32; 4]; 2] = std::array::from_fn(|half| {
                let high = self.high[group] >> (2 * (at % 4) + half) & 1;
                four(GRID[usize::from(low[half]) | usize::from(high) << 8], &LEVELS)
            });
            *out = signed(scale, bytemuck::cast(fours), signs);
        }
    }
}
