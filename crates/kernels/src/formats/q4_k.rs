//! Q4_K: 256 four-bit codes in eight groups of 32, value `scale * code - minimum`, where each group's scale and
//! minimum are six-bit multiples of the block's two binary16 numbers.

use bytemuck::{Pod, Zeroable};

use super::Traits;
use super::block::{Block, Encode, Importance, coded, half_to_f32};
use super::k_scales::{search, unpack_scales};
use super::recode::{Coded, nearest_whole};
use super::search::Tries;

pub const TRAITS: Traits = coded::<Q4_K, 256>("Q4_K", Some(12));

const TRIES: Tries = Tries { first: -1.0, step: 0.1, count: 21 };

/// One block. Bytes `32 p..32 p + 32` of the codes hold group `2 p` in the low halves and `2 p + 1` in the high.
#[allow(non_camel_case_types)]
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
pub struct Q4_K {
    scale: [u8; 2],
    minimum: [u8; 2],
    scales: [u8; 12],
    codes: [u8; 128],
}

impl Block<256> for Q4_K {
    fn decode(&self, out: &mut [f32; 256]) {
        let (scale, minimum) = (half_to_f32(self.scale), half_to_f32(self.minimum));
        let groups = unpack_scales(&self.scales);
        let group = |at: usize| (scale * f32::from(groups[at].0), minimum * f32::from(groups[at].1));
        let (pairs, _) = out.as_chunks_mut::<64>();
        let (codes, _) = self.codes.as_chunks::<32>();
        for (pair, (out, codes)) in pairs.iter_mut().zip(codes).enumerate() {
            let (low, high) = out.split_at_mut(32);
            let (low_scale, low_minimum) = group(2 * pair);
            let (high_scale, high_minimum) = group(2 * pair + 1);
            for ((low, high), code) in low.iter_mut().zip(high).zip(codes) {
                *low = low_scale * f32::from(code & 15) - low_minimum;
                *high = high_scale * f32::from(code >> 4) - high_minimum;
            }
        }
    }
}

impl Coded<256> for Q4_K {
    const LEVELS: [f32; 2] = [0.0, 1.0];

    fn nearest(value: f32) -> (f32, u8) {
        nearest_whole(value, 0.0, 15.0)
    }

    fn put(&mut self, codes: &[u8; 256]) {
        let (pairs, _) = codes.as_chunks::<64>();
        self.codes = std::array::from_fn(|at| pairs[at / 32][at % 32] | pairs[at / 32][at % 32 + 32] << 4);
    }
}

impl Encode<256> for Q4_K {
    #[inline(always)]
    fn encode(values: &[f32; 256], importance: Option<Importance<'_, 256>>) -> Q4_K {
        let found = search(values, importance, 15.0, TRIES);
        let mut block = Q4_K { scale: found.scale, minimum: found.minimum, scales: found.scales, codes: [0; 128] };
        block.put(&found.codes);
        block
    }
}
