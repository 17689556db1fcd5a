//! A small validator of JSON schemas, for the keywords that structured output accepts. Plain and slow.

use regex::Regex;
use serde_json::{Map, Value};

/// Is a text a document that the schema accepts?
pub fn valid(schema: &Value, text: &str) -> Result<(), String> {
    let document: Value = match serde_json::from_str(text) {
        Ok(document) => document,
        // `1e999` is JSON, and no number that this program could compare.
        Err(error) if error.to_string().contains("out of range") => return Ok(()),
        Err(error) => return Err(error.to_string()),
    };
    accepts(schema, schema, &document)
}

fn accepts(root: &Value, schema: &Value, it: &Value) -> Result<(), String> {
    let object = match schema {
        Value::Bool(true) => return Ok(()),
        Value::Object(object) => object,
        _ => return Err(format!("{schema} accepts nothing")),
    };
    for (key, value) in object {
        let fits = match key.as_str() {
            "$ref" => return_of(root, value, it),
            "type" => is_type(value, it),
            "const" => same(value, it),
            "enum" => value.as_array().unwrap().iter().any(|one| same(one, it)),
            "allOf" => return_all(root, value, it),
            "anyOf" => count(root, value, it) >= 1,
            "oneOf" => count(root, value, it) == 1,
            _ => match it {
                Value::Object(fields) => object_fits(root, object, key, value, fields)?,
                Value::Array(items) => array_fits(root, object, key, value, items)?,
                Value::String(text) => text_fits(key, value, text),
                Value::Number(number) => number_fits(key, value, number.as_f64().unwrap()),
                _ => true,
            },
        };
        if !fits {
            return Err(format!("{it} is not as {key:?} wants: {value}"));
        }
    }
    Ok(())
}

fn return_of(root: &Value, target: &Value, it: &Value) -> bool {
    let pointer = target.as_str().unwrap().trim_start_matches('#');
    let pointer = pointer.replace("%25", "%").replace("%22", "\"");
    accepts(root, root.pointer(&pointer).unwrap(), it).is_ok()
}

fn return_all(root: &Value, list: &Value, it: &Value) -> bool {
    list.as_array().unwrap().iter().all(|one| accepts(root, one, it).is_ok())
}

fn count(root: &Value, list: &Value, it: &Value) -> usize {
    list.as_array().unwrap().iter().filter(|one| accepts(root, one, it).is_ok()).count()
}

fn is_type(wanted: &Value, it: &Value) -> bool {
    let is = |name: &Value| match name.as_str().unwrap() {
        "null" => it.is_null(),
        "boolean" => it.is_boolean(),
        "string" => it.is_string(),
        "array" => it.is_array(),
        "object" => it.is_object(),
        "number" => it.is_number(),
        "integer" => it.as_f64().is_some_and(|number| number.fract() == 0.0),
        other => panic!("the type {other}"),
    };
    wanted.as_array().map_or_else(|| is(wanted), |list| list.iter().any(is))
}

fn same(one: &Value, other: &Value) -> bool {
    match (one, other) {
        (Value::Number(one), Value::Number(other)) => one.as_f64() == other.as_f64(),
        (Value::Array(one), Value::Array(other)) => {
            one.len() == other.len() && one.iter().zip(other).all(|(one, other)| same(one, other))
        }
        (Value::Object(one), Value::Object(other)) => {
            one.len() == other.len()
                && one.iter().all(|(key, value)| other.get(key).is_some_and(|other| same(value, other)))
        }
        (one, other) => one == other,
    }
}

fn matches(pattern: &str, text: &str) -> bool {
    // What JavaScript has and this crate writes otherwise: its classes know the letters of ASCII alone.
    let mut ascii = pattern.replace(r"\/", "/");
    for (class, letters) in [(r"\w", "[A-Za-z0-9_]"), (r"\W", "[^A-Za-z0-9_]"), (r"\d", "[0-9]"), (r"\D", "[^0-9]")] {
        ascii = ascii.replace(class, letters);
    }
    Regex::new(&ascii).unwrap().is_match(text)
}

