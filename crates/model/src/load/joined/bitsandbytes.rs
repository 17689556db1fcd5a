//! Weights of bitsandbytes: four-bit codes of a flattened matrix in blocks, whose largest magnitudes may be quantized
//! once more (Dettmers et al., arXiv 2305.14314), and signed bytes with the largest magnitude of each row.

use pasture_files::{Bytes, json};
use pasture_kernels::formats::bitsandbytes::{Doubled, FP4, NF4};
use serde_json::Value;

use super::{BLOCK, Opening};
use crate::error::Result;
use crate::load::shape::wanted;

/// Largest text that describes a weight.
const STATE_MAX: usize = 4096;

pub(super) struct FourBit {
    codes: Bytes,
    largest: Vec<f32>,
    /// Values that share a largest magnitude.
    block: usize,
}

pub(super) struct Int8 {
    codes: Bytes,
    largest: Vec<f32>,
}

/// What the file says of a weight.
struct State {
    shape: Vec<usize>,
    block: usize,
    /// Magnitudes that share one of theirs, and what is added to all.
    nested: Option<(usize, f32)>,
}

/// The weight's shape, and what it is made of.
pub(super) fn open_four_bit(opening: &mut Opening, normal: bool) -> Result<(Vec<usize>, FourBit)> {
    let name = opening.name;
    let State { shape, block, nested } = state(opening, if normal { "nf4" } else { "fp4" })?;
    let values: usize = shape.iter().product();
    let codes = opening.codes()?;
    if codes.len() != values.div_ceil(2) {
        let what = format!("has {} bytes of codes, a weight of {} needs {}", codes.len(), wanted(&shape), values / 2);
        return Err(opening.fault(name, what));
    }
    let map = format!("{name}.quant_map");
    let levels = if normal { NF4.levels } else { FP4.levels };
    if opening.numbers(&map, &[vec![16]])? != levels {
        return Err(opening.fault(&map, "holds levels other than those of its kind"));
    }
    let blocks = values.div_ceil(block);
    let absmax = format!("{name}.absmax");
    let largest = match nested {
        None => opening.numbers(&absmax, &[vec![blocks]])?,
        Some((every, offset)) => nested_largest(opening, &absmax, blocks, every, offset)?,
    };
    Ok((shape, FourBit { codes, largest, block }))
}

/// Largest magnitudes out of their codes.
fn nested_largest(opening: &mut Opening, absmax: &str, blocks: usize, every: usize, offset: f32) -> Result<Vec<f32>> {
    let name = opening.name;
    let codes = opening.beside(absmax, &wanted(&[blocks]))?;
    if codes.len() != blocks {
        return Err(opening.fault(absmax, format!("has {} bytes, it should have {blocks}", codes.len())));
    }
    let levels = opening.numbers(&format!("{name}.nested_quant_map"), &[vec![256]])?;
    let scales = opening.numbers(&format!("{name}.nested_absmax"), &[vec![blocks.div_ceil(every)]])?;
    let levels: &[f32; 256] = levels.first_chunk().ok_or_else(|| opening.fault(name, "has no 256 levels"))?;
    let mut largest = vec![0.0; blocks];
    Doubled { codes: &codes, levels, scales: &scales, block: every, offset }.dequantize(&mut largest);
    match largest.iter().all(|value| value.is_finite()) {
        true => Ok(largest),
        false => Err(opening.fault(absmax, "stands for numbers that are not finite")),
    }
}

/// Reads the text that describes a weight.
fn state(opening: &mut Opening, kind: &str) -> Result<State> {
    let state = format!("{}.quant_state.bitsandbytes__{kind}", opening.name);
    let bytes = opening.beside(&state, "the text that describes the weight")?;
    let text: Value = match bytes.len() {
        0..=STATE_MAX => json::parse(&bytes, &state)?,
        _ => return Err(opening.fault(&state, "is too long to describe a weight")),
    };
    let count = |key: &str| text[key].as_u64().and_then(|it| usize::try_from(it).ok()).filter(|it| *it > 0);
    let wrong = |key: &str, what: &str| opening.fault(&state, format!("has a {key:?} that is {what}"));
    let sizes = text["shape"].as_array().map_or(&[][..], |shape| shape);
    let sizes: Option<Vec<usize>> =
        sizes.iter().map(|size| usize::try_from(size.as_u64()?).ok().filter(|size| *size < 1 << 24)).collect();
    let shape = sizes.filter(|sizes| sizes.len() == 2).ok_or_else(|| wrong("shape", "no rows and columns"))?;
    let whole = |block: &usize| block.is_multiple_of(BLOCK);
    let block = count("blocksize").filter(whole).ok_or_else(|| wrong("blocksize", "no multiple of 64"))?;
    if text["quant_type"] != kind {
        return Err(wrong("quant_type", "not that of its name"));
    }
    let nested = match text.get("nested_blocksize") {
        None => None,
        Some(_) => {
            let every = count("nested_blocksize").ok_or_else(|| wrong("nested_blocksize", "no count"))?;
            let offset = text["nested_offset"].as_f64().map(|offset| offset as f32).filter(|it| it.is_finite());
            Some((every, offset.ok_or_else(|| wrong("nested_offset", "no number"))?))
        }
    };
    Ok(State { shape, block, nested })
}

/// Signed bytes with the largest magnitude of each row.
pub(super) fn open_int8(opening: &mut Opening) -> Result<Int8> {
    let name = opening.name;
    let module = name.strip_suffix("weight").unwrap_or(name);
    let &[rows, _] = opening.shape() else { return Err(opening.fault(name, "is no matrix")) };
    let format = format!("{module}weight_format");
    if opening.tensors.get(&format).is_some()
        && opening.beside(&format, "a single value")?.iter().any(|code| *code != 0)
    {
        return Err(opening.fault(&format, "says that rows are not as they are computed with, which is not known here"));
    }
    let largest = opening.numbers(&format!("{module}SCB"), &[vec![rows], vec![rows, 1]])?;
    Ok(Int8 { codes: opening.codes()?, largest })
}

impl FourBit {
    pub(super) fn row(&self, row: usize, cols: usize, out: &mut [u8]) {
        let codes = &self.codes[row * cols / 2..][..cols / 2];
        for (at, (codes, out)) in codes.chunks_exact(BLOCK / 2).zip(out.chunks_exact_mut(4 + BLOCK / 2)).enumerate() {
            let largest = self.largest[(row * cols + at * BLOCK) / self.block];
            out[..4].copy_from_slice(&largest.to_le_bytes());
            out[4..].copy_from_slice(codes);
        }
    }
}

impl Int8 {
    pub(super) fn row(&self, row: usize, cols: usize, out: &mut [u8]) {
        let codes = &self.codes[row * cols..][..cols];
        for (codes, out) in codes.chunks_exact(BLOCK).zip(out.chunks_exact_mut(4 + BLOCK)) {
            out[..4].copy_from_slice(&self.largest[row].to_le_bytes());
            out[4..].copy_from_slice(codes);
        }
    }
}
