//! Phi-3, 3.5 and 4 without experts: the Llama page's layers with fused products in the file, a window in some sizes,
//! LongRoPE in those with long contexts, and a head that turns in part in the smallest.

use super::{Family, llama};
use crate::config::{Config, RopeDefaults};
use crate::error::Result;
use crate::names::{Names, fused, ignored, row};
use crate::spec::{AttentionSpec, Biases, Mask, Spec};

pub(super) const FAMILY: Family = Family {
    name: "Phi-3",
    models: "Phi-3, Phi-3.5-mini, Phi-4, Phi-4-mini",
    licence: "MIT",
    runs: "text",
    architectures: &["Phi3ForCausalLM"],
    model_types: &["phi3"],
    gguf: &["phi3"],
    meta: false,
    spec,
    names,
    fallback: Some(FALLBACK),
};

/// Turns that begin with a mark of their role.
pub(super) const FALLBACK: &str = "\
{%- for message in messages -%}\
{{ '<|' ~ message['role'] ~ '|>\\n' ~ message['content'] ~ '<|end|>\\n' }}\
{%- endfor -%}\
{%- if add_generation_prompt -%}{{ '<|assistant|>\\n' }}{%- endif -%}";

fn spec(config: &Config) -> Result<Spec> {
    let heads = config.heads()?;
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
    if !config.has("rope_scaling") {
        config.ignore("original_max_position_embeddings", "it is for a scaling of the rope, of which there is none");
    }
    let layers: usize = config.need("num_hidden_layers")?;
    let mask = config.get("sliding_window")?.map_or(Mask::Causal, Mask::Window);
    llama::dense(config, &attention, vec![mask; layers], llama::Dense::new(1e-5, 4096))
}

fn names(_: &Spec) -> Names {
    Names::new(vec![
        row("model.embed_tokens", "embed"),
        row("model.norm", "norm"),
        row("lm_head", "head"),
        row("model.layers.{layer}.input_layernorm", "attention.norm"),
        fused("model.layers.{layer}.self_attn.qkv_proj", &["attention.q", "attention.k", "attention.v"]),
        row("model.layers.{layer}.self_attn.o_proj", "attention.o"),
        row("model.layers.{layer}.post_attention_layernorm", "mlp.norm"),
        fused("model.layers.{layer}.mlp.gate_up_proj", &["mlp.gate", "mlp.up"]),
        row("model.layers.{layer}.mlp.down_proj", "mlp.down"),
    ])
    .ignoring(&[ignored("model.layers.{layer}.self_attn.rotary_emb.inv_freq", "computed from the configuration")])
    .gguf_slots(&[
        ("blk.{layer}.attn_qkv", &["attention.q", "attention.k", "attention.v"]),
        ("blk.{layer}.ffn_up", &["mlp.gate", "mlp.up"]),
    ])
}
