//! TQ2_0: 256 ternary codes of two bits under one binary16 scale, value `scale * (code - 1)`.

use bytemuck::{Pod, Zeroable};

use super::Traits;
use super::block::{Block, Encode, Importance, half_from_f32, half_to_f32, read_write, reciprocal};

pub const TRAITS: Traits = read_write::<TQ2_0, 256>("TQ2_0", Some(35));

/// One block. Values 0, 32, 64 and 96 of each half share a byte, from the lowest bits up.
#[allow(non_camel_case_types)]
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
pub struct TQ2_0 {
    codes: [u8; 64],
    scale: [u8; 2],
}

impl Block<256> for TQ2_0 {
    fn decode(&self, out: &mut [f32; 256]) {
        let scale = half_to_f32(self.scale);
        for (at, out) in out.iter_mut().enumerate() {
            let code = self.codes[at / 128 * 32 + at % 32] >> (at % 128 / 32 * 2) & 3;
            *out = scale * (f32::from(code) - 1.0);
        }
    }
}

impl Encode<256> for TQ2_0 {
    #[inline(always)]
    fn encode(values: &[f32; 256], _importance: Option<Importance<'_, 256>>) -> TQ2_0 {
        let (scale, found) = digits(values);
        let mut block = TQ2_0 { codes: [0; 64], scale: half_from_f32(scale) };
        for (at, digit) in found.into_iter().enumerate() {
            block.codes[at / 128 * 32 + at % 32] |= digit << (at % 128 / 32 * 2);
        }
        block
    }
}

/// The largest magnitude, and 0, 1 or 2 for each value: its nearest multiple of that, and one.
pub fn digits<const N: usize>(values: &[f32; N]) -> (f32, [u8; N]) {
    let scale = values.iter().fold(0.0f32, |largest, value| largest.max(value.abs()));
    let inverse = reciprocal(scale);
    // The largest is lost where a signaling NaN follows it on some processors, so nothing holds the quotient but this.
    (scale, values.map(|value| ((value * inverse).round().clamp(-1.0, 1.0) + 1.0) as u8))
}
