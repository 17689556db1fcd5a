//! IQ3_S: 256 values in groups of 32 under one binary16 scale; each four are an entry of a grid of 512, each eight
//! have eight sign bits; a group's four-bit scale `s` counts as `2 s + 1`.

use std::sync::OnceLock;

use bytemuck::{Pod, Zeroable};

use super::Traits;
use super::block::{Block, Encode, Importance, half_from_f32, half_to_f32, read_write};
use super::iq_grids::{IQ3_S as GRID, four, signed};
use super::iq_search::{Grid, Kind, Places, Signs};

pub const TRAITS: Traits = read_write::<IQ3_S, 256>("IQ3_S", Some(21));

static LEVELS: [f32; 8] = [1.0, 3.0, 5.0, 7.0, 9.0, 11.0, 13.0, 15.0];

static PLACES: OnceLock<Places> = OnceLock::new();

const GRID_OF: Grid = Grid { entries: &GRID, levels: &LEVELS, bits: 3, places: &PLACES };
const KIND: Kind = Kind::of_magnitudes(&[GRID_OF], 32, 2.0, Signs::Free);

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

impl Encode<256> for IQ3_S {
    #[inline(always)]
    fn encode(values: &[f32; 256], importance: Option<Importance<'_, 256>>) -> IQ3_S {
        let found = KIND.encode(values, importance);
        let mut block = IQ3_S { scale: half_from_f32(found.scale), signs: found.signs, ..IQ3_S::zeroed() };
        for (at, entry) in found.entries.iter().enumerate() {
            block.low[at / 2][at % 2] = *entry as u8;
            block.high[at / 8] |= ((entry >> 8) as u8) << (at % 8);
        }
        for (at, pair) in block.scales.iter_mut().enumerate() {
            *pair = found.numbers[2 * at] | found.numbers[2 * at + 1] << 4;
        }
        block
    }
}
