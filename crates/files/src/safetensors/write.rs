//! Writer of safetensors: one file, or shards of a bounded size with their index. The same tensors make the same bytes.
//! The header is written from the outlines, then each tensor's bytes as the caller supplies them.
#![forbid(unsafe_code)]
#![deny(clippy::arithmetic_side_effects, clippy::indexing_slicing)]

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};

use super::{HEADER_BYTES_MAX, METADATA, RANK_MAX, TENSORS_MAX};
use crate::dtype::Dtype;
use crate::durable::{self, Sink};
use crate::error::{Error, Result, file_name, quoted};
use crate::outline::{self, Outline, fill_checked};
use crate::size::Size;

/// Where the data begins, as the reference writer has it.
const ALIGNMENT: Size = Size::new(8);

/// Writes one file. `fill` is called for each tensor in the order of the data and puts its bytes: kinds with wide
/// values come first, so that each value is aligned; otherwise the order is the given one. `metadata` is the free text
/// that readers show.
pub fn write(
    path: &Path,
    metadata: &[(String, String)],
    tensors: &[Outline],
    mut fill: impl FnMut(&Outline, &mut Sink) -> Result<()>,
) -> Result<()> {
    write_shard(path, metadata, tensors, &mut fill)
}

/// Writes a checkpoint of one name into a folder: `STEM.safetensors` where its tensors have at most `shard_bytes_max`
/// bytes, else `STEM-00001-of-00003.safetensors` and so on with `STEM.safetensors.index.json`. Returns the files of
/// tensors.
///
/// An index of an earlier checkpoint is removed before its shards are replaced and the next one is written last, so
/// that no reader sees a mixture. Shards that are no longer named are left.
pub fn write_sharded(
    folder: &Path,
    stem: &str,
    metadata: &[(String, String)],
    tensors: &[Outline],
    shard_bytes_max: Size,
    mut fill: impl FnMut(&Outline, &mut Sink) -> Result<()>,
) -> Result<Vec<PathBuf>> {
    let shards = outline::shards(tensors, shard_bytes_max, stem)?;
    let index = folder.join(format!("{stem}.safetensors.index.json"));
    if shards.len() <= 1 {
        let path = folder.join(format!("{stem}.safetensors"));
        write_shard(&path, metadata, tensors, &mut fill)?;
        durable::remove(&index)?;
        return Ok(vec![path]);
    }
    // Names are checked over all shards before the first byte is written.
    check_names(stem, tensors)?;
    durable::remove(&index)?;
    let (mut map, mut paths, mut total) = (BTreeMap::new(), Vec::with_capacity(shards.len()), Size::ZERO);
    for (number, shard) in (1usize..).zip(&shards) {
        let name = format!("{stem}-{number:05}-of-{:05}.safetensors", shards.len());
        let path = folder.join(&name);
        write_shard(&path, metadata, shard, &mut fill)?;
        for tensor in *shard {
            total = total.add(tensor.byte_count(stem)?).map_err(Error::overflow(stem, "the length of all tensors"))?;
            map.insert(tensor.name.as_str(), name.clone());
        }
        paths.push(path);
    }
    let value = json!({"metadata": {"total_size": total.get()}, "weight_map": map});
    let text = serde_json::to_string_pretty(&value).expect("texts and numbers always make JSON");
    durable::write_file(&index, |sink| sink.put(format!("{text}\n").as_bytes()))?;
    Ok(paths)
}

fn write_shard(
    path: &Path,
    metadata: &[(String, String)],
    tensors: &[Outline],
    fill: &mut dyn FnMut(&Outline, &mut Sink) -> Result<()>,
) -> Result<()> {
    let file = file_name(path);
    check_names(&file, tensors)?;
    let mut ordered: Vec<&Outline> = tensors.iter().collect();
    ordered.sort_by_key(|tensor| Reverse(width(tensor.dtype)));
    let header = header(&file, metadata, &ordered)?;
    durable::write_file(path, |sink| {
        sink.put(&(header.len() as u64).to_le_bytes())?;
        sink.put(&header)?;
        ordered.iter().try_for_each(|tensor| fill_checked(tensor, sink, fill))
    })
}

/// Bytes of one value; none of a packed kind, which needs no alignment.
fn width(dtype: Dtype) -> u64 {
    dtype.byte_count(&[1]).map_or(0, Size::get)
}

fn check_names(file: &str, tensors: &[Outline]) -> Result<()> {
    if tensors.len() > TENSORS_MAX {
        return Err(Error::unsupported(file, format!("{} tensors are more than readers accept", tensors.len())));
    }
    let mut names = HashSet::with_capacity(tensors.len());
    for tensor in tensors {
        let name = tensor.name.as_str();
        if name == METADATA || !names.insert(name) {
            return Err(Error::unsupported(file, format!("two entries would be named {}", quoted(name))));
        }
    }
    Ok(())
}

fn header(file: &str, metadata: &[(String, String)], tensors: &[&Outline]) -> Result<Vec<u8>> {
    let mut entries = Map::new();
    if !metadata.is_empty() {
        let mut texts = Map::new();
        for (key, value) in metadata {
            if texts.insert(key.clone(), Value::from(value.as_str())).is_some() {
                return Err(Error::unsupported(file, format!("the metadata has {} twice", quoted(key))));
            }
        }
        entries.insert(METADATA.into(), Value::Object(texts));
    }
    let mut start = Size::ZERO;
    for tensor in tensors {
        let refuse = |what: String| Error::unsupported(file, format!("tensor {} {what}", quoted(&tensor.name)));
        let dtype = tensor.dtype.safetensors_name();
        let dtype = dtype.ok_or_else(|| refuse(format!("is {}, which safetensors does not have", tensor.dtype)))?;
        if tensor.shape.len() > RANK_MAX {
            return Err(refuse(format!("has {} dimensions, readers take {RANK_MAX}", tensor.shape.len())));
        }
        let end = start.add(tensor.byte_count(file)?).map_err(Error::overflow(file, "the length of all tensors"))?;
        let entry = json!({"dtype": dtype, "shape": tensor.shape, "data_offsets": [start.get(), end.get()]});
        entries.insert(tensor.name.clone(), entry);
        start = end;
    }
    let mut header = serde_json::to_vec(&Value::Object(entries)).expect("texts and numbers always make JSON");
    let overflow = |overflow| Error::overflow(file, "the header's length")(overflow);
    let length = Size::of(header.len()).round_up(ALIGNMENT).map_err(overflow)?;
    if length > HEADER_BYTES_MAX {
        return Err(Error::unsupported(file, format!("a header of {length} bytes, readers take {HEADER_BYTES_MAX}")));
    }
    header.resize(length.to_usize().map_err(overflow)?, b' ');
    Ok(header)
}
