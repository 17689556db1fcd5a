//! GGUF metadata under Hugging Face's names. What GGUF leaves to the tensors (is there a head of its own, are there
//! biases, which factors do the rotary frequencies have) is concluded from them here.

use pasture_files::gguf::{Metadata, Value as Stored};
use pasture_files::{Dtype, Tensors};
use pasture_kernels::Format;
use serde_json::{Map, Number, Value, json};

use super::{Config, Container};
use crate::error::Result;

/// The key behind the architecture's word and a dot, and Hugging Face's name.
const NAMES: &[(&str, &str)] = &[
    ("vocab_size", "vocab_size"),
    ("context_length", "max_position_embeddings"),
    ("embedding_length", "hidden_size"),
    ("block_count", "num_hidden_layers"),
    ("feed_forward_length", "intermediate_size"),
    ("expert_feed_forward_length", "moe_intermediate_size"),
    ("interleave_moe_layer_step", "interleave_moe_layer_step"),
    ("expert_count", "num_local_experts"),
    ("expert_used_count", "num_experts_per_tok"),
    ("attention.head_count", "num_attention_heads"),
    ("attention.head_count_kv", "num_key_value_heads"),
    ("attention.key_length", "head_dim"),
    ("attention.layer_norm_rms_epsilon", "rms_norm_eps"),
    ("attention.layer_norm_epsilon", "layer_norm_eps"),
    ("attention.sliding_window", "sliding_window"),
    ("attention.causal", "causal"),
    ("attention.scale", "attention_multiplier"),
    ("attention.clamp_kqv", "clip_qkv"),
    ("attn_logit_softcapping", "attn_logit_softcapping"),
    ("final_logit_softcapping", "final_logit_softcapping"),
    ("logit_scale", "logit_scale"),
    ("residual_scale", "residual_multiplier"),
    ("embedding_scale", "embedding_multiplier"),
    ("pooling_type", "pooling_type"),
    ("rope.dimension_count", "rotary_dim"),
    ("rope.freq_base", "rope_theta"),
    ("rope.freq_base_swa", "rope_local_base_freq"),
];

/// Keys of the rotary scaling, and their names in `rope_scaling`.
const SCALING: &[(&str, &str)] = &[
    ("rope.scaling.type", "rope_type"),
    ("rope.scaling.factor", "factor"),
    ("rope.scale_linear", "factor"),
    ("rope.scaling.finetuned", "finetuned"),
    ("rope.scaling.original_context_length", "original_max_position_embeddings"),
    ("rope.scaling.attn_factor", "attention_factor"),
    ("rope.scaling.yarn_beta_fast", "beta_fast"),
    ("rope.scaling.yarn_beta_slow", "beta_slow"),
];

/// Tensors with divisors of the rotary frequencies: one list for all lengths, or one for short and one for long ones.
const FACTORS: &str = "rope_freqs.weight";
const FACTORS_SHORT: &str = "rope_factors_short.weight";
const FACTORS_LONG: &str = "rope_factors_long.weight";

/// The most divisors, and the most layers that a list of sizes may be for.
const LIST_MAX: usize = 4096;

/// The key of a GGUF file, behind the architecture's word and a dot, for a key under Hugging Face's name.
pub(crate) fn gguf_key(name: &str) -> Option<&'static str> {
    let (table, name) = match name.strip_prefix("rope_scaling.") {
        Some(inner) => (SCALING, inner),
        None => (NAMES, name),
    };
    table.iter().find(|(_, other)| *other == name).map(|(key, _)| *key)
}

impl Config {
    /// The configuration in GGUF metadata, completed from the file's tensors.
    pub fn from_gguf(metadata: &Metadata, tensors: &Tensors) -> Result<Config> {
        let word = metadata.text("general.architecture")?.ok_or_else(|| metadata.missing("general.architecture"))?;
        let mut config = Config::over(tensors.name(), Container::Gguf, Value::Object(Map::new()))?;
        config.architecture = Some(word.to_owned());
        let prefix = format!("{word}.");
        let mut scaling = Map::new();
        for (key, stored) in metadata.iter() {
            let Some(name) = key.strip_prefix(&prefix) else {
                config.values.insert(key.to_owned(), Value::Null);
                continue;
            };
            let value = config.convert(key, stored)?;
            if let Some((_, to)) = SCALING.iter().find(|(from, _)| *from == name) {
                config.origins.insert(format!("rope_scaling.{to}"), key.to_owned());
                scaling.insert((*to).to_owned(), value);
                continue;
            }
            let to = NAMES.iter().find(|(from, _)| *from == name).map_or(key, |(_, to)| to);
            config.origins.insert(to.to_owned(), key.to_owned());
            config.values.insert(to.to_owned(), value);
        }
        config.add_scaling_of(scaling, tensors)?;
        config.add_widths(&prefix)?;
        config.add_from_tensors(metadata, tensors);
        Ok(config)
    }

    /// A list of one size per layer is that size where all are equal.
    fn convert(&self, key: &str, stored: &Stored) -> Result<Value> {
        let value = match stored {
            Stored::Bool(value) => Value::Bool(*value),
            Stored::F32(value) => self.float(key, f64::from(*value))?,
            Stored::F64(value) => self.float(key, *value)?,
            Stored::Text(bytes) => Value::String(String::from_utf8_lossy(bytes).into_owned()),
            Stored::Texts(_) => Value::Array(Vec::new()),
            Stored::Numbers(numbers) if numbers.len() > LIST_MAX => {
                return Err(self.fault(key, format!("has {} values, at most {LIST_MAX} are read", numbers.len())));
            }
            Stored::Numbers(numbers) => match numbers.integers() {
                Some(list) if !list.is_empty() && list.iter().all(|one| *one == list[0]) => Value::from(list[0]),
                Some(_) => return Err(self.fault(key, "differs from layer to layer, which no page here builds")),
                None => Value::Array(Vec::new()),
            },
            integer => integer.integer().and_then(Number::from_i128).map_or(Value::Null, Value::Number),
        };
        Ok(value)
    }

