//! JSON schemas before they are compiled: sizes, depth, references, and keywords by name. A keyword that would not be
//! kept is refused, wherever it stands. The library compiles what is left.

use std::collections::HashMap;

use pasture_files::nearest::likely;
use serde_json::{Map, Value, json};

use super::formats::{self, Known};
use super::limits::{DEPTH, REPETITIONS, text};
use super::{GrammarError, SHAPE_BYTES_MAX};

/// References in one schema.
const REFERENCES: usize = 10_000;
/// Schemas that combinations multiply out to.
const ALTERNATIVES: u64 = 10_000;
/// Values of one enumeration, and properties of one object.
const VALUES: (usize, usize) = (2000, 1000);
/// Bytes of one pattern.
const PATTERN: usize = 4096;
/// The types.
const TYPES: [&str; 7] = ["null", "boolean", "integer", "number", "string", "array", "object"];

/// Keywords whose value is a schema.
const SCHEMA: [&str; 2] = ["additionalProperties", "items"];
/// Keywords whose value is a list of schemas.
const LISTS: [&str; 4] = ["anyOf", "oneOf", "allOf", "prefixItems"];
/// Keywords whose value has a schema for each name.
const NAMED: [&str; 4] = ["properties", "patternProperties", "$defs", "definitions"];
/// Keywords with a count.
const COUNTS: [&str; 6] = ["minItems", "maxItems", "minLength", "maxLength", "minProperties", "maxProperties"];
/// Keywords that are kept, with values that are no schemas.
const PLAIN: [&str; 12] = [
    "$ref",
    "const",
    "enum",
    "type",
    "required",
    "pattern",
    "format",
    "minimum",
    "maximum",
    "exclusiveMinimum",
    "exclusiveMaximum",
    "multipleOf",
];
/// Keywords that say nothing about which documents are valid.
const REMARKS: [&str; 12] = [
    "$schema",
    "$comment",
    "title",
    "description",
    "default",
    "deprecated",
    "readOnly",
    "writeOnly",
    "examples",
    "contentMediaType",
    "contentEncoding",
    "example",
];

/// Between two parts of a document: few spaces, so that no answer is lost in them.
const SPACE: &str = r"[ \n]{0,24}";

/// The schema as it is compiled.
pub fn checked(schema: &Value) -> Result<Value, GrammarError> {
    let bytes = schema.to_string().len();
    if bytes > SHAPE_BYTES_MAX {
        let most = SHAPE_BYTES_MAX >> 10;
        return Err(GrammarError(format!("the schema has {bytes} bytes; at most {most} KiB are read")));
    }
    if !schema.is_object() && !schema.is_boolean() {
        return Err(GrammarError("the schema must be an object".into()));
    }
    let mut check = Check { references: 0, root: schema };
    let made = check.schema(schema, "the schema", 0)?;
    check.alternatives(schema, 0)?;
    let followed = check.followed(schema, &mut HashMap::new());
    if followed > REFERENCES as u64 {
        return Err(GrammarError(format!("the schema's references lead to more than {REFERENCES} others")));
    }
    Ok(spaced(made))
}

/// With the rule for spaces between parts.
pub fn spaced(schema: Value) -> Value {
    let mut object = match schema {
        Value::Object(object) => object,
        // True takes any document.
        Value::Bool(true) => Map::new(),
        other => return other,
    };
    object.insert("x-guidance".into(), json!({"whitespace_flexible": true, "whitespace_pattern": SPACE}));
    Value::Object(object)
}

struct Check<'a> {
    references: usize,
    root: &'a Value,
}

