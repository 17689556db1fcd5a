//! IQ2_XXS: 256 values in groups of 32 under one binary16 scale; each eight are an entry of a grid of 256, with seven
//! sign bits; a group's four-bit scale `s` counts as `(s + 1/2) / 4`.

use std::sync::OnceLock;

use bytemuck::{Pod, Zeroable};

use super::Traits;
use super::block::{Block, Encode, Importance, half_from_f32, half_to_f32, read_write};
use super::iq_grids::{IQ2_XXS as GRID, MAGNITUDES, eight, signed, signs};
use super::iq_search::{Grid, Kind, Places, Signs};

pub const TRAITS: Traits = read_write::<IQ2_XXS, 256>("IQ2_XXS", Some(16));

static PLACES: OnceLock<Places> = OnceLock::new();

const GRID_OF: Grid = Grid { entries: &GRID, levels: &MAGNITUDES, bits: 2, places: &PLACES };
const KIND: Kind = Kind::of_magnitudes(&[GRID_OF], 32, 0.25, Signs::Even);

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

impl Encode<256> for IQ2_XXS {
    #[inline(always)]
    fn encode(values: &[f32; 256], importance: Option<Importance<'_, 256>>) -> IQ2_XXS {
        let found = KIND.encode(values, importance);
        let mut block = IQ2_XXS { scale: half_from_f32(found.scale), ..IQ2_XXS::zeroed() };
        for (group, [entries, word]) in block.groups.iter_mut().enumerate() {
            *entries = std::array::from_fn(|at| found.entries[4 * group + at] as u8);
            *word = (found.seven_bits(group) | u32::from(found.numbers[group]) << 28).to_le_bytes();
        }
        block
    }
}
