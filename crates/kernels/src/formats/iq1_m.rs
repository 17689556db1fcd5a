//! IQ1_M: as IQ1_S, but with a shift for each eight values and a three-bit scale `s`, counted as `2 s + 1`, for each
//! 16. The block's binary16 scale is stored in four parts, on top of the words of group scales.

use bytemuck::{Pod, Zeroable};

use super::Traits;
use super::block::{Block, Encode, Importance, half_from_f32, half_to_f32, read_write};
use super::iq_grids::{IQ1 as GRID, ternary};
use super::iq_search::{Kind, SECOND};
use super::iq1_s::{GRIDS, SHIFT};

pub const TRAITS: Traits = read_write::<IQ1_M, 256>("IQ1_M", Some(29));

static KIND: Kind = Kind::of_levels(&GRIDS, 8, 16);

/// One block. Half a byte of `high` has the top three bits of a grid number and the sign of its shift; a 16-bit word
/// of `scales` has four group scales and, on top, four bits of the block's scale, the lowest in the first word.
#[allow(non_camel_case_types)]
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
pub struct IQ1_M {
    low: [u8; 32],
    high: [u8; 16],
    scales: [[u8; 2]; 4],
}

impl Block<256> for IQ1_M {
    fn decode(&self, out: &mut [f32; 256]) {
        let words = self.scales.map(u16::from_le_bytes);
        let parts = words.iter().enumerate();
        let scale = half_to_f32(parts.fold(0, |bits, (at, word)| bits | (word >> 12) << (4 * at)).to_le_bytes());
        let (eights, _) = out.as_chunks_mut::<8>();
        for (at, (out, low)) in eights.iter_mut().zip(self.low).enumerate() {
            let group = at / 2;
            let scale = scale * f32::from(2 * (words[group / 4] >> (group % 4 * 3) & 7) + 1);
            let high = self.high[group] >> (at % 2 * 4);
            let shift = if high & 8 == 0 { SHIFT } else { -SHIFT };
            let entry = usize::from(low) | usize::from(high & 7) << 8;
            *out = ternary(GRID[entry]).map(|level| scale * (level + shift));
        }
    }
}

impl Encode<256> for IQ1_M {
    #[inline(always)]
    fn encode(values: &[f32; 256], importance: Option<Importance<'_, 256>>) -> IQ1_M {
        let found = KIND.encode(values, importance);
        let mut block = IQ1_M::zeroed();
        for (at, entry) in found.entries.iter().take(32).enumerate() {
            let high = (entry >> 8 & 7) as u8 | u8::from(entry & SECOND != 0) << 3;
            block.low[at] = *entry as u8;
            block.high[at / 2] |= high << (at % 2 * 4);
        }
        let scale = u16::from_le_bytes(half_from_f32(found.scale));
        let (fours, _) = found.numbers.as_chunks::<4>();
        for (at, (word, numbers)) in block.scales.iter_mut().zip(fours).enumerate() {
            let bits = (0..4).map(|group| u16::from(numbers[group]) << (3 * group)).sum::<u16>();
            *word = (bits | (scale >> (4 * at) & 15) << 12).to_le_bytes();
        }
        block
    }
}
