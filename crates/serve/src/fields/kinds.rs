//! The values that effective fields take, each with its limits.

use pasture_engine::sampling::FIELDS;
use pasture_engine::sampling::SamplingOptions;
use serde_json::Value;

use super::Field;
use crate::limits;
use crate::models::Keep;

/// What values a field takes.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    /// A text.
    Text,
    /// True or false.
    Flag,
    /// A whole number from the first to the second.
    Whole(u64, u64),
    /// A whole number from the first, which may be negative, to the second.
    Signed(i64, i64),
    /// A setting of the engine's, with the engine's limits.
    Sampling(&'static str),
    /// A text before which answers end, or a list of them.
    Stops,
    /// A conversation.
    Messages,
    /// A text, a list of texts, a list of token ids, or a list of such lists.
    Prompts,
    /// A list of token ids.
    Ids,
    /// A text, or a list of texts.
    Texts,
    /// A list of texts, or of objects with a text.
    Documents,
    /// One of some words.
    Words(&'static [&'static str]),
    /// Whatever is read where it is used, which says what is wrong with it; the words are for the page.
    Read(&'static str),
    /// For how long a model stays loaded.
    KeepAlive,
    /// An object with a table of its own.
    Object(&'static [Field]),
}

impl Kind {
    /// Compares a value with the kind; says in words what is wrong.
    pub fn check(&self, name: &str, value: &Value) -> Result<(), String> {
        let fits = match self {
            Kind::Sampling(setting) => {
                return SamplingOptions::default().set(setting, value).map_err(|error| match *setting == name {
                    true => error.to_string(),
                    false => format!("\"{name}\": {error}"),
                });
            }
            Kind::Text => value.is_string(),
            Kind::Flag => value.is_boolean(),
            Kind::Whole(low, high) => value.as_u64().is_some_and(|number| (*low..=*high).contains(&number)),
            Kind::Signed(low, high) => value.as_i64().is_some_and(|number| (*low..=*high).contains(&number)),
            Kind::Stops => are_stops(value),
            Kind::Messages => value.as_array().is_some_and(|list| list.len() <= limits::MESSAGES),
            Kind::Prompts => are_prompts(value),
            Kind::Ids => are_ids(value),
            Kind::Texts => value.is_string() || are_documents(value, Value::is_string),
            Kind::Documents => are_documents(value, |one| one.is_string() || is_document(one)),
            Kind::Words(words) => value.as_str().is_some_and(|text| words.contains(&text)),
            Kind::Read(_) => true,
            Kind::KeepAlive => Keep::parse(value).is_some(),
            Kind::Object(_) => value.is_object(),
        };
        if fits { Ok(()) } else { Err(format!("\"{name}\" must be {self}")) }
    }
}

impl std::fmt::Display for Kind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (stops, bytes) = limits::STOPS;
        match self {
            Kind::Text => f.write_str("a text"),
            Kind::Flag => f.write_str("true or false"),
            Kind::Whole(low, high) => write!(f, "a whole number from {low} to {high}"),
            Kind::Signed(low, high) => write!(f, "a whole number from {low} to {high}"),
            Kind::Sampling(setting) => match FIELDS.iter().find(|field| field.name == *setting) {
                Some(field) => write!(f, "{}", field.range),
                None => Ok(()),
            },
            Kind::Stops => write!(f, "a text or at most {stops} texts, each of 1 to {bytes} bytes"),
            Kind::Messages => write!(f, "a list of at most {} messages", limits::MESSAGES),
            Kind::Prompts => {
                write!(f, "a text, a list of token ids, or a list of at most {} of either", limits::PROMPTS)
            }
            Kind::Ids => f.write_str("a list of token ids"),
            Kind::Texts => write!(f, "a text or a list of 1 to {} texts", limits::DOCUMENTS),
            Kind::Documents => {
                write!(f, "a list of 1 to {} texts, or objects with a `text` alone", limits::DOCUMENTS)
            }
            Kind::Words(words) => write!(f, "one of {}", words.join(", ")),
            Kind::Read(words) => f.write_str(words),
            Kind::KeepAlive => f.write_str("seconds, or a text as 5m or 1h30m"),
            Kind::Object(_) => f.write_str("an object"),
        }
    }
}

fn are_stops(value: &Value) -> bool {
    let (count, bytes) = limits::STOPS;
    let is_stop = |text: &Value| text.as_str().is_some_and(|text| !text.is_empty() && text.len() <= bytes);
    match value {
        Value::Array(list) => list.len() <= count && list.iter().all(is_stop),
        text => is_stop(text),
    }
}

fn are_ids(value: &Value) -> bool {
    let is_id = |id: &Value| id.as_u64().is_some_and(|id| u32::try_from(id).is_ok());
    value.as_array().is_some_and(|list| !list.is_empty() && list.len() <= limits::IDS && list.iter().all(is_id))
}

fn are_documents(value: &Value, is_one: impl Fn(&Value) -> bool) -> bool {
    value.as_array().is_some_and(|list| !list.is_empty() && list.len() <= limits::DOCUMENTS && list.iter().all(is_one))
}

fn is_document(value: &Value) -> bool {
    value.as_object().is_some_and(|object| object.len() == 1 && object.get("text").is_some_and(Value::is_string))
}

fn are_prompts(value: &Value) -> bool {
    match value {
        Value::String(_) => true,
        Value::Array(list) if list.first().is_some_and(Value::is_number) => are_ids(value),
        Value::Array(list) => {
            let texts = list.iter().all(Value::is_string);
            !list.is_empty() && list.len() <= limits::PROMPTS && (texts || list.iter().all(are_ids))
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_limit_passes_and_one_more_does_not() {
        let check = |kind: Kind, good: Value, wrong: Value| {
            assert_eq!(kind.check("it", &good), Ok(()));
            let what = kind.check("it", &wrong).expect_err("past the limit");
            assert!(what.contains("\"it\""), "{what}");
        };
        let text = |bytes: usize| Value::String("x".repeat(bytes));
        let texts = |count: usize| Value::Array(vec![text(1); count]);
        check(Kind::Stops, text(256), text(257));
        check(Kind::Stops, texts(16), texts(17));
        check(Kind::Stops, json!(["a"]), json!([""]));
        check(Kind::Messages, texts(4096), texts(4097));
        check(Kind::Prompts, texts(128), texts(129));
        check(Kind::Prompts, json!([1, 2]), json!([1, "a"]));
        check(Kind::Prompts, json!([[1], [2]]), json!([[1], "a"]));
        check(Kind::Prompts, json!(["a"]), json!([]));
        check(Kind::Texts, texts(1000), texts(1001));
        check(Kind::Texts, json!("a"), json!([]));
        check(Kind::Documents, json!(["a", {"text": "b"}]), json!([{"text": "b", "title": "c"}]));
        check(Kind::Ids, json!([u32::MAX]), json!([u64::from(u32::MAX) + 1]));
        check(Kind::Whole(0, 20), json!(20), json!(21));
        check(Kind::Signed(-1, 5), json!(-1), json!(-2));
        check(Kind::Words(&["float"]), json!("float"), json!("flot"));
        check(Kind::Flag, json!(false), json!(0));
        check(Kind::Sampling("top_p"), json!(1), json!(1.5));
        let biases = |count: u32| (0..count).map(|id| (id.to_string(), json!(1))).collect::<Value>();
        check(Kind::Sampling("logit_bias"), biases(1024), biases(1025));
    }
}
