//! Gemma 1: the Llama page's layers with norms that are stored less one, an embedding that is scaled and is the head
//! too, and a MLP gated by GELU.

use super::{Family, gemma2, llama};
use crate::config::{Config, RopeDefaults};
use crate::error::Result;
use crate::spec::{AttentionSpec, EmbedSpec, Mask, NormKind, Spec};

pub(super) const FAMILY: Family = Family {
    name: "Gemma",
    models: "Gemma 2B, 7B",
    licence: "Gemma Terms of Use",
    runs: "text",
    architectures: &["GemmaForCausalLM"],
    model_types: &["gemma"],
    gguf: &["gemma"],
    meta: false,
    spec,
    names: |spec| llama::names(spec).gguf_plain(),
    fallback: Some(gemma2::FALLBACK),
};

fn spec(config: &Config) -> Result<Spec> {
    let heads = config.heads_or(Some(16), Some(256))?;
    let attention = AttentionSpec {
        heads: heads.heads,
        kv_heads: heads.kv_heads,
        head_dim: heads.head_dim,
        scale: heads.scale(),
        mask: Mask::Causal,
        rope: Some(config.rope(heads.head_dim, RopeDefaults::default())?),
        bias: config.biases()?,
        qk_norm: None,
        softcap: None,
        clamp: None,
        sinks: false,
        growth: None,
    };
    // The first files have "gelu" in the other key and were trained with the approximation.
    config.ignore("hidden_act", "\"hidden_activation\" is what counts");
    let layers: usize = config.need("num_hidden_layers")?;
    let own = llama::Dense {
        activation: ("hidden_activation", "gelu_pytorch_tanh"),
        norm: NormKind::RmsOffset,
        tied: true,
        ..llama::Dense::new(1e-6, 8192)
    };
    let spec = llama::dense(config, &attention, vec![Mask::Causal; layers], own)?;
    let scale = (spec.hidden as f32).sqrt();
    Ok(Spec { embed: EmbedSpec { scale: Some(scale), ..EmbedSpec::default() }, ..spec })
}
