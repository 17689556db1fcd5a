//! BF16: the upper half of binary32, little endian, rounded to nearest even.

use half::bf16;

use super::{Traits, Weights};

pub const TRAITS: Traits = Traits {
    name: "BF16",
    block: 1,
    bytes: 2,
    ggml_type: Some(30),
    dequantize,
    quantize: Some(quantize),
    recode: None,
    dot,
};

fn dequantize(bytes: &[u8], out: &mut [f32]) {
    for (value, stored) in out.iter_mut().zip(bytes.chunks_exact(2)) {
        *value = bf16::from_le_bytes([stored[0], stored[1]]).to_f32();
    }
}

fn quantize(values: &[f32], _importance: Option<Weights<'_>>, out: &mut [u8]) {
    for (stored, value) in out.chunks_exact_mut(2).zip(values) {
        stored.copy_from_slice(&bf16::from_f32(*value).to_le_bytes());
    }
}

fn dot(bytes: &[u8], x: &[f32]) -> f32 {
    let stored = bytes.chunks_exact(2).map(|b| bf16::from_le_bytes([b[0], b[1]]).to_f32());
    stored.zip(x).map(|(w, x)| w * x).sum()
}
