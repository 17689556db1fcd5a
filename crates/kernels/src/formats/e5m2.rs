//! E5M2: OFP8 with five exponent bits, up to 57344. Larger values are stored as the greatest number.

use super::small_float::{self, E5M2};
use super::{Traits, Weights};

pub const TRAITS: Traits = Traits {
    name: "E5M2",
    block: 1,
    bytes: 1,
    ggml_type: None,
    dequantize,
    quantize: Some(quantize),
    recode: None,
    dot,
};

/// The number of each code.
pub(super) static VALUES: [f32; 256] = small_float::table(E5M2);

fn dequantize(bytes: &[u8], out: &mut [f32]) {
    for (value, code) in out.iter_mut().zip(bytes) {
        *value = VALUES[usize::from(*code)];
    }
}

fn quantize(values: &[f32], _importance: Option<Weights<'_>>, out: &mut [u8]) {
    for (code, value) in out.iter_mut().zip(values) {
        *code = E5M2.encode_saturating(*value);
    }
}

fn dot(bytes: &[u8], x: &[f32]) -> f32 {
    bytes.iter().zip(x).map(|(code, x)| VALUES[usize::from(*code)] * x).sum()
}
