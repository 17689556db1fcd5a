//! Configurations as published models have them on the hub, with what they leave out and what they keep of no use:
//! each reads without an unknown key, and draws the model that it belongs to.

#![allow(clippy::unwrap_used, reason = "a test may")]

use pasture_model::families::{self, Blueprint};
use pasture_model::{Config, Result, graph};
use serde_json::{Value, json};

fn read(value: Value) -> Result<Blueprint> {
    families::blueprint(&Config::from_json("config.json", value)?)
}

/// The drawing of the published model has all these parts.
fn draws(family: &str, value: Value, parts: &[&str]) {
    let found = read(value).unwrap_or_else(|fault| panic!("{family}: {fault}"));
    assert_eq!(found.family.name, family);
    assert_eq!(found.report.unknown, Vec::<String>::new(), "{family}");
    let drawn = graph(&found.spec);
    for part in parts {
        assert!(drawn.contains(part), "{family} has no {part:?}:\n{drawn}");
    }
}

#[test]
fn a_window_that_is_switched_off_is_none() {
    let qwen = |keys: Value| {
        let mut base = json!({
            "architectures": ["Qwen2ForCausalLM"], "attention_dropout": 0.0, "bos_token_id": 151643,
            "eos_token_id": 151645, "hidden_act": "silu", "hidden_size": 896, "initializer_range": 0.02,
            "intermediate_size": 4864, "max_position_embeddings": 32768, "max_window_layers": 21, "model_type": "qwen2",
            "num_attention_heads": 14, "num_hidden_layers": 24, "num_key_value_heads": 2, "rms_norm_eps": 1e-6,
            "rope_theta": 1000000.0, "sliding_window": 32768, "tie_word_embeddings": true, "torch_dtype": "bfloat16",
            "transformers_version": "4.43.1", "use_cache": true, "use_sliding_window": false, "vocab_size": 151936,
        });
        base.as_object_mut().unwrap().extend(keys.as_object().unwrap().clone());
        base
    };
    let parts = ["layers 0–23", "14 heads of 64, 2 of keys and values, bias on q, k, v", "causal, scores times 0.125"];
    draws("Qwen 2", qwen(json!({})), &parts);
    draws("Qwen 2", qwen(json!({"sliding_window": null})), &parts);
    draws("Qwen 2", qwen(json!({"use_sliding_window": true})), &["layers 21–23", "causal, the last 32768"]);
}

#[test]
fn the_first_mistral_has_a_window_in_every_layer() {
    let value = json!({
        "architectures": ["MistralForCausalLM"], "bos_token_id": 1, "eos_token_id": 2, "hidden_act": "silu",
        "hidden_size": 4096, "initializer_range": 0.02, "intermediate_size": 14336, "max_position_embeddings": 32768,
        "model_type": "mistral", "num_attention_heads": 32, "num_hidden_layers": 32, "num_key_value_heads": 8,
        "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "sliding_window": 4096, "tie_word_embeddings": false,
        "torch_dtype": "bfloat16", "transformers_version": "4.34.0.dev0", "use_cache": true, "vocab_size": 32000,
    });
    draws("Mistral", value, &["layers 0–31", "causal, the last 4096", "rope, base 10000", "RMS, eps 1e-5"]);
}

#[test]
fn gemma_3_reads_what_its_files_leave_out() {
    let small = json!({
        "architectures": ["Gemma3ForCausalLM"], "attention_bias": false, "attention_dropout": 0.0,
        "attn_logit_softcapping": null, "bos_token_id": 2, "cache_implementation": "hybrid", "eos_token_id": [1, 106],
        "final_logit_softcapping": null, "head_dim": 256, "hidden_activation": "gelu_pytorch_tanh",
        "hidden_size": 1152, "initializer_range": 0.02, "intermediate_size": 6912, "max_position_embeddings": 32768,
        "model_type": "gemma3_text", "num_attention_heads": 4, "num_hidden_layers": 26, "num_key_value_heads": 1,
        "pad_token_id": 0, "query_pre_attn_scalar": 256, "rms_norm_eps": 1e-6, "rope_local_base_freq": 10000,
        "rope_scaling": null, "rope_theta": 1000000, "sliding_window": 512, "sliding_window_pattern": 6,
        "torch_dtype": "bfloat16", "transformers_version": "4.50.0.dev0", "use_cache": true, "vocab_size": 262144,
    });
    draws("Gemma 3", small, &["262144 → 1152", "4 heads of 256, 1 of keys and values", "the last 512", "base 1000000"]);
    // The text part of the 4B model: heads, their width, vocabulary and bases are the reference's.
    let bare = json!({
        "architectures": ["Gemma3ForCausalLM"], "hidden_size": 2560, "intermediate_size": 10240,
        "model_type": "gemma3_text", "num_hidden_layers": 34, "rope_scaling": {"factor": 8.0, "rope_type": "linear"},
        "sliding_window": 1024,
    });
    let parts = [
        "131072 positions",
        "262208 → 2560",
        "8 heads of 256, 4 of keys and values",
        "causal, the last 1024, scores times 0.0625",
        "rope, base 10000\n",
        "rope, base 1000000, linear, factor 8",
        "the embedding's weights",
    ];
    draws("Gemma 3", bare, &parts);
}

