//! Plain loops over a page of values. What they mean is said in `attend.rs` of the crate.

use half::f16;

use crate::Format;

pub(crate) fn mix<V: Copy + Into<f32>>(weights: &[f32], stride: usize, values: &[V], dim: usize, out: &mut [f32]) {
    for (weights, out) in weights.chunks(stride.max(1)).zip(out.chunks_exact_mut(dim)) {
        for (value, weight) in values.chunks_exact(dim).zip(weights) {
            out.iter_mut().zip(value).for_each(|(out, value)| *out += weight * (*value).into());
        }
    }
}

pub(crate) fn widen(x: &[f16], out: &mut [f32]) {
    x.iter().zip(out).for_each(|(x, out)| *out = x.to_f32());
}

pub(crate) fn narrow(x: &[f32], out: &mut [f16]) {
    x.iter().zip(out).for_each(|(x, out)| *out = f16::from_f32(*x));
}

pub(crate) fn decode(format: Format, blocks: &[u8], out: &mut [f32]) {
    format.dequantize(blocks, out);
}
