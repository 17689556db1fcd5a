//! IQ3_XXS: 256 values in groups of 32 under one binary16 scale; each four are an entry of a grid of 256, each eight
//! have seven sign bits; a group's four-bit scale `s` counts as `(s + 1/2) / 2`.

use std::sync::OnceLock;

use bytemuck::{Pod, Zeroable};

use super::Traits;
use super::block::{Block, Encode, Importance, half_from_f32, half_to_f32, read_write};
use super::iq_grids::{IQ3_XXS as GRID, four, signed, signs};
use super::iq_search::{Grid, Kind, Places, Signs};

pub const TRAITS: Traits = read_write::<IQ3_XXS, 256>("IQ3_XXS", Some(18));

static LEVELS: [f32; 8] = [4.0, 12.0, 20.0, 28.0, 36.0, 44.0, 52.0, 62.0];

static PLACES: OnceLock<Places> = OnceLock::new();

const GRID_OF: Grid = Grid { entries: &GRID, levels: &LEVELS, bits: 3, places: &PLACES };
const KIND: Kind = Kind::of_magnitudes(&[GRID_OF], 32, 0.5, Signs::Even);

/// One block. A group's 32-bit word has four times seven sign bits, and its scale on top.
#[allow(non_camel_case_types)]
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
pub struct IQ3_XXS {
    scale: [u8; 2],
    entries: [[[u8; 2]; 4]; 8],
    words: [[u8; 4]; 8],
}

impl Block<256> for IQ3_XXS {
    fn decode(&self, out: &mut [f32; 256]) {
        let scale = half_to_f32(self.scale);
        let (groups, _) = out.as_chunks_mut::<32>();
        for (out, (entries, word)) in groups.iter_mut().zip(self.entries.iter().zip(self.words)) {
            let word = u32::from_le_bytes(word);
            let scale = scale * (0.5 + (word >> 28) as f32) * 0.5;
            for (at, (out, pair)) in out.as_chunks_mut::<8>().0.iter_mut().zip(entries).enumerate() {
                let fours = pair.map(|entry| four(GRID[usize::from(entry)], &LEVELS));
                *out = signed(scale, bytemuck::cast(fours), signs(word >> (7 * at)));
            }
        }
    }
}

impl Encode<256> for IQ3_XXS {
    #[inline(always)]
    fn encode(values: &[f32; 256], importance: Option<Importance<'_, 256>>) -> IQ3_XXS {
        let found = KIND.encode(values, importance);
        let mut block = IQ3_XXS { scale: half_from_f32(found.scale), ..IQ3_XXS::zeroed() };
        for (group, (entries, word)) in block.entries.iter_mut().zip(&mut block.words).enumerate() {
            entries
                .as_flattened_mut()
                .iter_mut()
                .enumerate()
                .for_each(|(at, entry)| *entry = found.entries[8 * group + at] as u8);
            *word = (found.seven_bits(group) | u32::from(found.numbers[group]) << 28).to_le_bytes();
        }
        block
    }
}
