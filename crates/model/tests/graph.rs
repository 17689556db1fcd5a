//! Drawings of one small model per family: each page's configuration and drawing stand in `graphs`.

#![allow(clippy::unwrap_used, reason = "a test may")]

use std::path::Path;

use pasture_model::{Config, families, graph};
use serde_json::{Value, json};

fn check(config: Value, wanted: &str) {
    let config = Config::from_json("config.json", config).unwrap();
    let drawn = graph(&families::blueprint(&config).unwrap().spec);
    assert_eq!(drawn.trim_end(), wanted.trim());
}

#[test]
fn every_page_draws_its_model_as_it_did() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/graphs");
    let mut changed = Vec::new();
    for family in families::ALL {
        let slug = family.name.to_lowercase().replace(' ', "-");
        let path = folder.join(format!("{slug}.json"));
        let value = pasture_files::json::read(&path).unwrap_or_else(|fault| panic!("{}: {fault}", family.name));
        let found = families::blueprint(&Config::from_json("config.json", value).unwrap()).unwrap();
        assert_eq!(found.family.name, family.name);
        let drawn = graph(&found.spec);
        let known = folder.join(format!("{slug}.txt"));
        if std::fs::read_to_string(&known).is_ok_and(|known| known.trim_end() == drawn.trim_end()) {
            continue;
        }
        if std::env::var_os("PASTURE_BLESS").is_some() {
            std::fs::write(&known, format!("{}\n", drawn.trim_end())).unwrap();
        }
        changed.push(format!("{slug}.txt should be, or with PASTURE_BLESS=1 now is:\n{drawn}"));
    }
    assert!(changed.is_empty(), "{}", changed.join("\n"));
}

#[test]
fn equal_layers_are_drawn_once() {
    check(
        json!({
            "architectures": ["LlamaForCausalLM"], "hidden_size": 64, "intermediate_size": 112, "num_hidden_layers": 16,
            "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 256, "tie_word_embeddings": true,
            "rope_theta": 500000.0, "rope_scaling": {"rope_type": "linear", "factor": 2.0},
        }),
        "
ids             2048 positions, 64 wide
│
embed           256 → 64
│
layers 0–15
├─▶ norm        RMS, eps 1e-6
│   attention   4 heads of 16, 2 of keys and values
│               causal, scores times 0.25
│               rope, base 500000, linear, factor 2
⊕◀──
├─▶ norm        RMS, eps 1e-6
│   mlp         64 → 112 → 64, Silu, gated
⊕◀──
│
norm            RMS, eps 1e-6
│
head            64 → 256, the embedding's weights",
    );
}

#[test]
fn layers_that_alternate_are_drawn_by_kind() {
    check(
        json!({
            "architectures": ["Gemma2ForCausalLM"], "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 5,
            "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16, "vocab_size": 256,
        }),
        "
ids             8192 positions, 64 wide
│
embed           256 → 64, times 8
│
layers 0, 2, … 4
├─▶ norm        RMS, stored less one, eps 1e-6
│   attention   4 heads of 16, 2 of keys and values
│               causal, the last 4096, scores times 0.0625, soft cap 50
│               rope, base 10000
│   norm        RMS, stored less one, eps 1e-6
⊕◀──
├─▶ norm        RMS, stored less one, eps 1e-6
│   mlp         64 → 96 → 64, GeluTanh, gated
│   norm        RMS, stored less one, eps 1e-6
⊕◀──
│
layers 1, 3
├─▶ norm        RMS, stored less one, eps 1e-6
│   attention   4 heads of 16, 2 of keys and values
│               causal, scores times 0.0625, soft cap 50
│               rope, base 10000
│   norm        RMS, stored less one, eps 1e-6
⊕◀──
├─▶ norm        RMS, stored less one, eps 1e-6
│   mlp         64 → 96 → 64, GeluTanh, gated
│   norm        RMS, stored less one, eps 1e-6
⊕◀──
│
norm            RMS, stored less one, eps 1e-6
│
head            64 → 256, the embedding's weights, soft cap 30",
    );
}

