//! Every key that some page reads: what it may be, and the values at which it changes nothing, so that a page that
//! does not read it can allow it. A key that is in no row cannot be read.

/// What a key's numbers may be.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Bound {
    /// Anything of the right type.
    Any,
    /// From the first to the second.
    Count(usize, usize),
    /// Above zero.
    Positive,
    /// This or more.
    AtLeast(f64),
    /// Above zero and at most one.
    Share,
}

use Bound::{Any, AtLeast, Count, Positive, Share};

/// One key.
pub(super) struct Key {
    /// Its path.
    pub(super) name: &'static str,
    /// What its numbers may be.
    pub(super) bound: Bound,
    /// Values, as JSON, at which it has no effect; null never has one.
    pub(super) no_op: &'static [&'static str],
}

/// Far above the largest models, and small enough that nothing sized by it is a danger.
const LAYERS_MAX: usize = 2048;
const HEADS_MAX: usize = 4096;
const WIDTH_MAX: usize = 1 << 20;
const VOCABULARY_MAX: usize = 1 << 24;
const EXPERTS_MAX: usize = 4096;
const HEAD_DIM_MAX: usize = 8192;
/// Nothing is reserved for positions, so that any number that a page table can count is fine.
const POSITIONS_MAX: usize = 1 << 48;

