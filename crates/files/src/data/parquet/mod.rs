//! Rows of Parquet files as the JSON objects that other formats hold; the columns that no layout knows are not read.
//! A file is looked at (`limits`) before the reader believes what it says of itself.
#![forbid(unsafe_code)]

mod limits;
mod thrift;

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::record::reader::RowIter;
use parquet::record::{Field, Row};
use parquet::schema::types::Type;
use serde_json::{Map, Number, Value};

use super::error::{Error, Result};
use super::{ROW_BYTES_MAX, recognize};
use crate::guard::guarded;

/// The rows of a file, one after the other.
pub(super) struct Parquet {
    rows: RowIter<'static>,
    row: usize,
    /// Columns that no layout knows.
    pub(super) unused: Vec<String>,
}

/// What is said where the reader panics.
const BROKEN: &str = "it contradicts itself; it is damaged";

impl Parquet {
    pub(super) fn open(file: File, name: &str) -> Result<Parquet> {
        let broken = || Err(crate::Error::invalid(name, format!("Parquet: {BROKEN}")).into());
        guarded(|| Parquet::read(file, name)).unwrap_or_else(broken)
    }

    fn read(mut file: File, name: &str) -> Result<Parquet> {
        let fault = |what: String| Error::from(crate::Error::invalid(name, format!("Parquet: {what}")));
        limits::footer(&mut file).map_err(fault)?;
        let copy = file.try_clone().map_err(|fault| crate::Error::read(Path::new(name), fault))?;
        let reader = SerializedFileReader::new(copy).map_err(|found| fault(short(&found)))?;
        let metadata = reader.metadata();
        let root = metadata.file_metadata().schema();
        let (known, other): (Vec<_>, Vec<_>) =
            root.get_fields().iter().cloned().partition(|field| recognize::is_known(field.name()));
        let unused = other.iter().map(|field| field.name().chars().take(80).collect()).collect();
        if known.is_empty() {
            let what = format!("none of its columns is known: {}", names(&other));
            return Err(crate::Error::unsupported(name, what).into());
        }
        for group in metadata.row_groups() {
            let read = |path: &[String]| path.first().is_some_and(|first| known.iter().any(|f| f.name() == first));
            for column in group.columns().iter().filter(|column| read(column.column_path().parts())) {
                limits::pages(&mut file, column).map_err(fault)?;
            }
        }
        let wanted = Type::group_type_builder(root.name()).with_fields(known.iter().map(Arc::clone).collect());
        let wanted = wanted.build().map_err(|found| fault(short(&found)))?;
        let rows = RowIter::from_file_into(Box::new(reader));
        let rows = rows.project(Some(wanted)).map_err(|found| fault(short(&found)))?;
        Ok(Parquet { rows, row: 0, unused })
    }

    /// The next row as an object, with its number from 1.
    pub(super) fn next(&mut self, file: &str) -> Result<Option<(usize, Map<String, Value>)>> {
        let rows = &mut self.rows;
        let row = match guarded(|| rows.next()) {
            Some(None) => return Ok(None),
            Some(Some(row)) => row.map_err(|found| short(&found)),
            None => Err(BROKEN.to_owned()),
        };
        self.row += 1;
        let fault = |what: String| Error::Record { file: file.into(), row: self.row, what };
        let row = row.map_err(|found| fault(format!("Parquet: {found}")))?;
        let mut left = ROW_BYTES_MAX;
        let object = object(&row, &mut left);
        object
            .map(|object| Some((self.row, object)))
            .ok_or_else(|| fault(format!("the row is longer than {ROW_BYTES_MAX} bytes")))
    }
}

fn names(fields: &[Arc<Type>]) -> String {
    let names: Vec<String> = fields.iter().take(8).map(|field| crate::error::quoted(field.name())).collect();
    names.join(", ")
}

/// What the reader says, without the rest of a long message.
fn short(fault: &parquet::errors::ParquetError) -> String {
    let text = fault.to_string();
    text.chars().map(|letter| if letter.is_control() { ' ' } else { letter }).take(200).collect()
}

/// A row as an object; none where it is too large.
fn object(row: &Row, left: &mut usize) -> Option<Map<String, Value>> {
    let mut object = Map::new();
    for (name, field) in row.get_column_iter() {
        take(left, name.len())?;
        object.insert(name.clone(), value(field, left)?);
    }
    Some(object)
}

fn take(left: &mut usize, bytes: usize) -> Option<()> {
    *left = left.checked_sub(bytes.saturating_add(8))?;
    Some(())
}

fn value(field: &Field, left: &mut usize) -> Option<Value> {
    let real = |value: f64| Number::from_f64(value).map_or(Value::Null, Value::Number);
    take(left, 0)?;
    Some(match field {
        Field::Null => Value::Null,
        Field::Bool(value) => Value::Bool(*value),
        Field::Byte(value) => (*value).into(),
        Field::Short(value) => (*value).into(),
        Field::Int(value) => (*value).into(),
        Field::Long(value) => (*value).into(),
        Field::UByte(value) => (*value).into(),
        Field::UShort(value) => (*value).into(),
        Field::UInt(value) => (*value).into(),
        Field::ULong(value) => (*value).into(),
        Field::Float16(value) => real(value.to_f64()),
        Field::Float(value) => real(f64::from(*value)),
        Field::Double(value) => real(*value),
        Field::Str(text) => {
            take(left, text.len())?;
            Value::String(text.clone())
        }
        // Writers without types store texts as bytes; other bytes are no text, and are told by their length.
        Field::Bytes(bytes) => {
            take(left, bytes.len())?;
            match std::str::from_utf8(bytes.data()) {
                Ok(text) => Value::String(text.to_owned()),
                Err(_) => [("bytes".to_owned(), Value::from(bytes.len()))].into_iter().collect(),
            }
        }
        Field::Group(row) => Value::Object(object(row, left)?),
        Field::ListInternal(list) => {
            Value::Array(list.elements().iter().map(|field| value(field, left)).collect::<Option<_>>()?)
        }
        Field::MapInternal(map) => {
            let mut object = Map::new();
            for (key, field) in map.entries() {
                let key = match value(key, left)? {
                    Value::String(text) => text,
                    other => other.to_string(),
                };
                object.insert(key, value(field, left)?);
            }
            Value::Object(object)
        }
        Field::Decimal(_)
        | Field::Date(_)
        | Field::TimeMillis(_)
        | Field::TimeMicros(_)
        | Field::TimestampMillis(_)
        | Field::TimestampMicros(_) => Value::String(field.to_string()),
    })
}
