//! Q5_K: 256 five-bit codes in eight groups of 32, value `scale * code - minimum`, where each group's scale and
//! minimum are six-bit multiples of the block's two binary16 numbers.

use bytemuck::{Pod, Zeroable};

use super::Traits;
use super::block::{Block, Encode, Importance, coded, half_to_f32};
use super::k_scales::{search, unpack_scales};
use super::recode::{Coded, nearest_whole};
use super::search::Tries;

pub const TRAITS: Traits = coded::<Q5_K, 256>("Q5_K", Some(13));

const TRIES: Tries = Tries { first: -0.5, step: 0.1, count: 16 };

/// One block. Bytes `32 p..32 p + 32` of the low halves hold group `2 p` in their low and `2 p + 1` in their high
/// bits; bit `g` of byte `j` of `high` is the fifth bit of value `j` of group `g`.
#[allow(non_camel_case_types)]
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
pub struct Q5_K {
    scale: [u8; 2],
    minimum: [u8; 2],
    scales: [u8; 12],
    high: [u8; 32],
    low: [u8; 128],
}

impl Block<256> for Q5_K {
    fn decode(&self, out: &mut [f32; 256]) {
        let (scale, minimum) = (half_to_f32(self.scale), half_to_f32(self.minimum));
        let scales = unpack_scales(&self.scales);
        let (groups, _) = out.as_chunks_mut::<32>();
        for (group, out) in groups.iter_mut().enumerate() {
            let (step, offset) = (scale * f32::from(scales[group].0), minimum * f32::from(scales[group].1));
            let low = &self.low[group / 2 * 32..];
            for (out, (low, high)) in out.iter_mut().zip(low.iter().zip(&self.high)) {
                let code = low >> (group % 2 * 4) & 15 | (high >> group & 1) << 4;
                *out = step * f32::from(code) - offset;
            }
        }
    }
}

impl Coded<256> for Q5_K {
    const LEVELS: [f32; 2] = [0.0, 1.0];

    fn nearest(value: f32) -> (f32, u8) {
        nearest_whole(value, 0.0, 31.0)
    }

    fn put(&mut self, codes: &[u8; 256]) {
        let (groups, _) = codes.as_chunks::<32>();
        let byte = |at: usize| groups[at / 32 * 2][at % 32] & 15 | groups[at / 32 * 2 + 1][at % 32] << 4;
        self.low = std::array::from_fn(byte);
        self.high = std::array::from_fn(|at| (0..8).fold(0, |bits, group| bits | (groups[group][at] >> 4) << group));
    }
}

impl Encode<256> for Q5_K {
    #[inline(always)]
    fn encode(values: &[f32; 256], importance: Option<Importance<'_, 256>>) -> Q5_K {
        let found = search(values, importance, 31.0, TRIES);
        let (scale, minimum, scales) = (found.scale, found.minimum, found.scales);
        let mut block = Q5_K { scale, minimum, scales, ..Q5_K::zeroed() };
        block.put(&found.codes);
        block
    }
}
