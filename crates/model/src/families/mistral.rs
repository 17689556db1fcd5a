//! Mistral 7B, Mistral-Nemo and Ministral: the Llama page's layers, with a window where the configuration has one, for
//! all layers or for those it lists; in the third generation of the small ones, queries that grow with their position.
//! GGUF files of the family call themselves by the Llama page's word.

use super::{Family, llama};
use crate::config::{Config, RopeDefaults};
use crate::error::Result;
use crate::spec::{AttentionSpec, Biases, Mask, QueryGrowth, Spec};

pub(super) const FAMILY: Family = Family {
    name: "Mistral",
    models: "Mistral 7B v0.1 to v0.3, Mistral-Nemo, Mistral Small 3.1 and 3.2",
    licence: "Apache-2.0",
    runs: "text; without the pictures of Small",
    architectures: &["MistralForCausalLM"],
    model_types: &["mistral"],
    gguf: &[],
    meta: false,
    spec,
    names: llama::names,
    fallback: Some(FALLBACK),
};

pub(super) const MINISTRAL: Family = Family {
    name: "Ministral",
    models: "Ministral 8B",
    licence: "Mistral AI Research License",
    runs: "text",
    architectures: &["MinistralForCausalLM"],
    model_types: &["ministral"],
    gguf: &[],
    meta: false,
    spec: spec_by_layer,
    names: llama::names,
    fallback: Some(FALLBACK),
};

pub(super) const MINISTRAL3: Family = Family {
    name: "Ministral 3",
    models: "Ministral 3 3B, 8B, 14B",
    licence: "Apache-2.0",
    runs: "text, without pictures",
    architectures: &["Ministral3ForCausalLM"],
    model_types: &["ministral3"],
    gguf: &[],
    meta: false,
    spec: spec_with_growth,
    names: llama::names,
    fallback: Some(FALLBACK),
};

/// The form of the first instructed checkpoints; a system text stands before the first question.
pub(super) const FALLBACK: &str = "\
{{- bos_token -}}\
{%- if messages and messages[0]['role'] == 'system' -%}\
{%- set opening = messages[0]['content'] ~ '\\n\\n' -%}{%- set talk = messages[1:] -%}\
{%- else -%}{%- set opening = '' -%}{%- set talk = messages -%}{%- endif -%}\
{%- for message in talk -%}\
{%- if (message['role'] == 'user') != (loop.index0 % 2 == 0) -%}\
{{ raise_exception('questions of the user and answers of the assistant have to take turns') }}\
{%- endif -%}\
{%- if message['role'] == 'user' -%}\
{{ '[INST] ' ~ (((opening if loop.first else '') ~ message['content']) | trim) ~ ' [/INST]' }}\
{%- else -%}\
{{ ' ' ~ (message['content'] | trim) ~ eos_token }}\
{%- endif -%}\
{%- endfor -%}";

fn spec(config: &Config) -> Result<Spec> {
    let window = config.or_off("sliding_window", 4096)?.map_or(Mask::Causal, Mask::Window);
    let layers: usize = config.need("num_hidden_layers")?;
    layered(config, vec![window; layers], None, RopeDefaults::default())
}

fn spec_by_layer(config: &Config) -> Result<Spec> {
    let window = config.or_off("sliding_window", 4096)?.map_or(Mask::Causal, Mask::Window);
    let layers: usize = config.need("num_hidden_layers")?;
    let masks = config.masks(layers, window, |_| window)?;
    layered(config, masks, None, RopeDefaults::default())
}

fn spec_with_growth(config: &Config) -> Result<Spec> {
    let window = config.get("sliding_window")?.map_or(Mask::Causal, Mask::Window);
    let layers: usize = config.need("num_hidden_layers")?;
    let factor: Option<f32> = config.get("rope_scaling.llama_4_scaling_beta")?;
    let growth = match factor {
        Some(factor) => {
            let every = config.need("rope_scaling.original_max_position_embeddings")?;
            Some(QueryGrowth { factor, every, shift: 0 })
        }
        None => None,
    };
    layered(config, vec![window; layers], growth, RopeDefaults { theta: 1e6, partial: 1.0 })
}

fn layered(config: &Config, masks: Vec<Mask>, growth: Option<QueryGrowth>, rope: RopeDefaults) -> Result<Spec> {
    let heads = config.heads_or(Some(8), None)?;
    let attention = AttentionSpec {
        heads: heads.heads,
        kv_heads: heads.kv_heads,
        head_dim: heads.head_dim,
        scale: heads.scale(),
        mask: Mask::Causal,
        rope: Some(config.rope(heads.head_dim, rope)?),
        bias: Biases::None,
        qk_norm: None,
        softcap: None,
        clamp: None,
        sinks: false,
        growth,
    };
    llama::dense(config, &attention, masks, llama::Dense::new(1e-6, 131_072))
}