#[test]
fn branches_side_by_side_read_the_layers_input() {
    check(
        json!({
            "architectures": ["PhiForCausalLM"], "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2,
            "num_attention_heads": 4, "vocab_size": 256, "qk_layernorm": true,
        }),
        "
ids             2048 positions, 64 wide
│
embed           256 → 64
│
layers 0–1
├┄▶ norm        layer norm with bias, eps 1e-5
│   attention   4 heads of 16, bias on q, k, v and output
│               causal, scores times 0.25
│               rope, base 10000, 8 of 16 dimensions turn
│               q and k normed over each head before the rope: layer norm with bias, eps 1e-5
⊕◀──            read from the layer's input
├┄▶ norm        layer norm with bias, eps 1e-5
│   mlp         64 → 128 → 64, GeluTanh, bias
⊕◀──            read from the layer's input
│
norm            layer norm with bias, eps 1e-5
│
head            64 → 256, its own weights, bias",
    );
}

#[test]
fn experts_stand_beside_the_dense_part() {
    check(
        json!({
            "architectures": ["ArcticForCausalLM"], "hidden_size": 64, "intermediate_size": 72, "num_hidden_layers": 4,
            "num_attention_heads": 4, "vocab_size": 256, "use_residual": true, "parallel_attn_mlp_res": true,
            "num_local_experts": 8, "num_experts_per_tok": 2,
        }),
        "
ids             4096 positions, 64 wide
│
embed           256 → 64
│
layers 0, 2
├─▶ norm        RMS, eps 1e-5
│   attention   4 heads of 16
│               causal, scores times 0.25
│               rope, base 1000000
⊕◀──
├─▶ norm        RMS, eps 1e-5
│   mlp         64 → 72 → 64, Silu, gated
⊕◀──
│
layers 1, 3
├─▶ norm        RMS, eps 1e-5
│   attention   4 heads of 16
│               causal, scores times 0.25
│               rope, base 1000000
⊕◀──
├─▶ norm        RMS, eps 1e-5
│   residual    64 → 64 → 64, Silu, gated
⊕◀──
├┄▶ norm        RMS, eps 1e-5
│   experts     2 of 8, SoftmaxOfChosen
│               each 64 → 72 → 64, Silu, gated
⊕◀──            read from the layer's input
│
norm            RMS, eps 1e-5
│
head            64 → 256, its own weights",
    );
}

#[test]
fn sinks_and_limited_gates_are_named() {
    check(
        json!({
            "architectures": ["GptOssForCausalLM"], "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2,
            "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16, "vocab_size": 256,
            "num_local_experts": 4, "num_experts_per_tok": 2,
        }),
        "
ids             131072 positions, 64 wide
│
embed           256 → 64
│
layer 0
├─▶ norm        RMS, eps 1e-5
│   attention   4 heads of 16, 2 of keys and values, bias on q, k, v and output
│               causal, the last 128, scores times 0.25, sinks
│               rope, base 150000, YaRN, factor 32 over 4096 positions
⊕◀──
├─▶ norm        RMS, eps 1e-5
│   experts     2 of 4, SoftmaxOfChosen, router bias
│               each 64 → 96 → 64, Swish of 1.702 within ±7, plus one, gated, bias
⊕◀──
│
layer 1
├─▶ norm        RMS, eps 1e-5
│   attention   4 heads of 16, 2 of keys and values, bias on q, k, v and output
│               causal, scores times 0.25, sinks
│               rope, base 150000, YaRN, factor 32 over 4096 positions
⊕◀──
├─▶ norm        RMS, eps 1e-5
│   experts     2 of 4, SoftmaxOfChosen, router bias
│               each 64 → 96 → 64, Swish of 1.702 within ±7, plus one, gated, bias
⊕◀──
│
norm            RMS, eps 1e-5
│
head            64 → 256, its own weights",
    );
}

#[test]
fn an_encoder_ends_without_a_head() {
    check(
        json!({
            "architectures": ["XLMRobertaModel"], "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 1,
            "num_attention_heads": 4, "vocab_size": 320, "max_position_embeddings": 66, "type_vocab_size": 1,
        }),
        "
ids             64 positions, 64 wide
│
embed           320 → 64, plus 66 learned positions, the first in row 2, plus the first of 1 segment types
│
norm            layer norm with bias, eps 1e-12
│
layer 0
├─▶ attention   4 heads of 16, bias on q, k, v and output
│               sees all, before and behind, scores times 0.25
⊕◀──            then layer norm with bias, eps 1e-12
├─▶ mlp         64 → 128 → 64, Gelu, bias
⊕◀──            then layer norm with bias, eps 1e-12
│
rows            no output head: this is an encoder",
    );
}
