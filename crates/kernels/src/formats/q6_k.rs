//! Q6_K: 256 six-bit codes in sixteen groups of 16, value `scale * group scale * (code - 32)`, the group scales
//! signed bytes under the block's binary16 scale.

use bytemuck::{Pod, Zeroable};

use super::Traits;
use super::block::{Block, Encode, Importance, coded, each, extreme, half_from_f32, half_to_f32, reciprocal};
use super::recode::{Coded, nearest_whole};
use super::search::{level, ray};
use super::settle::{self, Groups, Rays};

pub const TRAITS: Traits = coded::<Q6_K, 256>("Q6_K", Some(14));

/// One block. Each half of 128 values has 64 bytes of low halves (values 0 and 64, 32 and 96 share a byte) and 32
/// bytes of top bits (values 0, 32, 64, 96 share a byte, from the lowest bits up).
#[allow(non_camel_case_types)]
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
pub struct Q6_K {
    low: [u8; 128],
    high: [u8; 64],
    scales: [i8; 16],
    scale: [u8; 2],
}

impl Block<256> for Q6_K {
    fn decode(&self, out: &mut [f32; 256]) {
        let scale = half_to_f32(self.scale);
        let scales = self.scales.map(|group| scale * f32::from(group));
        for half in 0..2 {
            let (low, high) = (&self.low[64 * half..], &self.high[32 * half..]);
            let (out, scales) = (&mut out[128 * half..], &scales[8 * half..]);
            for quarter in 0..4 {
                let low = &low[quarter % 2 * 32..];
                let (low_shift, high_shift) = (quarter / 2 * 4, quarter * 2);
                for at in 0..32 {
                    let code = low[at] >> low_shift & 15 | (high[at] >> high_shift & 3) << 4;
                    out[32 * quarter + at] = scales[2 * quarter + at / 16] * (f32::from(code) - 32.0);
                }
            }
        }
    }
}

impl Coded<256> for Q6_K {
    const LEVELS: [f32; 2] = [-32.0, -31.0];

    fn nearest(value: f32) -> (f32, u8) {
        nearest_whole(value, -32.0, 31.0)
    }

    fn put(&mut self, codes: &[u8; 256]) {
        for half in 0..2 {
            let codes = &codes[128 * half..];
            for at in 0..32 {
                let [a, b, c, d] = [codes[at], codes[at + 32], codes[at + 64], codes[at + 96]];
                self.low[64 * half + at] = a & 15 | c << 4;
                self.low[64 * half + at + 32] = b & 15 | d << 4;
                self.high[32 * half + at] = a >> 4 | b >> 4 << 2 | c >> 4 << 4 | d >> 4 << 6;
            }
        }
    }
}

impl Encode<256> for Q6_K {
    #[inline(always)]
    fn encode(values: &[f32; 256], importance: Option<Importance<'_, 256>>) -> Q6_K {
        let groups: &[[f32; 16]; 16] = bytemuck::cast_ref(values);
        let weights = match importance {
            Some(importance) => *bytemuck::cast_ref::<_, [[f32; 16]; 16]>(importance.weights),
            None => each(|group| each(|at| groups[group][at] * groups[group][at])),
        };
        // A loop, as a closure as large as this search is not inlined.
        let mut wanted = [0.0; 16];
        for (at, scale) in wanted.iter_mut().enumerate() {
            *scale = ray(&groups[at], &weights[at], 32.0).scale;
        }
        let starts = [-128.0, -125.0].map(|lowest| {
            let scale = extreme(&wanted) / lowest;
            let inverse = reciprocal(scale);
            Rays { scale, steps: wanted.map(|group| level(inverse * group, -128.0, 127.0)) }
        });
        let place = |value| level(value, -32.0, 31.0);
        let found = settle::rays(
            Groups { values: groups, weights: &weights, thorough: importance.is_some_and(|given| given.measured) },
            &starts,
            &(-128.0..=127.0),
            place,
        );
        let codes: [[u8; 16]; 16] = each(|group| {
            let inverse = reciprocal(found.scale * found.steps[group]);
            each(|at| (place(groups[group][at] * inverse) + 32.0) as u8)
        });
        let (scales, scale) = (found.steps.map(|step| step as i8), half_from_f32(found.scale));
        let mut block = Q6_K { scales, scale, ..Q6_K::zeroed() };
        block.put(&bytemuck::cast(codes));
        block
    }
}
