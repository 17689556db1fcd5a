//! DBRX: attention whose queries, keys and values are cut off at a limit, then many small experts, each after a layer
//! norm without bias. Its files have all experts of a layer in three tensors.

use pasture_tensor::ops::experts::{Router, Routing};
use pasture_tensor::ops::head::LogitRule;

use super::{Family, llama, qwen};
use crate::config::{Config, RopeDefaults};
use crate::error::Result;
use crate::names::{Names, Stored, fused, row};
use crate::spec::{
    AttentionSpec, Biases, Branch, EmbedSpec, ExpertsSpec, HeadSpec, Mask, MixerSpec, NormKind, NormSpec, Spec,
};

pub(super) const FAMILY: Family = Family {
    name: "DBRX",
    models: "DBRX base and instruct",
    licence: "Databricks Open Model License",
    runs: "text",
    architectures: &["DbrxForCausalLM"],
    model_types: &["dbrx"],
    gguf: &["dbrx"],
    meta: false,
    spec,
    names,
    fallback: Some(qwen::FALLBACK),
};

/// The power of the norm that shares of the chosen experts are divided by: with one, they sum to one.
const POWER: &str = "ffn_config.moe_normalize_expert_weights";

fn spec(config: &Config) -> Result<Spec> {
    let heads = config.heads_or(Some(1), None)?;
    let eps = config.or("layer_norm_eps", 1e-5)?;
    let norm = |slot| NormSpec { slot, kind: NormKind::Layer, eps };
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
        clamp: config.get("clip_qkv")?,
        sinks: false,
        growth: None,
    };
    let routing = match config.or_off(POWER, 1.0f32)? {
        Some(1.0) => Routing::SoftmaxOfChosen,
        None => Routing::Softmax,
        Some(power) => return Err(config.fault(POWER, format!("is {power}, only 1 and null are known"))),
    };
    let experts = ExpertsSpec {
        experts: config.need("num_local_experts")?,
        router: Router { routing, top: config.need("num_experts_per_tok")? },
        router_bias: false,
        expert: llama::expert(config, "intermediate_size")?,
        shared: None,
    };
    config.check_experts(&experts)?;
    let layer = vec![
        Branch::new(norm("attention.norm"), MixerSpec::Attention(attention)),
        Branch::new(norm("attention.output_norm"), MixerSpec::Experts(experts)),
    ];
    let layers: usize = config.need("num_hidden_layers")?;
    Ok(Spec {
        vocab: config.need("vocab_size")?,
        hidden: config.need("hidden_size")?,
        context: config.or("max_position_embeddings", 2048)?,
        embed: EmbedSpec::default(),
        layers: vec![layer; layers],
        norm: Some(norm("norm")),
        head: Some(HeadSpec {
            tied: config.or("tie_word_embeddings", false)?,
            bias: false,
            rule: LogitRule::default(),
        }),
    })
}

fn names(_: &Spec) -> Names {
    let stacked = |name, slot, stored| row(name, slot).stored(stored).exact(name, None);
    Names::new(vec![
        row("transformer.wte", "embed"),
        row("transformer.norm_f", "norm"),
        row("lm_head", "head"),
        row("transformer.blocks.{layer}.norm_attn_norm.norm_1", "attention.norm"),
        fused("transformer.blocks.{layer}.norm_attn_norm.attn.Wqkv", &["attention.q", "attention.k", "attention.v"]),
        row("transformer.blocks.{layer}.norm_attn_norm.attn.out_proj", "attention.o"),
        row("transformer.blocks.{layer}.norm_attn_norm.norm_2", "attention.output_norm"),
        row("transformer.blocks.{layer}.ffn.router.layer", "router"),
        stacked("transformer.blocks.{layer}.ffn.experts.mlp.w1", "expert.gate", Stored::Stacked),
        stacked("transformer.blocks.{layer}.ffn.experts.mlp.v1", "expert.up", Stored::Stacked),
        stacked("transformer.blocks.{layer}.ffn.experts.mlp.w2", "expert.down", Stored::StackedTransposed),
    ])
    .gguf_slots(&[("blk.{layer}.attn_qkv", &["attention.q", "attention.k", "attention.v"])])
}