impl Check<'_> {
    fn schema(&mut self, schema: &Value, at: &str, depth: usize) -> Result<Value, GrammarError> {
        if depth > DEPTH {
            return Err(GrammarError(format!("the schema is nested deeper than {DEPTH}")));
        }
        let object = match schema {
            Value::Bool(_) => return Ok(schema.clone()),
            Value::Object(object) => object,
            _ => return Err(GrammarError(format!("{at} is neither an object nor true or false"))),
        };
        let mut made = Map::new();
        for (key, value) in object {
            match key.as_str() {
                // Of the root it is only a name; below it would change what references mean.
                "$id" if depth == 0 => continue,
                name if REMARKS.contains(&name) => continue,
                name if SCHEMA.contains(&name) => {
                    made.insert(name.into(), self.schema(value, &format!("\"{name}\""), depth + 1)?);
                }
                name if LISTS.contains(&name) => {
                    let mut list = self.list(name, value, depth)?;
                    // A format may have put its pattern there.
                    if let Some(Value::Array(before)) = made.remove(name) {
                        list.extend(before);
                    }
                    made.insert(name.into(), Value::Array(list));
                }
                name if NAMED.contains(&name) => {
                    made.insert(name.into(), self.named(name, value, depth)?);
                }
                name if COUNTS.contains(&name) || PLAIN.contains(&name) => {
                    self.plain(name, value, &mut made)?;
                }
                other => return Err(unknown(other)),
            }
        }
        Ok(Value::Object(made))
    }

    fn list(&mut self, name: &str, value: &Value, depth: usize) -> Result<Vec<Value>, GrammarError> {
        let list = value.as_array().ok_or_else(|| GrammarError(format!("{name:?} is no list of schemas")))?;
        list.iter().map(|one| self.schema(one, &format!("a part of {name:?}"), depth + 1)).collect()
    }

    fn named(&mut self, name: &str, value: &Value, depth: usize) -> Result<Value, GrammarError> {
        let object = value.as_object().ok_or_else(|| GrammarError(format!("{name:?} is no object of schemas")))?;
        if name == "properties" && object.len() > VALUES.1 {
            return Err(GrammarError(format!("an object has {} properties; at most {}", object.len(), VALUES.1)));
        }
        let mut made = Map::new();
        for (key, one) in object {
            made.insert(key.clone(), self.schema(one, &format!("a part of {name:?}"), depth + 1)?);
        }
        Ok(Value::Object(made))
    }

    fn plain(&mut self, name: &str, value: &Value, made: &mut Map<String, Value>) -> Result<(), GrammarError> {
        match name {
            "$ref" => self.reference(value)?,
            "format" => return format(value, made),
            "enum" => {
                let count = value.as_array().map_or(0, Vec::len);
                if !(1..=VALUES.0).contains(&count) {
                    return Err(GrammarError(format!("\"enum\" must be a list of 1 to {} values", VALUES.0)));
                }
            }
            "type" => check_type(value)?,
            "pattern" => check_pattern(value)?,
            _ if COUNTS.contains(&name) && !is_count(value) => {
                return Err(GrammarError(format!("{name:?} is {value}; a count was expected")));
            }
            _ if COUNTS.contains(&name) && value.as_f64().is_some_and(|count| count > REPETITIONS as f64) => {
                return Err(GrammarError(format!("{name:?} is {value}; at most {REPETITIONS} are supported")));
            }
            _ => {}
        }
        made.insert(name.into(), value.clone());
        Ok(())
    }

    fn reference(&mut self, value: &Value) -> Result<(), GrammarError> {
        self.references += 1;
        if self.references > REFERENCES {
            return Err(GrammarError(format!("the schema has more than {REFERENCES} references")));
        }
        let target = value.as_str().ok_or_else(|| GrammarError("\"$ref\" is no text".into()))?;
        if !target.starts_with('#') {
            let message = "\"$ref\" leads out of the schema; only references that begin with \"#\" are followed";
            return Err(GrammarError(message.into()));
        }
        match self.target(target) {
            Some(found) if self.is_circle(found) => {
                Err(GrammarError("\"$ref\" leads in a circle, in which no document has an end".into()))
            }
            Some(_) => Ok(()),
            None => Err(GrammarError("\"$ref\" leads nowhere; \"#\" or \"#/$defs/NAME\" was expected".into())),
        }
    }

    /// What a reference inside the schema means.
    fn target(&self, target: &str) -> Option<&Value> {
        let pointer = target.strip_prefix('#')?;
        self.root.pointer(&percent_decoded(pointer)?)
    }

    /// Whether references from here lead only to references.
    fn is_circle<'v>(&'v self, mut at: &'v Value) -> bool {
        for _ in 0..=DEPTH {
            let Some(next) = at.get("$ref").and_then(Value::as_str).and_then(|target| self.target(target)) else {
                return false;
            };
            at = next;
        }
        true
    }

    /// How many references are met when each is followed; one that is being followed already counts once.
    fn followed(&self, schema: &Value, known: &mut HashMap<String, u64>) -> u64 {
        match schema {
            Value::Object(object) => object.iter().fold(0, |sum: u64, (key, value)| {
                let met = match (key.as_str(), value) {
                    ("$defs" | "definitions" | "enum" | "const", _) => 0,
                    ("$ref", Value::String(target)) => match known.get(target) {
                        Some(met) => *met,
                        None => {
                            known.insert(target.clone(), 1);
                            let met = self.target(target).map_or(0, |found| self.followed(found, known));
                            known.insert(target.clone(), met.saturating_add(1));
                            met.saturating_add(1)
                        }
                    },
                    (_, value) => self.followed(value, known),
                };
                sum.saturating_add(met)
            }),
            Value::Array(list) => list.iter().fold(0, |sum: u64, one| sum.saturating_add(self.followed(one, known))),
            _ => 0,
        }
    }

    /// How many plain schemas the combinations become when they are multiplied out, references counted once.
    fn alternatives(&self, schema: &Value, depth: usize) -> Result<u64, GrammarError> {
        let Some(object) = schema.as_object().filter(|_| depth <= DEPTH) else { return Ok(1) };
        let mut product: u64 = 1;
        for name in ["anyOf", "oneOf"] {
            if let Some(list) = object.get(name).and_then(Value::as_array) {
                let mut sum: u64 = 0;
                for one in list {
                    sum = sum.saturating_add(self.alternatives(one, depth + 1)?);
                }
                product = product.saturating_mul(sum.max(1));
            }
        }
        for one in object.get("allOf").and_then(Value::as_array).into_iter().flatten() {
            product = product.saturating_mul(self.alternatives(one, depth + 1)?);
        }
        if let Some(target) = object.get("$ref").and_then(Value::as_str).filter(|_| object.len() > 1) {
            let target = self.target(target).filter(|target| target.get("$ref").is_none());
            product = product.saturating_mul(target.map_or(Ok(1), |target| self.alternatives(target, DEPTH))?);
        }
        if product > ALTERNATIVES {
            let message = format!("the combinations of the schema become more than {ALTERNATIVES} alternatives");
            return Err(GrammarError(message));
        }
        Ok(product)
    }
}

