//! E4M3 with scales in a tensor of their own: one for the whole tensor, one for each row, or one for each block of rows
//! and columns. A value is its code's number times its scale.

use pasture_files::Bytes;

use super::{BLOCK, Opening};
use crate::error::Result;

/// Names of the scales behind the weight's; both are multiplied with.
const SCALES: [&str; 2] = ["_scale_inv", "_scale"];

/// Scales of activations, for programs that round them to eight bits.
const ACTIVATIONS: [&str; 3] = ["input_scale", "input_scale_ub", "activation_scale"];

pub(super) struct Fp8 {
    codes: Bytes,
    scales: Vec<f32>,
    /// Rows and columns that share a scale, and scales beside each other.
    shared: [usize; 2],
    across: usize,
}

pub(super) fn open(opening: &mut Opening, block: Option<[usize; 2]>) -> Result<Fp8> {
    let name = opening.name;
    let &[rows, cols] = opening.shape() else {
        return Err(opening.fault(name, "is no matrix: scales of stacked weights are not known here"));
    };
    let ending = SCALES.into_iter().find(|ending| opening.has(ending)).unwrap_or(SCALES[usize::from(block.is_none())]);
    let shapes = match block {
        Some([high, wide]) => vec![vec![rows.div_ceil(high), cols.div_ceil(wide)]],
        None => vec![vec![rows, 1], vec![rows], vec![1], vec![], vec![1, 1]],
    };
    let scales = opening.numbers(&format!("{name}{ending}"), &shapes)?;
    let (shared, across) = match block {
        Some(block) => (block, cols.div_ceil(block[1])),
        None if scales.len() == 1 => ([rows.max(1), cols.max(1)], 1),
        None => ([1, cols.max(1)], 1),
    };
    let module = name.strip_suffix("weight").unwrap_or(name);
    for other in ACTIVATIONS {
        opening.leave(format!("{module}{other}"), "activations are not rounded to eight bits here");
    }
    Ok(Fp8 { codes: opening.codes()?, scales, shared, across })
}

impl Fp8 {
    pub(super) fn row(&self, row: usize, cols: usize, out: &mut [u8]) {
        let codes = &self.codes[row * cols..][..cols];
        let scales = &self.scales[row / self.shared[0] * self.across..][..self.across];
        for (at, (codes, out)) in codes.chunks_exact(BLOCK).zip(out.chunks_exact_mut(4 + BLOCK)).enumerate() {
            out[..4].copy_from_slice(&scales[at * BLOCK / self.shared[1]].to_le_bytes());
            out[4..].copy_from_slice(codes);
        }
    }
}
