//! The end of reading: what no page has read must be known to mean nothing. A key that other models' pages read is
//! refused unless it is at a value without effect; one that nobody knows is listed.

use pasture_files::nearest::nearest;
use serde_json::{Map, Value};

use super::{Config, KEY_MAX, bookkeeping, keys, read};
use crate::error::Result;

/// What was in a configuration and was not used.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Keys that mean nothing, with the reasons.
    pub ignored: Vec<Ignored>,
    /// Keys that nobody knows: they are shown, and refused where that is asked for.
    pub unknown: Vec<String>,
}

/// A key that means nothing here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ignored {
    /// The key, as the file has it.
    pub key: String,
    /// Why it means nothing when the model runs.
    pub reason: &'static str,
    /// Why it means nothing when the model is tuned.
    pub tuning: &'static str,
}

/// Ids of special tokens, and the least each may be: -1 says "none" for padding in the first conversions.
const TOKEN_IDS: [(&str, i64); 3] = [("bos_token_id", 0), ("eos_token_id", 0), ("pad_token_id", -1)];

impl Config {
    /// Closes the reading: call it when the page has read all it wants.
    pub fn finish(&self) -> Result<Report> {
        self.quantization()?;
        self.check_token_ids()?;
        let mut report = Report { ignored: self.ignored.borrow().clone(), unknown: Vec::new() };
        self.close(&self.values, "", &mut report)?;
        Ok(report)
    }

    fn close(&self, values: &Map<String, Value>, prefix: &str, report: &mut Report) -> Result<()> {
        for (key, value) in values {
            let path = format!("{prefix}{key}");
            if self.used.borrow().contains(&path) || self.derived.contains(&path) {
                continue;
            }
            let inner = format!("{path}.");
            match value {
                Value::Object(values) if self.used.borrow().iter().any(|used| used.starts_with(&inner)) => {
                    self.close(values, &inner, report)?;
                }
                _ => self.close_key(&path, value, report)?,
            }
        }
        Ok(())
    }

    fn close_key(&self, path: &str, value: &Value, report: &mut Report) -> Result<()> {
        if let Some(row) = bookkeeping::find(path) {
            report.ignored.push(Ignored { key: self.origin(path), reason: row.reason, tuning: row.tuning });
            return Ok(());
        }
        if let Some((_, reason)) = bookkeeping::GGUF_PREFIXES.iter().find(|(prefix, _)| path.starts_with(prefix)) {
            report.ignored.push(Ignored { key: read::shortened(path, KEY_MAX), reason, tuning: reason });
            return Ok(());
        }
        let again = || keys::find(bookkeeping::written_again(path)?);
        let Some(row) = keys::find(path).or_else(again) else {
            report.unknown.push(read::shortened(&self.origin(path), KEY_MAX));
            return Ok(());
        };
        if !value.is_null() && !row.no_op.iter().any(|no_op| is_no_op(value, no_op)) {
            let allowed = match row.no_op {
                [] => "leave it out if it has no effect".to_owned(),
                values => format!("only {} would have no effect", values.join(" or ")),
            };
            let what = format!("is {}, but this model is built without it; {allowed}", read::shown(value));
            return Err(self.fault(path, what));
        }
        let reason = "it has a value without effect";
        report.ignored.push(Ignored { key: self.origin(path), reason, tuning: reason });
        Ok(())
    }

    fn check_token_ids(&self) -> Result<()> {
        for (key, least) in TOKEN_IDS {
            let Some(value) = self.value(key) else { continue };
            let ids = value.as_array().map_or(std::slice::from_ref(value), Vec::as_slice);
            if !ids.iter().all(|id| id.as_i64().is_some_and(|id| id >= least && id <= i64::from(u32::MAX))) {
                let what = format!("is {}, it should be a token id or a list of token ids", read::shown(value));
                return Err(self.fault(key, what));
            }
        }
        Ok(())
    }
}

/// Whether a value is the one written as JSON, or a list of nothing else.
fn is_no_op(value: &Value, no_op: &str) -> bool {
    let Ok(no_op) = serde_json::from_str::<Value>(no_op) else { return false };
    let equals = |value: &Value| match (value.as_f64(), no_op.as_f64()) {
        (Some(found), Some(wanted)) => found == wanted,
        _ => *value == no_op,
    };
    equals(value) || value.as_array().is_some_and(|list| list.iter().all(equals))
}

impl Report {
    /// Unknown keys as one error, for those who ask for strictness.
    pub fn strict(&self, config: &Config) -> Result<()> {
        match self.unknown.first() {
            None => Ok(()),
            Some(key) => {
                let near = nearest(key, keys::names()).map_or(String::new(), |near| format!(" (is it {near:?}?)"));
                Err(config.fault(key, format!("is a key that nobody knows{near}")))
            }
        }
    }
}
