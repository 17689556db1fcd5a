//! Reader of one GGUF file, versions 2 and 3, little-endian. Parts of a split file are joined in `split`, writing is in
//! `write`. After [`Gguf::parse`] every tensor lies in the file and no two overlap.
#![forbid(unsafe_code)]
#![deny(clippy::arithmetic_side_effects, clippy::indexing_slicing)]

mod cursor;
mod metadata;
mod split;
mod value;
mod write;

use std::collections::HashSet;
use std::ops::Range;

pub use metadata::Metadata;
pub(crate) use split::{Part, open_parts, whole_of};
pub use value::{Kind, Numbers, Texts, Value};
pub use write::{write, write_split};

use crate::dtype::Dtype;
use crate::error::{Error, Result, quoted};
use crate::mmap::Bytes;
use crate::size::Size;
use cursor::Cursor;
use value::LENGTH_BYTES;

/// What a file says of itself and of its tensors.
#[derive(Clone, Debug)]
pub struct Gguf {
    /// Version of the layout.
    pub version: u32,
    /// Keys and values.
    pub metadata: Metadata,
    /// The tensors in the order of the file's list.
    pub tensors: Vec<Tensor>,
}

/// One tensor of a file.
#[derive(Clone, Debug)]
pub struct Tensor {
    /// Its name.
    pub name: String,
    /// Kind of its values.
    pub dtype: Dtype,
    /// Outermost dimension first: the reverse of what stands in the file.
    pub shape: Vec<usize>,
    /// Where its bytes lie, counted from the start of the file.
    pub range: Range<usize>,
}

/// The most keys of a file: a thousand times what real ones have.
pub const KEYS_MAX: usize = 1 << 16;

/// The most tensors of a file: several times what the largest checkpoints have.
pub const TENSORS_MAX: usize = 1 << 18;

const MAGIC: &[u8] = b"GGUF";
const KEY_LENGTH_MAX: Size = Size::new(65_535);
const NAME_LENGTH_MAX: Size = Size::new(64);
const RANK_MAX: u32 = 4;

/// A key with its length, the kind of the value and the shortest value.
const KEY_BYTES_MIN: Size = Size::new(8 + 1 + 4 + 1);

/// A name with its length, the number of dimensions, the type and the offset.
const TENSOR_BYTES_MIN: Size = Size::new(8 + 1 + 4 + 4 + 8);

/// Whether a file begins as GGUF does.
pub fn recognizes(bytes: &[u8]) -> bool {
    bytes.starts_with(MAGIC)
}

impl Gguf {
    /// Reads and checks the head of a whole file. `file` is named in errors.
    pub fn parse(bytes: &Bytes, file: &str) -> Result<Gguf> {
        if !recognizes(bytes) {
            let what = format!("it does not begin with \"GGUF\"; it has {} bytes", bytes.len());
            return Err(Error::invalid(file, what));
        }
        let mut cursor = Cursor::new(bytes, file);
        cursor.u32(format_args!("the magic"))?;
        let version = version(&mut cursor, file)?;
        let tensor_count = cursor.u64(format_args!("the number of tensors"))?;
        let key_count = cursor.u64(format_args!("the number of keys"))?;
        let key_count = bounded(&cursor, "keys", key_count, KEY_BYTES_MIN, KEYS_MAX)?;
        let mut metadata = Metadata::new(file);
        for number in 0..key_count {
            let key = cursor.name(KEY_LENGTH_MAX, format_args!("key {number}"))?;
            let value = read_value(&mut cursor, &key)?;
            metadata.insert(key, value)?;
        }
        let tensor_count = bounded(&cursor, "tensors", tensor_count, TENSOR_BYTES_MIN, TENSORS_MAX)?;
        let mut raw = Vec::with_capacity(tensor_count);
        let mut seen = HashSet::with_capacity(tensor_count);
        for number in 0..tensor_count {
            let tensor = read_tensor(&mut cursor, number)?;
            if !seen.insert(tensor.name.clone()) {
                return Err(Error::invalid(file, format!("two tensors are named {}", quoted(&tensor.name))));
            }
            raw.push(tensor);
        }
        let alignment = Size::new(metadata.alignment()?.into());
        let data = cursor.at().round_up(alignment).map_err(Error::overflow(file, "the start of the data"))?;
        let place = Place { file, alignment, data, length: Size::of(bytes.len()) };
        let tensors = raw.into_iter().map(|tensor| place.tensor(tensor)).collect::<Result<Vec<Tensor>>>()?;
        place.check_overlaps(&tensors)?;
        Ok(Gguf { version, metadata, tensors })
    }
}

