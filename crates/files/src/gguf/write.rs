//! Writer of GGUF version 3: one file, or parts of a bounded size. The head is written from the outlines, then each
//! tensor's bytes as the caller supplies them, so that no more than a tensor need be in memory.
#![forbid(unsafe_code)]
#![deny(clippy::arithmetic_side_effects, clippy::indexing_slicing)]

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use super::metadata::{ALIGNMENT_KEY, Metadata};
use super::split::{COUNT_KEY, NUMBER_KEY, TENSORS_KEY, part_name};
use super::value::Value;
use super::{KEY_LENGTH_MAX, KEYS_MAX, MAGIC, NAME_LENGTH_MAX, RANK_MAX, TENSORS_MAX};
use crate::durable::{self, Sink};
use crate::error::{Error, Result, file_name, quoted};
use crate::outline::{Outline, fill_checked};
use crate::size::Size;

const VERSION: u32 = 3;

/// Writes one GGUF file. `fill` is called for each tensor in order and puts its bytes. The alignment is
/// `general.alignment` of the metadata, else 32.
pub fn write(
    path: &Path,
    metadata: &Metadata,
    tensors: &[Outline],
    mut fill: impl FnMut(&Outline, &mut Sink) -> Result<()>,
) -> Result<()> {
    let entries: Vec<(&str, &Value)> = metadata.iter().collect();
    write_part(path, &entries, alignment(metadata)?, tensors, &mut fill)
}

/// Writes a checkpoint in parts of at most `part_bytes_max` bytes of tensors (more where a single tensor has more),
/// named `STEM-00001-of-00003.gguf`; one part becomes `STEM.gguf`. Returns the paths. The first part, without which
/// none can be opened, is written last.
pub fn write_split(
    folder: &Path,
    stem: &str,
    metadata: &Metadata,
    tensors: &[Outline],
    part_bytes_max: Size,
    mut fill: impl FnMut(&Outline, &mut Sink) -> Result<()>,
) -> Result<Vec<PathBuf>> {
    let parts = crate::outline::shards(tensors, part_bytes_max, stem)?;
    // What another file said of its own parts does not hold here.
    let split_keys = [NUMBER_KEY, COUNT_KEY, TENSORS_KEY];
    let kept: Vec<(&str, &Value)> = metadata.iter().filter(|(key, _)| !split_keys.contains(key)).collect();
    let alignment = alignment(metadata)?;
    if parts.len() <= 1 {
        let path = folder.join(format!("{stem}.gguf"));
        write_part(&path, &kept, alignment, tensors, &mut fill)?;
        return Ok(vec![path]);
    }
    let too_many = |_| Error::unsupported(stem, format!("{} parts are more than the format counts", parts.len()));
    let count = u16::try_from(parts.len()).map_err(too_many)?;
    let total = i32::try_from(tensors.len()).map_err(too_many)?;
    let path = |index: u16| folder.join(part_name(stem, index.into(), count.into()));
    durable::remove(&path(0))?;
    for index in (1..count).chain([0]) {
        let split = [Value::U16(index), Value::U16(count), Value::I32(total)];
        let mut entries = if index == 0 { kept.clone() } else { Vec::new() };
        if let (1.., Some(value)) = (index, metadata.get(ALIGNMENT_KEY)) {
            entries.push((ALIGNMENT_KEY, value));
        }
        entries.extend(split_keys.into_iter().zip(&split));
        let part = parts.get(usize::from(index)).copied().unwrap_or_default();
        write_part(&path(index), &entries, alignment, part, &mut fill)?;
    }
    Ok((0..count).map(path).collect())
}

fn alignment(metadata: &Metadata) -> Result<Size> {
    Ok(Size::new(metadata.alignment()?.into()))
}

fn write_part(
    path: &Path,
    metadata: &[(&str, &Value)],
    alignment: Size,
    tensors: &[Outline],
    fill: &mut dyn FnMut(&Outline, &mut Sink) -> Result<()>,
) -> Result<()> {
    let file = file_name(path);
    let head = head(&file, metadata, alignment, tensors)?;
    durable::write_file(path, |sink| {
        sink.put(&head)?;
        sink.pad(alignment)?;
        for tensor in tensors {
            fill_checked(tensor, sink, fill)?;
            sink.pad(alignment)?;
        }
        Ok(())
    })
}

