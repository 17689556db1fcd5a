//! Granite 3, dense and with experts: the Llama page's layers with factors of the embedding, of the scores, of what each
//! branch adds and of the logits.

use pasture_tensor::ops::experts::{Router, Routing};

use super::{Family, llama};
use crate::config::{Config, Container, RopeDefaults};
use crate::error::Result;
use crate::names::{Names, Stored, fused, row};
use crate::spec::{AttentionSpec, ExpertsSpec, Mask, Spec};

pub(super) const FAMILY: Family = Family {
    name: "Granite 3",
    models: "Granite 3.0 to 3.3 2B, 8B",
    licence: "Apache-2.0",
    runs: "text",
    architectures: &["GraniteForCausalLM"],
    model_types: &["granite"],
    gguf: &["granite"],
    meta: false,
    spec,
    names: llama::names,
    fallback: Some(FALLBACK),
};

pub(super) const MOE: Family = Family {
    name: "Granite 3 MoE",
    models: "Granite 3.0 and 3.1 1B-A400M, 3B-A800M",
    licence: "Apache-2.0",
    runs: "text",
    architectures: &["GraniteMoeForCausalLM"],
    model_types: &["granitemoe"],
    gguf: &["granitemoe"],
    meta: false,
    spec: spec_with_experts,
    names: names_with_experts,
    fallback: Some(FALLBACK),
};

/// Turns that begin with their role between marks.
const FALLBACK: &str = "\
{%- for message in messages -%}\
{{ '<|start_of_role|>' ~ message['role'] ~ '<|end_of_role|>' ~ message['content'] ~ '<|end_of_text|>\\n' }}\
{%- endfor -%}\
{%- if add_generation_prompt -%}{{ '<|start_of_role|>assistant<|end_of_role|>' }}{%- endif -%}";

fn spec(config: &Config) -> Result<Spec> {
    let mlp_bias = config.or("mlp_bias", false)?;
    with_factors(config, mlp_bias)
}

fn with_factors(config: &Config, mlp_bias: bool) -> Result<Spec> {
    let heads = config.heads()?;
    // GGUF has the divisor of the logits under a name that means a factor elsewhere, and no scale where it is usual.
    let (divisor, scale) = match config.container() {
        Container::Gguf => ("logit_scale", heads.scale()),
        _ => ("logits_scaling", 1.0),
    };
    let attention = AttentionSpec {
        heads: heads.heads,
        kv_heads: heads.kv_heads,
        head_dim: heads.head_dim,
        scale: config.or("attention_multiplier", scale)?,
        mask: Mask::Causal,
        rope: Some(config.rope(heads.head_dim, RopeDefaults::default())?),
        bias: config.biases()?,
        qk_norm: None,
        softcap: None,
        clamp: None,
        sinks: false,
        growth: None,
    };
    let layers: usize = config.need("num_hidden_layers")?;
    let own = llama::Dense { mlp_bias, ..llama::Dense::new(1e-6, 2048) };
    let mut spec = llama::dense(config, &attention, vec![Mask::Causal; layers], own)?;
    spec.embed.scale = config.get("embedding_multiplier")?;
    let gate = config.or("residual_multiplier", 1.0)?;
    spec.layers.iter_mut().flatten().for_each(|branch| branch.gate = gate);
    let divisor: Option<f32> = config.get(divisor)?;
    if let Some(head) = &mut spec.head {
        head.rule.scale = divisor.map(|divisor| 1.0 / divisor);
    }
    Ok(spec)
}

fn spec_with_experts(config: &Config) -> Result<Spec> {
    let spec = with_factors(config, false)?;
    let experts = ExpertsSpec {
        experts: config.or("num_local_experts", 8)?,
        router: Router { routing: Routing::SoftmaxOfChosen, top: config.or("num_experts_per_tok", 2)? },
        router_bias: false,
        expert: llama::expert(config, "intermediate_size")?,
        shared: None,
    };
    config.check_experts(&experts)?;
    Ok(llama::with_experts(spec, &experts, |_| true))
}

fn names_with_experts(spec: &Spec) -> Names {
    let mut names = llama::names(spec);
    names.rows.retain(|row| !row.module.contains(".mlp."));
    let stacked = |name, slots: &[&'static str]| fused(name, slots).stored(Stored::Stacked);
    names.rows.extend([
        row("model.layers.{layer}.block_sparse_moe.router.layer", "router"),
        stacked("model.layers.{layer}.block_sparse_moe.input_linear", &["expert.gate", "expert.up"]),
        stacked("model.layers.{layer}.block_sparse_moe.output_linear", &["expert.down"]),
    ]);
    names
}
