//! Q5_1: blocks of 32 five-bit codes under a binary16 scale and minimum, value `scale * code + minimum`.

use bytemuck::{Pod, Zeroable};

use super::Traits;
use super::block::{
    Block, Encode, Importance, coded, half_from_f32, half_to_f32, pack_fifth_bits, pack_nibbles, reciprocal, span,
    unpack_five_bits,
};
use super::recode::{Coded, nearest_whole};
use super::search::{FINE_TRIES, importance_weights, line};
use super::settle::{self, Groups, Lines};

pub const TRAITS: Traits = coded::<Q5_1, 32>("Q5_1", Some(7));

/// One block; the fifth bits lie apart from the halves, where code `j` is paired with code `j + 16`.
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
pub struct Q5_1 {
    scale: [u8; 2],
    minimum: [u8; 2],
    high: [u8; 4],
    low: [u8; 16],
}

impl Block<32> for Q5_1 {
    fn decode(&self, out: &mut [f32; 32]) {
        let (scale, minimum) = (half_to_f32(self.scale), half_to_f32(self.minimum));
        *out = unpack_five_bits(&self.low, self.high).map(|code| scale * f32::from(code) + minimum);
    }
}

impl Coded<32> for Q5_1 {
    const LEVELS: [f32; 2] = [0.0, 1.0];

    fn nearest(value: f32) -> (f32, u8) {
        nearest_whole(value, 0.0, 31.0)
    }

    fn put(&mut self, codes: &[u8; 32]) {
        (self.high, self.low) = (pack_fifth_bits(codes), pack_nibbles(codes));
    }
}

impl Encode<32> for Q5_1 {
    #[inline(always)]
    fn encode(values: &[f32; 32], importance: Option<Importance<'_, 32>>) -> Q5_1 {
        let (scale, minimum, codes);
        if let Some(importance) = importance {
            let weights = importance_weights(importance.weights, values, importance.row_mean_square);
            let found = line(values, &weights, 31.0, FINE_TRIES);
            let start = Lines { scale: found.scale, minimum: found.offset, steps: [1.0], offsets: [1.0] };
            let groups = Groups { values: &[*values], weights: &[weights], thorough: true };
            let found = settle::lines(groups, start, 31.0, &(1.0..=1.0));
            (scale, minimum, codes) = (found.scale, -found.minimum, found.codes(0, values, 31.0));
        } else {
            let (low, high) = span(values);
            (scale, minimum) = ((high - low) / 31.0, low);
            let inverse = reciprocal(scale);
            codes = values.map(|value| ((value - low) * inverse + 0.5).min(31.0) as u8);
        }
        Q5_1 {
            scale: half_from_f32(scale),
            minimum: half_from_f32(minimum),
            high: pack_fifth_bits(&codes),
            low: pack_nibbles(&codes),
        }
    }
}
