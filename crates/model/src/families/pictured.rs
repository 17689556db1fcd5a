//! Classes of checkpoints with a part for pictures beside a text model of a family with a page: the text model runs.
//! Its keys stand in `text_config`, its tensors have a word of their own in front, the other parts are left out.

use crate::names::Names;

/// One class.
#[derive(Debug)]
pub(crate) struct Pictured {
    /// Hugging Face's name of it.
    pub(crate) class: &'static str,
    /// Its `model_type`.
    pub(crate) model_type: &'static str,
    /// Values of `text_config.model_type` that it was published with.
    pub(crate) texts: &'static [&'static str],
}

const ALL: &[Pictured] = &[
    Pictured { class: "Gemma3ForConditionalGeneration", model_type: "gemma3", texts: &["gemma3_text"] },
    Pictured { class: "Mistral3ForConditionalGeneration", model_type: "mistral3", texts: &["mistral", "ministral3"] },
    Pictured { class: "Llama4ForConditionalGeneration", model_type: "llama4", texts: &["llama4_text"] },
    Pictured { class: "LlavaForConditionalGeneration", model_type: "llava", texts: &["llama", "mistral"] },
    Pictured { class: "LlavaNextForConditionalGeneration", model_type: "llava_next", texts: &["llama", "mistral"] },
];

/// Sizes that `text_config` of a kind may leave out, as the reference's configuration of that kind has them.
const SIZES: &[(&str, [(&str, usize); 4])] = &[
    (
        "llama",
        [("hidden_size", 4096), ("intermediate_size", 11_008), ("num_hidden_layers", 32), ("num_attention_heads", 32)],
    ),
    (
        "mistral",
        [("hidden_size", 4096), ("intermediate_size", 14_336), ("num_hidden_layers", 32), ("num_attention_heads", 32)],
    ),
];

/// Why a part, or a key that sizes it, is left out.
pub(crate) const REASON: &str = "pictures are not read yet: the text model runs alone";

/// Keys beside `text_config` that belong to pictures.
pub(crate) const KEYS: &[&str] = &[
    "vision_config",
    "ignore_index",
    "boi_token_index",
    "eoi_token_index",
    "image_token_index",
    "image_token_id",
    "image_seq_length",
    "image_grid_pinpoints",
    "mm_tokens_per_image",
    "multimodal_projector_bias",
    "projector_hidden_act",
    "spatial_merge_size",
    "vision_feature_layer",
    "vision_feature_select_strategy",
];

/// What the names of the other parts' tensors begin with.
const BESIDE: &[(&str, &str)] = &[
    ("vision_tower.", REASON),
    ("vision_model.", REASON),
    ("multi_modal_projector.", REASON),
    ("image_newline", REASON),
];

/// The row of a class.
pub(crate) fn find(class: &str) -> Option<&'static Pictured> {
    ALL.iter().find(|row| row.class == class)
}

/// The reference's sizes for a text part that leaves them out.
pub(crate) fn sizes(kind: &str) -> &'static [(&'static str, usize)] {
    SIZES.iter().find(|(known, _)| *known == kind).map_or(&[], |(_, sizes)| sizes)
}

/// All classes.
pub(super) fn classes() -> Vec<&'static str> {
    ALL.iter().map(|row| row.class).collect()
}

/// The text model's table in such a checkpoint.
pub(super) fn within(names: Names) -> Names {
    names.within("language_model.", BESIDE)
}
