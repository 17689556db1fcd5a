//! Reader of one safetensors file: header checked whole before any tensor is seen. Shards are joined in module
//! `tensors`, writing is in `write`. After [`parse`] every range lies in the file, no two overlap, and no byte belongs
//! to nobody.
#![forbid(unsafe_code)]
#![deny(clippy::arithmetic_side_effects, clippy::indexing_slicing)]

mod write;

use std::collections::HashSet;
use std::fmt;
use std::ops::Range;

use serde::Deserialize;
use serde::de::{Error as _, MapAccess, Visitor};

pub use write::{write, write_sharded};

use crate::dtype::Dtype;
use crate::error::{Error, Result, quoted};
use crate::json::fault_in;
use crate::mmap::Bytes;
use crate::size::Size;

/// The header of a file: what it holds and where.
#[derive(Clone, Debug)]
pub struct Header {
    /// Free text of the writer, in the order of the file.
    pub metadata: Vec<(String, String)>,
    /// The tensors in the order of their bytes.
    pub tensors: Vec<Tensor>,
}

/// One tensor of a file.
#[derive(Clone, Debug)]
pub struct Tensor {
    /// Its name; any text.
    pub name: String,
    /// Kind of its values.
    pub dtype: Dtype,
    /// Outermost dimension first, row-major.
    pub shape: Vec<usize>,
    /// Where its bytes lie, counted from the start of the file.
    pub range: Range<usize>,
}

/// Whether a file begins as safetensors do: a plausible length, then a brace.
pub fn recognizes(bytes: &[u8]) -> bool {
    bytes.get(8) == Some(&b'{') && header_range(bytes, "").is_ok()
}

/// Reads and checks the header of a whole file. `file` is named in errors.
pub fn parse(bytes: &Bytes, file: &str) -> Result<Header> {
    let header = header_range(bytes, file)?;
    let text = bytes.get(header.clone()).ok_or_else(|| Error::invalid(file, "the header ends outside the file"))?;
    if text.first() != Some(&b'{') {
        return Err(Error::invalid(file, "the header does not begin with \"{\""));
    }
    let raw: RawHeader = serde_json::from_slice(text).map_err(|fault| fault_in(file, &fault))?;
    let mut tensors = raw.tensors;
    // Data order; an empty tensor stands before the one that begins where it does.
    tensors.sort_by_key(|(_, entry)| entry.data_offsets);
    let data = Size::of(bytes.len()).sub(Size::of(header.end)).map_err(Error::overflow(file, "the data"))?;
    let mut end = Size::ZERO;
    let mut checked = Vec::with_capacity(tensors.len());
    for (name, entry) in tensors {
        let (tensor, next) = place(name, entry, end, header.end, file)?;
        if next > data {
            let what = format!("tensor {} ends at byte {next} of the data, which has {data}", quoted(&tensor.name));
            return Err(Error::invalid(file, what));
        }
        end = next;
        checked.push(tensor);
    }
    if end != data {
        return Err(Error::invalid(file, format!("the data has {data} bytes, the tensors cover {end}")));
    }
    Ok(Header { metadata: raw.metadata, tensors: checked })
}

/// The most bytes a header may have, as every reader of the format has it.
pub const HEADER_BYTES_MAX: Size = Size::new(100_000_000);

/// The most tensors in one file: several times what the largest checkpoints have.
pub const TENSORS_MAX: usize = 1 << 18;

/// The entry of a header that is no tensor.
const METADATA: &str = "__metadata__";

/// Dimensions of a tensor: as many as PyTorch allows.
const RANK_MAX: usize = 64;

fn header_range(bytes: &[u8], file: &str) -> Result<Range<usize>> {
    let length = bytes.first_chunk::<8>().map(|first| Size::new(u64::from_le_bytes(*first)));
    let length = length.ok_or_else(|| {
        Error::invalid(file, format!("it has {} bytes; a safetensors file has at least 10", bytes.len()))
    })?;
    let end = length.add(Size::new(8)).map_err(Error::overflow(file, "the header's length"))?;
    if length > HEADER_BYTES_MAX || end > Size::of(bytes.len()) {
        let what = format!("a header of {length} bytes in a file of {}; at most {HEADER_BYTES_MAX}", bytes.len());
        return Err(Error::invalid(file, what));
    }
    Ok(8..end.to_usize().map_err(Error::overflow(file, "the header's length"))?)
}

