//! IQ2_XXS: 256 values in groups of 32 under one binary16 scale; each eight are an entry of a grid of 256, with seven
//! sign bits; a group's four-bit scale `s` counts as `(s + 1/2) / 4`. Only read here.

use bytemuck::{Pod, Zeroable};

use super::Traits;
use super::block::{Block, half_to_f32, read_only};
use super::iq_grids::{IQ2_XXS as GRID, eight, signed, signs};

pub const TRAITS: Traits = read_only::<IQ2_XXS, 256>("IQ2_XXS", Some(16));

/// One block. A group has four grid numbers, then a 32-bit word: four times seven sign bits, and its scale on top.
#[allow(non_camel_case_types)]
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
pub struct IQ2_XXS {
    scale: [u8; 2],
    groups: [[[u8; 4]; 2]; 8],
}

impl Block<256> for IQ2_XXS {
    fn decode(&self, out: &mut [f32; 256]) {
        let scale = half_to_f32(self.scale);
        let (groups, _) = out.as_chunks_mut::<32>();
        for (out, [entries, word]) in groups.iter_mut().zip(self.groups) {
            let word = u32::from_le_bytes(word);
            let scale = scale * (0.5 + (word >> 28) as f32) * 0.25;
            for (at, (out, entry)) in out.as_chunks_mut::<8>().0.iter_mut().zip(entries).enumerate() {
                *out = signed(scale, eight(GRID[usize::from(entry)]), signs(word >> (7 * at)));
            }
        }
    }
}
