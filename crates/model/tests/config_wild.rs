//! Configurations with any value at any key: each is read or refused with a short message, without a panic, in little
//! time, and a spec that is made is small.

#![allow(clippy::unwrap_used, reason = "a test may")]

use std::time::Instant;

use pasture_model::{Config, families, graph};
use serde_json::{Map, Value, json};

fn bases() -> Vec<Map<String, Value>> {
    let sizes = json!({
        "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4, "vocab_size": 256,
        "num_key_value_heads": 2, "head_dim": 16, "max_position_embeddings": 256, "rope_theta": 1e4, "eos_token_id": 2,
        "tie_word_embeddings": false, "pad_token_id": 0,
    });
    let own = [
        json!({"architectures": ["LlamaForCausalLM"], "model_type": "llama", "attention_bias": true, "rope_scaling":
            {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
            "original_max_position_embeddings": 64}}),
        json!({"architectures": ["LlamaForCausalLM"], "rope_scaling": {"rope_type": "yarn", "factor": 8.0, "mscale": 1.0,
            "mscale_all_dim": 0.5, "beta_fast": 32, "beta_slow": 1, "original_max_position_embeddings": 64}}),
        json!({"architectures": ["LlamaForCausalLM"], "rope_scaling": {"rope_type": "longrope", "short_factor": [1, 1, 1, 1, 1, 1, 1, 1],
            "long_factor": [2, 2, 2, 2, 2, 2, 2, 2], "factor": 2.0, "original_max_position_embeddings": 64}}),
        json!({"architectures": ["LlamaForCausalLM"], "rope_theta": null, "rope_parameters":
            {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 1e4, "partial_rotary_factor": 1.0}}),
        json!({"architectures": ["Gemma2ForCausalLM"], "query_pre_attn_scalar": 24, "sliding_window": 16,
            "layer_types": ["sliding_attention", "full_attention"], "attn_logit_softcapping": 3.0}),
        json!({"architectures": ["PhiForCausalLM"], "partial_rotary_factor": 0.5, "qk_layernorm": true}),
        json!({"architectures": ["ArcticForCausalLM"], "num_local_experts": 8, "num_experts_per_tok": 2,
            "moe_layer_frequency": 2, "use_residual": true, "parallel_attn_mlp_res": true}),
        json!({"architectures": ["GptOssForCausalLM"], "num_local_experts": 4, "experts_per_token": 2,
            "swiglu_limit": 7.0, "swiglu_alpha": 1.702, "sliding_window": 16, "initial_context_length": 64,
            "rope_scaling": {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64}}),
        json!({"architectures": ["Llama4ForCausalLM"], "intermediate_size_mlp": 96, "attention_chunk_size": 16,
            "no_rope_layers": [1, 0], "moe_layers": [1], "layer_types": ["chunked_attention", "full_attention"],
            "attn_temperature_tuning": true, "attn_scale": 0.1, "floor_scale": 8, "num_local_experts": 4}),
        json!({"architectures": ["PhimoeForCausalLM"], "router_jitter_noise": 0.01, "lm_head_bias": true,
            "num_experts_per_tok": 2, "num_local_experts": 4}),
        json!({"architectures": ["XLMRobertaModel"], "num_key_value_heads": null, "head_dim": null, "rope_theta": null,
            "type_vocab_size": 1, "position_embedding_type": "absolute"}),
    ];
    let join = |own: Value| {
        let mut base = sizes.as_object().unwrap().clone();
        base.extend(own.as_object().unwrap().clone());
        base.retain(|_, value| !value.is_null());
        base
    };
    own.into_iter().map(join).collect()
}

fn wild() -> Vec<Value> {
    vec![
        Value::Null,
        json!(true),
        json!(0),
        json!(-1),
        json!(1),
        json!(3),
        json!(2048),
        json!(u64::MAX),
        json!(i64::MIN),
        json!(1u64 << 48),
        json!(0.5),
        json!(-0.0),
        json!(1e-300),
        json!(1e300),
        json!(3.5e38),
        json!(""),
        json!("x".repeat(100_000)),
        json!("llama3"),
        json!([]),
        json!([1, 1]),
        json!([null]),
        json!(["full_attention"]),
        json!({}),
        json!({"rope_type": "yarn"}),
        json!({"": {"": {}}}),
    ]
}

/// Reads; a message is short and a spec can be drawn.
fn check(config: Map<String, Value>, what: &str) {
    let read = Config::from_json("config.json", Value::Object(config)).and_then(|config| families::blueprint(&config));
    match read {
        Ok(found) => assert!(graph(&found.spec).len() < 100_000, "{what}"),
        Err(fault) => {
            let shown = fault.to_string();
            assert!(shown.len() <= 500, "{what}: {} bytes: {shown:.600}", shown.len());
        }
    }
}

#[test]
fn any_value_at_any_key_is_read_or_refused() {
    let start = Instant::now();
    let mut checked = 0;
    for base in bases() {
        check(base.clone(), "the base");
        let mut named = base.clone();
        named.insert("k".repeat(100_000), json!(1));
        check(named, "a long key");
        for (key, old) in &base {
            for value in wild() {
                let mut changed = base.clone();
                changed.insert(key.clone(), value.clone());
                check(changed, &format!("{key}: {:.40}", value.to_string()));
                checked += 1;
            }
            for inner in old.as_object().into_iter().flat_map(Map::keys) {
                for value in wild() {
                    let mut changed = base.clone();
                    changed[key][inner] = value.clone();
                    check(changed, &format!("{key}.{inner}: {:.40}", value.to_string()));
                    checked += 1;
                }
            }
        }
    }
    assert!(checked > 2_000);
    assert!(start.elapsed().as_secs() < 10, "{checked} configurations took {:?}", start.elapsed());
}

#[test]
fn the_bases_are_sound() {
    for base in bases() {
        let read =
            Config::from_json("config.json", Value::Object(base)).and_then(|config| families::blueprint(&config));
        assert!(read.is_ok(), "{:?}", read.err());
    }
}
