//! Q5_0: blocks of 32 five-bit codes under one binary16 scale, value `scale * (code - 16)`.
//! The scale's sign gives the value of largest magnitude the code 0.

use bytemuck::{Pod, Zeroable};

use super::Traits;
use super::block::{
    Block, Encode, Importance, coded, extreme, half_from_f32, half_to_f32, pack_fifth_bits, pack_nibbles, reciprocal,
    unpack_five_bits,
};
use super::recode::{Coded, nearest_whole};
use super::search::{importance_weights, level, ray};
use super::settle::{self, Groups, Rays};

pub const TRAITS: Traits = coded::<Q5_0, 32>("Q5_0", Some(6));

/// One block; the fifth bits lie apart from the halves, where code `j` is paired with code `j + 16`.
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
pub struct Q5_0 {
    scale: [u8; 2],
    high: [u8; 4],
    low: [u8; 16],
}

impl Block<32> for Q5_0 {
    fn decode(&self, out: &mut [f32; 32]) {
        let scale = half_to_f32(self.scale);
        *out = unpack_five_bits(&self.low, self.high).map(|code| scale * (f32::from(code) - 16.0));
    }
}

impl Coded<32> for Q5_0 {
    const LEVELS: [f32; 2] = [-16.0, -15.0];

    fn nearest(value: f32) -> (f32, u8) {
        nearest_whole(value, -16.0, 15.0)
    }

    fn put(&mut self, codes: &[u8; 32]) {
        (self.high, self.low) = (pack_fifth_bits(codes), pack_nibbles(codes));
    }
}

impl Encode<32> for Q5_0 {
    #[inline(always)]
    fn encode(values: &[f32; 32], importance: Option<Importance<'_, 32>>) -> Q5_0 {
        let (scale, codes);
        if let Some(importance) = importance {
            let weights = importance_weights(importance.weights, values, importance.row_mean_square);
            let extreme = extreme(values);
            let starts = [ray(values, &weights, 16.0).scale, extreme / -16.0, extreme / 15.0];
            let starts = starts.map(|scale| Rays { scale, steps: [1.0] });
            let groups = Groups { values: &[*values], weights: &[weights], thorough: true };
            let place = |value| level(value, -16.0, 15.0);
            scale = settle::rays(groups, &starts, &(1.0..=1.0), place).scale;
            let inverse = reciprocal(scale);
            codes = values.map(|value| (place(value * inverse) + 16.0) as u8);
        } else {
            scale = extreme(values) / -16.0;
            let inverse = reciprocal(scale);
            codes = values.map(|value| (value * inverse + 16.5).min(31.0) as u8);
        }
        Q5_0 { scale: half_from_f32(scale), high: pack_fifth_bits(&codes), low: pack_nibbles(&codes) }
    }
}
