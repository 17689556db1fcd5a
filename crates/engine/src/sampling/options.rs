//! The settings of sampling: one table of names, ranges and meanings, from which the struct, its parser, its
//! checks, its merge and the help text are made. What the settings do is in `steps.rs` and `repeats.rs`.
//! Invariant: a field that is absent has no effect, and a value outside its range never gets in through `set`.

use std::collections::BTreeMap;

use pasture_files::nearest::by_nearness;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::SamplingError;
use super::chain::StepKind;

/// What values a setting takes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Range {
    /// A number from the first to the second.
    Real(f64, f64),
    /// A number above the first, up to the second.
    Above(f64, f64),
    /// A whole number from the first to the second.
    Whole(u64, u64),
    /// Pairs of token id and number; at most so many, each within ± the second.
    Biases(usize, f64),
    /// A list of token ids; at most so many.
    Tokens(usize),
    /// Names of steps.
    Steps,
}

impl std::fmt::Display for Range {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Range::Real(low, high) => write!(f, "a number from {low} to {high}"),
            Range::Above(low, high) => write!(f, "a number above {low}, at most {high}"),
            Range::Whole(low, high) => write!(f, "a whole number from {low} to {high}"),
            Range::Biases(count, limit) => {
                write!(f, "at most {count} token ids, each with a number from -{limit} to {limit}")
            }
            Range::Tokens(count) => write!(f, "a list of at most {count} token ids"),
            Range::Steps => write!(f, "names of steps, each once: {}", StepKind::names().join(";")),
        }
    }
}

/// One row of the table of settings.
#[derive(Clone, Copy, Debug)]
pub struct Field {
    /// The name in files, requests and `set`.
    pub name: &'static str,
    /// The values it takes.
    pub range: Range,
    /// One line for help texts.
    pub meaning: &'static str,
}

/// A type of setting: read from JSON, and compared with its range.
trait Setting: Sized + Serialize + for<'a> Deserialize<'a> {
    fn fits(&self, range: Range) -> bool;

    /// A lenient form is accepted where users write one.
    fn read(value: &Value) -> Option<Self> {
        serde_json::from_value(value.clone()).ok()
    }
}

impl Setting for f64 {
    fn fits(&self, range: Range) -> bool {
        match range {
            Range::Real(low, high) => (low..=high).contains(self),
            Range::Above(low, high) => *self > low && *self <= high,
            _ => false,
        }
    }
}

impl Setting for u64 {
    fn fits(&self, range: Range) -> bool {
        matches!(range, Range::Whole(low, high) if (low..=high).contains(self))
    }
}

impl Setting for u32 {
    fn fits(&self, range: Range) -> bool {
        u64::from(*self).fits(range)
    }
}

impl Setting for BTreeMap<u32, f64> {
    fn fits(&self, range: Range) -> bool {
        let Range::Biases(count, limit) = range else { return false };
        self.len() <= count && self.values().all(|bias| bias.abs() <= limit)
    }

    /// An object whose keys are token ids, as the APIs write it.
    fn read(value: &Value) -> Option<Self> {
        value.as_object()?.iter().map(|(token, bias)| Some((token.parse().ok()?, bias.as_f64()?))).collect()
    }
}

impl Setting for Vec<u32> {
    fn fits(&self, range: Range) -> bool {
        matches!(range, Range::Tokens(count) if self.len() <= count)
    }
}

impl Setting for Vec<StepKind> {
    fn fits(&self, _: Range) -> bool {
        self.iter().enumerate().all(|(place, kind)| !self[..place].contains(kind))
    }

    /// A list of names, or one text of names between semicolons.
    fn read(value: &Value) -> Option<Self> {
        match value {
            Value::String(names) => names.split(';').map(|name| StepKind::from_name(name.trim())).collect(),
            Value::Array(names) => names.iter().map(|name| StepKind::from_name(name.as_str()?)).collect(),
            _ => None,
        }
    }
}

