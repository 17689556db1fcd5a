//! The table of names in original checkpoints (`consolidated.*`), which several families share. Their rows of queries
//! and keys have the pairs that turn together as neighbors.

use super::{Names, ignored, row};

/// Names in a `consolidated.*` checkpoint.
pub fn meta() -> Names {
    Names::new(vec![
        row("tok_embeddings", "embed"),
        row("norm", "norm"),
        row("output", "head"),
        row("layers.{layer}.attention_norm", "attention.norm"),
        row("layers.{layer}.attention.wq", "attention.q").interleaved(),
        row("layers.{layer}.attention.wk", "attention.k").interleaved(),
        row("layers.{layer}.attention.wv", "attention.v"),
        row("layers.{layer}.attention.wo", "attention.o"),
        row("layers.{layer}.ffn_norm", "mlp.norm"),
        row("layers.{layer}.feed_forward.w1", "mlp.gate"),
        row("layers.{layer}.feed_forward.w3", "mlp.up"),
        row("layers.{layer}.feed_forward.w2", "mlp.down"),
    ])
    .ignoring(&[
        ignored("rope.freqs", "computed from the configuration"),
        ignored("layers.{layer}.attention.inner_attention.rope.freqs", "computed from the configuration"),
    ])
}
