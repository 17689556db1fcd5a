//! Phi-1, 1.5 and 2: attention and MLP side by side after one layer norm, biases everywhere, a part of each head turns.

use pasture_tensor::ops::head::LogitRule;

use super::Family;
use crate::config::{Config, RopeDefaults};
use crate::error::Result;
use crate::names::{Names, ignored, row};
use crate::spec::{
    AttentionSpec, Biases, Branch, EmbedSpec, From, HeadSpec, MLP, Mask, MixerSpec, MlpSpec, NormKind, NormOver,
    NormSpec, QkNorm, Spec,
};

pub(super) const FAMILY: Family = Family {
    name: "Phi",
    models: "Phi-1, Phi-1.5, Phi-2",
    licence: "MIT",
    runs: "text",
    architectures: &["PhiForCausalLM"],
    model_types: &["phi"],
    gguf: &["phi2"],
    meta: false,
    spec,
    names,
    fallback: Some(FALLBACK),
};

/// The form of question and answer that the models' card gives.
const FALLBACK: &str = "\
{%- for message in messages -%}\
{%- if message['role'] == 'assistant' -%}{{ 'Output: ' ~ (message['content'] | trim) ~ '\\n' }}\
{%- else -%}{{ 'Instruct: ' ~ (message['content'] | trim) ~ '\\n' }}{%- endif -%}\
{%- endfor -%}\
{%- if add_generation_prompt -%}{{ 'Output:' }}{%- endif -%}";

fn spec(config: &Config) -> Result<Spec> {
    let heads = config.heads()?;
    let eps = config.or("layer_norm_eps", 1e-5)?;
    let norm = |slot| NormSpec { slot, kind: NormKind::LayerBias, eps };
    let qk_norm =
        QkNorm { q: norm("attention.q_norm"), k: norm("attention.k_norm"), over: NormOver::Head, after_rope: false };
    let attention = AttentionSpec {
        heads: heads.heads,
        kv_heads: heads.kv_heads,
        head_dim: heads.head_dim,
        scale: heads.scale(),
        mask: Mask::Causal,
        rope: Some(config.rope(heads.head_dim, RopeDefaults { theta: 10_000.0, partial: 0.5 })?),
        bias: Biases::All,
        qk_norm: config.or("qk_layernorm", false)?.then_some(qk_norm),
        softcap: None,
        clamp: None,
        sinks: false,
        growth: None,
    };
    let mlp = MlpSpec {
        slots: MLP,
        width: config.need("intermediate_size")?,
        activation: config.activation("hidden_act", "gelu_new")?,
        gated: false,
        bias: true,
    };
    let branch = |mixer| Branch { from: From::LayerInput, ..Branch::new(norm("attention.norm"), mixer) };
    let layer = vec![branch(MixerSpec::Attention(attention)), branch(MixerSpec::Mlp(mlp))];
    let layers: usize = config.need("num_hidden_layers")?;
    Ok(Spec {
        vocab: config.need("vocab_size")?,
        hidden: config.need("hidden_size")?,
        context: config.or("max_position_embeddings", 2048)?,
        embed: EmbedSpec::default(),
        layers: vec![layer; layers],
        norm: Some(norm("norm")),
        head: Some(HeadSpec { tied: config.or("tie_word_embeddings", false)?, bias: true, rule: LogitRule::default() }),
    })
}

fn names(_: &Spec) -> Names {
    Names::new(vec![
        row("model.embed_tokens", "embed"),
        row("model.final_layernorm", "norm"),
        row("lm_head", "head"),
        row("model.layers.{layer}.input_layernorm", "attention.norm"),
        row("model.layers.{layer}.self_attn.q_proj", "attention.q"),
        row("model.layers.{layer}.self_attn.k_proj", "attention.k"),
        row("model.layers.{layer}.self_attn.v_proj", "attention.v"),
        row("model.layers.{layer}.self_attn.dense", "attention.o"),
        row("model.layers.{layer}.self_attn.q_layernorm", "attention.q_norm"),
        row("model.layers.{layer}.self_attn.k_layernorm", "attention.k_norm"),
        row("model.layers.{layer}.mlp.fc1", "mlp.up"),
        row("model.layers.{layer}.mlp.fc2", "mlp.down"),
    ])
    .ignoring(&[ignored("model.layers.{layer}.self_attn.rotary_emb.inv_freq", "computed from the configuration")])
}