fn version(cursor: &mut Cursor<'_>, file: &str) -> Result<u32> {
    let version = cursor.u32(format_args!("the version"))?;
    match version {
        2 | 3 => Ok(version),
        _ if (1..=3).contains(&version.swap_bytes()) => {
            Err(Error::unsupported(file, "it is big-endian; only little-endian GGUF is read"))
        }
        _ => Err(Error::unsupported(file, format!("it has GGUF version {version}; versions 2 and 3 are read"))),
    }
}

/// A count from the file, compared with what can still follow before anything is reserved for it.
fn bounded(cursor: &Cursor<'_>, what: &str, count: u64, bytes_min: Size, limit: usize) -> Result<usize> {
    let needed = Size::new(count).mul(bytes_min);
    if needed.is_err() || needed.is_ok_and(|needed| needed > cursor.left()) {
        return Err(cursor.invalid(format!("it says it has {count} {what}, {} bytes are left", cursor.left())));
    }
    match usize::try_from(count) {
        Ok(count) if count <= limit => Ok(count),
        _ => Err(cursor.invalid(format!("it has {count} {what}, at most {limit} are read"))),
    }
}

fn read_kind(cursor: &mut Cursor<'_>, key: &str) -> Result<Kind> {
    let number = cursor.u32(format_args!("the kind of key {}", quoted(key)))?;
    let unknown = || cursor.invalid(format!("key {} has a value of the unknown kind {number}", quoted(key)));
    Kind::from_number(number).ok_or_else(unknown)
}

fn read_value(cursor: &mut Cursor<'_>, key: &str) -> Result<Value> {
    let kind = read_kind(cursor, key)?;
    let shown = quoted(key);
    let what = format_args!("the value of key {shown}");
    Ok(match kind {
        Kind::U8 => Value::U8(cursor.u8(what)?),
        Kind::I8 => Value::I8(cursor.u8(what)?.cast_signed()),
        Kind::U16 => Value::U16(cursor.u16(what)?),
        Kind::I16 => Value::I16(cursor.u16(what)?.cast_signed()),
        Kind::U32 => Value::U32(cursor.u32(what)?),
        Kind::I32 => Value::I32(cursor.u32(what)?.cast_signed()),
        Kind::U64 => Value::U64(cursor.u64(what)?),
        Kind::I64 => Value::I64(cursor.u64(what)?.cast_signed()),
        Kind::F32 => Value::F32(f32::from_bits(cursor.u32(what)?)),
        Kind::F64 => Value::F64(f64::from_bits(cursor.u64(what)?)),
        Kind::Bool => match cursor.u8(what)? {
            0 => Value::Bool(false),
            1 => Value::Bool(true),
            other => return Err(cursor.invalid(format!("key {shown} is a BOOL of {other}, it should be 0 or 1"))),
        },
        Kind::Text => Value::Text(cursor.text(cursor.left(), what)?),
        Kind::Array => read_array(cursor, key)?,
    })
}

fn read_array(cursor: &mut Cursor<'_>, key: &str) -> Result<Value> {
    let kind = read_kind(cursor, key)?;
    let shown = quoted(key);
    let what = format_args!("the list of key {shown}");
    let count = Size::new(cursor.u64(what)?);
    let overflow = || cursor.invalid(format!("key {shown} says it has {count} values, more than the file can hold"));
    if let Some(width) = kind.width() {
        let length = count.mul(Size::of(width)).map_err(|_| overflow())?;
        let stored = cursor.bytes(length, what)?;
        if kind == Kind::Bool && stored.iter().any(|&byte| byte > 1) {
            return Err(cursor.invalid(format!("key {shown} has a BOOL that is neither 0 nor 1")));
        }
        return Ok(Value::Numbers(Numbers::new(kind, stored)));
    }
    if kind == Kind::Array {
        return Err(cursor.invalid(format!("key {shown} is a list of lists, which no reader has a use for")));
    }
    let least = count.mul(Size::of(LENGTH_BYTES)).map_err(|_| overflow())?;
    if least > cursor.left() {
        return Err(overflow());
    }
    let mut starts = Vec::with_capacity(count.to_usize().map_err(|_| overflow())?);
    let first = cursor.at();
    for _ in 0..count.get() {
        starts.push(cursor.text_after(first, what)?);
    }
    Ok(Value::Texts(Texts::new(cursor.since(first)?, starts)))
}

