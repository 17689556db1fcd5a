//! IQ2_XS: 256 values under one binary16 scale; each eight are an entry of a grid of 512, with seven sign bits; a
//! four-bit scale `s` of each 16 counts as `(s + 1/2) / 4`.

use std::sync::OnceLock;

use bytemuck::{Pod, Zeroable};

use super::Traits;
use super::block::{Block, Encode, Importance, half_from_f32, half_to_f32, read_write};
use super::iq_grids::{IQ2_XS as GRID, MAGNITUDES, eight, signed, signs};
use super::iq_search::{Grid, Kind, Places, Signs};

pub const TRAITS: Traits = read_write::<IQ2_XS, 256>("IQ2_XS", Some(17));

static PLACES: OnceLock<Places> = OnceLock::new();

const GRID_OF: Grid = Grid { entries: &GRID, levels: &MAGNITUDES, bits: 2, places: &PLACES };
const KIND: Kind = Kind::of_magnitudes(&[GRID_OF], 16, 0.25, Signs::Even);

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

impl Encode<256> for IQ2_XS {
    #[inline(always)]
    fn encode(values: &[f32; 256], importance: Option<Importance<'_, 256>>) -> IQ2_XS {
        let found = KIND.encode(values, importance);
        let mut block = IQ2_XS { scale: half_from_f32(found.scale), ..IQ2_XS::zeroed() };
        for (at, word) in block.words.iter_mut().enumerate() {
            *word = (found.entries[at] | u16::from(found.signs[at] & 127) << 9).to_le_bytes();
        }
        for (at, pair) in block.scales.iter_mut().enumerate() {
            *pair = found.numbers[2 * at] | found.numbers[2 * at + 1] << 4;
        }
        block
    }
}