#[test]
fn a_model_with_pictures_is_refused_by_its_class() {
    let gemma = json!({
        "architectures": ["Gemma3ForConditionalGeneration"], "boi_token_index": 255999, "eoi_token_index": 256000,
        "eos_token_id": [1, 106], "image_token_index": 262144, "initializer_range": 0.02, "mm_tokens_per_image": 256,
        "model_type": "gemma3", "text_config": {"hidden_size": 3840, "intermediate_size": 15360,
            "model_type": "gemma3_text", "num_attention_heads": 16, "num_hidden_layers": 48, "num_key_value_heads": 8,
            "rope_scaling": {"factor": 8.0, "rope_type": "linear"}, "sliding_window": 1024},
        "torch_dtype": "bfloat16", "vision_config": {"hidden_size": 1152, "model_type": "siglip_vision_model"},
    });
    let llama = json!({"architectures": ["Llama4ForConditionalGeneration"], "model_type": "llama4", "text_config": {}});
    for (value, class, near) in [
        (gemma, "Gemma3ForConditionalGeneration", "Gemma3ForCausalLM"),
        (llama, "Llama4ForConditionalGeneration", "Llama4ForCausalLM"),
    ] {
        let Err(fault) = read(value) else { panic!("{class} was accepted") };
        let shown = fault.to_string();
        assert!(shown.contains(class) && shown.contains(near) && shown.len() < 600, "{shown}");
    }
}

#[test]
fn llama_4_scout_has_full_layers_without_rope() {
    let value = json!({
        "_attn_implementation_autoset": true, "architectures": ["Llama4ForCausalLM"], "attention_bias": false,
        "attention_chunk_size": 8192, "attention_dropout": 0.0, "attn_scale": 0.1, "attn_temperature_tuning": 4,
        "bos_token_id": 200000, "cache_implementation": "hybrid", "eos_token_id": [200001, 200007, 200008],
        "floor_scale": 8192, "for_llm_compressor": false, "head_dim": 128, "hidden_act": "silu", "hidden_size": 5120,
        "initializer_range": 0.02, "interleave_moe_layer_step": 1, "intermediate_size": 8192,
        "intermediate_size_mlp": 16384, "max_position_embeddings": 10485760, "model_type": "llama4_text",
        "no_rope_layers": [], "num_attention_heads": 40, "num_experts_per_tok": 1, "num_hidden_layers": 48,
        "num_key_value_heads": 8, "num_local_experts": 16, "output_router_logits": false, "pad_token_id": 200018,
        "rms_norm_eps": 1e-5, "rope_scaling": {"factor": 16.0, "high_freq_factor": 1.0, "low_freq_factor": 1.0,
            "original_max_position_embeddings": 8192, "rope_type": "llama3"},
        "rope_theta": 500000.0, "router_aux_loss_coef": 0.001, "router_jitter_noise": 0.0, "torch_dtype": "bfloat16",
        "use_cache": true, "use_qk_norm": true, "vocab_size": 202048,
    });
    let parts = [
        "causal, in chunks of 8192",
        "layers 3, 7, … 47",
        "q grows by 0.1 · ln(1 + position / 8192)",
        "1 of 16, SigmoidOfInput",
        "all rows 5120 → 8192 → 5120",
        "by wavelength, factor 16 over 8192 positions",
    ];
    draws("Llama 4", value, &parts);
}

#[test]
fn phi_moe_reads_its_noise_and_its_scaling() {
    let value = json!({
        "architectures": ["PhiMoEForCausalLM"], "attention_bias": true, "attention_dropout": 0.0,
        "auto_map": {"AutoConfig": "configuration_phimoe.PhiMoEConfig"}, "bos_token_id": 1, "eos_token_id": 32000,
        "hidden_act": "silu", "hidden_dropout": 0.0, "hidden_size": 4096, "initializer_range": 0.02,
        "input_jitter_noise": 0.01, "intermediate_size": 6400, "lm_head_bias": true, "max_position_embeddings": 131072,
        "model_type": "phimoe", "num_attention_heads": 32, "num_experts_per_tok": 2, "num_hidden_layers": 32,
        "num_key_value_heads": 8, "num_local_experts": 16, "original_max_position_embeddings": 4096,
        "output_router_logits": false, "rms_norm_eps": 1e-5, "rope_scaling": {"long_factor": vec![2.0; 64],
            "long_mscale": 1.243163121016122, "original_max_position_embeddings": 4096, "short_factor": vec![1.0; 64],
            "short_mscale": 1.243163121016122, "type": "longrope"},
        "rope_theta": 10000.0, "router_aux_loss_coef": 0.0, "router_jitter_noise": 0.01, "sliding_window": 131072,
        "tie_word_embeddings": false, "torch_dtype": "bfloat16", "transformers_version": "4.43.3", "use_cache": true,
        "vocab_size": 32064,
    });
    let parts = ["2 of 16, SparseMixer { jitter: 0.01 }", "others above 4096 positions", "its own weights, bias"];
    draws("Phi-3.5-MoE", value.clone(), &parts);
    let mut three = value;
    three["num_experts_per_tok"] = json!(3);
    assert!(read(three).err().unwrap().to_string().contains("\"num_experts_per_tok\""));
}

