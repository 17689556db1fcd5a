//! Batches of the kit: padded texts side by side, of which only the tokens before the padding are run.

use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use pasture_files::Tensors;

/// A label that does not count.
const IGNORED: i32 = -100;

/// One text of a batch.
#[derive(Clone)]
pub struct Text {
    /// Token ids.
    pub ids: Vec<u32>,
    /// For each token, the one that should follow, where it counts.
    pub targets: Vec<Option<u32>>,
}

/// All batches of a file.
pub fn batches(path: &Path) -> Result<Vec<Vec<Text>>> {
    let tensors = Tensors::open(path)?;
    let entry = tensors.get("input_ids").context("no input_ids")?;
    let [count, texts, width] = entry.shape[..] else { anyhow::bail!("input_ids of shape {:?}", entry.shape) };
    let [ids, mask, labels] = ["input_ids", "attention_mask", "labels"].map(|name| integers(&tensors, name));
    let (ids, mask, labels) = (ids?, mask?, labels?);
    let text = |at: usize| {
        let row = at * width..(at + 1) * width;
        text(&ids[row.clone()], &mask[row.clone()], &labels[row])
    };
    (0..count).map(|batch| (0..texts).map(|at| text(batch * texts + at)).collect()).collect()
}

/// The texts of one padded batch whose tensors have a name before theirs.
pub(super) fn single(tensors: &Tensors, before: &str) -> Result<Vec<Text>> {
    let name = |part: &str| format!("{before}.{part}");
    let entry = tensors.get(&name("input_ids")).context("no input_ids")?;
    let [texts, width] = entry.shape[..] else { anyhow::bail!("input_ids of shape {:?}", entry.shape) };
    let [ids, mask, labels] = ["input_ids", "attention_mask", "labels"].map(|part| integers(tensors, &name(part)));
    let (ids, mask, labels) = (ids?, mask?, labels?);
    let row = |at: usize| at * width..(at + 1) * width;
    (0..texts).map(|at| text(&ids[row(at)], &mask[row(at)], &labels[row(at)])).collect()
}

fn text(ids: &[i32], mask: &[i32], labels: &[i32]) -> Result<Text> {
    let len = mask.iter().take_while(|seen| **seen == 1).count();
    ensure!(mask[len..].iter().all(|seen| *seen == 0), "a text with padding inside or before");
    ensure!(labels[len..].iter().all(|label| *label == IGNORED), "padding that counts");
    let target = |at: usize| labels.get(at + 1).filter(|label| **label != IGNORED).map(|label| *label as u32);
    Ok(Text { ids: ids[..len].iter().map(|id| *id as u32).collect(), targets: (0..len).map(target).collect() })
}

fn integers(tensors: &Tensors, name: &str) -> Result<Vec<i32>> {
    let bytes = tensors.bytes(name)?;
    Ok(bytes.chunks_exact(4).map(|four| i32::from_le_bytes(four.try_into().expect("four bytes"))).collect())
}

/// The values of an f32 tensor.
pub(super) fn floats(tensors: &Tensors, name: &str) -> Result<Vec<f32>> {
    let bytes = tensors.bytes(name)?;
    Ok(bytes.chunks_exact(4).map(|four| f32::from_le_bytes(four.try_into().expect("four bytes"))).collect())
}
