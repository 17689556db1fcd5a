//! What Q4_K and Q5_K share: eight pairs of six-bit scales and minima in twelve bytes, and their search.

use super::block::{Importance, half_from_f32, half_to_f32, mean_square, sum};
use super::search::{Error, FINE_TRIES, Tries, importance_weights, level, line, unsigned};

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
pub fn search(values: &[f32; 256], importance: Option<Importance<'_, 256>>, highest: f32, plain: Tries) -> Found {
    let (groups, _) = values.as_chunks::<32>();
    let mut lines = [(0.0f32, 0.0f32); 8];
    let mut group_weights = [0.0; 8];
    for (group, values) in groups.iter().enumerate() {
        let weights: [f32; 32];
        let tries;
        if let Some(importance) = importance {
            let (important, _) = importance.weights.as_chunks::<32>();
            weights = importance_weights(&important[group], values, 2.0 * block_mean_square(groups));
            tries = FINE_TRIES;
        } else {
            let typical = mean_square(values).sqrt();
            weights = values.map(|value| typical + value.abs());
            tries = plain;
        }
        group_weights[group] = sum::<32>(|at| weights[at]);
        let found = line(values, &weights, highest, tries, Error::Squared);
        lines[group] = (found.scale, found.offset);
    }
    let steps = lines.map(|(scale, _)| scale);
    let offsets = lines.map(|(_, offset)| offset);
    let ((scale, steps), (minimum, offsets)) = match importance {
        Some(_) => (weighted(&steps, &group_weights), weighted(&offsets, &group_weights)),
        None => (by_largest(&steps), by_largest(&offsets)),
    };
    let pairs: [(u8, u8); 8] = std::array::from_fn(|group| (steps[group] as u8, offsets[group] as u8));
    let (stored_scale, stored_minimum) = (half_from_f32(scale), half_from_f32(minimum));
    let mut codes = [0; 256];
    let (code_groups, _) = codes.as_chunks_mut::<32>();
    for ((codes, values), (step, offset)) in code_groups.iter_mut().zip(groups).zip(pairs) {
        let step = half_to_f32(stored_scale) * f32::from(step);
        let offset = half_to_f32(stored_minimum) * f32::from(offset);
        if step != 0.0 {
            *codes = values.map(|value| level((value + offset) / step, 0.0, highest) as u8);
        }
    }
    Found { scale: stored_scale, minimum: stored_minimum, scales: pack_scales(&pairs), codes }
}

fn block_mean_square(groups: &[[f32; 32]]) -> f32 {
    mean_square(groups.as_flattened())
}

/// Six-bit levels under the scale that gives the largest value the level 63.
fn by_largest(values: &[f32; 8]) -> (f32, [f32; 8]) {
    let largest = values.iter().copied().fold(0.0, f32::max);
    let inverse = if largest > 0.0 { 63.0 / largest } else { 0.0 };
    (largest / 63.0, values.map(|value| level(inverse * value, 0.0, 63.0)))
}

fn weighted(values: &[f32; 8], weights: &[f32; 8]) -> (f32, [f32; 8]) {
    let found = unsigned(values, weights, 63.0);
    (found.scale, found.levels)
}
