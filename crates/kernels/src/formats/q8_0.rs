//! Q8_0: blocks of 32 signed bytes under one binary16 scale, value `scale * code`.

use bytemuck::{Pod, Zeroable};

use super::Traits;
use super::block::{Block, Encode, Importance, half_from_f32, half_to_f32, read_write, reciprocal};

pub const TRAITS: Traits = read_write::<Q8_0, 32>("Q8_0", Some(8));

/// One block.
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
pub struct Q8_0 {
    scale: [u8; 2],
    codes: [i8; 32],
}

impl Block<32> for Q8_0 {
    fn decode(&self, out: &mut [f32; 32]) {
        let scale = half_to_f32(self.scale);
        for (out, code) in out.iter_mut().zip(&self.codes) {
            *out = scale * f32::from(*code);
        }
    }
}

impl Encode<32> for Q8_0 {
    #[inline(always)]
    fn encode(values: &[f32; 32], _importance: Option<Importance<'_, 32>>) -> Q8_0 {
        let largest = values.iter().fold(0.0f32, |largest, value| largest.max(value.abs()));
        let scale = largest / 127.0;
        let inverse = reciprocal(scale);
        Q8_0 { scale: half_from_f32(scale), codes: values.map(|value| (value * inverse).round() as i8) }
    }
}
