//! IQ1_S: 256 values in groups of 32 under one binary16 scale; each eight are an entry of a grid of 2048 ternary
//! groups, all moved up or down by an eighth; a group's three-bit scale `s` counts as `2 s + 1`. Only read here.

use bytemuck::{Pod, Zeroable};

use super::Traits;
use super::block::{Block, half_to_f32, read_only};
use super::iq_grids::{IQ1 as GRID, ternary};

pub const TRAITS: Traits = read_only::<IQ1_S, 256>("IQ1_S", Some(19));

/// How far the levels are moved.
pub const SHIFT: f32 = 0.125;

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
