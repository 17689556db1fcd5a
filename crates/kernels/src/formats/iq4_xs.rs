//! IQ4_XS: 256 four-bit codes of unevenly spaced levels in eight groups of 32, value
//! `scale * (group scale - 32) * level`, the group scales six-bit numbers under the block's binary16 scale.

use bytemuck::{Pod, Zeroable};

use super::Traits;
use super::block::{
    Block, Encode, Importance, coded, each, extreme, half_from_f32, half_to_f32, mean_square, pack_nibbles, reciprocal,
    unpack_nibbles,
};
use super::codebook::{NONLINEAR, nearest, scale};
use super::recode::Coded;
use super::search::{importance_weights, level};
use super::settle::{self, Groups, Rays};

pub const TRAITS: Traits = coded::<IQ4_XS, 256>("IQ4_XS", Some(23));

/// One block. A group's scale is four low bits in `scales_low` (the even groups in the low halves) and two in the
/// 16-bit word `scales_high`; in a group's sixteen bytes code `j` is paired with code `j + 16`.
#[allow(non_camel_case_types)]
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
pub struct IQ4_XS {
    scale: [u8; 2],
    scales_high: [u8; 2],
    scales_low: [u8; 4],
    codes: [[u8; 16]; 8],
}

impl Block<256> for IQ4_XS {
    fn decode(&self, out: &mut [f32; 256]) {
        let scale = half_to_f32(self.scale);
        let high = u16::from_le_bytes(self.scales_high);
        let (groups, _) = out.as_chunks_mut::<32>();
        for (group, (out, codes)) in groups.iter_mut().zip(&self.codes).enumerate() {
            let low = self.scales_low[group / 2] >> (group % 2 * 4) & 15;
            let step = scale * (f32::from(low | ((high >> (2 * group) & 3) as u8) << 4) - 32.0);
            *out = unpack_nibbles(codes).map(|code| step * f32::from(NONLINEAR[usize::from(code)]));
        }
    }
}

impl Coded<256> for IQ4_XS {
    const LEVELS: [f32; 2] = [NONLINEAR[0] as f32, NONLINEAR[1] as f32];

    fn nearest(value: f32) -> (f32, u8) {
        nearest(value)
    }

    fn put(&mut self, codes: &[u8; 256]) {
        let (groups, _) = codes.as_chunks::<32>();
        self.codes = std::array::from_fn(|group| pack_nibbles(&groups[group]));
    }
}

impl Encode<256> for IQ4_XS {
    #[inline(always)]
    fn encode(values: &[f32; 256], importance: Option<Importance<'_, 256>>) -> IQ4_XS {
        let groups: &[[f32; 32]; 8] = bytemuck::cast_ref(values);
        let spread = 2.0 * mean_square(values);
        let weights: [[f32; 32]; 8] = each(|group| {
            let values = &groups[group];
            match importance {
                Some(importance) => importance_weights(&importance.weights.as_chunks::<32>().0[group], values, spread),
                None => values.map(|value| value * value),
            }
        });
        let wanted: [f32; 8] = each(|group| scale(&groups[group], &weights[group]));
        let start = extreme(&wanted) / -32.0;
        let inverse = reciprocal(start);
        let start = Rays { scale: start, steps: wanted.map(|group| level(inverse * group, -32.0, 31.0)) };
        let groups =
            Groups { values: groups, weights: &weights, thorough: importance.is_some_and(|given| given.measured) };
        let found = settle::rays(groups, &[start], &(-32.0..=31.0), |value| nearest(value).0);
        let mut block = IQ4_XS { scale: half_from_f32(found.scale), ..IQ4_XS::zeroed() };
        let mut high = 0;
        for (group, values) in groups.values.iter().enumerate() {
            let inverse = reciprocal(found.scale * found.steps[group]);
            block.codes[group] = pack_nibbles(&values.map(|value| nearest(inverse * value).1));
            let stored = (found.steps[group] + 32.0) as u8;
            block.scales_low[group / 2] |= (stored & 15) << (group % 2 * 4);
            high |= u16::from(stored >> 4) << (2 * group);
        }
        block.scales_high = high.to_le_bytes();
        block
    }
}