fn head(file: &str, metadata: &[(&str, &Value)], alignment: Size, tensors: &[Outline]) -> Result<Vec<u8>> {
    if metadata.len() > KEYS_MAX || tensors.len() > TENSORS_MAX {
        let what = format!("{} keys and {} tensors are more than readers accept", metadata.len(), tensors.len());
        return Err(Error::unsupported(file, what));
    }
    let mut head = Vec::new();
    head.extend(MAGIC);
    head.extend(VERSION.to_le_bytes());
    head.extend((tensors.len() as u64).to_le_bytes());
    head.extend((metadata.len() as u64).to_le_bytes());
    for (key, value) in metadata {
        if key.is_empty() || Size::of(key.len()) > KEY_LENGTH_MAX {
            return Err(Error::unsupported(file, format!("a key of {} bytes: {}", key.len(), quoted(key))));
        }
        put_text(&mut head, key.as_bytes());
        put_value(&mut head, value);
    }
    let mut names = HashSet::with_capacity(tensors.len());
    let mut offset = Size::ZERO;
    for tensor in tensors {
        put_tensor(&mut head, file, tensor, offset)?;
        if !names.insert(tensor.name.as_str()) {
            return Err(Error::unsupported(file, format!("two tensors are named {}", quoted(&tensor.name))));
        }
        let overflow = |overflow| Error::overflow(file, "the length of all tensors")(overflow);
        let end = offset.add(tensor.byte_count(file)?).map_err(overflow)?;
        offset = end.round_up(alignment).map_err(overflow)?;
    }
    Ok(head)
}

fn put_tensor(head: &mut Vec<u8>, file: &str, tensor: &Outline, offset: Size) -> Result<()> {
    let shown = quoted(&tensor.name);
    let refuse = |what: String| Error::unsupported(file, format!("tensor {shown} {what}"));
    // One byte less than the limit: other readers keep a zero at the end.
    if tensor.name.is_empty() || Size::of(tensor.name.len()) >= NAME_LENGTH_MAX {
        return Err(refuse(format!("has a name of {} bytes, GGUF takes 1 to 63", tensor.name.len())));
    }
    let rank = u32::try_from(tensor.shape.len()).ok().filter(|rank| *rank <= RANK_MAX);
    let rank = rank.ok_or_else(|| refuse(format!("has {} dimensions, GGUF takes 4", tensor.shape.len())))?;
    let number = tensor.dtype.ggml_type();
    let number = number.ok_or_else(|| refuse(format!("is {}, which GGUF does not have", tensor.dtype)))?;
    put_text(head, tensor.name.as_bytes());
    head.extend(rank.to_le_bytes());
    for &length in tensor.shape.iter().rev() {
        head.extend((length as u64).to_le_bytes());
    }
    head.extend(number.to_le_bytes());
    head.extend(offset.get().to_le_bytes());
    Ok(())
}

fn put_text(head: &mut Vec<u8>, text: &[u8]) {
    head.extend((text.len() as u64).to_le_bytes());
    head.extend(text);
}

fn put_value(head: &mut Vec<u8>, value: &Value) {
    head.extend((value.kind() as u32).to_le_bytes());
    match value {
        Value::U8(value) => head.extend(value.to_le_bytes()),
        Value::I8(value) => head.extend(value.to_le_bytes()),
        Value::U16(value) => head.extend(value.to_le_bytes()),
        Value::I16(value) => head.extend(value.to_le_bytes()),
        Value::U32(value) => head.extend(value.to_le_bytes()),
        Value::I32(value) => head.extend(value.to_le_bytes()),
        Value::U64(value) => head.extend(value.to_le_bytes()),
        Value::I64(value) => head.extend(value.to_le_bytes()),
        Value::F32(value) => head.extend(value.to_le_bytes()),
        Value::F64(value) => head.extend(value.to_le_bytes()),
        Value::Bool(value) => head.push(u8::from(*value)),
        Value::Text(text) => put_text(head, text),
        Value::Texts(texts) => {
            head.extend((super::Kind::Text as u32).to_le_bytes());
            head.extend((texts.len() as u64).to_le_bytes());
            head.extend(texts.stored());
        }
        Value::Numbers(numbers) => {
            head.extend((numbers.kind() as u32).to_le_bytes());
            head.extend((numbers.len() as u64).to_le_bytes());
            head.extend(numbers.stored());
        }
    }
}
