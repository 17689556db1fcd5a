//! Q2_K: 256 two-bit codes in sixteen groups of 16, value `scale * code - minimum`, where each group's scale and
//! minimum are four-bit multiples of the block's two binary16 numbers.

use bytemuck::{Pod, Zeroable};

use super::Traits;
use super::block::{Block, Encode, Importance, coded, half_from_f32, half_to_f32, mean_square};
use super::recode::{Coded, nearest_whole};
use super::search::{FINE_TRIES, Tries, importance_weights, shared_lines};
use super::settle::{self, Groups};

pub const TRAITS: Traits = coded::<Q2_K, 256>("Q2_K", Some(10));

const TRIES: Tries = Tries { first: -0.5, step: 0.1, count: 16 };

/// One block. A group's scale is the low half of its byte, its minimum the high half. Bytes `32 h..32 h + 32` of the
/// codes hold values 0, 32, 64 and 96 of half `h` in one byte, from the lowest bits up.
#[allow(non_camel_case_types)]
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
pub struct Q2_K {
    scales: [u8; 16],
    codes: [u8; 64],
    scale: [u8; 2],
    minimum: [u8; 2],
}

impl Block<256> for Q2_K {
    fn decode(&self, out: &mut [f32; 256]) {
        let (scale, minimum) = (half_to_f32(self.scale), half_to_f32(self.minimum));
        let (groups, _) = out.as_chunks_mut::<16>();
        for (group, out) in groups.iter_mut().enumerate() {
            let step = scale * f32::from(self.scales[group] & 15);
            let offset = minimum * f32::from(self.scales[group] >> 4);
            let (start, shift) = place(group);
            for (out, byte) in out.iter_mut().zip(&self.codes[start..]) {
                *out = step * f32::from(byte >> shift & 3) - offset;
            }
        }
    }
}

/// The first byte of a group's codes and their lowest bit, where two bits of a byte are one code.
fn place(group: usize) -> (usize, usize) {
    (group / 8 * 32 + group % 2 * 16, group % 8 / 2 * 2)
}

impl Coded<256> for Q2_K {
    const LEVELS: [f32; 2] = [0.0, 1.0];

    fn nearest(value: f32) -> (f32, u8) {
        nearest_whole(value, 0.0, 3.0)
    }

    fn put(&mut self, codes: &[u8; 256]) {
        self.codes = [0; 64];
        for (group, codes) in codes.as_chunks::<16>().0.iter().enumerate() {
            let (start, shift) = place(group);
            codes.iter().zip(&mut self.codes[start..]).for_each(|(code, byte)| *byte |= code << shift);
        }
    }
}

impl Encode<256> for Q2_K {
    #[inline(always)]
    fn encode(values: &[f32; 256], importance: Option<Importance<'_, 256>>) -> Q2_K {
        let groups: &[[f32; 16]; 16] = bytemuck::cast_ref(values);
        // Four times: with fewer, rows of a wide range of magnitudes lose their small groups.
        let spread = 4.0 * mean_square(values);
        let weights: [[f32; 16]; 16] = std::array::from_fn(|group| match importance {
            Some(importance) => {
                let important = &importance.weights.as_chunks::<16>().0[group];
                importance_weights(important, &groups[group], spread)
            }
            None => {
                let typical = mean_square(&groups[group]).sqrt();
                groups[group].map(|value| typical + value.abs())
            }
        });
        let tries = if importance.is_some_and(|given| given.measured) { FINE_TRIES } else { TRIES };
        let start = shared_lines(groups, &weights, 3.0, tries, 15.0);
        let found = settle::lines(
            Groups { values: groups, weights: &weights, thorough: importance.is_some_and(|given| given.measured) },
            start,
            3.0,
            &(0.0..=15.0),
        );
        let mut block =
            Q2_K { scale: half_from_f32(found.scale), minimum: half_from_f32(found.minimum), ..Q2_K::zeroed() };
        block.scales = std::array::from_fn(|group| found.steps[group] as u8 | (found.offsets[group] as u8) << 4);
        let codes: [[u8; 16]; 16] = std::array::from_fn(|group| found.codes(group, &groups[group], 3.0));
        block.put(&bytemuck::cast(codes));
        block
    }
}
