//! The fields of one row of a task's file, each asked for by name and kind, with errors that name file and line.

use serde_json::{Map, Value};

use super::super::error::{Error, Result};

/// A row that is an object.
#[derive(Clone, Copy)]
pub(super) struct Fields<'r> {
    file: &'r str,
    line: usize,
    row: &'r Map<String, Value>,
}

impl<'r> Fields<'r> {
    pub(super) fn new(file: &'r str, line: usize, value: &'r Value) -> Result<Fields<'r>> {
        match value.as_object() {
            Some(row) => Ok(Fields { file, line, row }),
            None => Err(Error::Row { file: file.to_owned(), line, what: "it is no JSON object".into() }),
        }
    }

    pub(super) fn line(&self) -> usize {
        self.line
    }

    pub(super) fn keys(&self) -> impl Iterator<Item = &'r str> {
        self.row.keys().map(String::as_str)
    }

    /// A field that is there and not null.
    pub(super) fn get(&self, name: &str) -> Option<&'r Value> {
        self.row.get(name).filter(|value| !value.is_null())
    }

    /// The object in a field.
    pub(super) fn inner(&self, name: &str) -> Option<Fields<'r>> {
        let row = self.get(name)?.as_object()?;
        Some(Fields { file: self.file, line: self.line, row })
    }

    pub(super) fn text(&self, name: &str) -> Result<&'r str> {
        match self.get(name) {
            Some(Value::String(text)) => Ok(text),
            Some(_) => Err(self.fault(format!("{name:?} is no text"))),
            None => Err(self.fault(format!("{name:?} is missing"))),
        }
    }

    pub(super) fn texts(&self, name: &str) -> Result<Vec<String>> {
        let wrong = || self.fault(format!("{name:?} is missing or no list of texts"));
        let list = self.get(name).and_then(Value::as_array).ok_or_else(wrong)?;
        list.iter().map(|text| text.as_str().map(str::to_owned).ok_or_else(wrong)).collect()
    }

    /// A whole number, perhaps written as a text.
    pub(super) fn whole(&self, name: &str) -> Result<usize> {
        let value = self.get(name).ok_or_else(|| self.fault(format!("{name:?} is missing")))?;
        let number = value.as_u64().and_then(|number| usize::try_from(number).ok());
        let number = number.or_else(|| value.as_str()?.trim().parse().ok());
        number.ok_or_else(|| self.fault(format!("{name:?} is no whole number from 0")))
    }

    pub(super) fn fault(&self, what: impl Into<String>) -> Error {
        Error::Row { file: self.file.to_owned(), line: self.line, what: what.into() }
    }
}
