//! Qwen 2, 2.5 and 3 without experts: the Llama page's layers, the upper ones with a window where that is switched on.
//! The second generation has biases on queries, keys and values; the third has norms of queries and keys instead.

use super::{Family, llama};
use crate::config::{Config, Heads, RopeDefaults};
use crate::error::Result;
use crate::names::{Names, row};
use crate::spec::{AttentionSpec, Biases, Mask, NormKind, NormOver, NormSpec, QkNorm, Spec};

pub(super) const QWEN2: Family = Family {
    name: "Qwen 2",
    models: "Qwen 2, Qwen 2.5",
    licence: "Apache-2.0, or the Qwen licences of some sizes",
    runs: "text",
    architectures: &["Qwen2ForCausalLM"],
    model_types: &["qwen2"],
    gguf: &["qwen2"],
    meta: false,
    spec: |config| spec(config, config.heads_or(Some(32), None)?, Biases::Qkv, None),
    names,
    fallback: Some(FALLBACK),
};

pub(super) const QWEN3: Family = Family {
    name: "Qwen 3",
    models: "Qwen 3 without experts",
    licence: "Apache-2.0",
    runs: "text",
    architectures: &["Qwen3ForCausalLM"],
    model_types: &["qwen3"],
    gguf: &["qwen3"],
    meta: false,
    spec: |config| spec(config, config.heads_or(Some(32), Some(128))?, config.biases()?, Some(head_norms(config)?)),
    names,
    fallback: Some(FALLBACK),
};

/// Turns between marks, without a system text of its own.
pub(super) const FALLBACK: &str = "\
{%- for message in messages -%}\
{{ '<|im_start|>' ~ message['role'] ~ '\\n' ~ message['content'] ~ '<|im_end|>\\n' }}\
{%- endfor -%}\
{%- if add_generation_prompt -%}{{ '<|im_start|>assistant\\n' }}{%- endif -%}";

/// The third generation's norms of queries and keys.
pub(super) fn head_norms(config: &Config) -> Result<QkNorm> {
    let eps = config.or("rms_norm_eps", 1e-6)?;
    let norm = |slot| NormSpec { slot, kind: NormKind::Rms, eps };
    let (q, k) = (norm("attention.q_norm"), norm("attention.k_norm"));
    Ok(QkNorm { q, k, over: NormOver::Head, after_rope: false })
}

fn spec(config: &Config, heads: Heads, bias: Biases, qk_norm: Option<QkNorm>) -> Result<Spec> {
    let attention = AttentionSpec {
        heads: heads.heads,
        kv_heads: heads.kv_heads,
        head_dim: heads.head_dim,
        scale: heads.scale(),
        mask: Mask::Causal,
        rope: Some(config.rope(heads.head_dim, RopeDefaults::default())?),
        bias,
        qk_norm,
        softcap: None,
        clamp: None,
        sinks: false,
        growth: None,
    };
    let layers: usize = config.need("num_hidden_layers")?;
    let keys = config.or("sliding_window", 4096)?;
    let window = if config.or("use_sliding_window", false)? { Mask::Window(keys) } else { Mask::Causal };
    let first = config.or("max_window_layers", 28usize)?;
    let masks = config.masks(layers, window, |layer| if layer >= first { window } else { Mask::Causal })?;
    llama::dense(config, &attention, masks, llama::Dense::new(1e-6, 32_768))
}

pub(super) fn names(spec: &Spec) -> Names {
    let mut names = llama::names(spec);
    names.rows.push(row("model.layers.{layer}.self_attn.q_norm", "attention.q_norm"));
    names.rows.push(row("model.layers.{layer}.self_attn.k_norm", "attention.k_norm"));
    names.gguf_plain()
}
