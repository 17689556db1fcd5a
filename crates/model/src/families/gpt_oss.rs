//! gpt-oss: the Llama page's layers with sinks beside the scores, a window in every second layer, and experts whose
//! gates and gated values are limited. Published files keep the experts' weights as MXFP4 in blocks and scales.

use pasture_tensor::Activation;
use pasture_tensor::ops::experts::{Router, Routing};

use super::{Family, llama};
use crate::config::{Config, Container, RopeDefaults};
use crate::error::Result;
use crate::names::{Names, Row, Stored, fused, row};
use crate::rope::{RopeSpec, Scaling, yarn_attention};
use crate::spec::{AttentionSpec, Biases, EXPERT, ExpertsSpec, Mask, MlpSpec, Spec};

pub(super) const FAMILY: Family = Family {
    name: "gpt-oss",
    models: "gpt-oss 20B, 120B",
    licence: "Apache-2.0",
    runs: "text",
    architectures: &["GptOssForCausalLM"],
    model_types: &["gpt_oss"],
    gguf: &["gpt-oss"],
    meta: false,
    spec,
    names,
    fallback: Some(FALLBACK),
};

/// The form called harmony: a system message of the model's own, the user's system text as the developer's, answers on
/// the final channel.
const FALLBACK: &str = "\
{{- '<|start|>system<|message|>You are ChatGPT, a large language model trained by OpenAI.\\n' -}}\
{{- 'Knowledge cutoff: 2024-06\\nCurrent date: ' ~ strftime_now('%Y-%m-%d') ~ '\\n\\nReasoning: medium\\n\\n' -}}\
{{- '# Valid channels: analysis, commentary, final. Channel must be included for every message.<|end|>' -}}\
{%- for message in messages -%}\
{%- if message['role'] in ['system', 'developer'] -%}\
{{- '<|start|>developer<|message|># Instructions\\n\\n' ~ message['content'] ~ '\\n\\n<|end|>' -}}\
{%- elif message['role'] == 'assistant' -%}\
{{- '<|start|>assistant<|channel|>final<|message|>' ~ message['content'] -}}\
{{- '<|return|>' if loop.last and not add_generation_prompt else '<|end|>' -}}\
{%- else -%}\
{{- '<|start|>' ~ message['role'] ~ '<|message|>' ~ message['content'] ~ '<|end|>' -}}\
{%- endif -%}\
{%- endfor -%}\
{%- if add_generation_prompt -%}{{- '<|start|>assistant' -}}{%- endif -%}";

/// The length of the first training, and how far the published models stretch it.
const ORIGINAL: usize = 4096;
const STRETCH: f32 = 32.0;

fn spec(config: &Config) -> Result<Spec> {
    let heads = config.heads_or(Some(8), Some(64))?;
    let layers: usize = config.need("num_hidden_layers")?;
    let attention = AttentionSpec {
        heads: heads.heads,
        kv_heads: heads.kv_heads,
        head_dim: heads.head_dim,
        scale: heads.scale(),
        mask: Mask::Causal,
        rope: Some(rope(config, heads.head_dim)?),
        bias: if config.or("attention_bias", true)? { Biases::All } else { Biases::None },
        qk_norm: None,
        softcap: None,
        clamp: None,
        sinks: true,
        growth: None,
    };
    let window = Mask::Window(config.or("sliding_window", 128)?);
    let masks = config.masks(layers, window, |layer| if layer % 2 == 0 { window } else { Mask::Causal })?;
    config.only("hidden_act", "silu".to_owned())?;
    let spec = llama::dense(config, &attention, masks, llama::Dense::new(1e-5, 131_072))?;
    let width: usize = config.need("intermediate_size")?;
    if config.container() == Container::Gguf {
        config.only("moe_intermediate_size", width)?;
    }
    let activation =
        Activation::SwishLimited { slope: config.or("swiglu_alpha", 1.702)?, limit: config.or("swiglu_limit", 7.0)? };
    let experts = ExpertsSpec {
        experts: config.or("num_local_experts", 128)?,
        router: Router { routing: Routing::SoftmaxOfChosen, top: config.or("num_experts_per_tok", 4)? },
        router_bias: true,
        expert: MlpSpec { slots: EXPERT, width, activation, gated: true, bias: true },
        shared: None,
    };
    config.check_experts(&experts)?;
    Ok(llama::with_experts(spec, &experts, |_| true))
}

/// The ends of YaRN's ramp are no whole dimensions, which GGUF does not say.
fn rope(config: &Config, head_dim: usize) -> Result<RopeSpec> {
    let mut rope = config.rope(head_dim, RopeDefaults { theta: 150_000.0, partial: 1.0 })?;
    let own = config.container() == Container::HuggingFace;
    if own && !config.has("rope_scaling") {
        let attention = yarn_attention(STRETCH, 1.0);
        let (beta_fast, beta_slow) = (32.0, 1.0);
        rope.scaling =
            Scaling::Yarn { factor: STRETCH, original: ORIGINAL, beta_fast, beta_slow, attention, truncate: false };
    }
    if let Scaling::Yarn { original, truncate, .. } = &mut rope.scaling {
        config.only("initial_context_length", *original)?;
        *truncate &= own;
    }
    Ok(rope)
}

fn names(spec: &Spec) -> Names {
    let mut names = llama::names(spec).gguf_plain().gguf_slots(&[("blk.{layer}.post_attention_norm", &["mlp.norm"])]);
    names.rows.retain(|row| !row.module.contains(".mlp."));
    let sinks = "model.layers.{layer}.self_attn.sinks";
    names
        .rows
        .extend([row(sinks, "attention.sinks").exact(sinks, None), row("model.layers.{layer}.mlp.router", "router")]);
    names.rows.extend(experts());
    names
}

/// All experts of a layer in one tensor, gates and gated values by turns: plain numbers lie `[inputs, outputs]`,
/// blocks of MXFP4 `[outputs, inputs]`.
fn experts() -> [Row; 4] {
    let up = "model.layers.{layer}.mlp.experts.gate_up_proj";
    let down = "model.layers.{layer}.mlp.experts.down_proj";
    let up_bias = Some("model.layers.{layer}.mlp.experts.gate_up_proj_bias");
    let down_bias = Some("model.layers.{layer}.mlp.experts.down_proj_bias");
    let both = || fused(up, &[EXPERT.gate, EXPERT.up]).alternating();
    let last = || row(down, EXPERT.down);
    [
        both().stored(Stored::StackedTransposed).exact(up, up_bias),
        last().stored(Stored::StackedTransposed).exact(down, down_bias),
        both().stored(Stored::Stacked).exact("model.layers.{layer}.mlp.experts.gate_up_proj_blocks", up_bias),
        last().stored(Stored::Stacked).exact("model.layers.{layer}.mlp.experts.down_proj_blocks", down_bias),
    ]
}
