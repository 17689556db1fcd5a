//! Q4_0: blocks of 32 four-bit codes under one binary16 scale, value `scale * (code - 8)`.
//! The scale's sign gives the value of largest magnitude the code 0.

use bytemuck::{Pod, Zeroable};

use super::Traits;
use super::block::{
    Block, Encode, Importance, coded, extreme, half_from_f32, half_to_f32, pack_nibbles, reciprocal, unpack_nibbles,
};
use super::recode::{Coded, nearest_whole};
use super::search::{importance_weights, level, ray};
use super::settle::{self, Groups, Rays};

pub const TRAITS: Traits = coded::<Q4_0, 32>("Q4_0", Some(2));

/// One block; code `j` is paired with code `j + 16`.
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
pub struct Q4_0 {
    scale: [u8; 2],
    codes: [u8; 16],
}

impl Block<32> for Q4_0 {
    fn decode(&self, out: &mut [f32; 32]) {
        let scale = half_to_f32(self.scale);
        *out = unpack_nibbles(&self.codes).map(|code| scale * (f32::from(code) - 8.0));
    }
}

impl Coded<32> for Q4_0 {
    const LEVELS: [f32; 2] = [-8.0, -7.0];

    fn nearest(value: f32) -> (f32, u8) {
        nearest_whole(value, -8.0, 7.0)
    }

    fn put(&mut self, codes: &[u8; 32]) {
        self.codes = pack_nibbles(codes);
    }
}

impl Encode<32> for Q4_0 {
    #[inline(always)]
    fn encode(values: &[f32; 32], importance: Option<Importance<'_, 32>>) -> Q4_0 {
        if let Some(importance) = importance {
            let weights = importance_weights(importance.weights, values, importance.row_mean_square);
            let extreme = extreme(values);
            let starts = [ray(values, &weights, 8.0).scale, extreme / -8.0, extreme / 7.0];
            let starts = starts.map(|scale| Rays { scale, steps: [1.0] });
            let groups = Groups { values: &[*values], weights: &[weights], thorough: true };
            let place = |value| level(value, -8.0, 7.0);
            let found = settle::rays(groups, &starts, &(1.0..=1.0), place);
            let inverse = reciprocal(found.scale);
            let codes = values.map(|value| (place(value * inverse) + 8.0) as u8);
            return Q4_0 { scale: half_from_f32(found.scale), codes: pack_nibbles(&codes) };
        }
        let scale = extreme(values) / -8.0;
        let inverse = reciprocal(scale);
        let codes = values.map(|value| (value * inverse + 8.5).min(15.0) as u8);
        Q4_0 { scale: half_from_f32(scale), codes: pack_nibbles(&codes) }
    }
}
