//! Metadata values of GGUF. Texts and arrays stay in the file's memory as they are stored: a vocabulary of 256,000
//! tokens is one range and one list of offsets. A value is only ever read as the kind it has.
#![forbid(unsafe_code)]
#![deny(clippy::arithmetic_side_effects, clippy::indexing_slicing)]

use std::fmt;

use crate::error::quoted;
use crate::mmap::Bytes;

/// The kinds of values, numbered as in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum Kind {
    U8 = 0,
    I8 = 1,
    U16 = 2,
    I16 = 3,
    U32 = 4,
    I32 = 5,
    F32 = 6,
    Bool = 7,
    Text = 8,
    Array = 9,
    U64 = 10,
    I64 = 11,
    F64 = 12,
}

impl Kind {
    const ALL: [Kind; 13] = [
        Kind::U8,
        Kind::I8,
        Kind::U16,
        Kind::I16,
        Kind::U32,
        Kind::I32,
        Kind::F32,
        Kind::Bool,
        Kind::Text,
        Kind::Array,
        Kind::U64,
        Kind::I64,
        Kind::F64,
    ];

    /// The kind with that number in the file.
    pub fn from_number(number: u32) -> Option<Kind> {
        Kind::ALL.get(usize::try_from(number).ok()?).copied()
    }

    /// Bytes of one value; none for texts and arrays, whose lengths differ.
    pub fn width(self) -> Option<usize> {
        match self {
            Kind::U8 | Kind::I8 | Kind::Bool => Some(1),
            Kind::U16 | Kind::I16 => Some(2),
            Kind::U32 | Kind::I32 | Kind::F32 => Some(4),
            Kind::U64 | Kind::I64 | Kind::F64 => Some(8),
            Kind::Text | Kind::Array => None,
        }
    }

    /// The name as messages show it.
    pub fn name(self) -> &'static str {
        match self {
            Kind::U8 => "UINT8",
            Kind::I8 => "INT8",
            Kind::U16 => "UINT16",
            Kind::I16 => "INT16",
            Kind::U32 => "UINT32",
            Kind::I32 => "INT32",
            Kind::F32 => "FLOAT32",
            Kind::Bool => "BOOL",
            Kind::Text => "STRING",
            Kind::Array => "ARRAY",
            Kind::U64 => "UINT64",
            Kind::I64 => "INT64",
            Kind::F64 => "FLOAT64",
        }
    }
}

/// One metadata value.
#[derive(Clone, Debug)]
#[allow(missing_docs)]
pub enum Value {
    U8(u8),
    I8(i8),
    U16(u16),
    I16(i16),
    U32(u32),
    I32(i32),
    F32(f32),
    Bool(bool),
    U64(u64),
    I64(i64),
    F64(f64),
    /// Bytes that should be UTF-8; real files have some that are not.
    Text(Bytes),
    /// A list of texts.
    Texts(Texts),
    /// A list of numbers or booleans.
    Numbers(Numbers),
}

/// A list of texts as GGUF stores it: each with its length before it.
#[derive(Clone, Debug)]
pub struct Texts {
    /// All texts with their lengths, as in the file.
    stored: Bytes,
    /// Where each text begins in `stored`; it ends eight bytes before the next begins, or at the end.
    starts: Vec<usize>,
}

/// A list of numbers or booleans as GGUF stores it.
#[derive(Clone, Debug)]
pub struct Numbers {
    kind: Kind,
    stored: Bytes,
}

impl Value {
    /// A text value.
    pub fn text(text: &str) -> Value {
        Value::Text(Bytes::from(text.as_bytes().to_vec()))
    }

    /// A list of 32-bit floats.
    pub fn floats(values: &[f32]) -> Value {
        Value::Numbers(Numbers { kind: Kind::F32, stored: stored(values, f32::to_le_bytes) })
    }

    /// A list of 32-bit integers.
    pub fn integers(values: &[i32]) -> Value {
        Value::Numbers(Numbers { kind: Kind::I32, stored: stored(values, i32::to_le_bytes) })
    }

    /// A list of bytes.
    pub fn bytes(values: Vec<u8>) -> Value {
        Value::Numbers(Numbers { kind: Kind::U8, stored: Bytes::from(values) })
    }

    /// A list of unsigned 32-bit integers.
    pub fn counts(values: &[u32]) -> Value {
        Value::Numbers(Numbers { kind: Kind::U32, stored: stored(values, u32::to_le_bytes) })
    }

    /// Its kind, [`Kind::Array`] for both lists.
    pub fn kind(&self) -> Kind {
        match self {
            Value::U8(_) => Kind::U8,
            Value::I8(_) => Kind::I8,
            Value::U16(_) => Kind::U16,
            Value::I16(_) => Kind::I16,
            Value::U32(_) => Kind::U32,
            Value::I32(_) => Kind::I32,
            Value::F32(_) => Kind::F32,
            Value::Bool(_) => Kind::Bool,
            Value::U64(_) => Kind::U64,
            Value::I64(_) => Kind::I64,
            Value::F64(_) => Kind::F64,
            Value::Text(_) => Kind::Text,
            Value::Texts(_) | Value::Numbers(_) => Kind::Array,
        }
    }

