//! INT8: blocks of 64 signed bytes under a largest magnitude in binary32, which comes first and stands for 127.
//! Checkpoints of bitsandbytes (LLM.int8, Dettmers et al., arXiv 2208.07339) keep one for each row; it is repeated here.

use bytemuck::{Pod, Zeroable};

use super::Traits;
use super::bitsandbytes::largest;
use super::block::{Block, Encode, Importance, read_write};

pub const TRAITS: Traits = read_write::<INT8, 64>("INT8", None);

/// One step of the codes; the reference multiplies by it last.
const STEP: f32 = 1.0 / 127.0;

/// One block.
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
pub struct INT8 {
    largest: [u8; 4],
    codes: [i8; 64],
}

impl Block<64> for INT8 {
    fn decode(&self, out: &mut [f32; 64]) {
        let largest = f32::from_le_bytes(self.largest);
        *out = self.codes.map(|code| f32::from(code) * largest * STEP);
    }
}

impl Encode<64> for INT8 {
    #[inline(always)]
    fn encode(values: &[f32; 64], _importance: Option<Importance<'_, 64>>) -> INT8 {
        let largest = largest(values);
        let scale = if largest == 0.0 { 0.0 } else { 127.0 / largest };
        // A cast saturates, and turns NaN into 0.
        let codes = values.map(|value| (value * scale).round_ties_even() as i8);
        INT8 { largest: largest.to_le_bytes(), codes }
    }
}
