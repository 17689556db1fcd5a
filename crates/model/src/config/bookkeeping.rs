//! Keys that change no result, each with the reason: once for running a model, once for tuning it.

/// One key without effect.
pub(super) struct Row {
    name: &'static str,
    /// Why it means nothing when the model runs.
    pub(super) reason: &'static str,
    /// Why it means nothing when the model is tuned.
    pub(super) tuning: &'static str,
}

const fn always(name: &'static str, reason: &'static str) -> Row {
    Row { name, reason, tuning: reason }
}

const fn training(name: &'static str, tuning: &'static str) -> Row {
    Row { name, reason: "it is for training only", tuning }
}

const OWN_DROPOUT: &str = "tuning has a dropout setting of its own";
const OWN_START: &str = "tuning starts from the checkpoint's weights";
const OWN_ROUTER_LOSS: &str = "tuning has a setting of its own for the router's loss";
const STORED: &str = "each tensor says itself how it is stored";
const TOKENS: &str = "special tokens are the prompt's";
const CODE: &str = "code from a model's folder is never run";
const DUMP: &str = "the reference writes the settings of every model there; the model's own stand at the top";
const LABELS: &str = "there is no classifier on this model";
const GENERATION: &str = "generation settings are read from generation_config.json";
const OUTPUTS: &str = "what is returned is asked for in the request";
const WRITER: &str = "it says who wrote the file";
const EXACT: &str =
    "weights count as the numbers they are, and activations are not rounded as in the publisher's program";
const CACHE: &str = "keys and values are always cached, in pages";