fn check_type(value: &Value) -> Result<(), GrammarError> {
    let known = |name: &Value| name.as_str().is_some_and(|name| TYPES.contains(&name));
    let all = value.as_array().map_or_else(|| known(value), |list| !list.is_empty() && list.iter().all(known));
    match all {
        true => Ok(()),
        false => Err(GrammarError(format!("\"type\" must be of {}, or a list of them", TYPES.join(", ")))),
    }
}

fn check_pattern(value: &Value) -> Result<(), GrammarError> {
    let pattern = value.as_str().ok_or_else(|| GrammarError("\"pattern\" is no text".into()))?;
    if pattern.len() > PATTERN {
        return Err(GrammarError(format!("a pattern has {} bytes; at most {PATTERN} are read", pattern.len())));
    }
    if pattern.is_empty() { Ok(()) } else { text(pattern, "a pattern") }
}

fn is_count(value: &Value) -> bool {
    value.as_f64().is_some_and(|count| count >= 0.0 && count.fract() == 0.0)
}

/// A format becomes a pattern where the library's own is too wide.
fn format(value: &Value, made: &mut Map<String, Value>) -> Result<(), GrammarError> {
    let name = value.as_str().ok_or_else(|| GrammarError("\"format\" is no text".into()))?;
    match formats::format(name) {
        Some(Known::Library) => drop(made.insert("format".into(), value.clone())),
        Some(Known::Pattern(pattern)) => {
            let list = made.entry("allOf").or_insert_with(|| json!([]));
            if let Some(list) = list.as_array_mut() {
                list.push(json!({"pattern": pattern}));
            }
        }
        None => {
            let message = format!("the format {:?} is not supported; these are: {}", short(name), formats::NAMES);
            return Err(GrammarError(message));
        }
    }
    Ok(())
}

fn unknown(name: &str) -> GrammarError {
    let known = SCHEMA.iter().chain(&LISTS).chain(&NAMED).chain(&COUNTS).chain(&PLAIN).chain(&REMARKS);
    let near = likely(name, known.copied()).map(|near| format!("; did you mean {near:?}?")).unwrap_or_default();
    GrammarError(format!("the keyword {:?} is not supported in a schema{near}", short(name)))
}

fn short(name: &str) -> String {
    name.chars().take(60).collect()
}

/// A fragment's `%25` and its like as the letters they stand for.
fn percent_decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let digits = [rest.next()?, rest.next()?];
        bytes.push(u8::from_str_radix(std::str::from_utf8(&digits).ok()?, 16).ok()?);
    }
    String::from_utf8(bytes).ok()
}
