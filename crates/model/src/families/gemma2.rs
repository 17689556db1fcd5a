//! Gemma 2: norms before and after each mixer, every second layer with a window, soft caps of scores and logits.

use pasture_tensor::ops::head::LogitRule;

use super::Family;
use crate::config::{Config, Container, RopeDefaults};
use crate::error::Result;
use crate::names::{Names, ignored, row};
use crate::spec::{
    AttentionSpec, Branch, EmbedSpec, HeadSpec, MLP, Mask, MixerSpec, MlpSpec, NormKind, NormSpec, Spec,
};

pub(super) const FAMILY: Family = Family {
    name: "Gemma 2",
    models: "Gemma 2 2B, 9B, 27B",
    licence: "Gemma Terms of Use",
    runs: "text",
    architectures: &["Gemma2ForCausalLM"],
    model_types: &["gemma2"],
    gguf: &["gemma2"],
    meta: false,
    spec,
    names,
    fallback: Some(FALLBACK),
};

/// The family's turns; it has no place for a system text but the first question.
pub(super) const FALLBACK: &str = "\
{{- bos_token -}}\
{%- if messages and messages[0]['role'] == 'system' -%}\
{%- set opening = (messages[0]['content'] | trim) ~ '\\n\\n' -%}{%- set talk = messages[1:] -%}\
{%- else -%}{%- set opening = '' -%}{%- set talk = messages -%}{%- endif -%}\
{%- for message in talk -%}\
{%- if (message['role'] == 'user') != (loop.index0 % 2 == 0) -%}\
{{ raise_exception('questions of the user and answers of the model have to take turns') }}\
{%- endif -%}\
{%- set role = 'model' if message['role'] == 'assistant' else message['role'] -%}\
{{ '<start_of_turn>' ~ role ~ '\\n' ~ (opening if loop.first else '') ~ (message['content'] | trim) ~ '<end_of_turn>\\n' }}\
{%- endfor -%}\
{%- if add_generation_prompt -%}{{ '<start_of_turn>model\\n' }}{%- endif -%}";

/// The 27B model is the one with so many layers; its queries are scaled by another width, which GGUF does not say.
const LAYERS_OF_27B: usize = 46;

fn spec(config: &Config) -> Result<Spec> {
    let heads = config.heads_or(Some(4), Some(256))?;
    let hidden: usize = config.need("hidden_size")?;
    let layers: usize = config.need("num_hidden_layers")?;
    let query_width = match (config.container(), layers) {
        (Container::Gguf, LAYERS_OF_27B) => hidden as f32 / heads.heads as f32,
        (Container::Gguf, _) => heads.head_dim as f32,
        _ => config.or("query_pre_attn_scalar", 256.0)?,
    };
    let window = Mask::Window(config.or("sliding_window", 4096)?);
    let attention = AttentionSpec {
        heads: heads.heads,
        kv_heads: heads.kv_heads,
        head_dim: heads.head_dim,
        scale: 1.0 / query_width.sqrt(),
        mask: Mask::Causal,
        rope: Some(config.rope(heads.head_dim, RopeDefaults::default())?),
        bias: config.biases()?,
        qk_norm: None,
        softcap: config.or_off("attn_logit_softcapping", 50.0)?,
        clamp: None,
        sinks: false,
        growth: None,
    };
    let masks = config.masks(layers, window, |layer| if layer % 2 == 0 { window } else { Mask::Causal })?;
    let attentions = masks.into_iter().map(|mask| AttentionSpec { mask, ..attention.clone() });
    let rule = LogitRule { scale: None, softcap: config.or_off("final_logit_softcapping", 30.0)? };
    layered(config, attentions.collect(), rule, (256_000, 8192))
}

/// Layers of the given attentions with norms before and after each mixer; `context` is for a file without one.
pub(super) fn layered(
    config: &Config,
    attentions: Vec<AttentionSpec>,
    rule: LogitRule,
    (vocab, context): (usize, usize),
) -> Result<Spec> {
    let hidden: usize = config.need("hidden_size")?;
    let eps = config.or("rms_norm_eps", 1e-6)?;
    let norm = |slot| NormSpec { slot, kind: NormKind::RmsOffset, eps };
    let mlp = MlpSpec {
        slots: MLP,
        width: config.need("intermediate_size")?,
        activation: config.activation("hidden_activation", "gelu_pytorch_tanh")?,
        gated: true,
        bias: false,
    };
    config.ignore("hidden_act", "\"hidden_activation\" is what counts");
    config.ignore("sliding_window_size", "\"sliding_window\" is what counts");
    let branch = |pre, post, mixer| Branch { post: Some(norm(post)), ..Branch::new(norm(pre), mixer) };
    let layer = |attention| {
        vec![
            branch("attention.norm", "attention.post_norm", MixerSpec::Attention(attention)),
            branch("mlp.norm", "mlp.post_norm", MixerSpec::Mlp(mlp.clone())),
        ]
    };
    Ok(Spec {
        vocab: config.or("vocab_size", vocab)?,
        hidden,
        context: config.or("max_position_embeddings", context)?,
        // The reference rounds this factor as its weights are stored; here it is exact.
        embed: EmbedSpec { scale: Some((hidden as f32).sqrt()), ..EmbedSpec::default() },
        layers: attentions.into_iter().map(layer).collect(),
        norm: Some(norm("norm")),
        head: Some(HeadSpec { tied: config.or("tie_word_embeddings", true)?, bias: false, rule }),
    })
}

pub(super) fn names(_: &Spec) -> Names {
    Names::new(vec![
        row("model.embed_tokens", "embed"),
        row("model.norm", "norm"),
        row("lm_head", "head"),
        row("model.layers.{layer}.input_layernorm", "attention.norm"),
        row("model.layers.{layer}.self_attn.q_proj", "attention.q"),
        row("model.layers.{layer}.self_attn.k_proj", "attention.k"),
        row("model.layers.{layer}.self_attn.v_proj", "attention.v"),
        row("model.layers.{layer}.self_attn.o_proj", "attention.o"),
        row("model.layers.{layer}.post_attention_layernorm", "attention.post_norm"),
        row("model.layers.{layer}.pre_feedforward_layernorm", "mlp.norm"),
        row("model.layers.{layer}.mlp.gate_proj", "mlp.gate"),
        row("model.layers.{layer}.mlp.up_proj", "mlp.up"),
        row("model.layers.{layer}.mlp.down_proj", "mlp.down"),
        row("model.layers.{layer}.post_feedforward_layernorm", "mlp.post_norm"),
    ])
    .ignoring(&[ignored("model.layers.{layer}.self_attn.rotary_emb.inv_freq", "computed from the configuration")])
}
