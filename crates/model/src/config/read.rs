//! Typed reading of configuration values. A value of another type, or outside what any model has, is an error that
//! names key, file, found and wanted; an absent one is the page's default, never a guess made here.

use serde_json::Value;

use super::keys::{self, Bound};
use super::{Config, Ignored};
use crate::error::Result;

/// A type that configuration values are read as.
pub trait FromValue: Sized {
    /// How a message names the type.
    const WANTED: &'static str;

    /// The value, if it has this type.
    fn from_value(value: &Value) -> Option<Self>;

    /// The numbers in it, for the check of their bounds.
    fn numbers(&self) -> Vec<f64> {
        Vec::new()
    }
}

impl FromValue for bool {
    const WANTED: &'static str = "true or false";

    fn from_value(value: &Value) -> Option<bool> {
        value.as_bool()
    }
}

impl FromValue for usize {
    const WANTED: &'static str = "a whole number that is not negative";

    fn from_value(value: &Value) -> Option<usize> {
        usize::try_from(value.as_u64()?).ok()
    }

    fn numbers(&self) -> Vec<f64> {
        vec![*self as f64]
    }
}

impl FromValue for f32 {
    const WANTED: &'static str = "a number";

    fn from_value(value: &Value) -> Option<f32> {
        Some(value.as_f64()? as f32).filter(|number| number.is_finite())
    }

    fn numbers(&self) -> Vec<f64> {
        vec![f64::from(*self)]
    }
}

impl FromValue for f64 {
    const WANTED: &'static str = "a number";

    fn from_value(value: &Value) -> Option<f64> {
        value.as_f64()
    }

    fn numbers(&self) -> Vec<f64> {
        vec![*self]
    }
}

impl FromValue for String {
    const WANTED: &'static str = "a text";

    fn from_value(value: &Value) -> Option<String> {
        value.as_str().map(str::to_owned)
    }
}

macro_rules! lists {
    ($($item:ty: $wanted:literal),*) => {$(
        impl FromValue for Vec<$item> {
            const WANTED: &'static str = $wanted;

            fn from_value(value: &Value) -> Option<Vec<$item>> {
                value.as_array()?.iter().map(<$item>::from_value).collect()
            }

            fn numbers(&self) -> Vec<f64> {
                self.iter().flat_map(FromValue::numbers).collect()
            }
        }
    )*};
}

lists!(bool: "a list of true or false", usize: "a list of whole numbers", f32: "a list of numbers", String: "a list of texts");

/// How a message names a value's type.
pub(super) fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

/// A value as a message shows it: JSON, shortened.
pub(super) fn shown(value: &Value) -> String {
    let text = match value {
        Value::Array(_) | Value::Object(_) => return kind(value).to_owned(),
        other => other.to_string(),
    };
    shortened(&text, SHOWN_MAX)
}

/// The beginning of a text of which a message shows only so much.
pub(super) fn shortened(text: &str, limit: usize) -> String {
    match text.char_indices().nth(limit) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

/// Characters of a value that a message shows.
const SHOWN_MAX: usize = 60;

impl Config {
    /// The value at a path of keys joined by dots, where it is there and not null.
    pub(super) fn value(&self, path: &str) -> Option<&Value> {
        let mut keys = path.split('.');
        let first = self.values.get(keys.next()?)?;
        keys.try_fold(first, |value, key| value.get(key)).filter(|value| !value.is_null())
    }

    /// An optional value.
    pub fn get<T: FromValue>(&self, path: &str) -> Result<Option<T>> {
        self.used.borrow_mut().insert(path.to_owned());
        let bound = keys::find(path).map(|row| row.bound);
        debug_assert!(bound.is_some(), "{path} has no row in the table of keys");
        let Some(value) = self.value(path) else { return Ok(None) };
        let wrong = || self.fault(path, format!("is {}, it should be {}", shown(value), T::WANTED));
        let typed = T::from_value(value).ok_or_else(wrong)?;
        for number in typed.numbers() {
            self.check(path, number, bound.unwrap_or(Bound::Any))?;
        }
        Ok(Some(typed))
    }

    /// A value without which the model cannot be built.
    pub fn need<T: FromValue>(&self, path: &str) -> Result<T> {
        let missing = || self.fault(path, format!("is missing, it should be {}", T::WANTED));
        self.get(path)?.ok_or_else(missing)
    }

    /// A value, else the default of the reference implementation.
    pub fn or<T: FromValue>(&self, path: &str, default: T) -> Result<T> {
        Ok(self.get(path)?.unwrap_or(default))
    }

    /// A switch, which older files write as a number: zero is off.
    pub fn switch(&self, path: &str, default: bool) -> Result<bool> {
        match self.value(path) {
            Some(Value::Number(_)) => Ok(self.need::<usize>(path)? != 0),
            _ => self.or(path, default),
        }
    }

    /// A limit that null switches off; an absent one is the reference's.
    pub fn or_off<T: FromValue>(&self, path: &str, default: T) -> Result<Option<T>> {
        let mut keys = path.split('.');
        let first = keys.next().and_then(|key| self.values.get(key));
        let is_null = keys.fold(first, |value, key| value?.get(key)).is_some_and(Value::is_null);
        Ok(self.get(path)?.or((!is_null).then_some(default)))
    }

    /// Refuses a value other than the one that the page builds, and an absent one, which would mean another.
    pub fn must(&self, path: &str, known: bool) -> Result<()> {
        match self.need::<bool>(path)? {
            found if found != known => Err(self.fault(path, format!("is {found}, only {known} is known"))),
            _ => Ok(()),
        }
    }

    /// Refuses a value other than the one that the page builds; an absent one is that.
    pub fn only<T: FromValue + PartialEq + std::fmt::Debug>(&self, path: &str, known: T) -> Result<()> {
        match self.get::<T>(path)? {
            Some(found) if found != known => Err(self
                .fault(path, format!("is {}, only {known:?} is known", shortened(&format!("{found:?}"), SHOWN_MAX)))),
            _ => Ok(()),
        }
    }

    /// Whether the file has a key, null or not. It does not count as used.
    pub fn has(&self, path: &str) -> bool {
        self.value(path).is_some()
    }

    /// Says that the page knows a key and has no use for it.
    pub fn ignore(&self, path: &str, reason: &'static str) {
        if self.values.contains_key(path) && self.used.borrow_mut().insert(path.to_owned()) {
            self.ignored.borrow_mut().push(Ignored { key: self.origin(path), reason, tuning: reason });
        }
    }

    fn check(&self, path: &str, number: f64, bound: Bound) -> Result<()> {
        let refuse =
            |wanted: String| -> Result<()> { Err(self.fault(path, format!("is {number}, it should be {wanted}"))) };
        match bound {
            Bound::Count(min, max) if number < min as f64 || number > max as f64 => {
                refuse(format!("from {min} to {max}"))
            }
            Bound::Positive if number <= 0.0 => refuse("above 0".to_owned()),
            Bound::AtLeast(min) if number < min => refuse(format!("at least {min}")),
            Bound::Share if number <= 0.0 || number > 1.0 => refuse("above 0 and at most 1".to_owned()),
            _ => Ok(()),
        }
    }
}
