//! All families that have a page, and how a configuration finds its own. A page says in plain data how its models are
//! built; what the layers compute is the decoder's, and how tensors are named is the name tables'.

mod arctic;
mod bert;
mod dbrx;
mod gemma;
mod gemma2;
mod gemma3;
mod gpt_oss;
mod granite;
mod llama;
mod llama4;
mod mistral;
mod mixtral;
mod olmo2;
mod phi;
mod phi3;
mod phi_moe;
pub(crate) mod pictured;
mod qwen;
mod qwen_moe;
mod smollm3;

use std::path::PathBuf;

use pasture_files::nearest::by_nearness;

use crate::config::{Config, Container, Quantization, Report};
use crate::error::{Error, Result};
use crate::names::Names;
use crate::spec::Spec;

/// One family's page.
pub struct Family {
    /// How people call it.
    pub name: &'static str,
    /// Published models of it.
    pub models: &'static str,
    /// Under which terms these were published.
    pub licence: &'static str,
    /// What of them runs.
    pub runs: &'static str,
    /// Classes of Hugging Face's that it is.
    pub architectures: &'static [&'static str],
    /// Values of `model_type` that these have.
    pub model_types: &'static [&'static str],
    /// GGUF's words for it.
    pub gguf: &'static [&'static str],
    /// Whether Meta's own checkpoints are of this family.
    pub meta: bool,
    /// The structure, with a checkpoint's sizes.
    pub spec: fn(&Config) -> Result<Spec>,
    /// Names of the tensors in the family's own checkpoints.
    pub names: fn(&Spec) -> Names,
    /// A chat template for checkpoints that bring none.
    pub fallback: Option<&'static str>,
}

/// Every family with a page.
pub const ALL: &[&Family] = &[
    &llama::FAMILY,
    &llama4::FAMILY,
    &mistral::FAMILY,
    &mistral::MINISTRAL,
    &mistral::MINISTRAL3,
    &mixtral::FAMILY,
    &gemma::FAMILY,
    &gemma2::FAMILY,
    &gemma3::FAMILY,
    &phi::FAMILY,
    &phi3::FAMILY,
    &phi_moe::FAMILY,
    &qwen::QWEN2,
    &qwen::QWEN3,
    &qwen_moe::FAMILY,
    &olmo2::FAMILY,
    &smollm3::FAMILY,
    &granite::FAMILY,
    &granite::MOE,
    &gpt_oss::FAMILY,
    &dbrx::FAMILY,
    &arctic::FAMILY,
    &bert::BERT,
    &bert::XLM,
];

/// The table of `docs/families.md`: one row for each page, in the order of the pages.
pub fn table() -> String {
    let row = |family: &&Family| {
        let Family { name, models, licence, runs, .. } = family;
        format!("| {name} | {models} | {licence} | {runs} |\n")
    };
    let rows: String = ALL.iter().map(row).collect();
    format!("| family | published models | licence | what runs |\n|---|---|---|---|\n{rows}")
}

/// A configuration as its family's page reads it.
pub struct Blueprint {
    /// The family.
    pub family: &'static Family,
    /// The model's structure.
    pub spec: Spec,
    /// Names of its tensors in a folder.
    pub names: Names,
    /// How its weights were quantized by whoever published it.
    pub quantization: Option<Quantization>,
    /// Keys that were not used.
    pub report: Report,
}

/// Finds the family, lets its page read, and closes the reading.
pub fn blueprint(config: &Config) -> Result<Blueprint> {
    let family = find(config)?;
    let spec = (family.spec)(config)?;
    let names = (family.names)(&spec);
    let names = if config.pictured().is_some() { pictured::within(names) } else { names };
    let quantization = config.quantization()?;
    let report = config.finish()?;
    Ok(Blueprint { family, spec, names, quantization, report })
}

/// The family whose page a configuration belongs to.
pub fn find(config: &Config) -> Result<&'static Family> {
    match config.container() {
        Container::Meta => first(|family| family.meta).ok_or_else(|| unknown(config, "Meta's", &[])),
        Container::Gguf => {
            let word = config.architecture().unwrap_or_default();
            first(|family| family.gguf.contains(&word))
                .ok_or_else(|| unknown(config, word, &names(|family| family.gguf)))
        }
        Container::HuggingFace => find_class(config),
    }
}

fn find_class(config: &Config) -> Result<&'static Family> {
    let kind: Option<String> = config.get("model_type")?;
    let kind = kind.as_deref();
    if let Some(pictured) = config.pictured() {
        let text = kind.filter(|kind| pictured.texts.contains(kind));
        let text = text.and_then(|kind| first(|family| family.model_types.contains(&kind)));
        let wanted = || {
            format!("is no text part of {:?} known here; it should be {}", pictured.class, pictured.texts.join(" or "))
        };
        return text.ok_or_else(|| config.fault("model_type", wanted()));
    }
    let Some(class) = config.architecture() else {
        let kind = kind.ok_or_else(|| config.fault("architectures", "is missing, it should name the model's class"))?;
        let known = names(|family| family.model_types);
        return first(|family| family.model_types.contains(&kind)).ok_or_else(|| unknown(config, kind, &known));
    };
    let known = || [names(|family| family.architectures), pictured::classes()].concat();
    let family =
        first(|family| family.architectures.contains(&class)).ok_or_else(|| unknown(config, class, &known()))?;
    match kind {
        Some(kind) if !family.model_types.contains(&kind) => {
            let kind: String = kind.chars().take(40).collect();
            let wanted = family.model_types.join(" or ");
            Err(config
                .fault("model_type", format!("is {kind:?}, which does not go with {class:?}; it should be {wanted}")))
        }
        _ => Ok(family),
    }
}

fn first(wanted: impl Fn(&Family) -> bool) -> Option<&'static Family> {
    ALL.iter().copied().find(|family| wanted(family))
}

fn names(of: fn(&Family) -> &'static [&'static str]) -> Vec<&'static str> {
    ALL.iter().flat_map(|family| of(family)).copied().collect()
}

/// Names that the error for an unknown one lists.
const SHOWN: usize = 12;

fn unknown(config: &Config, name: &str, known: &[&'static str]) -> Error {
    let mut known = by_nearness(name, known.iter().copied());
    known.truncate(SHOWN);
    let name = name.chars().take(80).collect();
    Error::Architecture { name, file: PathBuf::from(config.file()), known: known.join(", ") }
}
