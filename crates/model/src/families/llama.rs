//! Llama 1 to 3.3 and all that has their shape: attention, then a gated MLP, each after an RMS norm.
//! Sizes, biases, tied or own head and every rotary scaling come from the configuration.

use pasture_tensor::ops::head::LogitRule;

use super::{Family, mixtral};
use crate::config::{Config, Container, RopeDefaults};
use crate::error::Result;
use crate::names::{Names, ignored, row};
use crate::spec::{
    AttentionSpec, Branch, EXPERT, EmbedSpec, ExpertsSpec, HeadSpec, MLP, Mask, MixerSpec, MlpSpec, NormKind, NormSpec,
    Spec,
};

pub(super) const FAMILY: Family = Family {
    name: "Llama",
    models: "Llama 1, 2, 3, 3.1, 3.2 and 3.3, and models with the same architecture",
    licence: "LLaMA licence (research only) for 1, Llama Community License for the others",
    runs: "text; Llama 3.2 without pictures",
    architectures: &["LlamaForCausalLM", "LLaMAForCausalLM"],
    model_types: &["llama"],
    gguf: &["llama"],
    meta: true,
    spec,
    names: |spec| if has_experts(spec) { mixtral::names(spec) } else { names(spec) },
    fallback: Some(FALLBACK),
};

/// The second generation's form of chat, in which checkpoints without a template were tuned: the system text inside
/// the first question, each question between marks, each answer up to the end of text.
const FALLBACK: &str = "\
{%- if messages and messages[0]['role'] == 'system' -%}\
{%- set opening = '<<SYS>>\\n' ~ messages[0]['content'] ~ '\\n<</SYS>>\\n\\n' -%}{%- set talk = messages[1:] -%}\
{%- else -%}{%- set opening = '' -%}{%- set talk = messages -%}{%- endif -%}\
{%- for message in talk -%}\
{%- if (message['role'] == 'user') != (loop.index0 % 2 == 0) -%}\
{{ raise_exception('questions of the user and answers of the assistant have to take turns') }}\
{%- endif -%}\
{%- if message['role'] == 'user' -%}\
{{ bos_token ~ '[INST] ' ~ (((opening if loop.first else '') ~ message['content']) | trim) ~ ' [/INST]' }}\
{%- else -%}\
{{ ' ' ~ (message['content'] | trim) ~ ' ' ~ eos_token }}\
{%- endif -%}\
{%- endfor -%}";

fn spec(config: &Config) -> Result<Spec> {
    if config.container() == Container::Gguf && config.or("num_local_experts", 0usize)? > 0 {
        return mixtral::spec(config);
    }
    let heads = config.heads()?;
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
    let layers: usize = config.need("num_hidden_layers")?;
    let masks = vec![Mask::Causal; layers];
    let mlp_bias = config.or("mlp_bias", false)?;
    dense(config, &attention, masks, Dense { mlp_bias, ..Dense::new(1e-6, 2048) })
}

/// What differs around the attention of families with such layers.
pub(super) struct Dense {
    /// The norms' eps where the file has none.
    pub(super) eps: f32,
    /// Positions where the file says nothing.
    pub(super) context: usize,
    /// The key that names the width of the MLP.
    pub(super) width: &'static str,
    /// Whether the products of the MLP have a bias.
    pub(super) mlp_bias: bool,
    /// The key that names the activation, and the activation where the file has none.
    pub(super) activation: (&'static str, &'static str),
    /// The norms.
    pub(super) norm: NormKind,
    /// Whether the embedding is the head where the file says nothing.
    pub(super) tied: bool,
}

impl Dense {
    /// What most families have.
    pub(super) fn new(eps: f32, context: usize) -> Dense {
        let activation = ("hidden_act", "silu");
        let width = "intermediate_size";
        Dense { eps, context, width, mlp_bias: false, activation, norm: NormKind::Rms, tied: false }
    }
}

/// Layers of attention and a gated MLP, which families share that differ in their attention.
pub(super) fn dense(config: &Config, attention: &AttentionSpec, masks: Vec<Mask>, own: Dense) -> Result<Spec> {
    layered(config, masks.into_iter().map(|mask| AttentionSpec { mask, ..attention.clone() }), own)
}

/// The same where the layers' attentions differ in more than the mask.
pub(super) fn layered(
    config: &Config,
    attentions: impl IntoIterator<Item = AttentionSpec>,
    own: Dense,
) -> Result<Spec> {
    let eps = config.or("rms_norm_eps", own.eps)?;
    let norm = |slot| NormSpec { slot, kind: own.norm, eps };
    let (key, usual) = own.activation;
    let mlp = MlpSpec {
        slots: MLP,
        width: config.need(own.width)?,
        activation: config.activation(key, usual)?,
        gated: true,
        bias: own.mlp_bias,
    };
    let layer = |attention| {
        vec![
            Branch::new(norm("attention.norm"), MixerSpec::Attention(attention)),
            Branch::new(norm("mlp.norm"), MixerSpec::Mlp(mlp.clone())),
        ]
    };
    Ok(Spec {
        vocab: config.need("vocab_size")?,
        hidden: config.need("hidden_size")?,
        context: config.or("max_position_embeddings", own.context)?,
        embed: EmbedSpec::default(),
        layers: attentions.into_iter().map(layer).collect(),
        norm: Some(norm("norm")),
        head: Some(HeadSpec {
            tied: config.or("tie_word_embeddings", own.tied)?,
            bias: false,
            rule: LogitRule::default(),
        }),
    })
}

/// The same model with experts in place of the MLP of some layers.
pub(super) fn with_experts(mut spec: Spec, experts: &ExpertsSpec, has: impl Fn(usize) -> bool) -> Spec {
    let chosen = spec.layers.iter_mut().enumerate().filter(|(at, _)| has(*at));
    for branch in chosen.flat_map(|(_, layer)| layer).filter(|branch| matches!(branch.mixer, MixerSpec::Mlp(_))) {
        branch.mixer = MixerSpec::Experts(experts.clone());
    }
    spec
}

/// One expert: a gated MLP of the width that a key names.
pub(super) fn expert(config: &Config, width: &str) -> Result<MlpSpec> {
    let activation = config.activation("hidden_act", "silu")?;
    Ok(MlpSpec { slots: EXPERT, width: config.need(width)?, activation, gated: true, bias: false })
}

fn has_experts(spec: &Spec) -> bool {
    spec.layers.iter().flatten().any(|branch| matches!(branch.mixer, MixerSpec::Experts(_)))
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
        row("model.layers.{layer}.post_attention_layernorm", "mlp.norm"),
        row("model.layers.{layer}.mlp.gate_proj", "mlp.gate"),
        row("model.layers.{layer}.mlp.up_proj", "mlp.up"),
        row("model.layers.{layer}.mlp.down_proj", "mlp.down"),
    ])
    .ignoring(&[
        ignored("model.rotary_emb.inv_freq", "computed from the configuration"),
        ignored("model.layers.{layer}.self_attn.rotary_emb.inv_freq", "computed from the configuration"),
    ])
    .gguf_interleaved()
}
