//! The Open Compute microscaling formats in two tensors: element codes, and one power of two for each 32 of a row. Codes
//! of eight bits have a type of their own; smaller ones stand in bytes, from the lowest bit of the first one on. The
//! layout is that of compressed-tensors (`mxfp8-quantized`, `mxfp6-pack-quantized`, `mxfp4-pack-quantized`), also for the
//! element formats that it does not have.

use pasture_files::{Bytes, Dtype};
use pasture_kernels::Format;
use pasture_kernels::formats::{mxfp4_from_pairs, small_float::E8M0_NAN};

use super::Opening;
use crate::error::Result;
use crate::load::shape::wanted;

/// What stands behind a weight's name where its codes share bytes, and behind that of the scales.
pub(in crate::load) const PACKED: &str = "_packed";
const SCALE: &str = "_scale";

/// Values under a scale.
const BLOCK: usize = 32;

pub(super) struct Mx {
    format: Format,
    codes: Bytes,
    scales: Bytes,
}

/// The name of the scales of a weight.
fn scales_of(name: &str) -> String {
    format!("{}{SCALE}", name.strip_suffix(PACKED).unwrap_or(name))
}

/// Whether a tensor is the codes of such a weight: it has scales.
pub(super) fn is_one(opening: &Opening) -> bool {
    opening.tensors.get(&scales_of(opening.name)).is_some()
}

/// The weight's shape, and what it is made of.
pub(super) fn open(opening: &mut Opening, format: Format) -> Result<(Vec<usize>, Mx)> {
    let name = opening.name;
    let &[rows, bytes] = opening.shape() else {
        return Err(opening.fault(name, "is no matrix: scales of stacked weights are not known here"));
    };
    let codes = match format {
        Format::MXFP8_E4M3 => Dtype::Number(Format::E4M3),
        Format::MXFP8_E5M2 => Dtype::Number(Format::E5M2),
        _ => Dtype::U8,
    };
    if opening.tensors.get(name).map(|entry| entry.dtype) != Some(codes) {
        return Err(opening.fault(name, format!("should be stored as {codes}")));
    }
    // The first byte of a block in memory is its scale.
    let of_block = format.block_bytes() - 1;
    if !bytes.is_multiple_of(of_block) {
        let what = format!("has rows of {bytes} bytes, which are no whole blocks of {of_block}");
        return Err(opening.fault(name, what));
    }
    let (other, groups) = (scales_of(name), bytes / of_block);
    let shape = vec![rows, groups];
    let scales = opening.beside(&other, &wanted(&shape))?;
    opening.shaped(&other, &[shape])?;
    if !matches!(opening.tensors.get(&other).map(|entry| entry.dtype), Some(Dtype::U8 | Dtype::E8M0)) {
        return Err(opening.fault(&other, "should be stored as U8"));
    }
    Ok((vec![rows, groups * BLOCK], Mx { format, codes: opening.codes()?, scales }))
}

impl Mx {
    pub(super) fn row(&self, row: usize, cols: usize, out: &mut [u8]) -> std::result::Result<(), String> {
        let (groups, of_block) = (cols / BLOCK, self.format.block_bytes() - 1);
        let scales = &self.scales[row * groups..][..groups];
        let codes = &self.codes[row * groups * of_block..][..groups * of_block];
        let blocks = out.chunks_exact_mut(1 + of_block);
        for ((scale, codes), out) in scales.iter().zip(codes.chunks_exact(of_block)).zip(blocks) {
            if *scale == E8M0_NAN {
                return Err(format!("has a scale that is no number, in row {row}"));
            }
            match codes.try_into() {
                Ok(pairs) if self.format == Format::MXFP4 => out.copy_from_slice(&mxfp4_from_pairs(*scale, pairs)),
                _ => {
                    out[0] = *scale;
                    out[1..].copy_from_slice(codes);
                }
            }
        }
        Ok(())
    }
}