#[test]
fn smollm_3_and_granite_read_as_published() {
    let smollm = json!({
        "architectures": ["SmolLM3ForCausalLM"], "attention_bias": false, "attention_dropout": 0.0,
        "bos_token_id": null, "eos_token_id": 128012, "hidden_act": "silu", "hidden_size": 2048,
        "initializer_range": 0.02, "intermediate_size": 11008, "layer_types": vec!["full_attention"; 36],
        "max_position_embeddings": 65536, "max_window_layers": 28, "mlp_bias": false, "model_type": "smollm3",
        "no_rope_layer_interval": 4, "no_rope_layers": ([1, 1, 1, 0].repeat(9)), "num_attention_heads": 16,
        "num_hidden_layers": 36, "num_key_value_heads": 4, "pad_token_id": 128004, "pretraining_tp": 2,
        "rms_norm_eps": 1e-6, "rope_scaling": null, "rope_theta": 5000000.0, "sliding_window": null,
        "torch_dtype": "bfloat16", "transformers_version": "4.54.0.dev0", "use_cache": false,
        "use_sliding_window": false, "vocab_size": 128256,
    });
    draws("SmolLM 3", smollm, &["layers 3, 7, … 35", "rope, base 5000000", "the embedding's weights"]);
    let granite = json!({
        "architectures": ["GraniteForCausalLM"], "attention_bias": false, "attention_dropout": 0.1,
        "attention_multiplier": 0.015625, "bos_token_id": 0, "embedding_multiplier": 12.0, "eos_token_id": 0,
        "hidden_act": "silu", "hidden_size": 2048, "initializer_range": 0.02, "intermediate_size": 8192,
        "logits_scaling": 8.0, "max_position_embeddings": 131072, "mlp_bias": false, "model_type": "granite",
        "num_attention_heads": 32, "num_hidden_layers": 40, "num_key_value_heads": 8, "pad_token_id": 0,
        "residual_multiplier": 0.22, "rms_norm_eps": 1e-5, "rope_scaling": null, "rope_theta": 5000000.0,
        "tie_word_embeddings": true, "torch_dtype": "bfloat16", "transformers_version": "4.47.0.dev0",
        "use_cache": true, "vocab_size": 49155,
    });
    let parts = ["times 12", "scores times 0.015625", "times 0.22", "the embedding's weights, times 0.125"];
    draws("Granite 3", granite, &parts);
}

#[test]
fn a_kind_of_layer_or_a_list_that_does_not_fit_is_refused() {
    let base = |keys: Value| {
        let mut base = json!({
            "architectures": ["Llama4ForCausalLM"], "hidden_size": 64, "intermediate_size": 64, "head_dim": 16,
            "intermediate_size_mlp": 96, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
            "vocab_size": 256, "num_local_experts": 4,
        });
        base.as_object_mut().unwrap().extend(keys.as_object().unwrap().clone());
        base
    };
    assert!(read(base(json!({}))).is_ok());
    for (keys, parts) in [
        (json!({"layer_types": ["chunked_attention", "sliding_attention"]}), &["\"layer_types\"", "sliding"][..]),
        (json!({"layer_types": ["chunked_attention"]}), &["\"layer_types\"", "1 entries for 2"]),
        (json!({"no_rope_layers": [1]}), &["\"no_rope_layers\"", "1 entries for 2"]),
        (json!({"no_rope_layers": [1, 2]}), &["\"no_rope_layers\"", "is 2"]),
        (json!({"num_experts_per_tok": 5}), &["\"num_experts_per_tok\""]),
        (json!({"attn_temperature_tuning": "yes"}), &["\"attn_temperature_tuning\"", "true or false"]),
        (json!({"floor_scale": 0}), &["\"floor_scale\"", "from 1"]),
        (json!({"scoring_func": "sigmoid"}), &["\"scoring_func\""]),
    ] {
        let Err(fault) = read(base(keys.clone())) else { panic!("{keys} was accepted") };
        let shown = fault.to_string();
        assert!(parts.iter().all(|part| shown.contains(part)), "{keys}: {shown}");
    }
}
