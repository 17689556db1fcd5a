//! IQ4_NL: blocks of 32 four-bit codes of unevenly spaced levels under one binary16 scale, value `scale * level`.

use bytemuck::{Pod, Zeroable};

use super::Traits;
use super::block::{
    Block, Encode, Importance, coded, extreme, half_from_f32, half_to_f32, mean_square, pack_nibbles, reciprocal,
    unpack_nibbles,
};
use super::codebook::{NONLINEAR, nearest, scale};
use super::recode::Coded;
use super::search::importance_weights;
use super::settle::{self, Groups, Rays};

pub const TRAITS: Traits = coded::<IQ4_NL, 32>("IQ4_NL", Some(20));

/// One block; code `j` is paired with code `j + 16`.
#[allow(non_camel_case_types)]
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
pub struct IQ4_NL {
    scale: [u8; 2],
    codes: [u8; 16],
}

impl Block<32> for IQ4_NL {
    fn decode(&self, out: &mut [f32; 32]) {
        let scale = half_to_f32(self.scale);
        *out = unpack_nibbles(&self.codes).map(|code| scale * f32::from(NONLINEAR[usize::from(code)]));
    }
}

impl Coded<32> for IQ4_NL {
    const LEVELS: [f32; 2] = [NONLINEAR[0] as f32, NONLINEAR[1] as f32];

    fn nearest(value: f32) -> (f32, u8) {
        nearest(value)
    }

    fn put(&mut self, codes: &[u8; 32]) {
        self.codes = pack_nibbles(codes);
    }
}

impl Encode<32> for IQ4_NL {
    #[inline(always)]
    fn encode(values: &[f32; 32], importance: Option<Importance<'_, 32>>) -> IQ4_NL {
        let weights = match importance {
            Some(importance) => importance_weights(importance.weights, values, 2.0 * mean_square(values)),
            None => values.map(|value| value * value),
        };
        let extreme = extreme(values);
        let starts = [scale(values, &weights), extreme / -127.0, extreme / 113.0];
        let starts = starts.map(|scale| Rays { scale, steps: [1.0] });
        let groups = Groups {
            values: &[*values],
            weights: &[weights],
            thorough: importance.is_some_and(|given| given.measured),
        };
        let scale = settle::rays(groups, &starts, &(1.0..=1.0), |value| nearest(value).0).scale;
        let inverse = reciprocal(scale);
        let codes = values.map(|value| nearest(inverse * value).1);
        IQ4_NL { scale: half_from_f32(scale), codes: pack_nibbles(&codes) }
    }
}
