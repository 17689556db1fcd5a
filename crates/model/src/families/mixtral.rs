//! Mixtral: the Llama page's layers with experts in place of each MLP. Its GGUF files call themselves by the Llama
//! page's word.

use pasture_tensor::ops::experts::{Router, Routing};

use super::{Family, llama, mistral};
use crate::config::{Config, Container, RopeDefaults};
use crate::error::Result;
use crate::names::{Names, row};
use crate::spec::{AttentionSpec, Biases, ExpertsSpec, Mask, Spec};

pub(super) const FAMILY: Family = Family {
    name: "Mixtral",
    models: "Mixtral 8x7B, 8x22B",
    licence: "Apache-2.0",
    runs: "text",
    architectures: &["MixtralForCausalLM"],
    model_types: &["mixtral"],
    gguf: &[],
    meta: false,
    spec,
    names,
    fallback: Some(mistral::FALLBACK),
};

pub(super) fn spec(config: &Config) -> Result<Spec> {
    let heads = config.heads_or(Some(8), None)?;
    let attention = AttentionSpec {
        heads: heads.heads,
        kv_heads: heads.kv_heads,
        head_dim: heads.head_dim,
        scale: heads.scale(),
        mask: Mask::Causal,
        rope: Some(config.rope(heads.head_dim, RopeDefaults { theta: theta(config), partial: 1.0 })?),
        bias: Biases::None,
        qk_norm: None,
        softcap: None,
        clamp: None,
        sinks: false,
        growth: None,
    };
    let layers: usize = config.need("num_hidden_layers")?;
    let mask = config.get("sliding_window")?.map_or(Mask::Causal, Mask::Window);
    let spec = llama::dense(config, &attention, vec![mask; layers], llama::Dense::new(1e-5, 131_072))?;
    let experts = ExpertsSpec {
        experts: config.or("num_local_experts", 8)?,
        router: Router { routing: Routing::SoftmaxOfChosen, top: top(config)? },
        router_bias: false,
        expert: llama::expert(config, "intermediate_size")?,
        shared: None,
    };
    config.check_experts(&experts)?;
    Ok(llama::with_experts(spec, &experts, |_| true))
}

/// The reference's base; GGUF's is the usual one.
fn theta(config: &Config) -> f32 {
    if config.container() == Container::Gguf { RopeDefaults::default().theta } else { 1e6 }
}

/// How many experts a row takes; GGUF always says it.
fn top(config: &Config) -> Result<usize> {
    if config.container() == Container::Gguf {
        return config.need("num_experts_per_tok");
    }
    config.or("num_experts_per_tok", 2)
}

pub(super) fn names(spec: &Spec) -> Names {
    let mut names = llama::names(spec);
    names.rows.retain(|row| !row.module.contains(".mlp."));
    names.rows.extend([
        row("model.layers.{layer}.block_sparse_moe.gate", "router"),
        row("model.layers.{layer}.block_sparse_moe.experts.{expert}.w1", "expert.gate"),
        row("model.layers.{layer}.block_sparse_moe.experts.{expert}.w3", "expert.up"),
        row("model.layers.{layer}.block_sparse_moe.experts.{expert}.w2", "expert.down"),
    ]);
    names
}
