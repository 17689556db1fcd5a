//! A structure as the configuration of another container, checked by reading it again: the family's page says which
//! keys it reads, and what it then builds must be the same model. What is not is refused by name.

use std::collections::BTreeSet;

use pasture_files::gguf::{Metadata, Value as Stored};
use pasture_files::tensors::{Found, Source as Bytes};
use pasture_files::{Dtype, Tensors};
use pasture_kernels::Format;
use serde_json::{Map, Value, json};

use super::keys::{self, Keys};
use super::same::difference;
use super::targets::Target;
use crate::config::{Config, Container, gguf_key, nested_key};
use crate::error::{Error, Result};
use crate::families::{self, Family};
use crate::names::Names;
use crate::spec::Spec;

/// Keys whose null says that something is off; elsewhere null says nothing.
const NULL_COUNTS: [&str; 5] =
    ["attention_chunk_size", "sliding_window", "attn_logit_softcapping", "final_logit_softcapping", "clip_qkv"];

/// What a container calls the model, and the page that reads it there.
pub(super) struct Expressed<T> {
    pub(super) spec: Spec,
    pub(super) names: Names,
    pub(super) config: T,
}

/// The error for something that a container, or an architecture in it, has no way to say.
pub(super) fn cannot(container: &str, what: impl Into<String>) -> Error {
    Error::CannotExpress { container: container.to_owned(), what: what.into() }
}

/// The structure as a `config.json`, under the model's own class or one that is built the same.
pub(super) fn as_config(spec: &Spec, own: &'static Family) -> Result<Expressed<Value>> {
    let mut first = None;
    for family in std::iter::once(own).chain(families::ALL.iter().copied()) {
        match config_of(spec, family) {
            Ok(expressed) => return Ok(expressed),
            Err(error) => {
                first.get_or_insert(error);
            }
        }
    }
    Err(first.unwrap_or_else(|| cannot("config.json", "this model")))
}

fn config_of(spec: &Spec, family: &'static Family) -> Result<Expressed<Value>> {
    let mut all = Keys::new();
    all.insert("architectures".to_owned(), json!([family.architectures[0]]));
    all.insert("model_type".to_owned(), json!(family.model_types[0]));
    all.extend(keys::keys(spec, Container::HuggingFace));
    let config = Config::from_json("config.json", Value::Object(all.clone()))?;
    (family.spec)(&config)?;
    if config.is_used("intermediate_size_mlp")
        && let Some(width) = all.get("moe_intermediate_size").cloned()
    {
        // Such a page has the experts' width under the plain name.
        all.insert("intermediate_size".to_owned(), width);
    }
    let named = ["architectures", "model_type"];
    let mut kept = Keys::new();
    for (key, value) in all {
        if !named.contains(&key.as_str()) && !config.is_used(&key) || value.is_null() && !NULL_COUNTS.contains(&&*key) {
            continue;
        }
        let value = match value {
            Value::Object(inner) if key == "rope_scaling" => {
                let used = |(inner, _): &(String, Value)| config.is_used(&format!("{key}.{inner}"));
                Value::Object(inner.into_iter().filter(used).collect())
            }
            value => value,
        };
        kept.insert(key, value);
    }
    if kept.contains_key("ffn_config") {
        kept = nested(kept);
    }
    let value = Value::Object(kept);
    let config = Config::from_json("config.json", value.clone())?;
    let made = families::blueprint(&config)?.spec;
    match difference(spec, &made) {
        Some(what) => Err(cannot(&format!("a config.json of {}", family.architectures[0]), what)),
        None => Ok(Expressed { names: (family.names)(&made), spec: made, config: value }),
    }
}

/// Keys that a page with nested ones has in the same objects.
fn nested(keys: Keys) -> Keys {
    let mut made = Keys::new();
    for (key, value) in keys {
        let Some(path) = nested_key(&key) else {
            merge(&mut made, key, value);
            continue;
        };
        let value = path
            .split('.')
            .skip(1)
            .collect::<Vec<_>>()
            .into_iter()
            .rev()
            .fold(value, |value, key| json!({ key: value }));
        let first = path.split('.').next().unwrap_or_default().to_owned();
        merge(&mut made, first, value);
    }
    made
}

fn merge(into: &mut Map<String, Value>, key: String, value: Value) {
    match (into.get_mut(&key), value) {
        (Some(Value::Object(there)), Value::Object(more)) => there.extend(more),
        (_, value) => {
            into.insert(key, value);
        }
    }
}

