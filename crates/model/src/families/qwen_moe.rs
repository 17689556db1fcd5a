//! Qwen 3 with experts: the third generation's attention, and experts in place of the MLP of most layers. Those that
//! the configuration names, or that its step leaves out, keep a plain one.

use pasture_tensor::ops::experts::{Router, Routing};

use super::{Family, llama, qwen};
use crate::config::{Config, Container, RopeDefaults};
use crate::error::Result;
use crate::names::{Names, row};
use crate::spec::{AttentionSpec, ExpertsSpec, Mask, Spec};

pub(super) const FAMILY: Family = Family {
    name: "Qwen 3 MoE",
    models: "Qwen 3 30B-A3B, 235B-A22B",
    licence: "Apache-2.0",
    runs: "text",
    architectures: &["Qwen3MoeForCausalLM"],
    model_types: &["qwen3_moe"],
    gguf: &["qwen3moe"],
    meta: false,
    spec,
    names,
    fallback: Some(qwen::FALLBACK),
};

fn spec(config: &Config) -> Result<Spec> {
    let heads = config.heads_or(Some(4), None)?;
    let attention = AttentionSpec {
        heads: heads.heads,
        kv_heads: heads.kv_heads,
        head_dim: heads.head_dim,
        scale: heads.scale(),
        mask: Mask::Causal,
        rope: Some(config.rope(heads.head_dim, RopeDefaults::default())?),
        bias: config.biases()?,
        qk_norm: Some(qwen::head_norms(config)?),
        softcap: None,
        clamp: None,
        sinks: false,
        growth: None,
    };
    let layers: usize = config.need("num_hidden_layers")?;
    let keys = config.or("sliding_window", 4096)?;
    let mask = if config.or("use_sliding_window", false)? { Mask::Window(keys) } else { Mask::Causal };
    config.ignore("max_window_layers", "all layers have one mask");
    let spec = llama::dense(config, &attention, vec![mask; layers], llama::Dense::new(1e-6, 32_768))?;
    // Newer files and GGUF have the second key; GGUF files are of published models, whose shares sum to one.
    let newer: Option<usize> = config.get("num_local_experts")?;
    let count = config.or("num_experts", newer.unwrap_or(128))?;
    if newer.is_some_and(|newer| newer != count) {
        return Err(config.fault("num_local_experts", format!("differs from the {count} of \"num_experts\"")));
    }
    let published = config.container() == Container::Gguf;
    let routing = match config.or("norm_topk_prob", published)? {
        true => Routing::SoftmaxOfChosen,
        false => Routing::Softmax,
    };
    let experts = ExpertsSpec {
        experts: count,
        router: Router { routing, top: config.or("num_experts_per_tok", 8)? },
        router_bias: false,
        expert: llama::expert(config, "moe_intermediate_size")?,
        shared: None,
    };
    config.check_experts(&experts)?;
    let plain: Vec<usize> = config.or("mlp_only_layers", Vec::new())?;
    let step: usize = config.or("decoder_sparse_step", 1)?;
    Ok(llama::with_experts(spec, &experts, |layer| !plain.contains(&layer) && (layer + 1) % step == 0))
}

fn names(spec: &Spec) -> Names {
    let mut names = qwen::names(spec);
    names.rows.extend([
        row("model.layers.{layer}.mlp.gate", "router"),
        row("model.layers.{layer}.mlp.experts.{expert}.gate_proj", "expert.gate"),
        row("model.layers.{layer}.mlp.experts.{expert}.up_proj", "expert.up"),
        row("model.layers.{layer}.mlp.experts.{expert}.down_proj", "expert.down"),
    ]);
    names
}
