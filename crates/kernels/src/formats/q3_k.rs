//! Q3_K: 256 three-bit codes in sixteen groups of 16, value `scale * (group scale - 32) * (code - 4)`, the group
//! scales six-bit numbers under the block's binary16 scale.

use bytemuck::{Pod, Zeroable};

use super::Traits;
use super::block::{
    Block, Encode, Importance, coded, extreme, half_from_f32, half_to_f32, mean_square, reciprocal, sum,
};
use super::recode::{Coded, nearest_whole};
use super::search::{ZERO_GROUP, importance_weights, level, ray, refine};
use super::settle::{self, Groups, Rays};

pub const TRAITS: Traits = coded::<Q3_K, 256>("Q3_K", Some(11));

/// One block. Bit `4 h + q` of a byte of `high` belongs to the value at that byte's place in quarter `q` of half `h`;
/// the low bits of quarters share bytes in the same order, one set of 32 bytes for each half.
#[allow(non_camel_case_types)]
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
pub struct Q3_K {
    high: [u8; 32],
    low: [u8; 64],
    scales: [u8; 12],
    scale: [u8; 2],
}

/// Where a group's codes lie.
struct Place {
    /// The first byte of the high bits.
    high: usize,
    /// The bit in those bytes.
    bit: usize,
    /// The first byte of the low bits.
    low: usize,
    /// The lower bit of the pair in those bytes.
    shift: usize,
}

fn place(group: usize) -> Place {
    let (half, quarter, start) = (group / 8, group % 8 / 2, group % 2 * 16);
    Place { high: start, bit: 4 * half + quarter, low: 32 * half + start, shift: 2 * quarter }
}

impl Block<256> for Q3_K {
    fn decode(&self, out: &mut [f32; 256]) {
        let scale = half_to_f32(self.scale);
        let scales = unpack_scales(&self.scales);
        let (groups, _) = out.as_chunks_mut::<16>();
        for (group, out) in groups.iter_mut().enumerate() {
            let step = scale * (f32::from(scales[group]) - 32.0);
            let place = place(group);
            let (high, low) = (&self.high[place.high..], &self.low[place.low..]);
            for (out, (high, low)) in out.iter_mut().zip(high.iter().zip(low)) {
                let code = low >> place.shift & 3 | (high >> place.bit & 1) << 2;
                *out = step * (f32::from(code) - 4.0);
            }
        }
    }
}

impl Coded<256> for Q3_K {
    const LEVELS: [f32; 2] = [-4.0, -3.0];

    fn nearest(value: f32) -> (f32, u8) {
        nearest_whole(value, -4.0, 3.0)
    }

    fn put(&mut self, codes: &[u8; 256]) {
        (self.high, self.low) = ([0; 32], [0; 64]);
        for (group, codes) in codes.as_chunks::<16>().0.iter().enumerate() {
            let place = place(group);
            for (at, code) in codes.iter().enumerate() {
                self.high[place.high + at] |= (code >> 2) << place.bit;
                self.low[place.low + at] |= (code & 3) << place.shift;
            }
        }
    }
}

impl Encode<256> for Q3_K {
    #[inline(always)]
    fn encode(values: &[f32; 256], importance: Option<Importance<'_, 256>>) -> Q3_K {
        let groups: &[[f32; 16]; 16] = bytemuck::cast_ref(values);
        let spread = 2.0 * mean_square(values);
        let (weights, wanted, totals);
        if let Some(importance) = importance {
            let important: &[[f32; 16]; 16] = bytemuck::cast_ref(importance.weights);
            weights = std::array::from_fn(|group| importance_weights(&important[group], &groups[group], spread));
            wanted = std::array::from_fn(|group| ray(&groups[group], &weights[group], 4.0).scale);
            totals = weights.map(|weights: [f32; 16]| sum::<16>(|at| weights[at]));
        } else {
            weights = groups.map(|values| values.map(|value| value * value));
            wanted = groups.map(|values| plain_scale(&values));
            totals = [1.0; 16];
        }
        let start = ray(&wanted, &totals, 32.0);
        let start = Rays { scale: start.scale, steps: start.levels };
        let place_level = |value| level(value, -4.0, 3.0);
        let weighed =
            Groups { values: groups, weights: &weights, thorough: importance.is_some_and(|given| given.measured) };
        let found = settle::rays(weighed, &[start], &(-32.0..=31.0), place_level);
        let mut block = Q3_K { scale: half_from_f32(found.scale), ..Q3_K::zeroed() };
        block.scales = pack_scales(&found.steps.map(|step| (step + 32.0) as u8));
        let codes: [[u8; 16]; 16] = std::array::from_fn(|group| {
            let inverse = reciprocal(found.scale * found.steps[group]);
            groups[group].map(|value| (place_level(value * inverse) + 4.0) as u8)
        });
        block.put(&bytemuck::cast(codes));
        block
    }
}

/// The scale of a group by its squares: the extreme value's, then single levels moved while that helps.
fn plain_scale(values: &[f32; 16]) -> f32 {
    let extreme = extreme(values);
    if extreme.abs() < ZERO_GROUP {
        return 0.0;
    }
    let inverse = -4.0 / extreme;
    let levels = values.map(|value| level(inverse * value, -4.0, 3.0));
    refine(values, &values.map(|value| value * value), levels, -4.0, 3.0).scale
}

/// Sixteen six-bit numbers in twelve bytes: the low halves as nibbles in bytes 0 to 7 (number `j` and `j + 8` share
/// one), the top bits in bytes 8 to 11 (numbers `j`, `j + 4`, `j + 8`, `j + 12` share one, from the lowest bits up).
fn unpack_scales(bytes: &[u8; 12]) -> [u8; 16] {
    std::array::from_fn(|at| bytes[at % 8] >> (at / 8 * 4) & 15 | (bytes[8 + at % 4] >> (at / 4 * 2) & 3) << 4)
}

fn pack_scales(scales: &[u8; 16]) -> [u8; 12] {
    let mut bytes = [0; 12];
    for (at, scale) in scales.iter().enumerate() {
        bytes[at % 8] |= (scale & 15) << (at / 8 * 4);
        bytes[8 + at % 4] |= (scale >> 4) << (at / 4 * 2);
    }
    bytes
}
