//! F32: IEEE 754 binary32, little endian.

use super::{Traits, Weights};

pub const TRAITS: Traits = Traits {
    name: "F32",
    block: 1,
    bytes: 4,
    ggml_type: Some(0),
    dequantize,
    quantize: Some(quantize),
    recode: None,
    dot,
};

fn dequantize(bytes: &[u8], out: &mut [f32]) {
    for (value, stored) in out.iter_mut().zip(bytes.chunks_exact(4)) {
        *value = f32::from_le_bytes([stored[0], stored[1], stored[2], stored[3]]);
    }
}

fn quantize(values: &[f32], _importance: Option<Weights<'_>>, out: &mut [u8]) {
    for (stored, value) in out.chunks_exact_mut(4).zip(values) {
        stored.copy_from_slice(&value.to_le_bytes());
    }
}

fn dot(bytes: &[u8], x: &[f32]) -> f32 {
    let stored = bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]));
    stored.zip(x).map(|(w, x)| w * x).sum()
}
