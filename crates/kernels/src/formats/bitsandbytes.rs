//! The block quantization of bitsandbytes checkpoints: codes and scales lie apart, blocks run over the flattened
//! tensor, and scales may be quantized once more. NF4, FP4 and the eight-bit dynamic levels.
//! Invariant: a last block may be short; no other is.

use super::nf4::NF4 as Block;

/// Sixteen levels and which of them a scaled value gets.
#[derive(Clone, Copy, Debug)]
pub struct FourBit {
    /// The level of each code.
    pub levels: [f32; 16],
    /// The codes from the lowest level up.
    order: &'static [u8],
    /// A value above the `n`th belongs to code `n + 1` of the order.
    middles: [f32; 15],
}

/// The quantiles of a normal distribution, with an exact zero.
pub const NF4: FourBit = FourBit {
    levels: [
        -1.0,
        -0.696_192_8,
        -0.525_073_05,
        -0.394_917_5,
        -0.284_441_38,
        -0.184_773_43,
        -0.091_050_036,
        0.0,
        0.079_580_3,
        0.160_930_2,
        0.246_112_3,
        0.337_915_24,
        0.440_709_83,
        0.562_617,
        0.722_956_84,
        1.0,
    ],
    order: &[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15],
    middles: [
        -0.848_096_4,
        -0.610_632_9,
        -0.459_995_27,
        -0.339_679_42,
        -0.234_607_41,
        -0.137_911_74,
        -0.045_525_018,
        0.039_790_15,
        0.120_255_25,
        0.203_521_25,
        0.292_013_76,
        0.389_312_53,
        0.501_663_4,
        0.642_786_9,
        0.861_478_4,
    ],
};

/// Four-bit floats with three exponent bits, the largest scaled to 1; the negative zero stands for small positives.
pub const FP4: FourBit = FourBit {
    levels: [
        0.0,
        0.005_208_333_5,
        0.666_666_7,
        1.0,
        0.333_333_34,
        0.5,
        0.166_666_67,
        0.25,
        0.0,
        -0.005_208_333_5,
        -0.666_666_7,
        -1.0,
        -0.333_333_34,
        -0.5,
        -0.166_666_67,
        -0.25,
    ],
    order: &[11, 10, 13, 12, 15, 14, 9, 0, 8, 1, 6, 7, 4, 5, 2, 3],
    middles: [
        -0.833_333_3,
        -0.583_333_3,
        -0.416_666_66,
        -0.291_666_66,
        -0.208_333_33,
        -0.085_937_5,
        -0.002_604_166_7,
        0.0,
        0.002_604_166_7,
        0.085_937_5,
        0.208_333_33,
        0.291_666_66,
        0.416_666_66,
        0.583_333_3,
        0.833_333_3,
    ],
};

/// The largest magnitude: the scale of a block. NaN is passed over.
pub fn largest(values: &[f32]) -> f32 {
    values.iter().fold(0.0f32, |largest, value| largest.max(value.abs()))
}

/// The code of a value that is already divided by its block's scale. NaN gets the lowest level's.
pub fn nearest_four_bit(table: &FourBit, value: f32) -> u8 {
    let place = table.middles.iter().filter(|middle| value > **middle).count();
    table.order[place]
}

/// The codes of one block, two to a byte, the first in the high half; an odd last code leaves the low half 0.
pub fn encode_four_bit(table: &FourBit, values: &[f32], scale: f32, codes: &mut [u8]) {
    let inverse = if scale == 0.0 { 0.0 } else { 1.0 / scale };
    for (byte, pair) in codes.iter_mut().zip(values.chunks(2)) {
        let high = nearest_four_bit(table, pair[0] * inverse);
        let low = pair.get(1).map_or(0, |value| nearest_four_bit(table, value * inverse));
        *byte = high << 4 | low;
    }
}

/// A flattened tensor to codes (half a byte each) and scales (one per `block` values, an even number).
pub fn quantize_four_bit(table: &FourBit, values: &[f32], block: usize, codes: &mut [u8], scales: &mut [f32]) {
    assert!(block.is_multiple_of(2) && codes.len() == values.len().div_ceil(2));
    assert_eq!(scales.len(), values.len().div_ceil(block));
    let parts = values.chunks(block).zip(codes.chunks_mut(block / 2)).zip(scales);
    for ((values, codes), scale) in parts {
        *scale = largest(values);
        encode_four_bit(table, values, *scale, codes);
    }
}