/// Checks one entry against the end of the one before it. Returns the tensor and its end in the data.
fn place(name: String, entry: RawEntry, before: Size, data_start: usize, file: &str) -> Result<(Tensor, Size)> {
    let shown = || format!("tensor {}", quoted(&name));
    let invalid = |what: String| Error::invalid(file, format!("{} {what}", shown()));
    let dtype = Dtype::from_safetensors(&entry.dtype)
        .ok_or_else(|| invalid(format!("is of type {}, which the format does not have", quoted(&entry.dtype))))?;
    if entry.shape.len() > RANK_MAX {
        return Err(invalid(format!("has {} dimensions, at most {RANK_MAX} are read", entry.shape.len())));
    }
    let overflow = |overflow| invalid(format!("of shape {:?}: its size {overflow}", entry.shape));
    let shape = entry.shape.iter().map(|&length| Size::new(length).to_usize()).collect::<Result<Vec<usize>, _>>();
    let shape = shape.map_err(overflow)?;
    let wanted = dtype.byte_count(&shape).map_err(overflow)?;
    let (start, end) = (Size::new(entry.data_offsets.0), Size::new(entry.data_offsets.1));
    if start != before {
        return Err(invalid(format!("begins at byte {start} of the data, the tensor before it ends at {before}")));
    }
    let found = end.sub(start).map_err(|_| invalid(format!("ends at byte {end}, before it begins at {start}")))?;
    if found != wanted {
        return Err(invalid(format!("has {found} bytes, {dtype} {shape:?} needs {wanted}")));
    }
    let absolute = |offset: Size| offset.add(Size::of(data_start)).and_then(Size::to_usize).map_err(overflow);
    let range = absolute(start)?..absolute(end)?;
    Ok((Tensor { name, dtype, shape, range }, end))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawEntry {
    dtype: String,
    shape: Vec<u64>,
    data_offsets: (u64, u64),
}

#[derive(Default)]
struct RawHeader {
    metadata: Vec<(String, String)>,
    tensors: Vec<(String, RawEntry)>,
}

impl<'de> Deserialize<'de> for RawHeader {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<RawHeader, D::Error> {
        deserializer.deserialize_map(HeaderVisitor)
    }
}

/// Collects the header in file order. The format forbids duplicate names, which a plain map would swallow.
struct HeaderVisitor;

impl<'de> Visitor<'de> for HeaderVisitor {
    type Value = RawHeader;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of tensors")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut object: A) -> Result<RawHeader, A::Error> {
        let mut header = RawHeader::default();
        let mut seen = HashSet::new();
        while let Some(name) = object.next_key::<String>()? {
            if !seen.insert(name.clone()) {
                return Err(A::Error::custom(format!("the name {} stands twice", quoted(&name))));
            }
            if name == METADATA {
                header.metadata = object.next_value::<Texts>()?.0;
            } else {
                header.tensors.push((name, object.next_value()?));
            }
            if header.tensors.len() > TENSORS_MAX {
                return Err(A::Error::custom(format!("more than {TENSORS_MAX} tensors")));
            }
        }
        Ok(header)
    }
}

struct Texts(Vec<(String, String)>);

impl<'de> Deserialize<'de> for Texts {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Texts, D::Error> {
        deserializer.deserialize_map(TextsVisitor)
    }
}

struct TextsVisitor;

impl<'de> Visitor<'de> for TextsVisitor {
    type Value = Texts;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of texts")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut object: A) -> Result<Texts, A::Error> {
        let mut texts = Vec::new();
        let mut seen = HashSet::new();
        while let Some((key, value)) = object.next_entry::<String, String>()? {
            if !seen.insert(key.clone()) {
                return Err(A::Error::custom(format!("the key {} stands twice in the metadata", quoted(&key))));
            }
            texts.push((key, value));
        }
        Ok(Texts(texts))
    }
}
