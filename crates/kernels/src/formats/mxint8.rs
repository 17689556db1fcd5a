//! MXINT8: 32 signed bytes in sixty-fourths under a power of two, the scale's byte first. -128 is never stored.

use bytemuck::{Pod, Zeroable};

use super::Traits;
use super::block::{Block, Encode, Importance, read_write};
use super::mx;

pub const TRAITS: Traits = read_write::<MXINT8, 32>("MXINT8", None);

/// One block.
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
pub struct MXINT8 {
    scale: u8,
    codes: [u8; 32],
}

impl Block<32> for MXINT8 {
    fn decode(&self, out: &mut [f32; 32]) {
        *out = mx::decode(self.scale, &self.codes, |code| f32::from(code.cast_signed()) / 64.0);
    }
}

impl Encode<32> for MXINT8 {
    #[inline(always)]
    fn encode(values: &[f32; 32], _importance: Option<Importance<'_, 32>>) -> MXINT8 {
        let element = |value: f32| ((value * 64.0).round_ties_even().clamp(-127.0, 127.0) as i8).cast_unsigned();
        let (scale, codes) = mx::encode(values, 0, element);
        MXINT8 { scale, codes }
    }
}
