//! Gemma 3, its text part: the second generation's layers, five with a window and a rope of their own for each that
//! sees all, with norms of queries and keys and without soft caps of the scores.

use pasture_tensor::ops::head::LogitRule;

use super::{Family, gemma2};
use crate::config::{Config, Container, RopeDefaults};
use crate::error::Result;
use crate::names::{Names, row};
use crate::rope::{RopeSpec, Scaling};
use crate::spec::{AttentionSpec, Mask, NormKind, NormOver, NormSpec, QkNorm, Spec};

pub(super) const FAMILY: Family = Family {
    name: "Gemma 3",
    models: "Gemma 3 270M to 27B",
    licence: "Gemma Terms of Use",
    runs: "text; without the pictures of the larger ones",
    architectures: &["Gemma3ForCausalLM"],
    model_types: &["gemma3_text"],
    gguf: &["gemma3"],
    meta: false,
    spec,
    names,
    fallback: Some(gemma2::FALLBACK),
};

/// The 27B model is the one with so many layers; its queries are scaled by another width, which GGUF does not say.
const LAYERS_OF_27B: usize = 62;

fn spec(config: &Config) -> Result<Spec> {
    let heads = config.heads_or_all(8, 4, 256)?;
    let layers: usize = config.need("num_hidden_layers")?;
    let eps = config.or("rms_norm_eps", 1e-6)?;
    let norm = |slot| NormSpec { slot, kind: NormKind::RmsOffset, eps };
    let (q, k) = (norm("attention.q_norm"), norm("attention.k_norm"));
    let query_width = match (config.container(), layers) {
        (Container::Gguf, LAYERS_OF_27B) => config.need::<usize>("hidden_size")? as f32 / heads.heads as f32,
        (Container::Gguf, _) => heads.head_dim as f32,
        _ => config.or("query_pre_attn_scalar", 256.0)?,
    };
    let global = config.rope(heads.head_dim, RopeDefaults { theta: 1e6, partial: 1.0 })?;
    let base = config.or("rope_local_base_freq", 10_000.0)?;
    let local = RopeSpec { dims: heads.head_dim, base, scaling: Scaling::None };
    let attention = AttentionSpec {
        heads: heads.heads,
        kv_heads: heads.kv_heads,
        head_dim: heads.head_dim,
        scale: 1.0 / query_width.sqrt(),
        mask: Mask::Causal,
        rope: None,
        bias: config.biases()?,
        qk_norm: Some(QkNorm { q, k, over: NormOver::Head, after_rope: false }),
        softcap: None,
        clamp: None,
        sinks: false,
        growth: None,
    };
    let window = Mask::Window(config.or("sliding_window", 4096)?);
    // Newer files write the key with a mark before it, beside the list of layers.
    let newer: Option<usize> = config.get("_sliding_window_pattern")?;
    let every = config.or("sliding_window_pattern", newer.unwrap_or(6))?;
    let masks = config.masks(layers, window, |layer| if (layer + 1) % every == 0 { Mask::Causal } else { window })?;
    let attentions = masks.into_iter().map(|mask| {
        let rope = if mask == Mask::Causal { &global } else { &local };
        AttentionSpec { mask, rope: Some(rope.clone()), ..attention.clone() }
    });
    let rule = LogitRule { scale: None, softcap: config.get("final_logit_softcapping")? };
    gemma2::layered(config, attentions.collect(), rule, (262_208, 131_072))
}

fn names(spec: &Spec) -> Names {
    let mut names = gemma2::names(spec);
    names.rows.push(row("model.layers.{layer}.self_attn.q_norm", "attention.q_norm"));
    names.rows.push(row("model.layers.{layer}.self_attn.k_norm", "attention.k_norm"));
    names
}
