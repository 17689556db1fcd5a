//! IQ1_S: 256 values in groups of 32 under one binary16 scale; each eight are an entry of a grid of 2048 ternary
//! groups, all moved up or down by an eighth; a group's three-bit scale `s` counts as `2 s + 1`.

use std::sync::OnceLock;

use bytemuck::{Pod, Zeroable};

use super::Traits;
use super::block::{Block, Encode, Importance, half_from_f32, half_to_f32, read_write};
use super::iq_grids::{IQ1 as GRID, ternary};
use super::iq_search::{Grid, Kind, Places, SECOND};

pub const TRAITS: Traits = read_write::<IQ1_S, 256>("IQ1_S", Some(19));

/// How far the levels are moved.
pub const SHIFT: f32 = 0.125;

static PLACES: OnceLock<Places> = OnceLock::new();
static UP: [f32; 3] = [-1.0 + SHIFT, SHIFT, 1.0 + SHIFT];
static DOWN: [f32; 3] = [-1.0 - SHIFT, -SHIFT, 1.0 - SHIFT];

/// The same entries with their levels moved up and down.
pub static GRIDS: [Grid; 2] = [
    Grid { entries: &GRID, levels: &UP, bits: 2, places: &PLACES },
    Grid { entries: &GRID, levels: &DOWN, bits: 2, places: &PLACES },
];

static KIND: Kind = Kind::of_levels(&GRIDS, 32, 32);

/// One block. A group's 16-bit word has the top three bits of its four grid numbers, its scale, and on top the sign
/// of its shift.
#[allow(non_camel_case_types)]
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
pub struct IQ1_S {
    scale: [u8; 2],
    low: [[u8; 4]; 8],
    words: [[u8; 2]; 8],
}

impl Block<256> for IQ1_S {
    fn decode(&self, out: &mut [f32; 256]) {
        let scale = half_to_f32(self.scale);
        let (groups, _) = out.as_chunks_mut::<32>();
        for (out, (low, word)) in groups.iter_mut().zip(self.low.iter().zip(self.words)) {
            let word = u16::from_le_bytes(word);
            let scale = scale * f32::from(2 * (word >> 12 & 7) + 1);
            let shift = if word >> 15 == 0 { SHIFT } else { -SHIFT };
            for (at, (out, low)) in out.as_chunks_mut::<8>().0.iter_mut().zip(low).enumerate() {
                let entry = usize::from(*low) | usize::from(word >> (3 * at) & 7) << 8;
                *out = ternary(GRID[entry]).map(|level| scale * (level + shift));
            }
        }
    }
}

impl Encode<256> for IQ1_S {
    #[inline(always)]
    fn encode(values: &[f32; 256], importance: Option<Importance<'_, 256>>) -> IQ1_S {
        let found = KIND.encode(values, importance);
        let mut block = IQ1_S { scale: half_from_f32(found.scale), ..IQ1_S::zeroed() };
        for (group, (low, word)) in block.low.iter_mut().zip(&mut block.words).enumerate() {
            let entries = &found.entries[4 * group..4 * group + 4];
            let mut bits = u16::from(found.numbers[group]) << 12 | (entries[0] & SECOND);
            for (at, (entry, low)) in entries.iter().zip(low).enumerate() {
                *low = *entry as u8;
                bits |= (entry >> 8 & 7) << (3 * at);
            }
            *word = bits.to_le_bytes();
        }
        block
    }
}
