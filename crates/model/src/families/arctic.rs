//! Snowflake Arctic: attention, a dense MLP of the stream's width, and experts that read the layer's input. Layers
//! between those with experts have a plain MLP.

use pasture_tensor::ops::experts::{Router, Routing};
use pasture_tensor::ops::head::LogitRule;

use super::{Family, qwen};
use crate::config::{Config, Container, RopeDefaults};
use crate::error::Result;
use crate::names::{Names, ignored, row};
use crate::spec::{
    AttentionSpec, Branch, EXPERT, EmbedSpec, ExpertsSpec, From, HeadSpec, MLP, Mask, MixerSpec, MlpSlots, MlpSpec,
    NormKind, NormSpec, Spec,
};

pub(super) const FAMILY: Family = Family {
    name: "Arctic",
    models: "Snowflake Arctic base and instruct",
    licence: "Apache-2.0",
    runs: "text",
    architectures: &["ArcticForCausalLM"],
    model_types: &["arctic"],
    gguf: &["arctic"],
    meta: false,
    spec,
    names,
    fallback: Some(qwen::FALLBACK),
};

/// The slots of the dense part that stands beside the experts.
const RESIDUAL: MlpSlots = MlpSlots { gate: "residual.gate", up: "residual.up", down: "residual.down" };

fn spec(config: &Config) -> Result<Spec> {
    let heads = config.heads()?;
    let hidden: usize = config.need("hidden_size")?;
    let eps = config.or("rms_norm_eps", 1e-5)?;
    let norm = |slot| NormSpec { slot, kind: NormKind::Rms, eps };
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
    let activation = config.activation("hidden_act", "silu")?;
    let mlp = |slots, width| MlpSpec { slots, width, activation, gated: true, bias: false };
    let width = config.need("intermediate_size")?;
    let experts = ExpertsSpec {
        experts: config.or("num_local_experts", 8)?,
        router: Router { routing: Routing::SoftmaxOfChosen, top: config.or("num_experts_per_tok", 1)? },
        router_bias: false,
        expert: mlp(EXPERT, width),
        shared: None,
    };
    config.check_experts(&experts)?;
    // GGUF knows only the published model: experts in every layer, beside the dense part.
    let published = config.container() == Container::Gguf;
    if !published {
        config.must("use_residual", true)?;
        config.must("parallel_attn_mlp_res", true)?;
    }
    let frequency = config.or("moe_layer_frequency", if published { 1 } else { 2 })?;
    let attend = Branch::new(norm("attention.norm"), MixerSpec::Attention(attention));
    let dense = Branch::new(norm("mlp.norm"), MixerSpec::Mlp(mlp(MLP, width)));
    let residual = Branch::new(norm("residual.norm"), MixerSpec::Mlp(mlp(RESIDUAL, hidden)));
    let chosen = Branch { from: From::LayerInput, ..Branch::new(norm("experts.norm"), MixerSpec::Experts(experts)) };
    let layer = |at: usize| match (at + 1) % frequency {
        0 => vec![attend.clone(), residual.clone(), chosen.clone()],
        _ => vec![attend.clone(), dense.clone()],
    };
    let layers: usize = config.need("num_hidden_layers")?;
    Ok(Spec {
        vocab: config.need("vocab_size")?,
        hidden,
        context: config.or("max_position_embeddings", 4096)?,
        embed: EmbedSpec::default(),
        layers: (0..layers).map(layer).collect(),
        norm: Some(norm("norm")),
        head: Some(HeadSpec {
            tied: config.or("tie_word_embeddings", false)?,
            bias: false,
            rule: LogitRule::default(),
        }),
    })
}

fn names(_: &Spec) -> Names {
    Names::new(vec![
        row("model.embed_tokens", "embed"),
        row("model.norm", "norm"),
        row("lm_head", "head"),
        row("model.layers.{layer}.input_layernorm", "attention.norm"),
        row("model.layers.{layer}.self_attn.q_proj", "attention.q"),
        row("model.layers.{layer}.self_attn.k_proj", "attention.k"),
        row("model.layers.{layer}.self_attn.v_proj", "attention.v"),
        row("model.layers.{layer}.self_attn.o_proj", "attention.o"),
        row("model.layers.{layer}.residual_layernorm", "residual.norm"),
        row("model.layers.{layer}.residual_mlp.w1", "residual.gate"),
        row("model.layers.{layer}.residual_mlp.w3", "residual.up"),
        row("model.layers.{layer}.residual_mlp.w2", "residual.down"),
        row("model.layers.{layer}.post_attention_layernorm", "experts.norm"),
        row("model.layers.{layer}.block_sparse_moe.gate", "router"),
        row("model.layers.{layer}.block_sparse_moe.experts.{expert}.w1", "expert.gate"),
        row("model.layers.{layer}.block_sparse_moe.experts.{expert}.w3", "expert.up"),
        row("model.layers.{layer}.block_sparse_moe.experts.{expert}.w2", "expert.down"),
        // A layer without experts.
        row("model.layers.{layer}.post_attention_layernorm", "mlp.norm"),
        row("model.layers.{layer}.block_sparse_moe.mlp.w1", "mlp.gate"),
        row("model.layers.{layer}.block_sparse_moe.mlp.w3", "mlp.up"),
        row("model.layers.{layer}.block_sparse_moe.mlp.w2", "mlp.down"),
    ])
    .ignoring(&[ignored("model.layers.{layer}.self_attn.rotary_emb.inv_freq", "computed from the configuration")])
    .gguf_interleaved()
    .gguf_slots(&[
        ("blk.{layer}.ffn_norm", &["residual.norm"]),
        ("blk.{layer}.ffn_gate", &["residual.gate"]),
        ("blk.{layer}.ffn_up", &["residual.up"]),
        ("blk.{layer}.ffn_down", &["residual.down"]),
        ("blk.{layer}.ffn_norm_exps", &["experts.norm"]),
    ])
}