    /// The value of an integer of any kind.
    pub fn integer(&self) -> Option<i128> {
        Some(match self {
            Value::U8(value) => (*value).into(),
            Value::I8(value) => (*value).into(),
            Value::U16(value) => (*value).into(),
            Value::I16(value) => (*value).into(),
            Value::U32(value) => (*value).into(),
            Value::I32(value) => (*value).into(),
            Value::U64(value) => (*value).into(),
            Value::I64(value) => (*value).into(),
            _ => return None,
        })
    }

    /// The kind in words, with the element kind of a list.
    pub(super) fn kind_name(&self) -> String {
        match self {
            Value::Texts(_) => "a list of STRING".to_owned(),
            Value::Numbers(numbers) => format!("a list of {}", numbers.kind.name()),
            other => other.kind().name().to_owned(),
        }
    }
}

fn stored<T: Copy, const N: usize>(values: &[T], bytes: impl Fn(T) -> [u8; N]) -> Bytes {
    Bytes::from(values.iter().flat_map(|&value| bytes(value)).collect::<Vec<u8>>())
}

impl fmt::Display for Value {
    /// Short: texts are cut at 80 characters, lists show their length.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Value::F32(value) => value.fmt(f),
            Value::F64(value) => value.fmt(f),
            Value::Bool(value) => value.fmt(f),
            Value::Text(bytes) => f.write_str(&quoted(&String::from_utf8_lossy(bytes))),
            Value::Texts(texts) => write!(f, "[{} x STRING]", texts.len()),
            Value::Numbers(numbers) => write!(f, "[{} x {}]", numbers.len(), numbers.kind.name()),
            integer => integer.integer().unwrap_or_default().fmt(f),
        }
    }
}

impl Texts {
    /// For the reader, which has checked every start.
    pub(super) fn new(stored: Bytes, starts: Vec<usize>) -> Texts {
        Texts { stored, starts }
    }

    /// A list made of texts.
    pub fn from_texts<T: AsRef<[u8]>>(texts: impl IntoIterator<Item = T>) -> Texts {
        let (mut stored, mut starts) = (Vec::new(), Vec::new());
        for text in texts {
            let text = text.as_ref();
            stored.extend((text.len() as u64).to_le_bytes());
            starts.push(stored.len());
            stored.extend(text);
        }
        Texts { stored: Bytes::from(stored), starts }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.starts.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.starts.is_empty()
    }

    /// One text; the format says UTF-8, files do not always.
    pub fn get(&self, index: usize) -> Option<&[u8]> {
        let start = *self.starts.get(index)?;
        let end = match index.checked_add(1).and_then(|next| self.starts.get(next)) {
            Some(next) => next.checked_sub(LENGTH_BYTES)?,
            None => self.stored.len(),
        };
        self.stored.get(start..end)
    }

    /// All texts in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &[u8]> {
        (0..self.len()).map(|index| self.get(index).unwrap_or_default())
    }

    pub(super) fn stored(&self) -> &[u8] {
        &self.stored
    }
}

/// The length before a text.
pub(super) const LENGTH_BYTES: usize = 8;

impl Numbers {
    /// For the reader, which has checked that the bytes are whole values.
    pub(super) fn new(kind: Kind, stored: Bytes) -> Numbers {
        Numbers { kind, stored }
    }

    /// The kind of the elements.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.stored.len().checked_div(self.kind.width().unwrap_or(1)).unwrap_or(0)
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.stored.is_empty()
    }

    /// The elements, if they are 32-bit floats.
    pub fn floats(&self) -> Option<Vec<f32>> {
        (self.kind == Kind::F32).then(|| self.each(f32::from_le_bytes).collect())
    }

    /// The elements, if they are booleans.
    pub fn bools(&self) -> Option<Vec<bool>> {
        (self.kind == Kind::Bool).then(|| self.stored.iter().map(|&byte| byte != 0).collect())
    }

    /// The elements, if they are integers of any kind that fit.
    pub fn integers(&self) -> Option<Vec<i64>> {
        Some(match self.kind {
            Kind::U8 => self.each(u8::from_le_bytes).map(i64::from).collect(),
            Kind::I8 => self.each(i8::from_le_bytes).map(i64::from).collect(),
            Kind::U16 => self.each(u16::from_le_bytes).map(i64::from).collect(),
            Kind::I16 => self.each(i16::from_le_bytes).map(i64::from).collect(),
            Kind::U32 => self.each(u32::from_le_bytes).map(i64::from).collect(),
            Kind::I32 => self.each(i32::from_le_bytes).map(i64::from).collect(),
            Kind::I64 => self.each(i64::from_le_bytes).collect(),
            Kind::U64 => self.each(u64::from_le_bytes).map(|value| i64::try_from(value).ok()).collect::<Option<_>>()?,
            _ => return None,
        })
    }

    fn each<T, const N: usize>(&self, value: impl Fn([u8; N]) -> T) -> impl Iterator<Item = T> {
        self.stored.as_chunks::<N>().0.iter().map(move |&bytes| value(bytes))
    }

    pub(super) fn stored(&self) -> &[u8] {
        &self.stored
    }
}
