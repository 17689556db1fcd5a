//! Meta's original checkpoints: `consolidated.00.pth`, `consolidated.01.pth`, …, one file per model-parallel rank.
//! Joins the ranks' parts to whole tensors under Meta's own names. What those names mean belongs to the model's pages.

use std::collections::HashMap;

use super::Checkpoint;
use super::view::Tensor;
use crate::error::{Error, Result, quoted};

/// Whether a file name is `consolidated.NN.pth`.
pub fn is_shard_name(name: &str) -> bool {
    let digits = name.strip_prefix("consolidated.").and_then(|rest| rest.strip_suffix(".pth"));
    digits.is_some_and(|digits| (2..=4).contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_digit()))
}

/// How the ranks' parts of one tensor make the whole.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Join {
    Rows,
    Columns,
    /// Every rank has the whole.
    Same,
}

/// The whole tensors of a checkpoint, given its shards in the order of their ranks.
///
/// `folder` is named in errors; `kv_heads` is what `params.json` says of them. One shard needs no joining and may have
/// any names.
pub fn merge(folder: &str, shards: Vec<Checkpoint>, kv_heads: Option<u64>) -> Result<Checkpoint> {
    let ranks = shards.len();
    if kv_heads.is_some_and(|heads| heads < ranks as u64) {
        let what =
            "it has more shards than key and value heads, so that ranks share them; use the checkpoint with fewer";
        return Err(Error::unsupported(folder, what));
    }
    let mut shards = shards.into_iter();
    let first =
        shards.next().ok_or_else(|| Error::Missing { folder: folder.into(), what: "consolidated.00.pth".into() })?;
    if ranks == 1 {
        return Ok(first);
    }
    let mut others: Vec<HashMap<String, Tensor>> =
        shards.map(|shard| shard.tensors.into_iter().map(|tensor| (tensor.name.clone(), tensor)).collect()).collect();
    let width = first.tensors.iter().find(|tensor| tensor.name == "norm.weight").and_then(|norm| norm.shape.first());
    let Some(&width) = width else {
        return Err(Error::invalid(folder, "its first shard has no \"norm.weight\", so the model's width is unknown"));
    };
    let mut tensors = Vec::with_capacity(first.tensors.len());
    for tensor in first.tensors {
        let mut parts = vec![tensor];
        for (rank, other) in others.iter_mut().enumerate() {
            let name = &parts[0].name;
            let missing = || Error::invalid(folder, format!("shard {} has no tensor {}", rank + 1, quoted(name)));
            let part = other.remove(name).ok_or_else(missing)?;
            parts.push(part);
        }
        tensors.push(join(folder, parts, width)?);
    }
    if let Some((rank, name)) = others.iter().enumerate().find_map(|(rank, other)| Some((rank, other.keys().next()?))) {
        return Err(Error::invalid(
            folder,
            format!("shard {} has a tensor {} that shard 0 lacks", rank + 1, quoted(name)),
        ));
    }
    Ok(Checkpoint { tensors, wrapper: first.wrapper, left_out: first.left_out })
}

fn join(folder: &str, parts: Vec<Tensor>, width: usize) -> Result<Tensor> {
    let name = quoted(&parts[0].name);
    if parts.iter().any(|part| part.shape != parts[0].shape || part.dtype != parts[0].dtype) {
        return Err(Error::invalid(folder, format!("the shards' parts of {name} differ in shape or kind")));
    }
    let rule = rule(&parts, width);
    let rule = rule.ok_or_else(|| {
        let what = format!("the parts of {name}, {:?} in each of {} shards", parts[0].shape, parts.len());
        Error::unsupported(folder, format!("{what}, make no tensor of a model of width {width}"))
    })?;
    match rule {
        Join::Rows => Ok(Tensor::of_rows(parts)),
        Join::Columns => Ok(Tensor::of_columns(parts)),
        Join::Same => {
            let mut parts = parts.into_iter();
            let whole = parts.next().expect("merge gives a part of every rank");
            let bytes = whole.bytes()?;
            for part in parts {
                if part.bytes()?[..] != bytes[..] {
                    return Err(Error::invalid(folder, format!("the shards have different copies of {name}")));
                }
            }
            Ok(whole)
        }
    }
}

/// The rule for one name. Meta's layers split the side that is not the model's width; the embedding was split by
/// columns for Llama 2 and by rows for Llama 3, which its shape tells.
fn rule(parts: &[Tensor], width: usize) -> Option<Join> {
    let name = parts[0].name.as_str();
    let last = name.strip_suffix(".weight").map(|name| name.rsplit('.').next().unwrap_or(name));
    match (last, parts[0].shape.as_slice()) {
        (Some("norm" | "attention_norm" | "ffn_norm"), &[length]) if length == width => Some(Join::Same),
        (None, [_]) if name == "rope.freqs" => Some(Join::Same),
        (Some("tok_embeddings"), &[_, columns]) if columns.checked_mul(parts.len()) == Some(width) => {
            Some(Join::Columns)
        }
        (Some("tok_embeddings" | "output" | "wq" | "wk" | "wv" | "w1" | "w3"), &[_, columns]) if columns == width => {
            Some(Join::Rows)
        }
        (Some("wo" | "w2"), &[rows, _]) if rows == width => Some(Join::Columns),
        _ => None,
    }
}
