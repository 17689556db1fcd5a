//! The index of a checkpoint in several files (`*.index.json`): which file holds which tensor. The index and the names
//! in it are hostile; a shard is opened only by a plain name in the index's own folder.
#![forbid(unsafe_code)]
#![deny(clippy::arithmetic_side_effects, clippy::indexing_slicing)]

use std::collections::{BTreeSet, HashMap};

use serde_json::Value;

use crate::error::{Error, Result, quoted};
use crate::folder::{Folder, is_plain};
use crate::json;

/// What an index says.
#[derive(Clone, Debug)]
pub struct Index {
    /// The files, in alphabetical order, which is that of their numbers.
    pub shards: Vec<String>,
    /// For each tensor the name of its file.
    pub map: HashMap<String, String>,
}

/// The most files of one checkpoint.
const SHARDS_MAX: usize = 10_000;

/// Reads an index file of a folder. That each file is there, and holds what is said of it, is for the caller to check.
/// The index's `total_size` is not used: published ones are often wrong.
pub fn read(folder: &Folder, file: &str) -> Result<Index> {
    let value = json::read_in(folder, file)?.ok_or_else(|| folder.missing(format!("{file:?}")))?;
    let weights = value.get("weight_map").and_then(Value::as_object);
    let weights = weights.ok_or_else(|| Error::invalid(file, "it has no \"weight_map\" from tensors to files"))?;
    if weights.is_empty() {
        return Err(Error::invalid(file, "its \"weight_map\" names no tensor"));
    }
    let mut shards = BTreeSet::new();
    let mut map = HashMap::with_capacity(weights.len());
    for (tensor, shard) in weights {
        let Some(shard) = shard.as_str() else {
            return Err(Error::invalid(file, format!("the file of tensor {} is not given by name", quoted(tensor))));
        };
        if !is_plain(shard) {
            let what = format!("the file {} of tensor {} has no plain file name", quoted(shard), quoted(tensor));
            return Err(Error::invalid(file, what));
        }
        if !shards.contains(shard) {
            shards.insert(shard.to_owned());
        }
        if shards.len() > SHARDS_MAX {
            return Err(Error::invalid(file, format!("it names more than {SHARDS_MAX} files")));
        }
        map.insert(tensor.clone(), shard.to_owned());
    }
    Ok(Index { shards: shards.into_iter().collect(), map })
}
