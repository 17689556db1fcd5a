//! GGUF metadata of each family gives the spec that its `config.json` gives, but for what only one of them can say.

#![allow(clippy::unwrap_used, reason = "a test may")]

use pasture_files::gguf::{Metadata, Value as Stored, write};
use pasture_files::outline::Outline;
use pasture_files::{Dtype, Tensors};
use pasture_kernels::Format;
use pasture_model::spec::Spec;
use pasture_model::{Config, families};
use serde_json::{Value, json};

/// The spec of a GGUF file with the given keys, the architecture's word before each, and tensors of ones.
fn from_gguf(word: &str, keys: &[(&str, Stored)], tensors: &[(&str, &[usize])]) -> Spec {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("model.gguf");
    let mut metadata = Metadata::new("model.gguf");
    metadata.insert("general.architecture", Stored::text(word)).unwrap();
    for (key, value) in keys {
        metadata.insert(format!("{word}.{key}"), value.clone()).unwrap();
    }
    let dtype = Dtype::Number(Format::F32);
    let outline = |(name, shape): &(&str, &[usize])| Outline { name: (*name).to_owned(), dtype, shape: shape.to_vec() };
    let outlines: Vec<Outline> = tensors.iter().map(outline).collect();
    write(&path, &metadata, &outlines, |tensor, sink| {
        sink.put(&1f32.to_le_bytes().repeat(tensor.shape.iter().product()))
    })
    .unwrap();
    let open = Tensors::open(&path).unwrap();
    let found = families::blueprint(&Config::from_gguf(open.gguf().unwrap(), &open).unwrap()).unwrap();
    assert_eq!(found.report.unknown, Vec::<String>::new(), "{word}");
    found.spec
}

fn from_json(config: Value) -> Spec {
    families::blueprint(&Config::from_json("config.json", config).unwrap()).unwrap().spec
}

/// The keys that every file has.
fn sizes() -> Vec<(&'static str, Stored)> {
    vec![
        ("context_length", Stored::U32(256)),
        ("embedding_length", Stored::U32(64)),
        ("block_count", Stored::U32(2)),
        ("feed_forward_length", Stored::U32(96)),
        ("attention.head_count", Stored::U32(4)),
    ]
}

fn json_sizes(own: Value) -> Value {
    let mut config = json!({
        "max_position_embeddings": 256, "hidden_size": 64, "num_hidden_layers": 2, "intermediate_size": 96,
        "num_attention_heads": 4, "vocab_size": 32,
    });
    config.as_object_mut().unwrap().extend(own.as_object().unwrap().clone());
    config
}

const EMBEDDING: (&str, &[usize]) = ("token_embd.weight", &[32, 64]);
const HEAD: (&str, &[usize]) = ("output.weight", &[32, 64]);

#[test]
fn windows_caps_and_wide_heads_come_from_their_keys() {
    let mut keys = sizes();
    keys.extend([
        ("attention.head_count_kv", Stored::U32(2)),
        ("attention.key_length", Stored::U32(32)),
        ("attention.value_length", Stored::U32(32)),
        ("attention.layer_norm_rms_epsilon", Stored::F32(1e-6)),
        ("attention.sliding_window", Stored::U32(16)),
        ("attn_logit_softcapping", Stored::F32(50.0)),
        ("final_logit_softcapping", Stored::F32(30.0)),
    ]);
    let config = json!({
        "architectures": ["Gemma2ForCausalLM"], "num_key_value_heads": 2, "head_dim": 32, "sliding_window": 16,
        "query_pre_attn_scalar": 32,
    });
    assert_eq!(from_gguf("gemma2", &keys, &[EMBEDDING]), from_json(json_sizes(config)));
}

#[test]
fn the_turning_part_of_a_head_comes_from_a_count() {
    let mut keys = sizes();
    keys.extend([
        ("attention.head_count_kv", Stored::U32(4)),
        ("attention.layer_norm_epsilon", Stored::F32(1e-5)),
        ("rope.dimension_count", Stored::U32(6)),
    ]);
    // Biases of the head and of all products are the page's, not the file's.
    let tensors = [EMBEDDING, HEAD, ("output.bias", &[32][..]), ("blk.0.attn_q.bias", &[64])];
    let config = json!({"architectures": ["PhiForCausalLM"], "partial_rotary_factor": 0.375});
    assert_eq!(from_gguf("phi2", &keys, &tensors), from_json(json_sizes(config)));
}

#[test]
fn divisors_of_two_lengths_come_from_their_tensors() {
    let mut keys = sizes();
    keys.extend([
        ("attention.layer_norm_rms_epsilon", Stored::F32(1e-5)),
        ("rope.scaling.original_context_length", Stored::U32(64)),
        ("rope.scaling.attn_factor", Stored::F32(1.25)),
    ]);
    let factors = [("rope_factors_short.weight", &[8][..]), ("rope_factors_long.weight", &[8])];
    let ones = [1.0; 8];
    let config = json!({
        "architectures": ["LlamaForCausalLM"], "rms_norm_eps": 1e-5,
        "rope_scaling": {"type": "longrope", "short_factor": ones, "long_factor": ones, "attention_factor": 1.25,
            "original_max_position_embeddings": 64},
    });
    let tensors = [&[EMBEDDING, HEAD][..], &factors[..]].concat();
    assert_eq!(from_gguf("llama", &keys, &tensors), from_json(json_sizes(config)));
    let alone = from_gguf("llama", &keys[..7], &[EMBEDDING, HEAD]);
    assert_eq!(alone, from_gguf("llama", &keys[..6], &[EMBEDDING, HEAD]), "a length without divisors says nothing");
}

