//! NVFP4 as GGUF has it: 64 four-bit floats in groups of 16, each under an unsigned FP8 scale; only read here.
//! The scale of the whole tensor that goes with it is a tensor of its own.

use bytemuck::{Pod, Zeroable};

use super::Traits;
use super::block::{Block, read_only};
use super::small_float::{E2M1, E4M3};

pub const TRAITS: Traits = read_only::<NVFP4, 64>("NVFP4", Some(40));

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
