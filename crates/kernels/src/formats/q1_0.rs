//! Q1_0: 128 signs under one binary16 scale, value `scale` or `-scale`; the scale is the mean magnitude.

use bytemuck::{Pod, Zeroable};

use super::Traits;
use super::block::{Block, Encode, Importance, half_from_f32, half_to_f32, read_write};

pub const TRAITS: Traits = read_write::<Q1_0, 128>("Q1_0", Some(41));

/// One block. The sign of value `j` is bit `j`, from the lowest of the first byte; set where it is not negative.
#[allow(non_camel_case_types)]
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
pub struct Q1_0 {
    scale: [u8; 2],
    signs: [u8; 16],
}

impl Block<128> for Q1_0 {
    fn decode(&self, out: &mut [f32; 128]) {
        let scale = half_to_f32(self.scale);
        for (at, out) in out.iter_mut().enumerate() {
            *out = if self.signs[at / 8] >> (at % 8) & 1 == 0 { -scale } else { scale };
        }
    }
}

impl Encode<128> for Q1_0 {
    #[inline(always)]
    fn encode(values: &[f32; 128], _importance: Option<Importance<'_, 128>>) -> Q1_0 {
        // In this order, which the reference's bytes depend on.
        let total = values.iter().fold(0.0, |total, value| total + value.abs());
        let (eights, _) = values.as_chunks::<8>();
        let signs = |eight: &[f32; 8]| (0..8).fold(0, |bits, at| bits | u8::from(eight[at] >= 0.0) << at);
        Q1_0 { scale: half_from_f32(total / 128.0), signs: std::array::from_fn(|at| signs(&eights[at])) }
    }
}