#[test]
fn experts_come_from_their_counts() {
    let mut keys = sizes();
    keys.extend([
        ("attention.head_count_kv", Stored::U32(2)),
        ("attention.layer_norm_rms_epsilon", Stored::F32(1e-5)),
        ("rope.freq_base", Stored::F32(10_000.0)),
        ("rope.dimension_count", Stored::U32(16)),
        ("expert_count", Stored::U32(8)),
        ("expert_used_count", Stored::U32(2)),
    ]);
    let config = json!({
        "architectures": ["ArcticForCausalLM"], "num_key_value_heads": 2, "rope_theta": 1e4, "num_local_experts": 8,
        "num_experts_per_tok": 2, "moe_layer_frequency": 1, "use_residual": true, "parallel_attn_mlp_res": true,
    });
    assert_eq!(from_gguf("arctic", &keys, &[EMBEDDING, HEAD]), from_json(json_sizes(config)));
}

#[test]
fn limited_gates_and_every_second_window_are_the_pages_own() {
    let mut keys = sizes();
    keys.extend([
        ("attention.head_count_kv", Stored::U32(2)),
        ("attention.key_length", Stored::U32(16)),
        ("attention.value_length", Stored::U32(16)),
        ("attention.layer_norm_rms_epsilon", Stored::F32(1e-5)),
        ("attention.sliding_window", Stored::U32(16)),
        ("expert_feed_forward_length", Stored::U32(96)),
        ("expert_count", Stored::U32(4)),
        ("expert_used_count", Stored::U32(2)),
        ("rope.freq_base", Stored::F32(150_000.0)),
        ("rope.scaling.type", Stored::text("yarn")),
        ("rope.scaling.factor", Stored::F32(8.0)),
        ("rope.scaling.original_context_length", Stored::U32(32)),
    ]);
    let tensors = [EMBEDDING, HEAD, ("blk.0.attn_q.bias", &[64][..]), ("blk.0.attn_output.bias", &[64])];
    let config = json!({
        "architectures": ["GptOssForCausalLM"], "num_key_value_heads": 2, "head_dim": 16, "sliding_window": 16,
        "num_local_experts": 4, "experts_per_token": 2, "initial_context_length": 32,
        "rope_scaling": {"rope_type": "yarn", "factor": 8.0, "original_max_position_embeddings": 32, "truncate": false},
    });
    assert_eq!(from_gguf("gpt-oss", &keys, &tensors), from_json(json_sizes(config)));
}

#[test]
fn factors_come_from_keys_of_which_one_divides() {
    let mut keys = sizes();
    keys.extend([
        ("attention.head_count_kv", Stored::U32(2)),
        ("attention.layer_norm_rms_epsilon", Stored::F32(1e-5)),
        ("attention.scale", Stored::F32(0.125)),
        ("embedding_scale", Stored::F32(12.0)),
        ("residual_scale", Stored::F32(0.25)),
        ("logit_scale", Stored::F32(8.0)),
    ]);
    let config = json!({
        "architectures": ["GraniteForCausalLM"], "num_key_value_heads": 2, "rms_norm_eps": 1e-5,
        "attention_multiplier": 0.125, "embedding_multiplier": 12.0, "residual_multiplier": 0.25, "logits_scaling": 8.0,
    });
    assert_eq!(from_gguf("granite", &keys, &[EMBEDDING, HEAD]), from_json(json_sizes(config)));
}

#[test]
fn a_shared_expert_and_layers_without_rope_are_the_pages_own() {
    let mut keys = sizes();
    keys.extend([
        ("attention.head_count_kv", Stored::U32(2)),
        ("attention.layer_norm_rms_epsilon", Stored::F32(1e-5)),
        ("attention.key_length", Stored::U32(16)),
        ("rope.freq_base", Stored::F32(5e5)),
        ("expert_count", Stored::U32(4)),
        ("expert_used_count", Stored::U32(1)),
        ("expert_feed_forward_length", Stored::U32(48)),
        ("interleave_moe_layer_step", Stored::U32(2)),
    ]);
    let config = json!({
        "architectures": ["Llama4ForCausalLM"], "num_key_value_heads": 2, "head_dim": 16, "num_local_experts": 4,
        "intermediate_size": 48, "intermediate_size_mlp": 96, "interleave_moe_layer_step": 2,
    });
    assert_eq!(from_gguf("llama4", &keys, &[EMBEDDING, HEAD]), from_json(json_sizes(config)));
}

#[test]
fn an_encoders_tables_come_from_its_tensors() {
    let mut keys = sizes();
    keys.extend([
        ("attention.layer_norm_epsilon", Stored::F32(1e-12)),
        ("attention.causal", Stored::Bool(false)),
        ("pooling_type", Stored::U32(2)),
    ]);
    let tensors = [EMBEDDING, ("position_embd.weight", &[256, 64][..]), ("token_types.weight", &[2, 64])];
    let config = json!({"architectures": ["BertModel"], "type_vocab_size": 2});
    assert_eq!(from_gguf("bert", &keys, &tensors), from_json(json_sizes(config)));
}
