//! `config.json` in its two layouts: rotary keys at the top and in `rope_scaling`, or (transformers 5) all in
//! `rope_parameters`. Both become the first.

use serde_json::{Map, Value};

use super::{Config, Ignored, bookkeeping, keys};
use crate::error::Result;
use crate::families::pictured;

/// Keys of `rope_parameters` that stand at the top in the other layout.
const TOP: [&str; 2] = ["rope_theta", "partial_rotary_factor"];

/// Kinds of layers that `rope_parameters` may list one by one, with the key that their base has in the other layout.
const FULL: &str = "full_attention";
const LOCAL: &str = "sliding_attention";
const LOCAL_BASE: &str = "rope_local_base_freq";

/// Keys under other names: the usual one, and the path of the other.
const SPELLINGS: &[(&str, &str)] = &[
    ("hidden_size", "d_model"),
    ("num_attention_heads", "n_heads"),
    ("num_hidden_layers", "n_layers"),
    ("max_position_embeddings", "max_seq_len"),
    ("num_key_value_heads", "attn_config.kv_n_heads"),
    ("rope_theta", "attn_config.rope_theta"),
    ("clip_qkv", "attn_config.clip_qkv"),
    ("intermediate_size", "ffn_config.ffn_hidden_size"),
    ("num_local_experts", "ffn_config.moe_num_experts"),
    ("num_experts_per_tok", "ffn_config.moe_top_k"),
    ("hidden_act", "ffn_config.ffn_act_fn.name"),
    ("num_experts_per_tok", "experts_per_token"),
];

/// The path of a key in files that keep it in an object.
pub(crate) fn nested_key(key: &str) -> Option<&'static str> {
    SPELLINGS.iter().find(|(usual, path)| *usual == key && path.contains('.')).map(|(_, path)| *path)
}

pub(super) fn read(mut config: Config) -> Result<Config> {
    let architectures: Option<Vec<String>> = config.get("architectures")?;
    config.architecture = match architectures.unwrap_or_default().as_slice() {
        [] => None,
        [one] => Some(one.clone()),
        several => {
            let what = format!("names {} architectures, it should name one", several.len());
            return Err(config.fault("architectures", what));
        }
    };
    lift_text(&mut config)?;
    for (key, other) in SPELLINGS {
        if let Some(value) = config.value(other).cloned() {
            place(&mut config, key, value, (*other).to_owned())?;
            config.used.borrow_mut().insert((*other).to_owned());
        }
    }
    match config.values.shift_remove("rope_parameters") {
        None | Some(Value::Null) => {}
        Some(Value::Object(parameters)) => unfold(&mut config, parameters)?,
        Some(_) => return Err(config.fault("rope_parameters", "should be an object")),
    }
    Ok(config)
}

/// In a class with a part for pictures the keys are those of the text part. Of keys that both parts have, bookkeeping
/// counts from the whole, and all else from the text: the reference builds the text model from its own part alone.
fn lift_text(config: &mut Config) -> Result<()> {
    let Some(pictured) = config.architecture().and_then(pictured::find) else { return Ok(()) };
    let kind: Option<String> = config.get("model_type")?;
    if kind.as_deref().is_some_and(|kind| kind != pictured.model_type) {
        let what = format!("does not go with {:?}; it should be {}", pictured.class, pictured.model_type);
        return Err(config.fault("model_type", what));
    }
    let Some(Value::Object(text)) = config.values.shift_remove("text_config") else {
        return Err(config.fault("text_config", "is missing, it should be an object"));
    };
    config.pictured = Some(pictured);
    config.values.shift_remove("model_type");
    config.origins.insert("model_type".into(), "text_config.model_type".into());
    pictured::KEYS.iter().for_each(|key| config.ignore(key, pictured::REASON));
    let of_text = |key: &&String| {
        let structure = keys::find(key).is_some() && bookkeeping::find(key).is_none();
        structure && !key.starts_with("quantization") && !config.is_used(key)
    };
    for key in config.values.keys().filter(of_text).cloned().collect::<Vec<_>>() {
        config.values.shift_remove(&key);
        config.ignored.borrow_mut().push(Ignored { key, reason: TEXTS_OWN, tuning: TEXTS_OWN });
    }
    for (key, value) in text {
        let of_whole = bookkeeping::find(&key).is_some() && config.values.contains_key(&key);
        if key != "architectures" && !of_whole {
            config.origins.insert(key.clone(), format!("text_config.{key}"));
            config.values.insert(key, value);
        }
    }
    let kind = config.value("model_type").and_then(Value::as_str).unwrap_or_default().to_owned();
    for (key, size) in pictured::sizes(&kind) {
        if config.value(key).is_none() {
            config.derive(key, *size);
        }
    }
    Ok(())
}

/// Why a key of the whole does not count.
const TEXTS_OWN: &str = "the text model is built from text_config alone";

fn unfold(config: &mut Config, mut parameters: Map<String, Value>) -> Result<()> {
    let mut origin = "rope_parameters".to_owned();
    if parameters.contains_key(FULL) || parameters.contains_key(LOCAL) {
        if let Some(Value::Object(local)) = parameters.remove(LOCAL) {
            unfold_local(config, local)?;
        }
        let full = parameters.remove(FULL);
        if let Some(other) = parameters.keys().next() {
            return Err(config.fault(&format!("rope_parameters.{other}"), "is no kind of layer known here"));
        }
        let Some(Value::Object(full)) = full else {
            return Err(config.fault(&format!("rope_parameters.{FULL}"), "is missing, it should be an object"));
        };
        (parameters, origin) = (full, format!("{origin}.{FULL}"));
    }
    for key in TOP {
        if let Some(value) = parameters.remove(key) {
            place(config, key, value, format!("{origin}.{key}"))?;
        }
    }
    let scaled = parameters.get("rope_type").is_some_and(|kind| kind != "default");
    if scaled || parameters.keys().any(|key| key != "rope_type") {
        place(config, "rope_scaling", Value::Object(parameters), origin)?;
    }
    Ok(())
}

/// Layers with a window have an unscaled rope of their own base.
fn unfold_local(config: &mut Config, mut local: Map<String, Value>) -> Result<()> {
    let origin = format!("rope_parameters.{LOCAL}");
    if let Some(base) = local.remove("rope_theta") {
        place(config, LOCAL_BASE, base, format!("{origin}.rope_theta"))?;
    }
    match local.iter().find(|(key, value)| *key != "rope_type" || *value != "default") {
        Some((key, _)) => Err(config.fault(&format!("{origin}.{key}"), "is not known for layers with a window")),
        None => Ok(()),
    }
}

/// Sets a key of the first layout; what the file itself says there must agree.
fn place(config: &mut Config, key: &str, value: Value, origin: String) -> Result<()> {
    if config.value(key).is_some_and(|there| *there != value) {
        return Err(config.fault(key, format!("differs from {origin:?}: one of them has to go")));
    }
    config.values.insert(key.to_owned(), value);
    config.origins.insert(key.to_owned(), origin);
    Ok(())
}
