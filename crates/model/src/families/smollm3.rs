//! SmolLM 3: the Llama page's layers, of which every fourth does not turn queries and keys; those may have a window.

use super::{Family, llama, qwen};
use crate::config::{Config, RopeDefaults};
use crate::error::Result;
use crate::spec::{AttentionSpec, Mask, Spec};

pub(super) const FAMILY: Family = Family {
    name: "SmolLM 3",
    models: "SmolLM3-3B",
    licence: "Apache-2.0",
    runs: "text",
    architectures: &["SmolLM3ForCausalLM"],
    model_types: &["smollm3"],
    gguf: &["smollm3"],
    meta: false,
    spec,
    names: llama::names,
    fallback: Some(qwen::FALLBACK),
};

fn spec(config: &Config) -> Result<Spec> {
    let heads = config.heads_or(Some(4), None)?;
    let rope = config.rope(heads.head_dim, RopeDefaults { theta: 2e6, partial: 1.0 })?;
    let attention = AttentionSpec {
        heads: heads.heads,
        kv_heads: heads.kv_heads,
        head_dim: heads.head_dim,
        scale: heads.scale(),
        mask: Mask::Causal,
        rope: None,
        bias: config.biases()?,
        qk_norm: None,
        softcap: None,
        clamp: None,
        sinks: false,
        growth: None,
    };
    let layers: usize = config.need("num_hidden_layers")?;
    let turns = config.rope_layers(layers)?;
    let window = config.get("sliding_window")?.map_or(Mask::Causal, Mask::Window);
    let window = if config.or("use_sliding_window", false)? { window } else { Mask::Causal };
    config.ignore("max_window_layers", "layers without a rope have the window");
    let masks = config.masks(layers, window, |layer| if turns[layer] { Mask::Causal } else { window })?;
    let attentions = turns.into_iter().zip(masks).map(|(turns, mask)| AttentionSpec {
        mask,
        rope: turns.then(|| rope.clone()),
        ..attention.clone()
    });
    let mlp_bias = config.or("mlp_bias", false)?;
    llama::layered(config, attentions, llama::Dense { mlp_bias, tied: true, ..llama::Dense::new(1e-6, 32_768) })
}
