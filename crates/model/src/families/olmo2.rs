//! OLMo 2: the Llama page's layers with each norm behind its mixer instead of before it, and norms over all heads of
//! queries and of keys.

use super::{Family, llama};
use crate::config::{Config, RopeDefaults};
use crate::error::Result;
use crate::names::{Names, ignored, row};
use crate::spec::{AttentionSpec, Mask, NormKind, NormOver, NormSpec, QkNorm, Spec};

pub(super) const FAMILY: Family = Family {
    name: "OLMo 2",
    models: "OLMo 2 1B to 32B",
    licence: "Apache-2.0",
    runs: "text",
    architectures: &["Olmo2ForCausalLM"],
    model_types: &["olmo2"],
    gguf: &["olmo2"],
    meta: false,
    spec,
    names,
    fallback: Some(FALLBACK),
};

/// Turns that begin with a mark of their role; an answer ends as a text does.
const FALLBACK: &str = "\
{{- bos_token -}}\
{%- for message in messages -%}\
{%- set ending = eos_token if message['role'] == 'assistant' else '' -%}\
{{ '<|' ~ message['role'] ~ '|>\\n' ~ message['content'] ~ ending ~ ('' if ending and loop.last else '\\n') }}\
{%- endfor -%}\
{%- if add_generation_prompt -%}{{ '<|assistant|>\\n' }}{%- endif -%}";

/// Where the norms of a layer's two branches stand.
const BEHIND: [&str; 2] = ["attention.post_norm", "mlp.post_norm"];

fn spec(config: &Config) -> Result<Spec> {
    let heads = config.heads()?;
    let eps = config.or("rms_norm_eps", 1e-5)?;
    let norm = |slot| NormSpec { slot, kind: NormKind::Rms, eps };
    let (q, k) = (norm("attention.q_norm"), norm("attention.k_norm"));
    let attention = AttentionSpec {
        heads: heads.heads,
        kv_heads: heads.kv_heads,
        head_dim: heads.head_dim,
        scale: heads.scale(),
        mask: Mask::Causal,
        rope: Some(config.rope(heads.head_dim, RopeDefaults::default())?),
        bias: config.biases()?,
        qk_norm: Some(QkNorm { q, k, over: NormOver::Row, after_rope: false }),
        softcap: None,
        clamp: None,
        sinks: false,
        growth: None,
    };
    let layers: usize = config.need("num_hidden_layers")?;
    let mut spec = llama::dense(config, &attention, vec![Mask::Causal; layers], llama::Dense::new(1e-5, 2048))?;
    for (branch, slot) in spec.layers.iter_mut().flat_map(|layer| layer.iter_mut().zip(BEHIND)) {
        branch.post = branch.pre.take().map(|norm| NormSpec { slot, ..norm });
    }
    Ok(spec)
}

fn names(_: &Spec) -> Names {
    Names::new(vec![
        row("model.embed_tokens", "embed"),
        row("model.norm", "norm"),
        row("lm_head", "head"),
        row("model.layers.{layer}.self_attn.q_proj", "attention.q"),
        row("model.layers.{layer}.self_attn.k_proj", "attention.k"),
        row("model.layers.{layer}.self_attn.v_proj", "attention.v"),
        row("model.layers.{layer}.self_attn.q_norm", "attention.q_norm"),
        row("model.layers.{layer}.self_attn.k_norm", "attention.k_norm"),
        row("model.layers.{layer}.self_attn.o_proj", "attention.o"),
        row("model.layers.{layer}.post_attention_layernorm", "attention.post_norm"),
        row("model.layers.{layer}.mlp.gate_proj", "mlp.gate"),
        row("model.layers.{layer}.mlp.up_proj", "mlp.up"),
        row("model.layers.{layer}.mlp.down_proj", "mlp.down"),
        row("model.layers.{layer}.post_feedforward_layernorm", "mlp.post_norm"),
    ])
    .ignoring(&[ignored("model.layers.{layer}.self_attn.rotary_emb.inv_freq", "computed from the configuration")])
}
