//! Generation defaults that a model's files bring along: `generation_config.json` and GGUF's `general.sampling.*`.
//! Every key is used, ignored for a reason, or reported as unknown. What the settings do belongs to the engine.
#![forbid(unsafe_code)]

use serde_json::{Map, Value, json};

use crate::error::{Error, Result, quoted};
use crate::gguf::{self, Metadata};

/// What a model's files say about generating.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Defaults {
    /// Settings of sampling under the names that the engine gives them (`temperature`, `top_k`, …).
    pub sampling: Map<String, Value>,
    /// The file asks for the most probable token (`do_sample: false`), whatever else it says.
    pub greedy: bool,
    /// How many tokens an answer has at most.
    pub max_new_tokens: Option<u64>,
    /// Keys without an effect here, and why.
    pub ignored: Vec<(String, String)>,
    /// Keys that nobody knows.
    pub unknown: Vec<String>,
}

/// End tokens and end texts as a file lists them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Ends {
    pub(super) ids: Vec<u32>,
    pub(super) texts: Vec<String>,
}

const SAMPLING: [&str; 9] = [
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

/// Keys that do nothing at this value; at any other they ask for what is not done here.
const NO_OPS: [(&str, &str); 22] = [
    ("num_beams", "1"),
    ("num_beam_groups", "1"),
    ("num_return_sequences", "1"),
    ("diversity_penalty", "0.0"),
    ("length_penalty", "1.0"),
    ("encoder_repetition_penalty", "1.0"),
    ("encoder_no_repeat_ngram_size", "0"),
    ("early_stopping", "false"),
    ("renormalize_logits", "false"),
    ("remove_invalid_values", "false"),
    ("penalty_alpha", "null"),
    ("dola_layers", "null"),
    ("guidance_scale", "null"),
    ("bad_words_ids", "null"),
    ("force_words_ids", "null"),
    ("constraints", "null"),
    ("suppress_tokens", "null"),
    ("begin_suppress_tokens", "null"),
    ("forced_bos_token_id", "null"),
    ("forced_eos_token_id", "null"),
    ("exponential_decay_length_penalty", "null"),
    ("sequence_bias", "null"),
];

/// Keys about other things than the answer's text, or about how the reference computes.
const BOOKKEEPING: [&str; 24] = [
    "_from_model_config",
    "transformers_version",
    "use_cache",
    "cache_implementation",
    "cache_config",
    "return_dict_in_generate",
    "return_legacy_cache",
    "output_attentions",
    "output_hidden_states",
    "output_scores",
    "output_logits",
    "bos_token_id",
    "pad_token_id",
    "decoder_start_token_id",
    "max_length",
    "min_length",
    "min_new_tokens",
    "max_time",
    "trust_remote_code",
    "prefill_chunk_size",
    "low_memory",
    "disable_compile",
    "is_assistant",
    "chat_format",
];

/// GGUF's names behind `general.sampling.`, and ours.
pub(super) const SAMPLING_NAMES: [(&str, &str); 11] = [
    ("temp", "temperature"),
    ("top_k", "top_k"),
    ("top_p", "top_p"),
    ("min_p", "min_p"),
    ("typ_p", "typical_p"),
    ("xtc_probability", "xtc_probability"),
    ("xtc_threshold", "xtc_threshold"),
    ("penalty_last_n", "repeat_last_n"),
    ("penalty_repeat", "repetition_penalty"),
    ("mirostat_tau", "mirostat_tau"),
    ("mirostat_eta", "mirostat_eta"),
];

impl Defaults {
    /// Reads `generation_config.json`; the ends it lists come second.
    pub(super) fn from_generation_config(config: &Value, file: &str) -> Result<(Defaults, Ends)> {
        let fields = config.as_object().ok_or_else(|| Error::invalid(file, "an object is expected"))?;
        let mut defaults = Defaults::default();
        let mut ends = Ends::default();
        for (key, value) in fields {
            match key.as_str() {
                "eos_token_id" => ends.ids = ids(value, key, file)?,
                "stop_strings" => ends.texts = texts(value, key, file)?,
                "do_sample" => {
                    let sample = value.as_bool();
                    defaults.greedy = !sample.ok_or_else(|| wrong(file, key, value, "true or false"))?;
                }
                "max_new_tokens" if !value.is_null() => {
                    let tokens = value.as_u64().filter(|tokens| *tokens > 0);
                    defaults.max_new_tokens = Some(tokens.ok_or_else(|| wrong(file, key, value, "a count"))?);
                }
                key if SAMPLING.contains(&key) && !value.is_null() => {
                    if !value.is_number() {
                        return Err(wrong(file, key, value, "a number"));
                    }
                    defaults.sampling.insert(key.into(), value.clone());
                }
                _ => defaults.other(key, value),
            }
        }
        Ok((defaults, ends))
    }

    fn other(&mut self, key: &str, value: &Value) {
        if value.is_null() || BOOKKEEPING.contains(&key) {
            return;
        }
        match NO_OPS.into_iter().find(|(known, _)| *known == key) {
            Some((_, no_op)) if serde_json::from_str::<Value>(no_op).is_ok_and(|no_op| same(&no_op, value)) => {}
            Some(_) => self.ignored.push((key.into(), "it asks for what is not done here".into())),
            None => self.unknown.push(key.into()),
        }
    }

    /// Reads the keys `general.sampling.*` of a GGUF file.
    pub(super) fn from_gguf(metadata: &Metadata) -> Result<Defaults> {
        let mut defaults = Defaults::default();
        let mut mirostat = 0;
        for (key, value) in metadata.iter() {
            let Some(name) = key.strip_prefix("general.sampling.") else { continue };
            if name == "mirostat" {
                mirostat = value.integer().ok_or_else(|| metadata.invalid(key, "is no integer"))?;
                continue;
            }
            let Some((_, ours)) = SAMPLING_NAMES.into_iter().find(|(known, _)| *known == name) else {
                let known = name == "sequence";
                match known {
                    true => defaults.ignored.push((key.into(), "the order of steps is the engine's".into())),
                    false => defaults.unknown.push(key.into()),
                }
                continue;
            };
            let number = match value {
                gguf::Value::F32(number) => serde_json::Number::from_f64(widened(*number)).map(Value::Number),
                other => other.integer().and_then(|number| i64::try_from(number).ok()).map(|number| json!(number)),
            };
            let number = number.ok_or_else(|| metadata.invalid(key, "is no finite number"))?;
            // Negative counts mean "all" there, which is what absence means here.
            if matches!(ours, "top_k" | "repeat_last_n") && number.as_i64().is_some_and(|count| count < 0) {
                continue;
            }
            defaults.sampling.insert(ours.into(), number);
        }
        if mirostat != 2 {
            for key in ["mirostat_tau", "mirostat_eta"] {
                defaults.sampling.remove(key);
            }
        }
        if mirostat == 1 {
            defaults.ignored.push(("general.sampling.mirostat".into(), "only its second version is known".into()));
        }
        Ok(defaults)
    }
}

/// The decimal that was written before it became a 32-bit float: 0.7, not 0.699999988.
fn widened(number: f32) -> f64 {
    number.to_string().parse().unwrap_or(f64::from(number))
}

fn same(a: &Value, b: &Value) -> bool {
    a == b || matches!((a.as_f64(), b.as_f64()), (Some(a), Some(b)) if a == b)
}

fn wrong(file: &str, key: &str, value: &Value, wanted: &str) -> Error {
    Error::invalid(file, format!("{} is {}, expected {wanted}", quoted(key), quoted(&value.to_string())))
}

/// One id or a list of them.
pub(super) fn ids(value: &Value, key: &str, file: &str) -> Result<Vec<u32>> {
    let one = |value: &Value| {
        let id = value.as_u64().and_then(|id| u32::try_from(id).ok());
        id.ok_or_else(|| wrong(file, key, value, "a token id"))
    };
    match value {
        Value::Null => Ok(Vec::new()),
        Value::Array(list) if list.len() <= 64 => list.iter().map(one).collect(),
        Value::Array(list) => {
            Err(Error::invalid(file, format!("{} lists {} ids, at most 64", quoted(key), list.len())))
        }
        single => Ok(vec![one(single)?]),
    }
}

fn texts(value: &Value, key: &str, file: &str) -> Result<Vec<String>> {
    let one = |value: &Value| {
        let text = value.as_str().filter(|text| !text.is_empty() && text.len() <= 256);
        text.map(str::to_owned).ok_or_else(|| wrong(file, key, value, "a text of 1 to 256 bytes"))
    };
    match value {
        Value::Null => Ok(Vec::new()),
        Value::Array(list) if list.len() <= 64 => list.iter().map(one).collect(),
        Value::Array(list) => {
            Err(Error::invalid(file, format!("{} lists {} texts, at most 64", quoted(key), list.len())))
        }
        single => Ok(vec![one(single)?]),
    }
}
