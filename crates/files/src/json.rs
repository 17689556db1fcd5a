//! JSON from outside: config files, index files, headers. Bounded in bytes, depth (128) and number of values, so that
//! memory stays a small multiple of the file; duplicate keys are refused, as are `NaN` and infinities.
#![forbid(unsafe_code)]

use std::cell::Cell;
use std::fmt;
use std::path::Path;

use serde::de::{DeserializeSeed, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

use crate::error::{Error, Result, file_name, quoted};
use crate::folder::{self, Folder};
use crate::size::Size;

/// The longest JSON file that is read whole into values: 16 MiB.
pub const BYTES_MAX: Size = Size::new(16 << 20);

/// The most values (objects, lists, texts, numbers) in one file.
pub const VALUES_MAX: usize = 400_000;

/// Reads one JSON value that fills the text. `file` is named in errors, with the line.
pub fn parse(text: &[u8], file: &str) -> Result<Value> {
    if Size::of(text.len()) > BYTES_MAX {
        return Err(Error::invalid(file, format!("JSON of {} bytes, at most {BYTES_MAX} are read", text.len())));
    }
    let left = Cell::new(VALUES_MAX);
    // serde_json itself stops at a depth of 128.
    let mut reader = serde_json::Deserializer::from_slice(text);
    let value = Seed(&left).deserialize(&mut reader).map_err(|fault| fault_in(file, &fault))?;
    reader.end().map_err(|fault| fault_in(file, &fault))?;
    Ok(value)
}

/// Reads a JSON file that the user named.
pub fn read(path: &Path) -> Result<Value> {
    parse(&folder::read_file(path, BYTES_MAX)?, &file_name(path))
}

/// Reads a JSON file of a model's folder; none where there is no such file.
pub fn read_in(folder: &Folder, name: &str) -> Result<Option<Value>> {
    folder.read(name, BYTES_MAX)?.map(|text| parse(&text, name)).transpose()
}

/// An error of the JSON reader as ours, with its line.
pub fn fault_in(file: &str, fault: &serde_json::Error) -> Error {
    Error::invalid(file, format!("JSON: {fault}"))
}

#[derive(Clone, Copy)]
pub(crate) struct Seed<'a>(pub(crate) &'a Cell<usize>);

impl Seed<'_> {
    fn count<E: serde::de::Error>(self) -> Result<(), E> {
        let left = self.0.get().checked_sub(1).ok_or_else(|| E::custom(format!("more than {VALUES_MAX} values")))?;
        self.0.set(left);
        Ok(())
    }
}

impl<'de> DeserializeSeed<'de> for Seed<'_> {
    type Value = Value;

    fn deserialize<D: serde::Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        self.count()?;
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Seed<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Value, E> {
        serde_json::Number::from_f64(value).map(Value::Number).ok_or_else(|| E::custom("a number that is not finite"))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::String(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(Value::String(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Value, A::Error> {
        let mut values = Vec::new();
        while let Some(value) = list.next_element_seed(self)? {
            values.push(value);
        }
        Ok(Value::Array(values))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut object: A) -> Result<Value, A::Error> {
        let mut map = Map::new();
        while let Some(key) = object.next_key::<String>()? {
            if map.contains_key(&key) {
                return Err(A::Error::custom(format!("the key {} stands twice in one object", quoted(&key))));
            }
            let value = object.next_value_seed(self)?;
            map.insert(key, value);
        }
        Ok(Value::Object(map))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn check(text: &str, wanted: Result<Value, &str>) {
        match (parse(text.as_bytes(), "config.json"), wanted) {
            (Ok(found), Ok(wanted)) => assert_eq!(found, wanted),
            (Err(fault), Err(wanted)) => {
                let shown = fault.to_string();
                assert!(shown.contains(wanted) && shown.contains("config.json"), "{shown}, not {wanted}");
                assert!(shown.len() < 500, "{shown}");
            }
            (found, wanted) => panic!("{found:?}, not {wanted:?}"),
        }
    }

    #[test]
    fn plain_values_read_as_they_stand() {
        check(r#" {"b":[1,-2,2.5,null,true],"a":"x"} "#, Ok(json!({"b": [1, -2, 2.5, null, true], "a": "x"})));
        check("18446744073709551615", Ok(json!(u64::MAX)));
        let value = parse(br#"{"b":1,"a":2}"#, "x").unwrap();
        let keys: Vec<_> = value.as_object().unwrap().keys().collect();
        assert_eq!(keys, ["b", "a"], "keys keep their order");
    }

    #[test]
    fn what_json_forbids_is_an_error_with_its_line() {
        check("", Err("line 1"));
        check("{\n\"a\": 1,\n\"a\": 2}", Err("\"a\" stands twice in one object at line 3"));
        check("{\"a\": {\"b\": 1, \"b\": 1}}", Err("\"b\" stands twice"));
        check("[NaN]", Err("line 1"));
        check("[Infinity]", Err("line 1"));
        check("[1e999]", Err("out of range"));
        check("{} {}", Err("trailing characters"));
        check("[1,]", Err("line 1"));
        check(&"[".repeat(100_000), Err("recursion limit"));
        check(&format!("{{\"{0}\":1,\"{0}\":1}}", "k".repeat(10_000)), Err("stands twice"));
    }

    #[test]
    fn limits_are_exact() {
        let nested = |depth: usize| format!("{}1{}", "[".repeat(depth), "]".repeat(depth));
        assert!(parse(nested(127).as_bytes(), "x").is_ok());
        assert!(parse(nested(129).as_bytes(), "x").is_err());
        let many = |values: usize| format!("[{}]", vec!["0"; values - 1].join(","));
        assert!(parse(many(VALUES_MAX).as_bytes(), "x").is_ok());
        check(&many(VALUES_MAX + 1), Err("more than 400000 values"));
    }
}
