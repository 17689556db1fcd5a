//! IQ2_S: 256 values under one binary16 scale; each eight are an entry of a grid of 1024, with eight sign bits; a
//! four-bit scale `s` of each 16 counts as `(s + 1/2) / 4`.

use std::sync::OnceLock;

use bytemuck::{Pod, Zeroable};

use super::Traits;
use super::block::{Block, Encode, Importance, half_from_f32, half_to_f32, read_write};
use super::iq_grids::{IQ2_S as GRID, MAGNITUDES, eight, signed};
use super::iq_search::{Grid, Kind, Places, Signs};

pub const TRAITS: Traits = read_write::<IQ2_S, 256>("IQ2_S", Some(22));

static PLACES: OnceLock<Places> = OnceLock::new();

const GRID_OF: Grid = Grid { entries: &GRID, levels: &MAGNITUDES, bits: 2, places: &PLACES };
const KIND: Kind = Kind::of_magnitudes(&[GRID_OF], 16, 0.25, Signs::Free);

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

impl Encode<256> for IQ2_S {
    #[inline(always)]
    fn encode(values: &[f32; 256], importance: Option<Importance<'_, 256>>) -> IQ2_S {
        let found = KIND.encode(values, importance);
        let mut block = IQ2_S { scale: half_from_f32(found.scale), signs: found.signs, ..IQ2_S::zeroed() };
        for (at, entry) in found.entries.iter().take(32).enumerate() {
            block.low[at] = *entry as u8;
            block.high[at / 4] |= ((entry >> 8) as u8) << (at % 4 * 2);
        }
        for (at, pair) in block.scales.iter_mut().enumerate() {
            *pair = found.numbers[2 * at] | found.numbers[2 * at + 1] << 4;
        }
        block
    }
}