fn object_fits(
    root: &Value,
    schema: &Map<String, Value>,
    key: &str,
    value: &Value,
    fields: &Map<String, Value>,
) -> Result<bool, String> {
    let named = |name: &str| schema.get("properties").is_some_and(|names| names.get(name).is_some());
    let patterned = |name: &str| {
        let patterns = schema.get("patternProperties").and_then(Value::as_object);
        patterns.is_some_and(|patterns| patterns.keys().any(|pattern| matches(pattern, name)))
    };
    Ok(match key {
        "properties" => {
            for (name, inner) in value.as_object().unwrap() {
                fields.get(name).map_or(Ok(()), |field| accepts(root, inner, field))?;
            }
            true
        }
        "patternProperties" => {
            for (pattern, inner) in value.as_object().unwrap() {
                for (_, field) in fields.iter().filter(|(name, _)| matches(pattern, name)) {
                    accepts(root, inner, field)?;
                }
            }
            true
        }
        "additionalProperties" => {
            for (_, field) in fields.iter().filter(|(name, _)| !named(name) && !patterned(name)) {
                accepts(root, value, field)?;
            }
            true
        }
        "required" => value.as_array().unwrap().iter().all(|name| fields.contains_key(name.as_str().unwrap())),
        "minProperties" => fields.len() as f64 >= value.as_f64().unwrap(),
        "maxProperties" => fields.len() as f64 <= value.as_f64().unwrap(),
        _ => true,
    })
}

fn array_fits(
    root: &Value,
    schema: &Map<String, Value>,
    key: &str,
    value: &Value,
    items: &[Value],
) -> Result<bool, String> {
    let prefix = schema.get("prefixItems").and_then(Value::as_array).map_or(0, Vec::len);
    Ok(match key {
        "prefixItems" => {
            for (inner, item) in value.as_array().unwrap().iter().zip(items) {
                accepts(root, inner, item)?;
            }
            true
        }
        "items" => {
            items.iter().skip(prefix).try_for_each(|item| accepts(root, value, item))?;
            true
        }
        "minItems" => items.len() as f64 >= value.as_f64().unwrap(),
        "maxItems" => items.len() as f64 <= value.as_f64().unwrap(),
        _ => true,
    })
}

fn text_fits(key: &str, value: &Value, text: &str) -> bool {
    let letters = text.chars().count() as f64;
    match key {
        "minLength" => letters >= value.as_f64().unwrap(),
        "maxLength" => letters <= value.as_f64().unwrap(),
        "pattern" => matches(value.as_str().unwrap(), text),
        "format" => is_format(value.as_str().unwrap(), text),
        _ => true,
    }
}

fn number_fits(key: &str, value: &Value, number: f64) -> bool {
    match key {
        "minimum" => number >= value.as_f64().unwrap(),
        "maximum" => number <= value.as_f64().unwrap(),
        "exclusiveMinimum" => number > value.as_f64().unwrap(),
        "exclusiveMaximum" => number < value.as_f64().unwrap(),
        "multipleOf" => {
            let times = number / value.as_f64().unwrap();
            (times - times.round()).abs() <= 1e-9 * times.abs().max(1.0)
        }
        _ => true,
    }
}

fn is_format(name: &str, text: &str) -> bool {
    let number = |range: std::ops::Range<usize>| text.get(range).and_then(|digits| digits.parse::<u32>().ok());
    match name {
        "date" => text.len() == 10 && is_day(number(0..4), number(5..7), number(8..10)),
        "time" => is_time(text),
        "date-time" => {
            is_format("date", text.get(..10).unwrap_or_default()) && is_time(text.get(11..).unwrap_or_default())
        }
        "ipv4" => text.parse::<std::net::Ipv4Addr>().is_ok(),
        "ipv6" => text.parse::<std::net::Ipv6Addr>().is_ok(),
        "hostname" => {
            let label = |label: &str| !label.is_empty() && label.len() <= 63 && label.get(2..4) != Some("--");
            text.len() <= 253 && text.split('.').all(label)
        }
        "uuid" => text.len() == 36 && text.split('-').map(str::len).eq([8, 4, 4, 4, 12]),
        // Their grammars are the library's, and its own tests hold them.
        "duration" | "email" | "uri" => !text.is_empty(),
        other => panic!("the format {other}"),
    }
}

fn is_day(year: Option<u32>, month: Option<u32>, day: Option<u32>) -> bool {
    let (Some(year), Some(month), Some(day)) = (year, month, day) else { return false };
    let leap = year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    let days = match month {
        2 => 28 + u32::from(leap),
        4 | 6 | 9 | 11 => 30,
        1..=12 => 31,
        _ => 0,
    };
    (1..=days).contains(&day)
}

fn is_time(text: &str) -> bool {
    let part = |range: std::ops::Range<usize>, below: u32| {
        text.get(range).and_then(|digits| digits.parse::<u32>().ok()).is_some_and(|number| number < below)
    };
    part(0..2, 24) && part(3..5, 60) && part(6..8, 60)
}