const fn key(name: &'static str, bound: Bound, no_op: &'static [&'static str]) -> Key {
    Key { name, bound, no_op }
}

/// Never without effect.
const NEVER: &[&str] = &[];
const OFF: &[&str] = &["false"];
const ON: &[&str] = &["true"];
const ZERO: &[&str] = &["0"];
const ONE: &[&str] = &["1"];

const KEYS: &[Key] = &[
    key("architectures", Any, NEVER),
    key("model_type", Any, NEVER),
    key("vocab_size", Count(1, VOCABULARY_MAX), NEVER),
    key("hidden_size", Count(1, WIDTH_MAX), NEVER),
    key("intermediate_size", Count(1, WIDTH_MAX), NEVER),
    key("num_hidden_layers", Count(1, LAYERS_MAX), NEVER),
    key("num_attention_heads", Count(1, HEADS_MAX), NEVER),
    key("num_key_value_heads", Count(1, HEADS_MAX), NEVER),
    key("head_dim", Count(1, HEAD_DIM_MAX), NEVER),
    key("max_position_embeddings", Count(1, POSITIONS_MAX), NEVER),
    key("rms_norm_eps", AtLeast(0.0), NEVER),
    key("layer_norm_eps", AtLeast(0.0), NEVER),
    key("hidden_act", Any, NEVER),
    key("hidden_activation", Any, NEVER),
    key("tie_word_embeddings", Any, NEVER),
    key("attention_bias", Any, OFF),
    key("attention_out_bias", Any, OFF),
    key("mlp_bias", Any, OFF),
    key("lm_head_bias", Any, OFF),
    key("use_bias", Any, OFF),
    key("use_qkv_bias", Any, OFF),
    key("rope_theta", Positive, NEVER),
    key("partial_rotary_factor", Share, ONE),
    key("rotary_dim", Count(1, HEAD_DIM_MAX), NEVER),
    key("rope_interleaved", Any, OFF),
    key("rope_local_base_freq", Positive, NEVER),
    key("initial_context_length", Count(2, POSITIONS_MAX), NEVER),
    key("original_max_position_embeddings", Count(2, POSITIONS_MAX), NEVER),
    key("rope_scaling", Any, NEVER),
    key("rope_scaling.type", Any, NEVER),
    key("rope_scaling.rope_type", Any, NEVER),
    key("rope_scaling.factor", Positive, ONE),
    key("rope_scaling.original_max_position_embeddings", Count(2, POSITIONS_MAX), NEVER),
    key("rope_scaling.attention_factor", Positive, ONE),
    key("rope_scaling.beta_fast", Positive, NEVER),
    key("rope_scaling.beta_slow", Positive, NEVER),
    key("rope_scaling.mscale", AtLeast(0.0), NEVER),
    key("rope_scaling.mscale_all_dim", AtLeast(0.0), NEVER),
    key("rope_scaling.truncate", Any, NEVER),
    key("rope_scaling.low_freq_factor", Positive, NEVER),
    key("rope_scaling.high_freq_factor", Positive, NEVER),
    key("rope_scaling.short_factor", Positive, NEVER),
    key("rope_scaling.long_factor", Positive, NEVER),
    key("rope_scaling.short_mscale", Positive, ONE),
    key("rope_scaling.long_mscale", Positive, ONE),
    key("rope_scaling.llama_4_scaling_beta", AtLeast(0.0), ZERO),
    key("sliding_window", Count(1, POSITIONS_MAX), NEVER),
    key("sliding_window_pattern", Count(1, LAYERS_MAX), NEVER),
    key("_sliding_window_pattern", Count(1, LAYERS_MAX), NEVER),
    key("use_sliding_window", Any, OFF),
    key("max_window_layers", Any, NEVER),
    key("layer_types", Any, &["\"full_attention\""]),
    key("attention_chunk_size", Count(1, POSITIONS_MAX), NEVER),
    key("no_rope_layers", Count(0, 1), ONE),
    key("no_rope_layer_interval", Count(1, LAYERS_MAX), NEVER),
    key("attn_temperature_tuning", Any, &["false", "0"]),
    key("attn_scale", AtLeast(0.0), NEVER),
    key("floor_scale", Count(1, POSITIONS_MAX), NEVER),
    key("use_bidirectional_attention", Any, OFF),
    key("causal", Any, ON),
    key("is_decoder", Any, OFF),
    key("add_cross_attention", Any, OFF),
    key("is_encoder_decoder", Any, OFF),
    key("tie_encoder_decoder", Any, OFF),
    key("cross_attention_hidden_size", Count(1, WIDTH_MAX), NEVER),
    key("query_pre_attn_scalar", Positive, NEVER),
    key("attention_multiplier", Positive, NEVER),
    key("attn_logit_softcapping", Positive, NEVER),
    key("final_logit_softcapping", Positive, NEVER),
    key("clip_qkv", Positive, NEVER),
    key("swiglu_limit", Positive, NEVER),
    key("swiglu_alpha", Positive, NEVER),
    key("qk_layernorm", Any, OFF),
    key("use_qk_norm", Any, OFF),
    key("logit_scale", Positive, ONE),
    key("logits_scaling", Positive, ONE),
    key("residual_multiplier", Positive, ONE),
    key("embedding_multiplier", Positive, ONE),
    key("scale_depth", Positive, NEVER),
    key("scale_emb", Positive, ONE),
    key("position_embedding_type", Any, NEVER),
    key("type_vocab_size", Count(1, 4096), NEVER),
    key("pad_token_id", Count(0, VOCABULARY_MAX), NEVER),
    key("num_local_experts", Count(0, EXPERTS_MAX), ZERO),
    key("num_experts", Count(0, EXPERTS_MAX), ZERO),
    key("n_routed_experts", Count(0, EXPERTS_MAX), ZERO),
    key("num_experts_per_tok", Count(0, EXPERTS_MAX), ZERO),
    // Kinds of routing by name: each page here has its own.
    key("scoring_func", Any, NEVER),
    key("topk_method", Any, NEVER),
    key("norm_topk_prob", Any, NEVER),
    key("mlp_only_layers", Any, NEVER),
    key("decoder_sparse_step", Count(1, LAYERS_MAX), NEVER),
    key("moe_layer_frequency", Count(1, LAYERS_MAX), NEVER),
    key("moe_intermediate_size", Count(1, WIDTH_MAX), NEVER),
    key("interleave_moe_layer_step", Count(1, LAYERS_MAX), NEVER),
    key("moe_layers", Count(0, LAYERS_MAX), NEVER),
    key("intermediate_size_mlp", Count(1, WIDTH_MAX), NEVER),
    key("router_jitter_noise", AtLeast(0.0), ZERO),
    key("shared_expert_intermediate_size", Count(0, WIDTH_MAX), ZERO),
    key("use_residual", Any, NEVER),
    key("parallel_attn_mlp_res", Any, NEVER),
    key("attn_config", Any, NEVER),
    key("ffn_config", Any, NEVER),
    key("ffn_config.moe_normalize_expert_weights", Any, NEVER),
    key("ffn_config.uniform_expert_assignment", Any, OFF),
    key("text_config", Any, NEVER),
    key("vision_config", Any, NEVER),
    key("multiple_of", Count(1, WIDTH_MAX), NEVER),
    key("ffn_dim_multiplier", Positive, NEVER),
    key("use_scaled_rope", Any, OFF),
    key("rope_scaling_factor", Positive, NEVER),
    key("rope_high_freq_factor", Positive, NEVER),
    key("moe_args", Any, NEVER),
    key("vision_chunk_size", Any, &["-1", "0"]),
    key("quantization_config", Any, NEVER),
    key("quantization_config.quant_method", Any, NEVER),
    key("quantization_config.fmt", Any, NEVER),
    key("quantization_config.weight_block_size", Count(1, WIDTH_MAX), NEVER),
    key("quantization_config.format", Any, NEVER),
    key("quantization_config.load_in_4bit", Any, NEVER),
    key("quantization_config.load_in_8bit", Any, NEVER),
    key("quantization_config.bnb_4bit_quant_type", Any, NEVER),
    key("quantization_config.moe_sparsity_config", Any, NEVER),
    key("quantization", Any, NEVER),
];

/// The row of a key.
pub(super) fn find(path: &str) -> Option<&'static Key> {
    KEYS.iter().find(|key| key.name == path)
}

/// All keys.
pub(super) fn names() -> impl Iterator<Item = &'static str> {
    KEYS.iter().map(|key| key.name)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::super::bookkeeping;
    use super::*;

    #[test]
    fn each_key_has_one_row_in_one_table() {
        let names: BTreeSet<&str> = KEYS.iter().map(|key| key.name).collect();
        assert_eq!(names.len(), KEYS.len());
        // Each is read by one page, and bookkeeping for the others.
        let both: Vec<&&str> = names.iter().filter(|name| bookkeeping::find(name).is_some()).collect();
        assert_eq!(both, [&"pad_token_id", &"router_jitter_noise"]);
    }

    #[test]
    fn no_op_values_are_json() {
        for key in KEYS {
            for text in key.no_op {
                assert!(serde_json::from_str::<serde_json::Value>(text).is_ok(), "{}: {text}", key.name);
            }
        }
    }
}