/// A tensor as the file lists it, before its place is checked.
struct RawTensor {
    name: String,
    dtype: Dtype,
    shape: Vec<usize>,
    offset: Size,
}

fn read_tensor(cursor: &mut Cursor<'_>, number: usize) -> Result<RawTensor> {
    let name = cursor.name(NAME_LENGTH_MAX, format_args!("the name of tensor {number}"))?;
    let shown = quoted(&name);
    let rank = cursor.u32(format_args!("the number of dimensions of tensor {shown}"))?;
    if rank > RANK_MAX {
        return Err(cursor.invalid(format!("tensor {shown} has {rank} dimensions, at most {RANK_MAX} are allowed")));
    }
    let mut shape = Vec::new();
    for _ in 0..rank {
        // The format counts in signed 64 bits.
        let length = cursor.u64(format_args!("a dimension of tensor {shown}"))?.cast_signed();
        let length = Size::from_signed(length).and_then(Size::to_usize);
        shape.push(length.map_err(|overflow| cursor.invalid(format!("a dimension of tensor {shown} {overflow}")))?);
    }
    shape.reverse();
    let number = cursor.u32(format_args!("the type of tensor {shown}"))?;
    let unknown = || cursor.invalid(format!("tensor {shown} is of type {number}, which is unknown or was removed"));
    let dtype = Dtype::from_ggml_type(number).ok_or_else(unknown)?;
    let offset = Size::new(cursor.u64(format_args!("the offset of tensor {shown}"))?);
    Ok(RawTensor { name, dtype, shape, offset })
}

/// Where the data of a file lies.
struct Place<'a> {
    file: &'a str,
    alignment: Size,
    /// Start of the data; past the end where there is none.
    data: Size,
    /// Length of the file.
    length: Size,
}

impl Place<'_> {
    fn tensor(&self, RawTensor { name, dtype, shape, offset }: RawTensor) -> Result<Tensor> {
        let shown = quoted(&name);
        let invalid = |what: String| Error::invalid(self.file, format!("tensor {shown} {what}"));
        let overflow = |overflow| invalid(format!("of shape {shape:?}: its size in {dtype} {overflow}"));
        let length = dtype.byte_count(&shape).map_err(overflow)?;
        if !offset.is_multiple_of(self.alignment) {
            return Err(invalid(format!("begins at offset {offset}, which is no multiple of {}", self.alignment)));
        }
        if length == Size::ZERO {
            return Ok(Tensor { name, dtype, shape, range: 0..0 });
        }
        let start = self.data.add(offset).map_err(overflow)?;
        let end = start.add(length).map_err(overflow)?;
        if end > self.length {
            return Err(invalid(format!("ends at byte {end}, the file has {}", self.length)));
        }
        let range = start.to_usize().map_err(overflow)?..end.to_usize().map_err(overflow)?;
        Ok(Tensor { name, dtype, shape, range })
    }

    fn check_overlaps(&self, tensors: &[Tensor]) -> Result<()> {
        let mut order: Vec<&Tensor> = tensors.iter().filter(|tensor| !tensor.range.is_empty()).collect();
        order.sort_by_key(|tensor| tensor.range.start);
        match order.array_windows().find(|[one, next]| next.range.start < one.range.end) {
            Some([one, next]) => {
                let what = format!("tensors {} and {} share bytes", quoted(&one.name), quoted(&next.name));
                Err(Error::invalid(self.file, what))
            }
            None => Ok(()),
        }
    }
}
