//! Q8_K: 256 signed bytes under one binary32 scale, with the sum of each sixteen: how products of the K formats see
//! activations. Files hardly ever hold it. The scale's sign gives the value of largest magnitude the code -127.

use bytemuck::{Pod, Zeroable};

use super::Traits;
use super::block::{Block, Encode, Importance, extreme, read_write};
use super::search::level;

pub const TRAITS: Traits = read_write::<Q8_K, 256>("Q8_K", Some(15));

/// One block; the sums are little-endian 16-bit numbers.
#[allow(non_camel_case_types)]
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
pub struct Q8_K {
    scale: [u8; 4],
    codes: [i8; 256],
    sums: [[u8; 2]; 16],
}

impl Block<256> for Q8_K {
    fn decode(&self, out: &mut [f32; 256]) {
        let scale = f32::from_le_bytes(self.scale);
        *out = self.codes.map(|code| scale * f32::from(code));
    }
}

impl Encode<256> for Q8_K {
    #[inline(always)]
    fn encode(values: &[f32; 256], _importance: Option<Importance<'_, 256>>) -> Q8_K {
        let extreme = extreme(values);
        if extreme == 0.0 {
            return Q8_K::zeroed();
        }
        let inverse = -127.0 / extreme;
        let codes = values.map(|value| level(inverse * value, -127.0, 127.0) as i8);
        let (groups, _) = codes.as_chunks::<16>();
        let sum = |group: &[i8; 16]| group.iter().map(|code| i16::from(*code)).sum::<i16>().to_le_bytes();
        Q8_K { scale: (1.0 / inverse).to_le_bytes(), codes, sums: std::array::from_fn(|at| sum(&groups[at])) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_come_back_within_half_a_step_and_sums_are_those_of_the_codes() {
        for seed in 0..64u32 {
            let mut state = seed.wrapping_mul(0x9e37_79b9) | 1;
            let values: [f32; 256] = std::array::from_fn(|_| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (state >> 8) as f32 / (1 << 23) as f32 - 1.0
            });
            let block = Q8_K::encode(&values, None);
            let mut found = [0.0; 256];
            block.decode(&mut found);
            let step = f32::from_le_bytes(block.scale).abs();
            for (value, found) in values.iter().zip(found) {
                assert!((value - found).abs() <= step * 0.500_01, "seed {seed}: {found} for {value}, step {step}");
            }
            for (codes, sum) in block.codes.chunks(16).zip(block.sums) {
                assert_eq!(codes.iter().map(|code| i16::from(*code)).sum::<i16>(), i16::from_le_bytes(sum));
            }
            let largest = values.iter().fold(0.0f32, |largest, value| largest.max(value.abs()));
            assert!((step * 127.0 - largest).abs() <= 1e-6 * largest, "the largest magnitude has the code 127");
        }
    }

    #[test]
    fn zeros_and_numbers_that_are_none_make_a_block() {
        for value in [0.0, f32::NAN, f32::INFINITY, f32::MIN_POSITIVE] {
            let mut found = [0.0; 256];
            Q8_K::encode(&[value; 256], None).decode(&mut found);
        }
    }
}
