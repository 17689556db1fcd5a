//! What a request may say: one table of fields for each route. A field is effective, advisory (accepted and listed as
//! unused), or not supported yet, when only its neutral values are accepted; every other name is refused with the
//! nearest known one. The tables are in `tables.rs`, the page that they make in `page.rs`.

mod kinds;
mod page;
mod tables;

use pasture_files::nearest::likely;
use serde_json::{Map, Value};

use crate::refusal::{Refusal, quoted};
pub use kinds::Kind;
pub use page::page;
pub use tables::{BATCHES_QUERY, Body, FILES_QUERY, of};

/// One field of a request.
#[derive(Clone, Copy, Debug)]
pub struct Field {
    /// Its name.
    pub name: &'static str,
    /// What it does.
    pub effect: Effect,
    /// One line for the page.
    pub meaning: &'static str,
}

/// What a field does.
#[derive(Clone, Copy, Debug)]
pub enum Effect {
    /// It changes the answer.
    Effective(Kind),
    /// It changes nothing that is promised; accepted and listed in `x-pasture-unused`.
    Advisory,
    /// Not supported yet: null and these values, written as JSON, mean what happens anyway.
    NotYet(&'static [&'static str]),
}

/// Fields without effect that name somebody or something: whatever is no text is a mistake.
const NAMES: [&str; 4] = ["user", "safety_identifier", "prompt_cache_key", "service_tier"];

/// The fields of a request that passed its table.
#[derive(Debug, Default)]
pub struct Asked {
    values: Map<String, Value>,
    /// Names of fields without effect.
    pub unused: Vec<String>,
}

impl Asked {
    /// Compares an object with a table. With `lenient` what is unknown or not supported is unused instead of refused.
    pub fn check(object: Map<String, Value>, table: &[Field], lenient: bool) -> Result<Asked, Refusal> {
        let mut asked = Asked::default();
        asked.take(object, table, "", lenient)?;
        Ok(asked)
    }

    fn take(&mut self, object: Map<String, Value>, table: &[Field], at: &str, lenient: bool) -> Result<(), Refusal> {
        for (name, value) in object {
            let full = format!("{at}{name}");
            let Some(field) = table.iter().find(|field| field.name == name) else {
                if lenient {
                    self.unused.push(full);
                    continue;
                }
                return Err(unknown(&full, &name, table));
            };
            match (&field.effect, value) {
                (_, Value::Null) => {}
                (Effect::Advisory, value) if NAMES.contains(&field.name) && !value.is_string() => {
                    return Err(Refusal::field(&full, format!("\"{full}\" must be a text")));
                }
                (Effect::Advisory, _) => self.unused.push(full),
                (Effect::NotYet(neutral), value) if neutral.iter().any(|neutral| is(&value, neutral)) => {}
                (Effect::NotYet(_), _) if lenient => self.unused.push(full),
                (Effect::NotYet(neutral), _) => return Err(not_yet(&full, neutral)),
                (Effect::Effective(Kind::Object(inner)), Value::Object(inside)) => {
                    self.take(inside, inner, &format!("{full}."), lenient)?;
                }
                (Effect::Effective(kind), value) => {
                    kind.check(&full, &value).map_err(|what| Refusal::field(&full, what))?;
                    self.values.insert(full, value);
                }
            }
        }
        Ok(())
    }

    /// The value of an effective field that is there. A field inside another has both names, with a point.
    pub fn value(&self, name: &str) -> Option<&Value> {
        self.values.get(name)
    }

    /// A text.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.value(name).and_then(Value::as_str)
    }

    /// A whole number.
    pub fn whole(&self, name: &str) -> Option<u64> {
        self.value(name).and_then(Value::as_u64)
    }

    /// Yes or no; no where it is absent.
    pub fn flag(&self, name: &str) -> bool {
        self.value(name).and_then(Value::as_bool).unwrap_or(false)
    }

    /// A field that must be there.
    pub fn needed(&self, name: &str) -> Result<&Value, Refusal> {
        let missing = || Refusal::field(name, format!("the field \"{name}\" is missing")).code("missing_field");
        self.value(name).ok_or_else(missing)
    }
}

fn unknown(full: &str, name: &str, table: &[Field]) -> Refusal {
    let near = likely(name, table.iter().map(|field| field.name));
    let near = near.map(|near| format!("; did you mean \"{near}\"?")).unwrap_or_default();
    let message = format!("the field {} is not known here{near}", quoted(full));
    Refusal::field(full.chars().take(60).collect::<String>(), message).code("unknown_field")
}

fn not_yet(full: &str, neutral: &[&str]) -> Refusal {
    let instead = match neutral {
        [] => "leave it out".to_owned(),
        some => format!("leave it out, or give {}", some.join(" or ")),
    };
    Refusal::field(full, format!("\"{full}\" is not supported yet; {instead}")).code("not_supported")
}

/// Is a value the same as one that is written as JSON? Numbers are compared as numbers.
fn is(value: &Value, written: &str) -> bool {
    let Ok(other) = serde_json::from_str::<Value>(written) else { return false };
    match (value.as_f64(), other.as_f64()) {
        (Some(one), Some(other)) => one == other,
        _ => *value == other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const INNER: &[Field] = &[Field { name: "include_usage", effect: Effect::Effective(Kind::Flag), meaning: "" }];
    const TABLE: &[Field] = &[
        Field { name: "n", effect: Effect::Effective(Kind::Whole(1, 16)), meaning: "" },
        Field { name: "user", effect: Effect::Advisory, meaning: "" },
        Field { name: "best_of", effect: Effect::NotYet(&["1", "[]"]), meaning: "" },
        Field { name: "stream_options", effect: Effect::Effective(Kind::Object(INNER)), meaning: "" },
    ];

    fn check(object: Value, lenient: bool, wanted: Result<&[&str], &str>) {
        let Value::Object(fields) = object.clone() else { panic!("{object} is no object") };
        match (Asked::check(fields, TABLE, lenient), wanted) {
            (Ok(asked), Ok(unused)) => assert_eq!(asked.unused, unused, "{object}"),
            (Err(refusal), Err(part)) => assert!(refusal.message.contains(part), "{object}: {}", refusal.message),
            (result, wanted) => panic!("{object}: {result:?}, not {wanted:?}"),
        }
    }

    #[test]
    fn a_field_is_effective_advisory_neutral_or_refused_by_name() {
        check(json!({"n": 16}), false, Ok(&[]));
        check(json!({"n": 17}), false, Err("from 1 to 16"));
        check(json!({"n": null, "user": null, "best_of": null}), false, Ok(&[]));
        check(json!({"user": "anna"}), false, Ok(&["user"]));
        check(json!({"best_of": 1.0}), false, Ok(&[]));
        check(json!({"best_of": []}), false, Ok(&[]));
        check(json!({"best_of": 2}), false, Err("\"best_of\" is not supported yet"));
        check(json!({"best_of": 2}), true, Ok(&["best_of"]));
        check(json!({"usr": 2}), false, Err("did you mean \"user\"?"));
        check(json!({"usr": 2}), true, Ok(&["usr"]));
        check(json!({"n": 17}), true, Err("from 1 to 16"));
        check(json!({"stream_options": {"include_usage": true}}), false, Ok(&[]));
        check(json!({"stream_options": {"include_usages": true}}), false, Err("stream_options.include_usages"));
        check(json!({"stream_options": 5}), false, Err("an object"));
    }
}
