//! Configurations as published models have them on the hub, with what they leave out and what they keep of no use:
//! each reads without an unknown key, and draws the model that it belongs to. Beside each stands where its values were
//! seen: public repositories and issues that quote the model's file, or the reference's own defaults.

#![recursion_limit = "256"]
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
    // Qwen/Qwen2.5-0.5B-Instruct, as several repositories keep it.
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
    // mistralai/Mistral-7B-v0.1, as several repositories keep it.
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
    // google/gemma-3-1b-it, as TensorRT-LLM's tests keep it, with the model's own layers and window.
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

/// A checkpoint with pictures: the class, what its parts share, and the text part.
fn pictured(class: &str, kind: &str, text: Value) -> Value {
    json!({
        "architectures": [class], "model_type": kind, "text_config": text, "torch_dtype": "bfloat16",
        "transformers_version": "4.50.0.dev0",
        "vision_config": {"hidden_size": 1152, "image_size": 896, "patch_size": 14, "vision_use_head": false},
    })
}

fn with(mut value: Value, keys: Value) -> Value {
    value.as_object_mut().unwrap().extend(keys.as_object().unwrap().clone());
    value
}

#[test]
fn the_text_part_of_a_model_with_pictures_is_its_own_model() {
    // google/gemma-3-4b-it and -27b-it, as tests of vLLM's, TensorRT-LLM's and other engines quote them.
    let gemma = json!({
        "boi_token_index": 255999, "eoi_token_index": 256000, "eos_token_id": [1, 106], "image_token_index": 262144,
        "initializer_range": 0.02, "mm_tokens_per_image": 256,
    });
    let of_gemma = |text| with(pictured("Gemma3ForConditionalGeneration", "gemma3", text), gemma.clone());
    let small = json!({
        "hidden_size": 2560, "intermediate_size": 10240, "model_type": "gemma3_text", "num_hidden_layers": 34,
        "rope_scaling": {"factor": 8.0, "rope_type": "linear"}, "sliding_window": 1024,
    });
    draws("Gemma 3", of_gemma(small), &["262208 → 2560", "8 heads of 256, 4 of keys", "linear, factor 8"]);
    let large = json!({
        "head_dim": 128, "hidden_size": 5376, "intermediate_size": 21504, "model_type": "gemma3_text",
        "num_attention_heads": 32, "num_hidden_layers": 62, "num_key_value_heads": 16, "query_pre_attn_scalar": 168,
        "rope_scaling": {"factor": 8.0, "rope_type": "linear"}, "sliding_window": 1024,
    });
    draws("Gemma 3", of_gemma(large), &["32 heads of 128, 16 of keys", "scores times 0.07715168"]);
    // mistralai/Mistral-Small-3.2-24B, as several repositories keep it (transformers 4.57.1).
    let mistral = json!({
        "attention_dropout": 0.0, "dtype": "bfloat16", "head_dim": 128, "hidden_act": "silu", "hidden_size": 5120,
        "initializer_range": 0.02, "intermediate_size": 32768, "max_position_embeddings": 131072,
        "model_type": "mistral", "num_attention_heads": 32, "num_hidden_layers": 40, "num_key_value_heads": 8,
        "rms_norm_eps": 1e-5, "rope_theta": 1000000000.0, "sliding_window": null, "use_cache": true,
        "vocab_size": 131072,
    });
    let keys = json!({
        "image_token_index": 10, "multimodal_projector_bias": false, "projector_hidden_act": "gelu",
        "spatial_merge_size": 2, "vision_feature_layer": -1,
    });
    let value = with(pictured("Mistral3ForConditionalGeneration", "mistral3", mistral), keys);
    draws("Mistral", value, &["layers 0–39", "32 heads of 128, 8 of keys", "causal, scores", "its own weights"]);
    // llava-hf/llava-1.5-7b-hf leaves out all sizes that are the reference's.
    let vicuna = json!({
        "_name_or_path": "lmsys/vicuna-7b-v1.5", "architectures": ["LlamaForCausalLM"],
        "max_position_embeddings": 4096, "model_type": "llama", "rms_norm_eps": 1e-5, "torch_dtype": "float16",
        "vocab_size": 32064,
    });
    let keys = json!({
        "ignore_index": -100, "image_token_index": 32000, "pad_token_id": 32001, "projector_hidden_act": "gelu",
        "tie_word_embeddings": false, "vision_feature_layer": -2, "vision_feature_select_strategy": "default",
        "vocab_size": 32064,
    });
    let value = with(pictured("LlavaForConditionalGeneration", "llava", vicuna), keys);
    draws("Llama", value, &["32064 → 4096", "layers 0–31", "32 heads of 128", "4096 → 11008 → 4096"]);
}