/// The structure as GGUF metadata, under the family's own word or one that is built the same. `tensors` makes the
/// targets under a page's names, by which a reader concludes what metadata leave out.
pub(super) fn as_gguf(
    spec: &Spec,
    own: &'static Family,
    tensors: &dyn Fn(&Names) -> Result<Vec<Target>>,
) -> Result<Expressed<(String, Metadata, Vec<Target>)>> {
    // A family without a word of its own takes that of one whose tensors have the same names.
    let alike = |family: &&'static Family| (family.names)(spec).rows == (own.names)(spec).rows;
    let words = || {
        let alike = families::ALL.iter().copied().filter(alike);
        alike.flat_map(|family| family.gguf.iter().map(move |word| (family, *word)))
    };
    let of_own: Vec<_> = own.gguf.iter().map(|word| (own, *word)).collect();
    let candidates = if of_own.is_empty() { words().collect() } else { of_own };
    let mut first = None;
    for (family, word) in candidates {
        match gguf_of(spec, family, word, tensors) {
            Ok(expressed) => return Ok(expressed),
            Err(error) => {
                first.get_or_insert(error);
            }
        }
    }
    Err(first.unwrap_or_else(|| cannot("GGUF", "this model")))
}

fn gguf_of(
    spec: &Spec,
    family: &'static Family,
    word: &str,
    tensors: &dyn Fn(&Names) -> Result<Vec<Target>>,
) -> Result<Expressed<(String, Metadata, Vec<Target>)>> {
    let own = (family.names)(spec);
    let mut targets = tensors(&crate::names::gguf(&own))?;
    targets.extend(factor_tensors(spec));
    let all = keys::keys(spec, Container::Gguf);
    let config = Config::from_gguf(&metadata(word, &all, &|_| true)?, &sketch(&all, word, &targets, &|_| true)?)?;
    (family.spec)(&config)?;
    let used: BTreeSet<String> = flat(&all).map(|(key, _)| key).filter(|key| config.is_used(key)).collect();
    let keep = |key: &str| used.contains(key);
    let metadata = metadata(word, &all, &keep)?;
    let config = Config::from_gguf(&metadata, &sketch(&all, word, &targets, &keep)?)?;
    let made = families::blueprint(&config)?.spec;
    match difference(spec, &made) {
        Some(what) => Err(cannot(&format!("GGUF's architecture {word:?}"), what)),
        None => Ok(Expressed { spec: made, names: own, config: (word.to_owned(), metadata, targets) }),
    }
}

/// Keys with those of `rope_scaling` by their paths.
fn flat(keys: &Keys) -> impl Iterator<Item = (String, &Value)> {
    keys.iter().flat_map(|(key, value)| match value {
        Value::Object(inner) if key == "rope_scaling" => {
            inner.iter().map(|(inner, value)| (format!("{key}.{inner}"), value)).collect::<Vec<_>>()
        }
        value => vec![(key.clone(), value)],
    })
}

fn metadata(word: &str, keys: &Keys, keep: &dyn Fn(&str) -> bool) -> Result<Metadata> {
    let mut metadata = Metadata::new("model.gguf");
    metadata.insert("general.architecture", Stored::text(word))?;
    for (key, value) in flat(keys).filter(|(key, _)| keep(key)) {
        let Some((name, stored)) = gguf_key(&key).zip(stored(value)) else { continue };
        if name == "attention.key_length" {
            metadata.insert(format!("{word}.attention.value_length"), stored.clone())?;
        }
        metadata.insert(format!("{word}.{name}"), stored)?;
    }
    Ok(metadata)
}

fn stored(value: &Value) -> Option<Stored> {
    Some(match value {
        Value::Bool(value) => Stored::Bool(*value),
        Value::String(text) => Stored::text(text),
        Value::Number(number) => match number.as_u64() {
            Some(count) => Stored::U32(u32::try_from(count).ok()?),
            None => Stored::F32(number.as_f64()? as f32),
        },
        _ => return None,
    })
}

/// The file that is planned, as far as a reader of its configuration looks at it.
fn sketch(keys: &Keys, word: &str, targets: &[Target], keep: &dyn Fn(&str) -> bool) -> Result<Tensors> {
    let found = targets.iter().map(|target| Found {
        name: target.outline.name.clone(),
        dtype: target.outline.dtype,
        shape: target.outline.shape.clone(),
        source: Bytes::Stored(target.fixed_bytes().into()),
    });
    Ok(Tensors::planned("model.gguf", metadata(word, keys, keep)?, found.collect())?)
}

/// Divisors of the rotary frequencies, where GGUF has them in tensors.
fn factor_tensors(spec: &Spec) -> Vec<Target> {
    let ropes = keys::attentions(spec).filter_map(|attention| attention.rope.as_ref());
    let Some(rope) = ropes.into_iter().find(|rope| keys::factors(rope) != keys::Factors::default()) else {
        return Vec::new();
    };
    let keys::Factors { one, two } = keys::factors(rope);
    let one = one.map(|values| Target::fixed("rope_freqs.weight", values));
    let two = two.map(|(short, long)| {
        [Target::fixed("rope_factors_short.weight", short), Target::fixed("rope_factors_long.weight", long)]
    });
    one.into_iter().chain(two.into_iter().flatten()).collect()
}

/// Whether a format of numbers is one of GGUF's.
pub(super) fn in_gguf(format: Format) -> bool {
    Dtype::Number(format).ggml_type().is_some()
}
