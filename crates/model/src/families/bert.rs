//! BERT and XLM-RoBERTa as encoders (the arctic-embed models): learned positions, all rows see each other, a norm
//! after each sum. The pooler is not used: embedding takes a row or a mean.

use super::Family;
use crate::config::{Config, Container};
use crate::error::Result;
use crate::names::{Names, ignored, row};
use crate::spec::{
    AttentionSpec, Biases, Branch, EmbedSpec, From, MLP, Mask, MixerSpec, MlpSpec, NormKind, NormSpec, Positions, Spec,
};

pub(super) const BERT: Family = Family {
    name: "BERT",
    models: "snowflake-arctic-embed xs to l, and encoders with the same architecture",
    licence: "Apache-2.0",
    runs: "embeddings",
    architectures: &["BertModel"],
    model_types: &["bert"],
    gguf: &["bert"],
    meta: false,
    spec: |config| spec(config, 0),
    names,
    fallback: None,
};

pub(super) const XLM: Family = Family {
    name: "XLM-RoBERTa",
    models: "snowflake-arctic-embed-l-v2.0, and encoders with the same architecture",
    licence: "Apache-2.0",
    runs: "embeddings",
    architectures: &["XLMRobertaModel", "RobertaModel"],
    model_types: &["xlm-roberta", "roberta"],
    gguf: &[],
    meta: false,
    // Positions begin behind that of the padding token.
    spec: |config| spec(config, config.or("pad_token_id", 1)? + 1),
    names,
    fallback: None,
};

fn spec(config: &Config, first: usize) -> Result<Spec> {
    let heads = config.plain_heads()?;
    let eps = config.or("layer_norm_eps", 1e-12)?;
    let norm = |slot| NormSpec { slot, kind: NormKind::LayerBias, eps };
    let attention = AttentionSpec {
        heads: heads.heads,
        kv_heads: heads.kv_heads,
        head_dim: heads.head_dim,
        scale: heads.scale(),
        mask: Mask::Full,
        rope: None,
        bias: Biases::All,
        qk_norm: None,
        softcap: None,
        clamp: None,
        sinks: false,
        growth: None,
    };
    let mlp = MlpSpec {
        slots: MLP,
        width: config.need("intermediate_size")?,
        activation: config.activation("hidden_act", "gelu")?,
        gated: false,
        bias: true,
    };
    config.only("position_embedding_type", "absolute".to_owned())?;
    if config.container() == Container::Gguf {
        config.only("causal", false)?;
    }
    config.ignore("tie_word_embeddings", "an encoder has no output head");
    let branch =
        |slot, mixer| Branch { from: From::Stream, pre: None, mixer, post: None, gate: 1.0, after: Some(norm(slot)) };
    let layer = vec![
        branch("attention.output_norm", MixerSpec::Attention(attention)),
        branch("mlp.output_norm", MixerSpec::Mlp(mlp)),
    ];
    let rows = config.or("max_position_embeddings", 512)?;
    let layers: usize = config.need("num_hidden_layers")?;
    Ok(Spec {
        vocab: config.need("vocab_size")?,
        hidden: config.need("hidden_size")?,
        context: config.context_behind(rows, first)?,
        embed: EmbedSpec {
            scale: None,
            positions: Some(Positions { rows, first }),
            types: Some(config.or("type_vocab_size", 2)?),
            norm: Some(norm("embed.norm")),
        },
        layers: vec![layer; layers],
        norm: None,
        head: None,
    })
}

fn names(_: &Spec) -> Names {
    Names::new(vec![
        row("embeddings.word_embeddings", "embed"),
        row("embeddings.position_embeddings", "embed.positions"),
        row("embeddings.token_type_embeddings", "embed.types"),
        row("embeddings.LayerNorm", "embed.norm"),
        row("encoder.layer.{layer}.attention.self.query", "attention.q"),
        row("encoder.layer.{layer}.attention.self.key", "attention.k"),
        row("encoder.layer.{layer}.attention.self.value", "attention.v"),
        row("encoder.layer.{layer}.attention.output.dense", "attention.o"),
        row("encoder.layer.{layer}.attention.output.LayerNorm", "attention.output_norm"),
        row("encoder.layer.{layer}.intermediate.dense", "mlp.up"),
        row("encoder.layer.{layer}.output.dense", "mlp.down"),
        row("encoder.layer.{layer}.output.LayerNorm", "mlp.output_norm"),
    ])
    .prefixed(&["bert.", "roberta."])
    .ignoring(&[
        ignored("embeddings.position_ids", "the numbers of the positions, in order"),
        ignored("pooler.dense.weight", "embedding takes a row or a mean, not the pooler's output"),
        ignored("pooler.dense.bias", "embedding takes a row or a mean, not the pooler's output"),
    ])
}