fn out_of_range(name: &'static str, value: &impl Serialize, range: Range) -> SamplingError {
    let mut value = serde_json::to_string(value).unwrap_or_else(|_| "a value".to_owned());
    if let Some((cut, _)) = value.char_indices().nth(60) {
        value.truncate(cut);
        value.push('…');
    }
    SamplingError::Range { name, value, wanted: range.to_string() }
}

macro_rules! settings {
    ($($name:ident: $type:ty = $range:expr, $meaning:literal;)*) => {
        /// Settings of sampling. Each field is absent or within its range; absent means no effect.
        #[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
        #[serde(deny_unknown_fields, default)]
        pub struct SamplingOptions {
            $(#[doc = $meaning] #[serde(skip_serializing_if = "Option::is_none")] pub $name: Option<$type>,)*
        }

        /// Every setting, in the order of the documentation.
        pub const FIELDS: &[Field] =
            &[$(Field { name: stringify!($name), range: $range, meaning: $meaning }),*];

        impl SamplingOptions {
            /// Sets one field from JSON; `null` removes it.
            ///
            /// # Errors
            /// When there is no such field, or the value is outside its range.
            pub fn set(&mut self, name: &str, value: &Value) -> Result<(), SamplingError> {
                match name {
                    $(stringify!($name) => {
                        if value.is_null() {
                            self.$name = None;
                            return Ok(());
                        }
                        let read = <$type as Setting>::read(value).filter(|read| read.fits($range));
                        self.$name = Some(read.ok_or_else(|| out_of_range(stringify!($name), value, $range))?);
                        Ok(())
                    })*
                    _ => Err(SamplingError::UnknownName { name: name.to_owned(), near: by_nearness(name, FIELDS.iter().map(|field| field.name))[0] }),
                }
            }

            /// Compares every field that is present with its range.
            ///
            /// # Errors
            /// For the first field outside its range.
            pub fn check(&self) -> Result<(), SamplingError> {
                $(if let Some(value) = &self.$name && !value.fits($range) {
                    return Err(out_of_range(stringify!($name), value, $range));
                })*
                Ok(())
            }

            /// These settings, and those of `other` where these are absent.
            #[must_use]
            pub fn or(self, other: Self) -> Self {
                Self { $($name: self.$name.or(other.$name)),* }
            }

            /// The fields that are present, as JSON, in the order of [`FIELDS`].
            pub fn present(&self) -> Vec<(&'static str, Value)> {
                let mut list = Vec::new();
                $(if let Some(value) = &self.$name {
                    list.push((stringify!($name), serde_json::to_value(value).unwrap_or(Value::Null)));
                })*
                list
            }
        }
    };
}

settings! {
    temperature: f64 = Range::Real(0.0, 100.0), "Divides the logits; 0 takes the most probable token, 1 samples as trained";
    top_k: u32 = Range::Whole(0, 1 << 24), "Keeps so many of the most probable tokens; 0 keeps all";
    top_p: f64 = Range::Above(0.0, 1.0), "Keeps the most probable tokens up to this sum of probabilities; 1 keeps all";
    min_p: f64 = Range::Real(0.0, 1.0), "Keeps tokens with at least this share of the best token's probability";
    typical_p: f64 = Range::Above(0.0, 1.0), "Keeps the tokens of most typical surprise up to this sum of probabilities";
    top_n_sigma: f64 = Range::Above(0.0, 100.0), "Keeps tokens within so many standard deviations of the largest logit";
    epsilon_cutoff: f64 = Range::Real(0.0, 0.999_999), "Cuts tokens below this probability; 0 cuts none";
    eta_cutoff: f64 = Range::Real(0.0, 0.999_999), "Cuts tokens below a probability that falls with the entropy; 0 cuts none";
    xtc_probability: f64 = Range::Real(0.0, 1.0), "Chance to cut all but the least probable of the top choices";
    xtc_threshold: f64 = Range::Above(0.0, 1.0), "Probability from which a token is a top choice (default 0.1)";
    repetition_penalty: f64 = Range::Above(0.0, 100.0), "Divides the logits of earlier tokens; 1 has no effect";
    frequency_penalty: f64 = Range::Real(-2.0, 2.0), "Taken from a logit for each earlier use of its token";
    presence_penalty: f64 = Range::Real(-2.0, 2.0), "Taken from the logits of earlier tokens";
    repeat_last_n: u32 = Range::Whole(0, 1 << 31), "Tokens that the penalties and DRY look back on (default all)";
    no_repeat_ngram_size: u32 = Range::Whole(0, 4096), "Forbids to repeat a run of so many tokens; 0 forbids none";
    dry_multiplier: f64 = Range::Real(0.0, 100.0), "Size of the penalty on repeated runs (DRY); 0 has no effect";
    dry_base: f64 = Range::Real(1.0, 10.0), "Growth of the DRY penalty with the run's length (default 1.75)";
    dry_allowed_length: u32 = Range::Whole(1, 4096), "Length of the shortest run with a DRY penalty (default 2)";
    dry_breakers: Vec<u32> = Range::Tokens(256), "Token ids that end a run for DRY";
    mirostat_tau: f64 = Range::Above(0.0, 100.0), "Surprise in bits that Mirostat 2 aims at";
    mirostat_eta: f64 = Range::Above(0.0, 1.0), "Learning rate of Mirostat 2 (default 0.1)";
    logit_bias: BTreeMap<u32, f64> = Range::Biases(1024, 100.0), "Added to the logits of the tokens named";
    samplers: Vec<StepKind> = Range::Steps, "Order of the steps";
    seed: u64 = Range::Whole(0, u64::MAX), "Seed of the random numbers";
    logprobs: u32 = Range::Whole(0, 20), "Reports the chosen token's log-probability and those of so many others";
}

impl SamplingOptions {
    /// The sampling defaults of a `generation_config.json`; keys of other purposes are left to their readers.
    ///
    /// `do_sample: false` means greedy whatever else the file says, as its reference implementation has it.
    ///
    /// # Errors
    /// When a value is outside its range.
    pub fn from_generation_config(config: &Value) -> Result<Self, SamplingError> {
        const KEYS: [&str; 9] = [
            "temperature",
            "top_k",
            "top_p",
            "min_p",
            "typical_p",
            "epsilon_cutoff",
            "eta_cutoff",
            "repetition_penalty",
            "no_repeat_ngram_size",
        ];
        let mut options = Self::default();
        for key in KEYS {
            if let Some(value) = config.get(key) {
                options.set(key, value)?;
            }
        }
        if config.get("do_sample") == Some(&Value::Bool(false)) {
            options = Self {
                temperature: Some(0.0),
                repetition_penalty: options.repetition_penalty,
                no_repeat_ngram_size: options.no_repeat_ngram_size,
                ..Self::default()
            };
        }
        Ok(options)
    }

    /// Whether the most probable token is taken, so that nothing is drawn.
    pub fn is_greedy(&self) -> bool {
        self.temperature == Some(0.0)
    }

    /// The fields that are present and can change nothing, because of the other fields.
    ///
    /// For callers that know which settings a user wrote: such a one is an error there.
    pub fn ineffective(&self) -> Vec<&'static str> {
        let mut list = Vec::new();
        let mut note = |present: bool, name| {
            if present {
                list.push(name);
            }
        };
        if self.is_greedy() {
            note(self.top_k.is_some_and(|k| k > 1), "top_k");
            note(self.top_p.is_some_and(|p| p < 1.0), "top_p");
            note(self.min_p.is_some_and(|p| p > 0.0), "min_p");
            note(self.typical_p.is_some_and(|p| p < 1.0), "typical_p");
            note(self.top_n_sigma.is_some(), "top_n_sigma");
            note(self.epsilon_cutoff.is_some_and(|e| e > 0.0), "epsilon_cutoff");
            note(self.eta_cutoff.is_some_and(|e| e > 0.0), "eta_cutoff");
            note(self.xtc_probability.is_some_and(|p| p > 0.0), "xtc_probability");
            note(self.mirostat_tau.is_some(), "mirostat_tau");
            note(self.seed.is_some(), "seed");
        }
        let dry = self.dry_multiplier.is_some_and(|m| m > 0.0);
        let looks_back = self.repetition_penalty.is_some()
            || self.frequency_penalty.is_some()
            || self.presence_penalty.is_some()
            || dry;
        note(self.xtc_threshold.is_some() && self.xtc_probability.is_none(), "xtc_threshold");
        note(self.mirostat_eta.is_some() && self.mirostat_tau.is_none(), "mirostat_eta");
        note(self.dry_base.is_some() && !dry, "dry_base");
        note(self.dry_allowed_length.is_some() && !dry, "dry_allowed_length");
        note(self.dry_breakers.is_some() && !dry, "dry_breakers");
        note(self.repeat_last_n.is_some() && !looks_back, "repeat_last_n");
        list
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn check_set(name: &str, value: Value, wanted: Result<Value, &str>) {
        let mut options = SamplingOptions::default();
        match (options.set(name, &value), wanted) {
            (Ok(()), Ok(wanted)) => assert_eq!(options.present(), [(field(name), wanted)]),
            (Err(error), Err(part)) => {
                let text = error.to_string();
                assert!(text.contains(part) && text.contains(name), "{text:?} lacks {part:?}");
                assert_eq!(options, SamplingOptions::default());
            }
            (result, wanted) => panic!("{name} = {value}: {result:?}, not {wanted:?}"),
        }
    }

    fn field(name: &str) -> &'static str {
        FIELDS.iter().find(|field| field.name == name).unwrap().name
    }

    #[test]
    fn a_value_outside_its_range_is_an_error_that_names_field_and_limit() {
        check_set("temperature", json!(-1), Err("from 0 to 100"));
        check_set("temperature", json!("hot"), Err("a number from 0 to 100"));
        check_set("top_k", json!(-5), Err("a whole number from 0"));
        check_set("top_k", json!(1.5), Err("a whole number from 0"));
        check_set("top_p", json!(7), Err("at most 1"));
        check_set("top_p", json!(0), Err("above 0"));
        check_set("logit_bias", json!({"1": 101}), Err("from -100 to 100"));
        check_set("logit_bias", json!({"one": 1}), Err("token ids"));
        check_set("samplers", json!("top_k;top_k"), Err("each once"));
        check_set("samplers", json!("top_k;tpo_p"), Err("top_p"));
        check_set("topp", json!(1), Err("top_p"));
        check_set("repetition-penalty", json!(1), Err("repetition_penalty"));
        check_set("seed", json!(u64::MAX), Ok(json!(u64::MAX)));
        check_set("top_p", json!(1), Ok(json!(1.0)));
        check_set("logit_bias", json!({"7": -100}), Ok(json!({"7": -100.0})));
        check_set("samplers", json!("top_k; temperature"), Ok(json!(["top_k", "temperature"])));
    }

    #[test]
    fn a_generation_config_gives_its_sampling_keys() {
        let config = json!({"temperature": 0.6, "top_p": 0.9, "top_k": null, "do_sample": true, "eos_token_id": 2});
        let options = SamplingOptions::from_generation_config(&config).unwrap();
        assert_eq!(options, SamplingOptions { temperature: Some(0.6), top_p: Some(0.9), ..Default::default() });
        let greedy = SamplingOptions::from_generation_config(&json!({"do_sample": false, "top_p": 0.9})).unwrap();
        assert!(greedy.is_greedy() && greedy.top_p.is_none());
        assert!(SamplingOptions::from_generation_config(&json!({"temperature": -1})).is_err());
    }

    #[test]
    fn the_first_of_two_layers_wins_field_by_field() {
        let user = SamplingOptions { temperature: Some(0.5), ..Default::default() };
        let model = SamplingOptions { temperature: Some(0.9), top_k: Some(40), ..Default::default() };
        let merged = user.or(model);
        assert_eq!((merged.temperature, merged.top_k), (Some(0.5), Some(40)));
    }

    #[test]
    fn settings_that_change_nothing_are_named() {
        let options =
            SamplingOptions { temperature: Some(0.0), top_p: Some(0.9), dry_base: Some(2.0), ..Default::default() };
        assert_eq!(options.ineffective(), ["top_p", "dry_base"]);
        assert!(SamplingOptions { top_p: Some(0.9), ..Default::default() }.ineffective().is_empty());
    }
}
