//! What Q4_K and Q5_K share: eight pairs of six-bit scales and minima in twelve bytes, and their search.

use super::block::{Importance, each, half_from_f32, mean_square};
use super::search::{FINE_TRIES, Tries, shared_lines};
use super::settle::{self, Groups};

/// Twelve bytes: for groups 0 to 3 the low six bits of bytes `j` (scale) and `j + 4` (minimum); for groups 4 to 7
/// the halves of byte `j + 4`, and the top two bits of bytes `j - 4` and `j`.
pub fn unpack_scales(bytes: &[u8; 12]) -> [(u8, u8); 8] {
    std::array::from_fn(|group| {
        if group < 4 {
            (bytes[group] & 63, bytes[group + 4] & 63)
        } else {
            let low = bytes[group + 4];
            ((low & 15) | bytes[group - 4] >> 6 << 4, low >> 4 | bytes[group] >> 6 << 4)
        }
    })
}

/// The bytes that [`unpack_scales`] reads.
pub fn pack_scales(scales: &[(u8, u8); 8]) -> [u8; 12] {
    let mut bytes = [0; 12];
    for group in 0..4 {
        let (scale, minimum) = scales[group];
        let (high_scale, high_minimum) = scales[group + 4];
        bytes[group] = scale & 63 | high_scale >> 4 << 6;
        bytes[group + 4] = minimum & 63 | high_minimum >> 4 << 6;
        bytes[group + 8] = high_scale & 15 | high_minimum << 4;
    }
    bytes
}

/// A block's stored scales and the codes that go with them.
pub struct Found {
    /// The scale of the scales, binary16.
    pub scale: [u8; 2],
    /// The scale of the minima, binary16.
    pub minimum: [u8; 2],
    /// The packed six-bit scales and minima.
    pub scales: [u8; 12],
    /// `0..=highest` for each value.
    pub codes: [u8; 256],
}

/// The scales and codes `0..=highest` for 256 values. Without importance, `plain` tries per group.
#[inline(always)]
pub fn search(values: &[f32; 256], importance: Option<Importance<'_, 256>>, highest: f32, plain: Tries) -> Found {
    let groups: &[[f32; 32]; 8] = bytemuck::cast_ref(values);
    let weights: [[f32; 32]; 8] = each(|group| match importance {
        // The mean square of an input is what the square of its weight's error costs in the output, so that nothing is
        // to be added for large weights: with the factor of `importance_weights` the divergence is 1 to 3 % higher.
        Some(importance) => importance.weights.as_chunks::<32>().0[group],
        None => {
            let typical = mean_square(&groups[group]).sqrt();
            each(|at| typical + groups[group][at].abs())
        }
    });
    let tries = if importance.is_some_and(|given| given.measured) { FINE_TRIES } else { plain };
    let start = shared_lines(groups, &weights, highest, tries, 63.0);
    let found = settle::lines(
        Groups { values: groups, weights: &weights, thorough: importance.is_some_and(|given| given.measured) },
        start,
        highest,
        &(0.0..=63.0),
    );
    let codes: [[u8; 32]; 8] = each(|group| found.codes(group, &groups[group], highest));
    Found {
        scale: half_from_f32(found.scale),
        minimum: half_from_f32(found.minimum),
        scales: pack_scales(&std::array::from_fn(|group| (found.steps[group] as u8, found.offsets[group] as u8))),
        codes: bytemuck::cast(codes),
    }
}
