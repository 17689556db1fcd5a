//! Llama 4, its text part: layers that see their chunk of the context and turn queries and keys, and every fourth that
//! sees all and turns nothing, but lets queries grow with their position. Each row takes an expert, whose input the
//! router weighs, and one that all rows share; some sizes have a plain MLP in every other layer.

use pasture_tensor::ops::experts::{Router, Routing};

use super::{Family, llama};
use crate::config::{Config, Container, RopeDefaults};
use crate::error::Result;
use crate::names::{Names, Stored, fused, ignored, row};
use crate::spec::{
    AttentionSpec, ExpertsSpec, Mask, MlpSpec, NormKind, NormOver, NormSpec, QkNorm, QueryGrowth, SHARED, Spec,
};

pub(super) const FAMILY: Family = Family {
    name: "Llama 4",
    models: "Llama 4 Scout and Maverick",
    licence: "Llama 4 Community License",
    runs: "text, without pictures",
    architectures: &["Llama4ForCausalLM"],
    model_types: &["llama4_text"],
    gguf: &["llama4"],
    meta: false,
    spec,
    names,
    fallback: Some(FALLBACK),
};

/// Turns that begin with a header of their role.
const FALLBACK: &str = "\
{{- bos_token -}}\
{%- for message in messages -%}\
{{ '<|header_start|>' ~ message['role'] ~ '<|header_end|>\\n\\n' ~ (message['content'] | trim) ~ '<|eot|>' }}\
{%- endfor -%}\
{%- if add_generation_prompt -%}{{ '<|header_start|>assistant<|header_end|>\\n\\n' }}{%- endif -%}";

/// GGUF does not say whether queries and keys are normed; of the published models the one with so many experts does not.
const EXPERTS_WITHOUT_NORM: usize = 128;

fn spec(config: &Config) -> Result<Spec> {
    let gguf = config.container() == Container::Gguf;
    let heads = config.heads_or(Some(8), Some(128))?;
    let eps = config.or("rms_norm_eps", 1e-5)?;
    let count = config.or("num_local_experts", 16)?;
    let norm = |slot| NormSpec { slot, kind: NormKind::RmsPlain, eps };
    let (q, k) = (norm("attention.q_norm"), norm("attention.k_norm"));
    let qk_norm = QkNorm { q, k, over: NormOver::Head, after_rope: true };
    let has_norm = config.or("use_qk_norm", !gguf || count != EXPERTS_WITHOUT_NORM)?;
    let growth =
        QueryGrowth { factor: config.or("attn_scale", 0.1)?, every: config.or("floor_scale", 8192)?, shift: 1 };
    let grows = config.switch("attn_temperature_tuning", true)?;
    let rope = config.rope(heads.head_dim, RopeDefaults { theta: 5e5, partial: 1.0 })?;
    let attention = |turns: bool, mask| -> Result<AttentionSpec> {
        Ok(AttentionSpec {
            heads: heads.heads,
            kv_heads: heads.kv_heads,
            head_dim: heads.head_dim,
            scale: heads.scale(),
            mask,
            rope: turns.then(|| rope.clone()),
            bias: config.biases()?,
            qk_norm: (turns && has_norm).then(|| qk_norm.clone()),
            softcap: None,
            clamp: None,
            sinks: false,
            growth: (!turns && grows).then_some(growth),
        })
    };
    let layers: usize = config.need("num_hidden_layers")?;
    let turns = config.rope_layers(layers)?;
    if gguf {
        config.only("sliding_window", 8192usize)?;
    }
    let chunk = config.or_off("attention_chunk_size", 8192)?.map_or(Mask::Causal, Mask::Chunk);
    let masks = config.masks(layers, chunk, |layer| if turns[layer] { chunk } else { Mask::Causal })?;
    let attentions =
        turns.iter().zip(masks).map(|(turns, mask)| attention(*turns, mask)).collect::<Result<Vec<_>>>()?;
    let (expert_width, width) = match gguf {
        true => ("moe_intermediate_size", "intermediate_size"),
        false => ("intermediate_size", "intermediate_size_mlp"),
    };
    let spec = llama::layered(config, attentions, llama::Dense { width, ..llama::Dense::new(1e-5, 131_072) })?;
    let expert = llama::expert(config, expert_width)?;
    let experts = ExpertsSpec {
        experts: count,
        router: Router { routing: Routing::SigmoidOfInput, top: config.or("num_experts_per_tok", 1)? },
        router_bias: false,
        shared: Some(MlpSpec { slots: SHARED, ..expert.clone() }),
        expert,
    };
    config.check_experts(&experts)?;
    let step: usize = config.or("interleave_moe_layer_step", 1)?;
    let listed: Option<Vec<usize>> = config.get("moe_layers")?;
    Ok(llama::with_experts(spec, &experts, |layer| match &listed {
        Some(listed) => listed.contains(&layer),
        None => (layer + 1).is_multiple_of(step),
    }))
}

fn names(_: &Spec) -> Names {
    let (gate_up, down) = (
        "model.layers.{layer}.feed_forward.experts.gate_up_proj",
        "model.layers.{layer}.feed_forward.experts.down_proj",
    );
    Names::new(vec![
        row("model.embed_tokens", "embed"),
        row("model.norm", "norm"),
        row("lm_head", "head"),
        row("model.layers.{layer}.input_layernorm", "attention.norm"),
        row("model.layers.{layer}.self_attn.q_proj", "attention.q").interleaved(),
        row("model.layers.{layer}.self_attn.k_proj", "attention.k").interleaved(),
        row("model.layers.{layer}.self_attn.v_proj", "attention.v"),
        row("model.layers.{layer}.self_attn.o_proj", "attention.o"),
        row("model.layers.{layer}.post_attention_layernorm", "mlp.norm"),
        row("model.layers.{layer}.feed_forward.gate_proj", "mlp.gate"),
        row("model.layers.{layer}.feed_forward.up_proj", "mlp.up"),
        row("model.layers.{layer}.feed_forward.down_proj", "mlp.down"),
        row("model.layers.{layer}.feed_forward.router", "router"),
        row("model.layers.{layer}.feed_forward.shared_expert.gate_proj", "shared.gate"),
        row("model.layers.{layer}.feed_forward.shared_expert.up_proj", "shared.up"),
        row("model.layers.{layer}.feed_forward.shared_expert.down_proj", "shared.down"),
        fused(gate_up, &["expert.gate", "expert.up"]).stored(Stored::StackedTransposed).exact(gate_up, None),
        row(down, "expert.down").stored(Stored::StackedTransposed).exact(down, None),
    ])
    .ignoring(&[ignored("model.layers.{layer}.self_attn.rotary_emb.inv_freq", "computed from the configuration")])
    .gguf_interleaved()
}
