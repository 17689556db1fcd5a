//! Writing an adapter as peft reads it: `adapter_model.safetensors` with the pairs in f32, and `adapter_config.json`.
//! What is written here is what `load_adapter` reads, bit for bit.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use pasture_files::outline::Outline;
use pasture_files::{Dtype, durable, safetensors};
use pasture_kernels::Format;
use pasture_tensor::{Adapter, AdapterSite, Vector, Weight};
use serde_json::{Value, json};

use super::{CONFIG, WEIGHTS, WRAPPERS};
use crate::error::Result;
use crate::sites::{Kind, Sites};

/// What an adapter's files say beside its numbers.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct AdapterFacts {
    /// The base model's name or folder, for whoever loads it.
    pub base: String,
    /// Whether scales are to be read as `alpha / √rank`.
    pub rank_stabilized: bool,
    /// The share of inputs that training dropped; it has no effect on what is loaded.
    pub dropout: f32,
}

/// Writes an adapter into a folder that exists, the weights first. `sites` are those of its base model.
///
/// # Errors
/// When a file cannot be written.
pub fn save_adapter(folder: &Path, adapter: &Adapter, sites: &Sites, facts: &AdapterFacts) -> Result<()> {
    let tensors: BTreeMap<String, Part> = adapter.sites().iter().flat_map(|(name, site)| named(name, site)).collect();
    let outline = |(name, part): (&String, &Part)| Outline {
        name: name.clone(),
        dtype: Dtype::Number(Format::F32),
        shape: part.shape(),
    };
    let outlines: Vec<Outline> = tensors.iter().map(outline).collect();
    let metadata = [("format".to_owned(), "pt".to_owned())];
    safetensors::write(&folder.join(WEIGHTS), &metadata, &outlines, |outline, sink| {
        let mut bytes = Vec::new();
        tensors[&outline.name].values().iter().for_each(|value| bytes.extend(value.to_le_bytes()));
        sink.put(&bytes)
    })?;
    let text = serde_json::to_string_pretty(&config(adapter, sites, facts)).expect("texts and finite numbers are JSON");
    durable::write_file(&folder.join(CONFIG), |sink| sink.put(format!("{text}\n").as_bytes()))?;
    Ok(())
}

/// A tensor of the file.
enum Part<'a> {
    Matrix(&'a Weight),
    Lengths(&'a Vector),
}

impl Part<'_> {
    fn shape(&self) -> Vec<usize> {
        match self {
            Part::Matrix(weight) => vec![weight.rows(), weight.cols()],
            Part::Lengths(vector) => vec![vector.values().len()],
        }
    }

    fn values(&self) -> Vec<f32> {
        match self {
            Part::Matrix(weight) => weight.values(),
            Part::Lengths(vector) => vector.values().to_vec(),
        }
    }
}

fn named<'a>(module: &str, site: &'a AdapterSite) -> Vec<(String, Part<'a>)> {
    let name = |ending: &str| format!("{WRAPPERS}{module}.{ending}");
    let mut parts =
        vec![(name("lora_A.weight"), Part::Matrix(&site.a)), (name("lora_B.weight"), Part::Matrix(&site.b))];
    let lengths = site.magnitude.as_ref().map(|magnitude| Part::Lengths(&magnitude.lengths));
    parts.extend(lengths.map(|lengths| (name("lora_magnitude_vector"), lengths)));
    parts
}

fn config(adapter: &Adapter, sites: &Sites, facts: &AdapterFacts) -> Value {
    let all: Vec<(&str, usize, f32)> =
        adapter.sites().iter().map(|(name, site)| (name.as_str(), site.a.rows(), alpha(site, facts))).collect();
    let rank = usual(all.iter().map(|(_, rank, _)| *rank)).unwrap_or(1);
    let usual_alpha = usual(all.iter().map(|(.., alpha)| alpha.to_bits())).map_or(1.0, f32::from_bits);
    let ranks: BTreeMap<&str, usize> =
        all.iter().filter(|(_, own, _)| *own != rank).map(|(name, own, _)| (*name, *own)).collect();
    let alphas: BTreeMap<&str, f32> =
        all.iter().filter(|(.., own)| *own != usual_alpha).map(|(name, _, own)| (*name, *own)).collect();
    json!({
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": facts.base,
        "r": rank,
        "lora_alpha": number(usual_alpha),
        "lora_dropout": number(facts.dropout),
        "use_rslora": facts.rank_stabilized,
        "use_dora": adapter.sites().values().any(|site| site.magnitude.is_some()),
        "rank_pattern": ranks,
        "alpha_pattern": alphas.into_iter().map(|(name, own)| (name, number(own))).collect::<BTreeMap<_, _>>(),
        "target_modules": targets(adapter, sites),
        "bias": "none",
        "fan_in_fan_out": false,
        "inference_mode": true,
        "init_lora_weights": true,
        "modules_to_save": null,
    })
}

/// The number from which the scale is computed again.
fn alpha(site: &AdapterSite, facts: &AdapterFacts) -> f32 {
    let rank = site.a.rows() as f32;
    if facts.rank_stabilized { site.scale * rank.sqrt() } else { site.scale * rank }
}

/// A whole number as one, so that a file says 16 and not 16.0; others by their shortest decimal form.
fn number(value: f32) -> Value {
    if value.fract() == 0.0 && value.abs() < 1e9 {
        return json!(value as i64);
    }
    value.to_string().parse::<f64>().map_or(Value::Null, |value| json!(value))
}

/// The most frequent one; of several the least.
fn usual<T: Ord + Copy>(all: impl Iterator<Item = T>) -> Option<T> {
    let mut counts: BTreeMap<T, usize> = BTreeMap::new();
    all.for_each(|one| *counts.entry(one).or_default() += 1);
    counts.into_iter().max_by_key(|(one, count)| (*count, std::cmp::Reverse(*one))).map(|(one, _)| one)
}

/// Last parts of names where they mean these modules and no others of the model, else whole names.
fn targets(adapter: &Adapter, sites: &Sites) -> Vec<String> {
    let last = |name: &str| name.rsplit('.').next().unwrap_or(name).to_owned();
    let short: BTreeSet<String> = adapter.sites().keys().map(|name| last(name)).collect();
    let others = sites.iter().filter(|(_, module)| module.kind != Kind::Head || short.contains("lm_head"));
    let exact = others.filter(|(name, _)| short.contains(&last(name))).all(|(name, _)| adapter.site(name).is_some());
    if exact { short.into_iter().collect() } else { adapter.sites().keys().cloned().collect() }
}