const ROWS: &[Row] = &[
    always("_name_or_path", WRITER),
    always("transformers_version", WRITER),
    always("transformers.js_config", WRITER),
    always("_commit_hash", WRITER),
    always("is_llama_config", WRITER),
    always("export_model_type", WRITER),
    always("unsloth_version", WRITER),
    always("unsloth_fixed", WRITER),
    always("for_llm_compressor", WRITER),
    always("auto_map", CODE),
    always("custom_pipelines", CODE),
    always("torch_dtype", STORED),
    always("dtype", STORED),
    always("torchscript", OUTPUTS),
    always("use_cache", CACHE),
    always("cache_implementation", CACHE),
    always("_attn_implementation", "attention has one result, however it is computed"),
    always("_attn_implementation_autoset", "attention has one result, however it is computed"),
    always("attn_implementation", "attention has one result, however it is computed"),
    always("pretraining_tp", "it cuts products into parts without changing them"),
    always("tp_plan", "placement comes from the machine"),
    always("enable_expert_tensor_parallelism", "placement comes from the machine"),
    always("enc_index", "the model has no encoder"),
    always("bos_token_id", TOKENS),
    always("eos_token_id", TOKENS),
    always("pad_token_id", TOKENS),
    always("sep_token_id", TOKENS),
    always("cls_token_id", TOKENS),
    always("unk_token_id", TOKENS),
    always("tokenizer_class", TOKENS),
    always("decoder_start_token_id", TOKENS),
    always("max_length", GENERATION),
    always("min_length", GENERATION),
    always("do_sample", GENERATION),
    always("temperature", GENERATION),
    always("top_p", GENERATION),
    always("top_k", GENERATION),
    always("num_beams", GENERATION),
    always("repetition_penalty", GENERATION),
    always("early_stopping", GENERATION),
    always("num_beam_groups", GENERATION),
    always("diversity_penalty", GENERATION),
    always("typical_p", GENERATION),
    always("length_penalty", GENERATION),
    always("no_repeat_ngram_size", GENERATION),
    always("encoder_no_repeat_ngram_size", GENERATION),
    always("bad_words_ids", GENERATION),
    always("num_return_sequences", GENERATION),
    always("forced_bos_token_id", GENERATION),
    always("forced_eos_token_id", GENERATION),
    always("remove_invalid_values", GENERATION),
    always("exponential_decay_length_penalty", GENERATION),
    always("suppress_tokens", GENERATION),
    always("begin_suppress_tokens", GENERATION),
    always("prefix", GENERATION),
    always("task_specific_params", GENERATION),
    always("max_sequence_length", "the positions are max_position_embeddings"),
    always("output_attentions", OUTPUTS),
    always("output_hidden_states", OUTPUTS),
    always("output_past", OUTPUTS),
    always("return_dict", OUTPUTS),
    always("output_router_logits", OUTPUTS),
    always("output_scores", OUTPUTS),
    always("return_dict_in_generate", OUTPUTS),
    always("pruned_heads", "the checkpoint has the heads that are left"),
    always("use_bfloat16", STORED),
    always("tf_legacy_loss", WRITER),
    always("is_composition", WRITER),
    always("id2label", LABELS),
    always("label2id", LABELS),
    always("num_labels", LABELS),
    always("problem_type", LABELS),
    always("classifier_dropout", LABELS),
    always("finetuning_task", LABELS),
    always("rope_scaling.max_position_embeddings", "the positions are max_position_embeddings"),
    always("rope_scaling.finetuned", "it says how the checkpoint was made"),
    always("pooling_type", "it is read when texts are embedded"),
    always("chunk_size_feed_forward", "it cuts products into parts without changing them"),
    always("max_batch_size", "batches are the scheduler's"),
    always("quantization_config.modules_to_not_convert", STORED),
    always("quantization_config.kv_cache_scheme", "keys and values are kept in the format that is asked for"),
    always("quantization_config.ignored_layers", STORED),
    always("quantization_config.ignore", STORED),
    always("quantization_config.llm_int8_skip_modules", STORED),
    always("quantization_config.dequantize", STORED),
    always("quantization_config.scale_fmt", STORED),
    always("quantization_config.bnb_4bit_use_double_quant", STORED),
    always("quantization_config.bnb_4bit_quant_storage", STORED),
    always("quantization_config.bnb_4bit_compute_dtype", EXACT),
    always("quantization_config.activation_scheme", EXACT),
    always("quantization_config.activation_scale_ub", EXACT),
    always("quantization_config.llm_int8_threshold", EXACT),
    always("quantization_config.llm_int8_has_fp16_weight", EXACT),
    always("quantization_config.llm_int8_enable_fp32_cpu_offload", "placement comes from the machine"),
    always("quantization_config._load_in_4bit", WRITER),
    always("quantization_config._load_in_8bit", WRITER),
    always("quantization_config.quantization_status", WRITER),
    always("quantization_config.global_compression_ratio", WRITER),
    always("quantization_config.version", WRITER),
    training("initializer_range", OWN_START),
    training("initializer_factor", OWN_START),
    training("attention_dropout", OWN_DROPOUT),
    training("attention_probs_dropout_prob", OWN_DROPOUT),
    training("hidden_dropout_prob", OWN_DROPOUT),
    training("hidden_dropout", OWN_DROPOUT),
    training("embd_pdrop", OWN_DROPOUT),
    training("resid_pdrop", OWN_DROPOUT),
    training("gradient_checkpointing", "memory is traded for time by tuning's own plan"),
    always("attn_config.model_type", WRITER),
    always("ffn_config.model_type", WRITER),
    always("attn_config.tie_word_embeddings", DUMP),
    always("ffn_config.tie_word_embeddings", DUMP),
    training("emb_pdrop", OWN_DROPOUT),
    training("attn_config.attn_pdrop", OWN_DROPOUT),
    training("ffn_config.moe_jitter_eps", OWN_ROUTER_LOSS),
    training("ffn_config.moe_loss_weight", OWN_ROUTER_LOSS),
    training("router_aux_loss_coef", OWN_ROUTER_LOSS),
    training("router_jitter_noise", "tuning adds no noise to what a router reads"),
    training("input_jitter_noise", "tuning adds no noise to what a router reads"),
    training("moe_eval_capacity_factor", "no expert drops a token"),
    training("moe_train_capacity_factor", "no expert drops a token"),
    training("moe_token_dropping", "no expert drops a token"),
    training("moe_min_capacity", "no expert drops a token"),
];

/// What every GGUF file has beside the model's own keys, by the beginning of the key.
pub(super) const GGUF_PREFIXES: &[(&str, &str)] = &[
    ("general.", "it describes the file"),
    ("tokenizer.", "it is the tokenizer's and the prompt's"),
    ("pasture.", "it says what the file was made from"),
    ("split.", "it joins the parts of a file"),
    ("quantize.", WRITER),
];

/// Objects in which the reference wrote, beside their own keys, the settings that every model has.
const DUMPS: &[&str] = &["attn_config.", "ffn_config."];

/// The row of a key.
pub(super) fn find(name: &str) -> Option<&'static Row> {
    let row = |name: &str| ROWS.iter().find(|row| row.name == name);
    row(name).or_else(|| row(written_again(name)?))
}

/// The usual name of a setting that every model has, where it stands in an object of its own.
pub(super) fn written_again(name: &str) -> Option<&str> {
    DUMPS.iter().find_map(|object| name.strip_prefix(object))
}
