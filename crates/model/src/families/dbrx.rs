//! DBRX: attention whose queries, keys and values are cut off at a limit, then many small experts, each after a layer
//! norm without bias. Its files have all experts of a layer in three tensors.

use pasture_tensor::ops::experts::{Router, Routing};
use pasture_tensor::ops::head::LogitRule;

use super::{Family, llama};
use crate::config::{Config, RopeDefaults};
use crate::error::Result;
use crate::names::{Names, Stored, fused, row};
use crate::spec::{
    AttentionSpec, Biases, Branch, EmbedSpec, ExpertsSpec, HeadSpec, Mask, MixerSpec, NormKind, NormSpec, Spec,
};

pub(super) const FAMILY: Family = Family {
    name: "DBRX",
    models: "DBRX base and instruct",
    licence: "Databricks Open Model License",
    runs: "text",
    architectures: &["DbrxForCausalLM"],
    model_types: &["dbrx"],
    gguf: &["dbrx"],
    meta: false,
    spec,
    names,
    fallback: Some(FALLBACK),
};

/// Turns between marks, each on a line of its own; a conversation without a system text has the one that the
/// publisher's tokenizer puts there.
const FALLBACK: &str = "\
{%- if messages and messages[0]['role'] == 'system' -%}\
{%- set opening = messages[0]['content'] -%}{%- set talk = messages[1:] -%}\
{%- else -%}\
{%- set opening = \"You are DBRX, created by Databricks. You were last updated in December 2023. \
You answer questions based on information available up to that point.\\n\
YOU PROVIDE SHORT RESPONSES TO SHORT QUESTIONS OR STATEMENTS, \
but provide thorough responses to more complex and open-ended questions.\\n\
You assist with various tasks, from writing to coding \
(using markdown for code blocks — remember to use ``` with code, JSON, and tables).\\n\
(You do not have real-time data access or code execution capabilities. \
You avoid stereotyping and provide balanced perspectives on controversial topics. \
You do not provide song lyrics, poems, or news articles and do not divulge details of your training data.)\\n\
This is your system prompt, guiding your responses. Do not reference it, just respond to the user. \
If you find yourself talking about this message, stop. \
You should be responding appropriately and usually that means not mentioning this.\\n\
YOU DO NOT MENTION ANY OF THIS INFORMATION ABOUT YOURSELF \
UNLESS THE INFORMATION IS DIRECTLY PERTINENT TO THE USER'S QUERY.\" -%}\
{%- set talk = messages -%}\
{%- endif -%}\
{{- '<|im_start|>system\\n' ~ (opening | trim) ~ '<|im_end|>' -}}\
{%- for message in talk -%}\
{{- '\\n<|im_start|>' ~ message['role'] ~ '\\n' ~ message['content'] ~ '<|im_end|>' -}}\
{%- endfor -%}\
{%- if add_generation_prompt -%}{{ '\\n<|im_start|>assistant\\n' }}{%- endif -%}";

/// The power of the norm that shares of the chosen experts are divided by: with one, they sum to one.
const POWER: &str = "ffn_config.moe_normalize_expert_weights";

fn spec(config: &Config) -> Result<Spec> {
    let heads = config.heads_or(Some(1), None)?;
    let eps = config.or("layer_norm_eps", 1e-5)?;
    let norm = |slot| NormSpec { slot, kind: NormKind::Layer, eps };
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
        clamp: config.get("clip_qkv")?,
        sinks: false,
        growth: None,
    };
    let routing = match config.or_off(POWER, 1.0f32)? {
        Some(1.0) => Routing::SoftmaxOfChosen,
        None => Routing::Softmax,
        Some(power) => return Err(config.fault(POWER, format!("is {power}, only 1 and null are known"))),
    };
    let experts = ExpertsSpec {
        experts: config.need("num_local_experts")?,
        router: Router { routing, top: config.need("num_experts_per_tok")? },
        router_bias: false,
        expert: llama::expert(config, "intermediate_size")?,
        shared: None,
    };
    config.check_experts(&experts)?;
    let layer = vec![
        Branch::new(norm("attention.norm"), MixerSpec::Attention(attention)),
        Branch::new(norm("attention.output_norm"), MixerSpec::Experts(experts)),
    ];
    let layers: usize = config.need("num_hidden_layers")?;
    Ok(Spec {
        vocab: config.need("vocab_size")?,
        hidden: config.need("hidden_size")?,
        context: config.or("max_position_embeddings", 2048)?,
        embed: EmbedSpec::default(),
        layers: vec![layer; layers],
        norm: Some(norm("norm")),
        head: Some(HeadSpec {
            tied: config.or("tie_word_embeddings", false)?,
            bias: false,
            rule: LogitRule::default(),
        }),
    })
}

fn names(_: &Spec) -> Names {
    let stacked = |name, slot, stored| row(name, slot).stored(stored).exact(name, None);
    Names::new(vec![
        row("transformer.wte", "embed"),
        row("transformer.norm_f", "norm"),
        row("lm_head", "head"),
        row("transformer.blocks.{layer}.norm_attn_norm.norm_1", "attention.norm"),
        fused("transformer.blocks.{layer}.norm_attn_norm.attn.Wqkv", &["attention.q", "attention.k", "attention.v"]),
        row("transformer.blocks.{layer}.norm_attn_norm.attn.out_proj", "attention.o"),
        row("transformer.blocks.{layer}.norm_attn_norm.norm_2", "attention.output_norm"),
        row("transformer.blocks.{layer}.ffn.router.layer", "router"),
        stacked("transformer.blocks.{layer}.ffn.experts.mlp.w1", "expert.gate", Stored::Stacked),
        stacked("transformer.blocks.{layer}.ffn.experts.mlp.v1", "expert.up", Stored::Stacked),
        stacked("transformer.blocks.{layer}.ffn.experts.mlp.w2", "expert.down", Stored::StackedTransposed),
    ])
    .gguf_slots(&[("blk.{layer}.attn_qkv", &["attention.q", "attention.k", "attention.v"])])
}