#[test]
fn what_is_left_out_of_a_model_with_pictures_is_said() {
    let text = json!({
        "hidden_size": 2560, "intermediate_size": 10240, "model_type": "gemma3_text", "num_hidden_layers": 34,
    });
    let whole = pictured("Gemma3ForConditionalGeneration", "gemma3", text);
    let found = read(with(whole.clone(), json!({"tie_word_embeddings": false, "sliding_window": 7}))).unwrap();
    let reason = |key: &str| found.report.ignored.iter().find(|one| one.key == key).unwrap().reason;
    assert!(reason("vision_config").contains("pictures are not read yet"));
    assert!(["tie_word_embeddings", "sliding_window"].iter().all(|key| reason(key).contains("text_config alone")));
    assert_eq!(found.spec, read(whole.clone()).unwrap().spec);
    for (keys, parts) in [
        (json!({"text_config": 3}), &["\"text_config\"", "an object"][..]),
        (json!({"text_config": {}}), &["\"text_config.model_type\"", "gemma3_text"]),
        (json!({"text_config": {"model_type": "llama"}}), &["\"text_config.model_type\"", "gemma3_text"]),
        (json!({"model_type": "gemma3_text"}), &["\"model_type\"", "gemma3"]),
        (json!({"text_config": {"model_type": "gemma3_text", "hidden_size": 0}}), &["\"text_config.hidden_size\""]),
        (json!({"architectures": ["PaliGemmaForConditionalGeneration"]}), &["PaliGemmaForConditionalGeneration"]),
        (json!({"architectures": ["MllamaForConditionalGeneration"]}), &["MllamaForConditionalGeneration"]),
    ] {
        let Err(fault) = read(with(whole.clone(), keys.clone())) else { panic!("{keys} was accepted") };
        let shown = fault.to_string();
        assert!(parts.iter().all(|part| shown.contains(part)) && shown.len() < 600, "{keys}: {shown}");
    }
}

#[test]
fn llama_4_scout_has_full_layers_without_rope() {
    // meta-llama/Llama-4-Scout-17B-16E, as vLLM's issue 20581 and a list of configurations quote it.
    let text = json!({
        "attention_bias": false, "attention_chunk_size": 8192, "attention_dropout": 0.0, "attn_scale": 0.1,
        "attn_temperature_tuning": 4, "bos_token_id": 200000, "cache_implementation": "hybrid",
        "eos_token_id": [200001, 200007, 200008], "floor_scale": 8192, "for_llm_compressor": false, "head_dim": 128,
        "hidden_act": "silu", "hidden_size": 5120, "initializer_range": 0.02, "interleave_moe_layer_step": 1,
        "intermediate_size": 8192, "intermediate_size_mlp": 16384, "max_position_embeddings": 262144,
        "model_type": "llama4_text", "moe_layers": (0..48).collect::<Vec<_>>(),
        "no_rope_layers": ([1, 1, 1, 0].repeat(12)), "num_attention_heads": 40, "num_experts_per_tok": 1,
        "num_hidden_layers": 48, "num_key_value_heads": 8, "num_local_experts": 16, "output_router_logits": false,
        "pad_token_id": 200018, "rms_norm_eps": 1e-5, "rope_scaling": {"factor": 8.0, "high_freq_factor": 4.0,
            "low_freq_factor": 1.0, "original_max_position_embeddings": 8192, "rope_type": "llama3"},
        "rope_theta": 500000.0, "router_aux_loss_coef": 0.001, "router_jitter_noise": 0.0, "torch_dtype": "bfloat16",
        "use_cache": true, "use_qk_norm": true, "vocab_size": 202048,
    });
    let parts = [
        "causal, in chunks of 8192",
        "layers 3, 7, … 47",
        "q grows by 0.1 · ln(1 + position / 8192)",
        "1 of 16, SigmoidOfInput",
        "all rows 5120 → 8192 → 5120",
        "by wavelength, factor 8 over 8192 positions",
    ];
    let alone = with(text.clone(), json!({"architectures": ["Llama4ForCausalLM"]}));
    draws("Llama 4", alone.clone(), &parts);
    let keys = json!({"boi_token_index": 200080, "eoi_token_index": 200081, "image_token_index": 200092});
    let whole = with(pictured("Llama4ForConditionalGeneration", "llama4", text), keys);
    draws("Llama 4", whole.clone(), &parts);
    // The published file leaves the layers without rope to the reference's default.
    let bare = with(alone, json!({"no_rope_layers": [], "moe_layers": null}));
    assert_eq!(read(bare).unwrap().spec, read(whole).unwrap().spec);
}

