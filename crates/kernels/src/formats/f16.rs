//! F16: IEEE 754 binary16, little endian, rounded to nearest even.

use half::f16;
use half::slice::{HalfBitsSliceExt, HalfFloatSliceExt};

use super::{Traits, Weights};

pub const TRAITS: Traits = Traits {
    name: "F16",
    block: 1,
    bytes: 2,
    ggml_type: Some(1),
    dequantize,
    quantize: Some(quantize),
    recode: None,
    dot,
};

/// Values converted at a time: the processor's own conversion wants slices, and stored bytes may lie unaligned.
const CHUNK: usize = 64;

fn dequantize(bytes: &[u8], out: &mut [f32]) {
    let mut bits = [0u16; CHUNK];
    for (out, bytes) in out.chunks_mut(CHUNK).zip(bytes.chunks(2 * CHUNK)) {
        for (bits, stored) in bits.iter_mut().zip(bytes.as_chunks::<2>().0) {
            *bits = u16::from_le_bytes(*stored);
        }
        bits[..out.len()].reinterpret_cast::<f16>().convert_to_f32_slice(out);
    }
}

fn quantize(values: &[f32], _importance: Option<Weights<'_>>, out: &mut [u8]) {
    let mut bits = [0u16; CHUNK];
    for (values, bytes) in values.chunks(CHUNK).zip(out.chunks_mut(2 * CHUNK)) {
        bits[..values.len()].reinterpret_cast_mut::<f16>().convert_from_f32_slice(values);
        for (bits, stored) in bits.iter().zip(bytes.as_chunks_mut::<2>().0) {
            *stored = bits.to_le_bytes();
        }
    }
}

fn dot(bytes: &[u8], x: &[f32]) -> f32 {
    let stored = bytes.as_chunks::<2>().0.iter().map(|stored| f16::from_le_bytes(*stored).to_f32());
    stored.zip(x).map(|(w, x)| w * x).sum()
}
