//! Mistral 7B and Mistral-Nemo: the Llama page's layers, all with a window where the configuration has one.
//! GGUF files of the family call themselves by the Llama page's word.

use super::{Family, llama};
use crate::config::{Config, RopeDefaults};
use crate::error::Result;
use crate::spec::{AttentionSpec, Biases, Mask, Spec};

pub(super) const FAMILY: Family = Family {
    name: "Mistral",
    architectures: &["MistralForCausalLM"],
    model_types: &["mistral"],
    gguf: &[],
    meta: false,
    spec,
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
    let heads = config.heads_or(Some(8), None)?;
    let attention = AttentionSpec {
        heads: heads.heads,
        kv_heads: heads.kv_heads,
        head_dim: heads.head_dim,
        scale: heads.scale(),
        mask: Mask::Causal,
        rope: Some(config.rope(heads.head_dim, RopeDefaults::default())?),
        bias: Biases::None,
        qk_norm: None,
        softcap: None,
        clamp: None,
        sinks: false,
        growth: None,
    };
    let layers: usize = config.need("num_hidden_layers")?;
    let mask = config.or_off("sliding_window", 4096)?.map_or(Mask::Causal, Mask::Window);
    llama::dense(config, &attention, vec![mask; layers], llama::Dense::new(1e-6, 131_072))
}
