//! NVFP4 as GGUF has it: 64 four-bit floats in groups of 16, each under an unsigned FP8 scale.
//! The scale of the whole tensor that goes with it is a tensor of its own.

use bytemuck::{Pod, Zeroable};

use super::Traits;
use super::block::{Block, Encode, Importance, coded, reciprocal, sum};
use super::mxfp4::nearest;
use super::recode::Coded;
use super::small_float::{E2M1, E4M3};

pub const TRAITS: Traits = coded::<NVFP4, 64>("NVFP4", Some(40));

/// One block. In a group's eight bytes code `j` is paired with code `j + 8`.
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
pub struct NVFP4 {
    scales: [u8; 4],
    codes: [[u8; 8]; 4],
}

/// An unsigned E4M3: the sign bit is passed over, and the NaN is none (without the sign bit it is 0).
fn scale(code: u8) -> f32 {
    match code {
        0x7f => 0.0,
        0xff => 480.0,
        code => E4M3.decode(code & 0x7f),
    }
}

impl Block<64> for NVFP4 {
    fn decode(&self, out: &mut [f32; 64]) {
        let (groups, _) = out.as_chunks_mut::<16>();
        for ((out, codes), code) in groups.iter_mut().zip(&self.codes).zip(self.scales) {
            let scale = scale(code);
            for (at, byte) in codes.iter().enumerate() {
                out[at] = scale * E2M1.decode(byte & 15);
                out[at + 8] = scale * E2M1.decode(byte >> 4);
            }
        }
    }
}

impl Coded<64> for NVFP4 {
    const LEVELS: [f32; 2] = [0.0, 0.5];

    fn nearest(value: f32) -> (f32, u8) {
        let code = nearest(value);
        (E2M1.decode(code), code)
    }

    fn put(&mut self, codes: &[u8; 64]) {
        let (groups, _) = codes.as_chunks::<16>();
        self.codes =
            std::array::from_fn(|group| std::array::from_fn(|at| groups[group][at] | groups[group][at + 8] << 4));
    }
}

impl Encode<64> for NVFP4 {
    #[inline(always)]
    fn encode(values: &[f32; 64], importance: Option<Importance<'_, 64>>) -> NVFP4 {
        let mut block = NVFP4::zeroed();
        let (groups, _) = values.as_chunks::<16>();
        for (group, values) in groups.iter().enumerate() {
            let weights = importance.map_or([1.0; 16], |importance| importance.weights.as_chunks::<16>().0[group]);
            let code = scale_code(values, &weights);
            let inverse = reciprocal(scale(code));
            let codes = values.map(|value| nearest(value * inverse));
            block.scales[group] = code;
            block.codes[group] = std::array::from_fn(|at| codes[at] | codes[at + 8] << 4);
        }
        block
    }
}

/// The scale that makes the largest magnitude the greatest level, or one of its neighbors if that loses less.
fn scale_code(values: &[f32; 16], weights: &[f32; 16]) -> u8 {
    let largest = values.iter().fold(0.0f32, |largest, value| largest.max(value.abs()));
    let obvious = E4M3.encode_saturating(largest / 6.0) & 0x7f;
    let loss = |code: u8| {
        let (scale, inverse) = (scale(code), reciprocal(scale(code)));
        sum::<16>(|at| weights[at] * (scale * E2M1.decode(nearest(values[at] * inverse)) - values[at]).powi(2))
    };
    let mut best = (obvious, loss(obvious));
    for code in [obvious.saturating_sub(1), (obvious + 1).min(0x7e)] {
        let found = loss(code);
        if found < best.1 {
            best = (code, found);
        }
    }
    best.0
}