    fn float(&self, key: &str, value: f64) -> Result<Value> {
        let number = Number::from_f64(value).map(Value::Number);
        number.ok_or_else(|| self.fault(key, format!("is {value}, it should be a finite number")))
    }

    fn add_scaling_of(&mut self, mut scaling: Map<String, Value>, tensors: &Tensors) -> Result<()> {
        // The reference program takes a factor without a kind as linear.
        if scaling.contains_key("factor") && !scaling.contains_key("rope_type") {
            scaling.insert("rope_type".to_owned(), json!("linear"));
        }
        let plain = scaling.get("rope_type").is_none_or(|kind| kind == "none");
        if let Some(list) = self.factors(FACTORS, tensors)? {
            if !plain {
                return Err(self.fault(FACTORS, "stands beside another scaling of the rope, which no page here builds"));
            }
            let positions = self.need::<usize>("max_position_embeddings")?;
            let factors = json!({
                "rope_type": "longrope", "short_factor": list, "long_factor": list, "attention_factor": 1.0,
                "original_max_position_embeddings": positions,
            });
            self.derive("rope_scaling", factors);
            return Ok(());
        }
        for (name, key) in [(FACTORS_SHORT, "short_factor"), (FACTORS_LONG, "long_factor")] {
            if let Some(list) = self.factors(name, tensors)? {
                scaling.insert(key.to_owned(), list);
            }
        }
        if plain {
            close_plain(&mut scaling);
        }
        if scaling.get("rope_type").is_some_and(|kind| kind == "yarn") {
            fold_attention(&mut scaling);
        }
        if !scaling.is_empty() {
            self.values.insert("rope_scaling".to_owned(), Value::Object(scaling));
        }
        Ok(())
    }

    /// Divisors that stand in a tensor.
    fn factors(&self, name: &str, tensors: &Tensors) -> Result<Option<Value>> {
        let Some(entry) = tensors.get(name) else { return Ok(None) };
        let len = match entry.shape.as_slice() {
            [len] if *len <= LIST_MAX && entry.dtype == Dtype::Number(Format::F32) => *len,
            _ => {
                return Err(self.fault(
                    name,
                    format!("is {} of shape {:?}, it should be a list of F32", entry.dtype, entry.shape),
                ));
            }
        };
        let bytes = tensors.bytes(name)?;
        let values: Vec<f32> =
            bytes.chunks_exact(4).map(|four| f32::from_le_bytes([four[0], four[1], four[2], four[3]])).collect();
        if values.len() != len || !values.iter().all(|value| value.is_finite() && *value > 0.0) {
            return Err(self.fault(name, "holds a number that is no divisor: all should be finite and above 0"));
        }
        Ok(Some(json!(values)))
    }

    /// Keys and values have heads of one width, which may be that of the turning part.
    fn add_widths(&mut self, prefix: &str) -> Result<()> {
        let key = format!("{prefix}attention.value_length");
        if let Some(width) = self.values.remove(&key)
            && self.value("head_dim").is_some_and(|other| *other != width)
        {
            return Err(self.fault(&key, "differs from the width of the heads of keys, which no page here builds"));
        }
        Ok(())
    }

    fn add_from_tensors(&mut self, metadata: &Metadata, tensors: &Tensors) {
        let has = |name: &str| tensors.get(name).is_some();
        let rows = |name: &str| tensors.get(name).and_then(|entry| entry.shape.first().copied());
        if !self.has("vocab_size") {
            let listed = metadata.texts("tokenizer.ggml.tokens").ok().flatten().map(|tokens| tokens.len());
            if let Some(entries) = rows("token_embd.weight").or(listed) {
                self.derive("vocab_size", entries);
            }
        }
        if let Some(types) = rows("token_types.weight") {
            self.derive("type_vocab_size", types);
        }
        self.derive("tie_word_embeddings", !has("output.weight"));
        self.derive("attention_bias", has("blk.0.attn_q.bias"));
        self.derive("attention_out_bias", has("blk.0.attn_output.bias"));
        self.derive("lm_head_bias", has("output.bias"));
        self.derive("mlp_bias", has("blk.0.ffn_down.bias"));
        self.derive("qk_layernorm", has("blk.0.attn_q_norm.weight"));
    }
}

/// Without a kind: divisors of two lengths are their own kind; what a kind would need says nothing alone.
fn close_plain(scaling: &mut Map<String, Value>) {
    scaling.remove("rope_type");
    if scaling.contains_key("short_factor") {
        scaling.insert("rope_type".to_owned(), json!("longrope"));
    } else {
        scaling.shift_remove("original_max_position_embeddings");
        scaling.shift_remove("finetuned");
    }
}

/// GGUF's factor multiplies what YaRN itself says; Hugging Face's replaces it.
fn fold_attention(scaling: &mut Map<String, Value>) {
    let number = |key: &str| scaling.get(key).and_then(Value::as_f64);
    match (number("attention_factor"), number("factor")) {
        (Some(own), Some(factor)) => {
            let usual = f64::from(crate::rope::yarn_attention(factor as f32, 1.0));
            scaling.insert("attention_factor".to_owned(), json!(own * usual));
        }
        _ => {
            scaling.remove("attention_factor");
        }
    }
}
