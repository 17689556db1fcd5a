//! The keys and values at the start of a GGUF file, behind typed getters: an absent key is `None`, a value of another
//! kind is an error that names the key, and nothing ever becomes a default.
#![forbid(unsafe_code)]
#![deny(clippy::arithmetic_side_effects, clippy::indexing_slicing)]

use std::collections::HashMap;
use std::sync::LazyLock;

use super::value::{Kind, Numbers, Texts, Value};
use crate::error::{Error, Result, quoted};

/// All metadata of a file, in its order.
#[derive(Clone, Debug, Default)]
pub struct Metadata {
    file: String,
    entries: Vec<(String, Value)>,
    numbers: HashMap<String, usize>,
}

impl Metadata {
    /// No metadata yet; `file` is named in errors.
    pub fn new(file: impl Into<String>) -> Metadata {
        Metadata { file: file.into(), ..Metadata::default() }
    }

    /// Adds a key, which must be there only once.
    pub fn insert(&mut self, key: impl Into<String>, value: Value) -> Result<()> {
        let key = key.into();
        if self.numbers.contains_key(&key) {
            return Err(self.invalid(&key, "stands twice"));
        }
        self.numbers.insert(key.clone(), self.entries.len());
        self.entries.push((key, value));
        Ok(())
    }

    /// Keys and values in file order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &Value)> {
        self.entries.iter().map(|(key, value)| (key.as_str(), value))
    }

    /// How many keys there are.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The value of a key, of whatever kind.
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.entries.get(*self.numbers.get(key)?).map(|(_, value)| value)
    }

    /// A text, which must be UTF-8.
    pub fn text(&self, key: &str) -> Result<Option<&str>> {
        let bytes = self.typed(key, "STRING", |value| match value {
            Value::Text(bytes) => Some(bytes),
            _ => None,
        })?;
        let text = |bytes| std::str::from_utf8(bytes).map_err(|_| self.invalid(key, "is not UTF-8"));
        bytes.map(|bytes| text(bytes.as_slice())).transpose()
    }

    /// A boolean.
    pub fn bool(&self, key: &str) -> Result<Option<bool>> {
        self.typed(key, "BOOL", |value| match value {
            Value::Bool(value) => Some(*value),
            _ => None,
        })
    }

    /// A 32-bit float, of any value, also one that is not finite.
    pub fn float(&self, key: &str) -> Result<Option<f32>> {
        self.typed(key, "FLOAT32", |value| match value {
            Value::F32(value) => Some(*value),
            _ => None,
        })
    }

    /// An unsigned 32-bit integer and no other kind.
    pub fn u32(&self, key: &str) -> Result<Option<u32>> {
        self.typed(key, "UINT32", |value| match value {
            Value::U32(value) => Some(*value),
            _ => None,
        })
    }

    /// A count or an index: an integer of any kind that is not negative.
    pub fn count(&self, key: &str) -> Result<Option<u64>> {
        let Some(integer) = self.typed(key, "an integer", Value::integer)? else { return Ok(None) };
        let count = u64::try_from(integer).map_err(|_| self.invalid(key, &format!("is {integer}, below zero")))?;
        Ok(Some(count))
    }

    /// A list of texts.
    pub fn texts(&self, key: &str) -> Result<Option<&Texts>> {
        self.typed(key, "a list of STRING", |value| match value {
            Value::Texts(texts) => Some(texts),
            // An empty list has whatever element kind its writer chose.
            Value::Numbers(numbers) if numbers.is_empty() => Some(&*NO_TEXTS),
            _ => None,
        })
    }

    /// A list of 32-bit floats.
    pub fn floats(&self, key: &str) -> Result<Option<Vec<f32>>> {
        self.list(key, "a list of FLOAT32", Numbers::floats)
    }

    /// A list of booleans.
    pub fn bools(&self, key: &str) -> Result<Option<Vec<bool>>> {
        self.list(key, "a list of BOOL", Numbers::bools)
    }

    /// A list of integers of any kind.
    pub fn integers(&self, key: &str) -> Result<Option<Vec<i64>>> {
        self.list(key, "a list of integers", Numbers::integers)
    }

    /// The error for a key whose value cannot be used.
    pub fn invalid(&self, key: &str, what: &str) -> Error {
        Error::invalid(self.file.as_str(), format!("key {} {what}", quoted(key)))
    }

    /// The error for a key that must be there.
    pub fn missing(&self, key: &str) -> Error {
        self.invalid(key, "is missing")
    }

    fn list<T>(&self, key: &str, wanted: &str, read: impl Fn(&Numbers) -> Option<Vec<T>>) -> Result<Option<Vec<T>>> {
        self.typed(key, wanted, |value| match value {
            Value::Numbers(numbers) if numbers.is_empty() => Some(Vec::new()),
            Value::Numbers(numbers) => read(numbers),
            Value::Texts(texts) if texts.is_empty() => Some(Vec::new()),
            _ => None,
        })
    }

    fn typed<'a, T>(&'a self, key: &str, wanted: &str, read: impl Fn(&'a Value) -> Option<T>) -> Result<Option<T>> {
        let Some(value) = self.get(key) else { return Ok(None) };
        let wrong = || self.invalid(key, &format!("is {}, it should be {wanted}", value.kind_name()));
        read(value).map(Some).ok_or_else(wrong)
    }
}

static NO_TEXTS: LazyLock<Texts> = LazyLock::new(|| Texts::from_texts::<&str>([]));

/// The key of the alignment of tensors in the file.
pub(super) const ALIGNMENT_KEY: &str = "general.alignment";

/// Alignment where the key is absent.
pub(super) const ALIGNMENT_DEFAULT: u32 = 32;

impl Metadata {
    /// The alignment of tensors: `general.alignment`, else 32.
    pub fn alignment(&self) -> Result<u32> {
        match self.get(ALIGNMENT_KEY) {
            None => Ok(ALIGNMENT_DEFAULT),
            Some(Value::U32(found)) if found.is_power_of_two() && (8..=65536).contains(found) => Ok(*found),
            Some(Value::U32(found)) => {
                Err(self.invalid(ALIGNMENT_KEY, &format!("is {found}, it should be a power of two from 8 to 65536")))
            }
            Some(other) => {
                let what = format!("is {}, it should be {}", other.kind_name(), Kind::U32.name());
                Err(self.invalid(ALIGNMENT_KEY, &what))
            }
        }
    }
}
