//! Phi-3.5-MoE: the Llama page's layers with layer norms and biases, and experts of which each row takes two, one after
//! the other. Its noise key sets how near to the best logit the others must be to count.

use pasture_tensor::ops::experts::{Router, Routing};

use super::{Family, llama, mixtral, phi3};
use crate::config::{Config, RopeDefaults};
use crate::error::Result;
use crate::names::Names;
use crate::spec::{AttentionSpec, ExpertsSpec, Mask, NormKind, Spec};

pub(super) const FAMILY: Family = Family {
    name: "Phi-3.5-MoE",
    models: "Phi-3.5-MoE",
    licence: "MIT",
    runs: "text",
    architectures: &["PhimoeForCausalLM", "PhiMoEForCausalLM"],
    model_types: &["phimoe"],
    gguf: &["phimoe"],
    meta: false,
    spec,
    names,
    fallback: Some(phi3::FALLBACK),
};

fn spec(config: &Config) -> Result<Spec> {
    let heads = config.heads_or(Some(8), None)?;
    let attention = AttentionSpec {
        heads: heads.heads,
        kv_heads: heads.kv_heads,
        head_dim: heads.head_dim,
        scale: heads.scale(),
        mask: Mask::Causal,
        rope: Some(config.rope(heads.head_dim, RopeDefaults { theta: 1e6, partial: 1.0 })?),
        bias: config.biases()?,
        qk_norm: None,
        softcap: None,
        clamp: None,
        sinks: false,
        growth: None,
    };
    if !config.has("rope_scaling") {
        config.ignore("original_max_position_embeddings", "it is for a scaling of the rope, of which there is none");
    }
    let layers: usize = config.need("num_hidden_layers")?;
    let mask = config.get("sliding_window")?.map_or(Mask::Causal, Mask::Window);
    let own = llama::Dense { norm: NormKind::LayerBias, ..llama::Dense::new(1e-5, 131_072) };
    let mut spec = llama::dense(config, &attention, vec![mask; layers], own)?;
    if let Some(head) = &mut spec.head {
        head.bias = config.or("lm_head_bias", false)?;
    }
    let routing = Routing::SparseMixer { jitter: config.or("router_jitter_noise", 0.01)? };
    config.only("num_experts_per_tok", 2usize)?;
    let experts = ExpertsSpec {
        experts: config.or("num_local_experts", 16)?,
        router: Router { routing, top: 2 },
        router_bias: false,
        expert: llama::expert(config, "intermediate_size")?,
        shared: None,
    };
    config.check_experts(&experts)?;
    Ok(llama::with_experts(spec, &experts, |_| true))
}

fn names(spec: &Spec) -> Names {
    mixtral::names(spec).gguf_plain()
}
