//! Q2_0: 64 two-bit codes under one binary16 scale, value `scale * (code - 1)`: ternary values, and twice the scale
//! where a file was made with it. Values are stored as ternary, the scale their largest magnitude.

use bytemuck::{Pod, Zeroable};

use super::Traits;
use super::block::{Block, Encode, Importance, half_from_f32, half_to_f32, read_write};
use super::tq2_0::digits;

pub const TRAITS: Traits = read_write::<Q2_0, 64>("Q2_0", Some(42));

/// One block. Four neighbors share a byte, the first in the lowest bits.
#[allow(non_camel_case_types)]
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
pub struct Q2_0 {
    scale: [u8; 2],
    codes: [u8; 16],
}

impl Block<64> for Q2_0 {
    fn decode(&self, out: &mut [f32; 64]) {
        let scale = half_to_f32(self.scale);
        for (at, out) in out.iter_mut().enumerate() {
            *out = scale * (f32::from(self.codes[at / 4] >> (at % 4 * 2) & 3) - 1.0);
        }
    }
}

impl Encode<64> for Q2_0 {
    #[inline(always)]
    fn encode(values: &[f32; 64], _importance: Option<Importance<'_, 64>>) -> Q2_0 {
        let (scale, digits) = digits(values);
        let codes = |at: usize| (0..4).fold(0, |bits, place| bits | digits[4 * at + place] << (2 * place));
        Q2_0 { scale: half_from_f32(scale), codes: std::array::from_fn(codes) }
    }
}