#[test]
fn phi_moe_reads_its_noise_and_its_scaling() {
    // microsoft/Phi-3.5-MoE-instruct, as Microsoft's cookbook and a parser's tests list its keys; the factors are not.
    let value = json!({
        "architectures": ["PhiMoEForCausalLM"], "attention_bias": true, "attention_dropout": 0.0,
        "auto_map": {"AutoConfig": "configuration_phimoe.PhiMoEConfig",
            "AutoModelForCausalLM": "modeling_phimoe.PhiMoEForCausalLM"}, "bos_token_id": 1, "eos_token_id": 32000,
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
    // HuggingFaceTB/SmolLM3-3B, as tests of engines keep its sizes; the rest are the reference's defaults.
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
    // ibm-granite/granite-3.1-2b-base, as tests of engines keep its sizes and multipliers.
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
fn granite_with_experts_reads_as_published() {
    // ibm-granite/granite-3.0-1b-a400m-instruct, as an engine's check of it lists its keys.
    let value = json!({
        "architectures": ["GraniteMoeForCausalLM"], "attention_bias": false, "attention_dropout": 0.0,
        "attention_multiplier": 0.015625, "embedding_multiplier": 12.0, "hidden_act": "silu", "hidden_size": 1024,
        "intermediate_size": 512, "logits_scaling": 6.0, "max_position_embeddings": 4096, "model_type": "granitemoe",
        "num_attention_heads": 16, "num_experts_per_tok": 8, "num_hidden_layers": 24, "num_key_value_heads": 8,
        "num_local_experts": 32, "residual_multiplier": 0.22, "rms_norm_eps": 1e-6, "rope_scaling": null,
        "rope_theta": 10000, "tie_word_embeddings": true, "vocab_size": 49155,
    });
    draws("Granite 3 MoE", value, &["8 of 32", "1024 → 512 → 1024", "times 0.22"]);
}

#[test]
fn dbrx_keeps_every_models_settings_in_its_inner_objects() {
    // databricks/dbrx-instruct, as an engine's tests quote it; the reference wrote its base class's settings twice.
    let settings = json!({
        "_name_or_path": "", "add_cross_attention": false, "architectures": null, "bad_words_ids": null,
        "begin_suppress_tokens": null, "bos_token_id": null, "chunk_size_feed_forward": 0,
        "cross_attention_hidden_size": null, "decoder_start_token_id": null, "diversity_penalty": 0.0,
        "do_sample": false, "early_stopping": false, "encoder_no_repeat_ngram_size": 0, "eos_token_id": null,
        "exponential_decay_length_penalty": null, "finetuning_task": null, "forced_bos_token_id": null,
        "forced_eos_token_id": null, "id2label": {"0": "LABEL_0", "1": "LABEL_1"}, "is_decoder": false,
        "is_encoder_decoder": false, "label2id": {"LABEL_0": 0, "LABEL_1": 1}, "length_penalty": 1.0,
        "max_length": 20, "min_length": 0, "model_type": "", "no_repeat_ngram_size": 0, "num_beam_groups": 1,
        "num_beams": 1, "num_return_sequences": 1, "output_attentions": false, "output_hidden_states": false,
        "output_scores": false, "pad_token_id": null, "prefix": null, "problem_type": null, "pruned_heads": {},
        "remove_invalid_values": false, "repetition_penalty": 1.0, "return_dict": true,
        "return_dict_in_generate": false, "sep_token_id": null, "suppress_tokens": null,
        "task_specific_params": null, "temperature": 1.0, "tf_legacy_loss": false, "tie_encoder_decoder": false,
        "tie_word_embeddings": true, "tokenizer_class": null, "top_k": 50, "top_p": 1.0, "torch_dtype": null,
        "torchscript": false, "typical_p": 1.0, "use_bfloat16": false,
    });
    let attention = json!({"attn_pdrop": 0, "clip_qkv": 8, "kv_n_heads": 8, "rope_theta": 500000});
    let ffn = json!({
        "ffn_act_fn": {"name": "silu"}, "ffn_hidden_size": 10752, "moe_jitter_eps": 0, "moe_loss_weight": 0.05,
        "moe_normalize_expert_weights": 1, "moe_num_experts": 16, "moe_top_k": 4, "uniform_expert_assignment": false,
    });
    let value = json!({
        "architectures": ["DbrxForCausalLM"], "attn_config": with(settings.clone(), attention), "d_model": 6144,
        "emb_pdrop": 0.0, "ffn_config": with(settings, ffn), "initializer_range": 0.02, "max_seq_len": 32768,
        "model_type": "dbrx", "n_heads": 48, "n_layers": 40, "output_router_logits": false, "resid_pdrop": 0.0,
        "router_aux_loss_coef": 0.05, "tie_word_embeddings": false, "torch_dtype": "bfloat16",
        "transformers_version": "4.39.2", "use_cache": true, "vocab_size": 100352,
    });
    let parts = ["48 heads of 128, 8 of keys", "4 of 16", "6144 → 10752 → 6144", "base 500000", "32768 positions"];
    draws("DBRX", value.clone(), &parts);
    let mut changed = value;
    changed["ffn_config"]["uniform_expert_assignment"] = json!(true);
    assert!(read(changed).err().unwrap().to_string().contains("\"ffn_config.uniform_expert_assignment\""));
}

#[test]
fn arctic_has_experts_beside_every_dense_part() {
    // Snowflake/snowflake-arctic-instruct: 128 experts of 3.66 billion weights in 35 layers and the first two chosen are
    // its card's, and fix the sizes; keys and what they are without it stand in its configuration_arctic.py.
    let value = json!({
        "architectures": ["ArcticForCausalLM"], "attention_dropout": 0, "auto_map": {
            "AutoConfig": "configuration_arctic.ArcticConfig"}, "bos_token_id": 31998, "eos_token_id": 31999,
        "enable_expert_tensor_parallelism": false, "hidden_act": "silu", "hidden_size": 7168,
        "initializer_range": 0.02, "intermediate_size": 4864, "max_position_embeddings": 4096,
        "model_type": "arctic", "moe_eval_capacity_factor": 1, "moe_layer_frequency": 1, "moe_min_capacity": 0,
        "moe_token_dropping": true, "moe_train_capacity_factor": 1, "num_attention_heads": 56,
        "num_experts_per_tok": 2, "num_hidden_layers": 35, "num_key_value_heads": 8, "num_local_experts": 128,
        "parallel_attn_mlp_res": true, "quantization": null, "rms_norm_eps": 1e-5, "rope_theta": 10000,
        "router_aux_loss_coef": 0.001, "sliding_window": null, "tie_word_embeddings": false, "torch_dtype": "bfloat16",
        "use_cache": true, "use_residual": true, "vocab_size": 32000,
    });
    let parts = ["layers 0–34", "2 of 128", "7168 → 4864 → 7168", "7168 → 7168 → 7168", "layer's input"];
    draws("Arctic", value, &parts);
}

#[test]
fn gpt_oss_mixtral_olmo_and_llama_read_as_published() {
    // openai/gpt-oss-20b and -120b: the latter's file as an engine's tests quote it; 24 layers and 32 experts for this.
    let gpt = json!({
        "architectures": ["GptOssForCausalLM"], "attention_bias": true, "attention_dropout": 0.0,
        "eos_token_id": 200002, "experts_per_token": 4, "head_dim": 64, "hidden_act": "silu", "hidden_size": 2880,
        "initial_context_length": 4096, "initializer_range": 0.02, "intermediate_size": 2880,
        "layer_types": (["sliding_attention", "full_attention"].repeat(12)), "max_position_embeddings": 131072,
        "model_type": "gpt_oss", "num_attention_heads": 64, "num_experts_per_tok": 4, "num_hidden_layers": 24,
        "num_key_value_heads": 8, "num_local_experts": 32, "output_router_logits": false, "pad_token_id": 199999,
        "quantization_config": {"modules_to_not_convert": ["model.layers.*.self_attn", "model.layers.*.mlp.router",
            "model.embed_tokens", "lm_head"], "quant_method": "mxfp4"},
        "rms_norm_eps": 1e-5, "rope_scaling": {"beta_fast": 32.0, "beta_slow": 1.0, "factor": 32.0,
            "original_max_position_embeddings": 4096, "rope_type": "yarn", "truncate": false},
        "rope_theta": 150000, "router_aux_loss_coef": 0.9, "sliding_window": 128, "swiglu_limit": 7.0,
        "tie_word_embeddings": false, "transformers_version": "4.55.0.dev0", "use_cache": true, "vocab_size": 201088,
    });
    draws("gpt-oss", gpt, &["64 heads of 64, 8 of keys", "the last 128", "4 of 32"]);
    // mistralai/Mixtral-8x7B-v0.1, as several repositories keep it.
    let mixtral = json!({
        "architectures": ["MixtralForCausalLM"], "attention_dropout": 0.0, "bos_token_id": 1, "eos_token_id": 2,
        "hidden_act": "silu", "hidden_size": 4096, "initializer_range": 0.02, "intermediate_size": 14336,
        "max_position_embeddings": 32768, "model_type": "mixtral", "num_attention_heads": 32,
        "num_experts_per_tok": 2, "num_hidden_layers": 32, "num_key_value_heads": 8, "num_local_experts": 8,
        "output_router_logits": false, "rms_norm_eps": 1e-5, "rope_theta": 1000000.0, "router_aux_loss_coef": 0.02,
        "sliding_window": null, "tie_word_embeddings": false, "torch_dtype": "bfloat16",
        "transformers_version": "4.36.0.dev0", "use_cache": true, "vocab_size": 32000,
    });
    draws("Mixtral", mixtral, &["2 of 8", "4096 → 14336 → 4096", "base 1000000"]);
    // allenai/OLMo-2-0425-1B, as an engine's tests keep it.
    let olmo = json!({
        "architectures": ["Olmo2ForCausalLM"], "attention_bias": false, "hidden_act": "silu", "hidden_size": 2048,
        "intermediate_size": 8192, "max_position_embeddings": 4096, "model_type": "olmo2",
        "num_attention_heads": 16, "num_hidden_layers": 16, "num_key_value_heads": 16, "rms_norm_eps": 1e-6,
        "rope_theta": 500000, "tie_word_embeddings": false, "vocab_size": 100352,
    });
    draws("OLMo 2", olmo, &["100352 → 2048", "16 heads of 128", "base 500000"]);
    // meta-llama/Llama-3.2-1B and -3B, as several repositories keep them.
    for (hidden, heads, head_dim, layers) in [(2048, 32, 64, 16), (3072, 24, 128, 28)] {
        let llama = json!({
            "architectures": ["LlamaForCausalLM"], "attention_bias": false, "attention_dropout": 0.0,
            "bos_token_id": 128000, "eos_token_id": 128001, "head_dim": head_dim, "hidden_act": "silu",
            "hidden_size": hidden, "initializer_range": 0.02, "intermediate_size": 8192,
            "max_position_embeddings": 131072, "mlp_bias": false, "model_type": "llama",
            "num_attention_heads": heads, "num_hidden_layers": layers, "num_key_value_heads": 8, "pretraining_tp": 1,
            "rms_norm_eps": 1e-5, "rope_scaling": {"factor": 32.0, "high_freq_factor": 4.0, "low_freq_factor": 1.0,
                "original_max_position_embeddings": 8192, "rope_type": "llama3"},
            "rope_theta": 500000.0, "tie_word_embeddings": true, "torch_dtype": "bfloat16",
            "transformers_version": "4.45.0.dev0", "use_cache": true, "vocab_size": 128256,
        });
        let parts = ["by wavelength, factor 32 over 8192 positions", "the embedding's weights"];
        draws("Llama", llama.clone(), &parts);
        draws("Llama", llama, &[&format!("{heads} heads of {head_dim}, 8 of keys")]);
    }
    // meta-llama/Llama-2-7b-hf, as many repositories keep it.
    let second = json!({
        "_name_or_path": "meta-llama/Llama-2-7b-hf", "architectures": ["LlamaForCausalLM"], "attention_bias": false,
        "bos_token_id": 1, "eos_token_id": 2, "hidden_act": "silu", "hidden_size": 4096, "initializer_range": 0.02,
        "intermediate_size": 11008, "max_position_embeddings": 4096, "model_type": "llama",
        "num_attention_heads": 32, "num_hidden_layers": 32, "num_key_value_heads": 32, "pretraining_tp": 1,
        "rms_norm_eps": 1e-5, "rope_scaling": null, "rope_theta": 10000.0, "tie_word_embeddings": false,
        "torch_dtype": "float32", "transformers_version": "4.34.0.dev0", "use_cache": true, "vocab_size": 32000,
    });
    draws("Llama", second, &["layers 0–31", "32 heads of 128", "base 10000"]);
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
