//! MXFP4 in two tensors: bytes of two neighboring codes in blocks of 32 values, and one power of two for each block.

use pasture_files::{Bytes, Dtype};
use pasture_kernels::formats::{mxfp4_from_pairs, small_float::E8M0_NAN};

use super::Opening;
use crate::error::Result;
use crate::load::shape::wanted;

/// How the names of the two tensors end.
pub(super) const BLOCKS: &str = "_blocks";
const SCALES: &str = "_scales";

/// Codes of a block in bytes.
const CODES: usize = 16;

pub(super) struct Mxfp4 {
    blocks: Bytes,
    scales: Bytes,
}

/// The weight's shape, and what it is made of.
pub(super) fn open(opening: &mut Opening) -> Result<(Vec<usize>, Mxfp4)> {
    let (name, shape) = (opening.name, opening.shape().to_vec());
    let [outer @ .., groups, CODES] = &shape[..] else {
        return Err(opening.fault(name, format!("is {}, blocks of codes are 16 bytes", wanted(&shape))));
    };
    let cols = groups.checked_mul(2 * CODES).ok_or_else(|| opening.fault(name, "is too large"))?;
    let scales_shape = [outer, &[*groups]].concat();
    let other = format!("{}{SCALES}", name.strip_suffix(BLOCKS).unwrap_or(name));
    let scales = opening.beside(&other, &wanted(&scales_shape))?;
    opening.shaped(&other, &[scales_shape])?;
    for name in [name, &other] {
        if !matches!(opening.tensors.get(name).map(|entry| entry.dtype), Some(Dtype::U8 | Dtype::E8M0)) {
            return Err(opening.fault(name, "should be stored as U8"));
        }
    }
    Ok(([outer, &[cols]].concat(), Mxfp4 { blocks: opening.codes()?, scales }))
}

impl Mxfp4 {
    pub(super) fn row(&self, row: usize, cols: usize, out: &mut [u8]) -> std::result::Result<(), String> {
        let groups = cols / (2 * CODES);
        let scales = &self.scales[row * groups..][..groups];
        let (blocks, _) = self.blocks[row * groups * CODES..][..groups * CODES].as_chunks::<CODES>();
        for ((scale, block), out) in scales.iter().zip(blocks).zip(out.chunks_exact_mut(1 + CODES)) {
            if *scale == E8M0_NAN {
                return Err(format!("has a scale that is no number, in row {row}"));
            }
            out.copy_from_slice(&mxfp4_from_pairs(*scale, block));
        }
        Ok(())
    }
}
