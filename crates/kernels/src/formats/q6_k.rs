//! Q6_K: 256 six-bit codes in sixteen groups of 16, value `scale * group scale * (code - 32)`, the group scales
//! signed bytes under the block's binary16 scale.

use bytemuck::{Pod, Zeroable};

use super::Traits;
use super::block::{Block, Encode, Importance, extreme, half_from_f32, half_to_f32, read_write};
use super::search::{ZERO_GROUP, level, ray};

pub const TRAITS: Traits = read_write::<Q6_K, 256>("Q6_K", Some(14));

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

impl Encode<256> for Q6_K {
    fn encode(values: &[f32; 256], importance: Option<Importance<'_, 256>>) -> Q6_K {
        let (groups, _) = values.as_chunks::<16>();
        let wanted: [f32; 16] = std::array::from_fn(|at| {
            let weights = match importance {
                Some(importance) => importance.weights.as_chunks::<16>().0[at],
                None => groups[at].map(|value| value * value),
            };
            ray(&groups[at], &weights, 32.0).scale
        });
        let largest = extreme(&wanted);
        if largest.abs() < ZERO_GROUP {
            return Q6_K::zeroed();
        }
        let inverse = -128.0 / largest;
        let scale = half_from_f32(1.0 / inverse);
        let scales = wanted.map(|group| level(inverse * group, -128.0, 127.0) as i8);
        let mut codes = [0u8; 256];
        let (code_groups, _) = codes.as_chunks_mut::<16>();
        for ((codes, values), group) in code_groups.iter_mut().zip(groups).zip(scales) {
            let step = half_to_f32(scale) * f32::from(group);
            if step != 0.0 {
                *codes = values.map(|value| (level(value / step, -32.0, 31.0) + 32.0) as u8);
            }
        }
        pack(&codes, scales, scale)
    }
}

fn pack(codes: &[u8; 256], scales: [i8; 16], scale: [u8; 2]) -> Q6_K {
    let mut block = Q6_K { low: [0; 128], high: [0; 64], scales, scale };
    for half in 0..2 {
        let codes = &codes[128 * half..];
        for at in 0..32 {
            let [a, b, c, d] = [codes[at], codes[at + 32], codes[at + 64], codes[at + 96]];
            block.low[64 * half + at] = a & 15 | c << 4;
            block.low[64 * half + at + 32] = b & 15 | d << 4;
            block.high[32 * half + at] = a >> 4 | b >> 4 << 2 | c >> 4 << 4 | d >> 4 << 6;
        }
    }
    block
}