/// Codes and scales to the flattened tensor.
pub fn dequantize_four_bit(table: &FourBit, codes: &[u8], scales: &[f32], block: usize, out: &mut [f32]) {
    assert!(block.is_multiple_of(2) && codes.len() == out.len().div_ceil(2));
    assert_eq!(scales.len(), out.len().div_ceil(block));
    for ((out, codes), scale) in out.chunks_mut(block).zip(codes.chunks(block / 2)).zip(scales) {
        for (at, value) in out.iter_mut().enumerate() {
            let code = codes[at / 2] >> ((1 - at % 2) * 4) & 15;
            *value = scale * table.levels[usize::from(code)];
        }
    }
}

/// Codes and scales of NF4 in blocks of 64 to the bytes of [`super::Format::NF4`].
pub fn nf4_blocks(codes: &[u8], scales: &[f32], out: &mut [u8]) {
    let blocks = bytemuck::cast_slice_mut::<u8, Block>(out);
    let (codes, rest) = codes.as_chunks::<32>();
    assert!(rest.is_empty() && codes.len() == scales.len() && blocks.len() == scales.len());
    for ((block, codes), scale) in blocks.iter_mut().zip(codes).zip(scales) {
        *block = Block::from_parts(*scale, *codes);
    }
}

/// Scales that are themselves quantized: eight-bit codes of a table, in blocks, around an offset.
#[derive(Clone, Copy, Debug)]
pub struct Doubled<'a> {
    /// One code per scale.
    pub codes: &'a [u8],
    /// The level of each code, ascending.
    pub levels: &'a [f32; 256],
    /// One scale per block of scales.
    pub scales: &'a [f32],
    /// How many scales share one.
    pub block: usize,
    /// What is added to all.
    pub offset: f32,
}

impl Doubled<'_> {
    /// The scales.
    pub fn dequantize(&self, out: &mut [f32]) {
        assert!(self.codes.len() == out.len() && self.scales.len() == out.len().div_ceil(self.block));
        dequantize_eight_bit(self.levels, self.codes, self.scales, self.block, out);
        out.iter_mut().for_each(|scale| *scale += self.offset);
    }
}

/// The eight-bit dynamic levels: a sign, a decimal exponent in unary, and the rest of the bits for the fraction.
pub fn dynamic_levels() -> [f32; 256] {
    let mut levels = [0.0; 256];
    let mut next = 0;
    for exponent in 0..7 {
        let (count, power) = (1 << exponent, 10f64.powi(exponent - 6));
        for at in 0..count {
            // The middles of equal parts of 0.1 to 1.
            let level = power * (0.1 + 0.9 * (f64::from(at) + 0.5) / f64::from(count));
            (levels[next], levels[next + 1]) = (level as f32, -level as f32);
            next += 2;
        }
    }
    levels[next + 1] = 1.0;
    levels.sort_by(f32::total_cmp);
    levels
}

/// The eight-bit dynamic levels of values that are never negative: the sign's bit goes to the fraction.
pub fn dynamic_levels_unsigned() -> [f32; 256] {
    let mut levels = [0.0; 256];
    let mut next = 1;
    for exponent in 0..7 {
        let (count, power) = (2 << exponent, 10f64.powi(exponent - 6));
        for at in 0..count {
            levels[next] = (power * (0.1 + 0.9 * (f64::from(at) + 0.5) / f64::from(count))) as f32;
            next += 1;
        }
    }
    levels[next] = 1.0;
    levels.sort_by(f32::total_cmp);
    levels
}

/// The code of the level nearest to a scaled value; half way counts as the lower.
pub fn nearest_eight_bit(levels: &[f32; 256], value: f32) -> u8 {
    let above = levels.partition_point(|level| *level < value).clamp(1, 255);
    let middle = (levels[above - 1] + levels[above]) * 0.5;
    if value > middle { above as u8 } else { (above - 1) as u8 }
}

/// A flattened tensor to eight-bit codes and one scale per block.
pub fn quantize_eight_bit(levels: &[f32; 256], values: &[f32], block: usize, codes: &mut [u8], scales: &mut [f32]) {
    assert!(codes.len() == values.len() && scales.len() == values.len().div_ceil(block));
    for ((values, codes), scale) in values.chunks(block).zip(codes.chunks_mut(block)).zip(scales) {
        *scale = largest(values);
        let inverse = if *scale == 0.0 { 0.0 } else { 1.0 / *scale };
        for (code, value) in codes.iter_mut().zip(values) {
            *code = nearest_eight_bit(levels, value * inverse);
        }
    }
}

/// Eight-bit codes and scales to the flattened tensor.
pub fn dequantize_eight_bit(levels: &[f32; 256], codes: &[u8], scales: &[f32], block: usize, out: &mut [f32]) {
    assert!(codes.len() == out.len() && scales.len() == out.len().div_ceil(block));
    for ((out, codes), scale) in out.chunks_mut(block).zip(codes.chunks(block)).zip(scales) {
        for (value, code) in out.iter_mut().zip(codes) {
            *value = levels[usize::from(*code)] * scale;
        }
    }
}
