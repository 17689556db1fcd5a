//! A model's structure as configuration keys under Hugging Face's names: all that a page may read. Which of them a
//! family's page does read decides what is written, so that no key without effect gets into a file.

use serde_json::{Map, Value, json};

use crate::config::{BY_WAVELENGTH, Container, GROWTH, activation_name};
use crate::rope::{RopeSpec, Scaling, yarn_attention};
use crate::spec::{AttentionSpec, Biases, ExpertsSpec, Mask, MixerSpec, MlpSpec, NormKind, NormSpec, Spec};
use pasture_tensor::Activation;
use pasture_tensor::ops::experts::Routing;

/// Keys and values on their way into a configuration.
pub(super) type Keys = Map<String, Value>;

/// A number as the shortest decimal that is the same f32.
pub(super) fn float(value: f32) -> Value {
    json!(value.to_string().parse::<f64>().unwrap_or(f64::from(value)))
}

/// Every key that can be said of the structure.
pub(super) fn keys(spec: &Spec, container: Container) -> Keys {
    let mut keys = Keys::new();
    let mut set = |key: &str, value: Value| keys.insert(key.to_owned(), value);
    set("vocab_size", json!(spec.vocab));
    set("hidden_size", json!(spec.hidden));
    set("num_hidden_layers", json!(spec.layers.len()));
    let positions = spec.embed.positions;
    let rows = positions.map_or(spec.context, |positions| positions.rows);
    let behind = if container == Container::Gguf { positions.map_or(0, |positions| positions.first) } else { 0 };
    set("max_position_embeddings", json!(rows - behind));
    if let Some(positions) = positions.filter(|positions| positions.first > 0) {
        set("pad_token_id", json!(positions.first - 1));
    }
    if let Some(types) = spec.embed.types {
        set("type_vocab_size", json!(types));
    }
    if let Some(norm) = norms(spec).next() {
        let key = match norm.kind {
            NormKind::Layer | NormKind::LayerBias => "layer_norm_eps",
            _ => "rms_norm_eps",
        };
        set(key, float(norm.eps));
    }
    if let Some(scale) = spec.embed.scale {
        set("embedding_multiplier", float(scale));
    }
    set("residual_multiplier", spec.layers.iter().flatten().next().map_or(json!(1.0), |branch| float(branch.gate)));
    set("tie_word_embeddings", json!(spec.head.as_ref().is_none_or(|head| head.tied)));
    if let Some(head) = &spec.head {
        set("lm_head_bias", json!(head.bias));
        set("final_logit_softcapping", head.rule.softcap.map_or(Value::Null, float));
        if let Some(scale) = head.rule.scale {
            // GGUF has the divisor under the name of the factor.
            set("logit_scale", float(if container == Container::Gguf { 1.0 / scale } else { scale }));
            set("logits_scaling", float(1.0 / scale));
        }
    }
    if let Some(attention) = attentions(spec).next() {
        heads(attention, &mut keys);
    }
    feed_forward(spec, &mut keys);
    masks(spec, &mut keys);
    ropes(spec, container, &mut keys);
    keys
}

fn norms(spec: &Spec) -> impl Iterator<Item = &NormSpec> {
    let branches = spec.layers.iter().flatten();
    branches.flat_map(|branch| [&branch.pre, &branch.post, &branch.after]).flatten()
}

/// The attention of each layer.
pub(super) fn attentions(spec: &Spec) -> impl Iterator<Item = &AttentionSpec> {
    spec.layers.iter().flatten().filter_map(|branch| match &branch.mixer {
        MixerSpec::Attention(attention) => Some(attention),
        _ => None,
    })
}

fn heads(attention: &AttentionSpec, keys: &mut Keys) {
    let mut set = |key: &str, value: Value| keys.insert(key.to_owned(), value);
    set("num_attention_heads", json!(attention.heads));
    set("num_key_value_heads", json!(attention.kv_heads));
    set("head_dim", json!(attention.head_dim));
    set("attention_bias", json!(attention.bias != Biases::None));
    if attention.bias == Biases::Qkv {
        set("attention_out_bias", json!(false));
    }
    set("attention_multiplier", float(attention.scale));
    set("query_pre_attn_scalar", float(rounded(1.0 / (attention.scale * attention.scale))));
    set("attn_logit_softcapping", attention.softcap.map_or(Value::Null, float));
    set("clip_qkv", attention.clamp.map_or(Value::Null, float));
    set("qk_layernorm", json!(attention.qk_norm.is_some()));
    set("use_qk_norm", json!(attention.qk_norm.is_some()));
    if attention.mask == Mask::Full {
        set("causal", json!(false));
    }
}

/// A whole number where the value is nearly one: what a factor was made from.
fn rounded(value: f32) -> f32 {
    if (value - value.round()).abs() < 1e-4 * value.abs() { value.round() } else { value }
}

fn feed_forward(spec: &Spec, keys: &mut Keys) {
    let mut set = |key: &str, value: Value| keys.insert(key.to_owned(), value);
    let branches = || spec.layers.iter().flatten();
    let dense = branches().find_map(|branch| match &branch.mixer {
        MixerSpec::Mlp(mlp) if mlp.slots == crate::spec::MLP => Some(mlp),
        _ => None,
    });
    let experts = branches().find_map(|branch| match &branch.mixer {
        MixerSpec::Experts(experts) => Some(experts),
        _ => None,
    });
    let any: Option<&MlpSpec> = dense.or(experts.map(|experts| &experts.expert));
    if let Some(mlp) = any {
        set("intermediate_size", json!(mlp.width));
        set("intermediate_size_mlp", json!(mlp.width));
        set("mlp_bias", json!(mlp.bias));
        if let Activation::SwishLimited { slope, limit } = mlp.activation {
            set("swiglu_alpha", float(slope));
            set("swiglu_limit", float(limit));
        }
        if let Some(name) = activation_name(mlp.activation) {
            set("hidden_act", json!(name));
            set("hidden_activation", json!(name));
        }
    }
    if let Some(experts) = experts {
        mixture(spec, experts, keys);
    }
}

fn mixture(spec: &Spec, experts: &ExpertsSpec, keys: &mut Keys) {
    let mut set = |key: &str, value: Value| keys.insert(key.to_owned(), value);
    let has =
        |layer: &Vec<crate::spec::Branch>| layer.iter().any(|branch| matches!(branch.mixer, MixerSpec::Experts(_)));
    let plain: Vec<usize> = (0..spec.layers.len()).filter(|at| !has(&spec.layers[*at])).collect();
    let every = (1..=spec.layers.len())
        .find(|every| spec.layers.iter().enumerate().all(|(at, layer)| has(layer) == ((at + 1) % every == 0)));
    set("num_local_experts", json!(experts.experts));
    set("num_experts", json!(experts.experts));
    set("num_experts_per_tok", json!(experts.router.top));
    set("moe_intermediate_size", json!(experts.expert.width));
    let shares_sum_to_one = experts.router.routing == Routing::SoftmaxOfChosen;
    set("norm_topk_prob", json!(shares_sum_to_one));
    set("mlp_only_layers", json!(plain));
    set("decoder_sparse_step", json!(1));
    set("moe_layer_frequency", json!(every.unwrap_or(1)));
    set("interleave_moe_layer_step", json!(every.unwrap_or(1)));
    set("moe_layers", json!((0..spec.layers.len()).filter(|at| !plain.contains(at)).collect::<Vec<_>>()));
    let residual = spec.layers.iter().flatten().any(|branch| match &branch.mixer {
        MixerSpec::Mlp(mlp) => mlp.slots.gate == "residual.gate",
        _ => false,
    });
    set("use_residual", json!(residual));
    set("parallel_attn_mlp_res", json!(residual));
    let power = if shares_sum_to_one { json!(1) } else { Value::Null };
    set("ffn_config", json!({ "moe_normalize_expert_weights": power }));
}

fn masks(spec: &Spec, keys: &mut Keys) {
    let masks: Vec<Mask> = attentions(spec).map(|attention| attention.mask).collect();
    let window = masks.iter().find_map(|mask| match mask {
        Mask::Window(keys) => Some(*keys),
        _ => None,
    });
    let mut set = |key: &str, value: Value| keys.insert(key.to_owned(), value);
    set("sliding_window", window.map_or(Value::Null, |window| json!(window)));
    set("use_sliding_window", json!(window.is_some()));
    let chunk = masks.iter().find_map(|mask| match mask {
        Mask::Chunk(keys) => Some(*keys),
        _ => None,
    });
    set("attention_chunk_size", chunk.map_or(Value::Null, |chunk| json!(chunk)));
    let turns: Vec<u8> = attentions(spec).map(|attention| u8::from(attention.rope.is_some())).collect();
    set("no_rope_layers", json!(turns));
    let growth = attentions(spec).find_map(|attention| attention.growth);
    set("attn_temperature_tuning", json!(growth.is_some()));
    if let Some(growth) = growth {
        set("attn_scale", float(growth.factor));
        set("floor_scale", json!(growth.every));
    }
    let first = masks.iter().position(|mask| matches!(mask, Mask::Window(_)));
    set("max_window_layers", json!(first.unwrap_or(masks.len())));
    let kind = |mask: &Mask| match mask {
        Mask::Window(_) => "sliding_attention",
        Mask::Chunk(_) => "chunked_attention",
        _ => "full_attention",
    };
    set("layer_types", json!(masks.iter().map(kind).collect::<Vec<_>>()));
}

fn ropes(spec: &Spec, container: Container, keys: &mut Keys) {
    let of = |wanted: fn(&Mask) -> bool| {
        attentions(spec).find(|attention| wanted(&attention.mask)).and_then(|attention| attention.rope.as_ref())
    };
    let local = of(|mask| matches!(mask, Mask::Window(_)));
    let chunked = of(|mask| matches!(mask, Mask::Chunk(_)));
    let global = of(|mask| !matches!(mask, Mask::Window(_) | Mask::Chunk(_)));
    let Some(rope) = global.or(chunked).or(local) else { return };
    keys.insert("rope_theta".to_owned(), float(rope.base));
    let head_dim = attentions(spec).next().map_or(rope.dims, |attention| attention.head_dim);
    let (key, value) = match container {
        Container::Gguf => ("rotary_dim", json!(rope.dims)),
        _ => ("partial_rotary_factor", float(rope.dims as f32 / head_dim as f32)),
    };
    keys.insert(key.to_owned(), value);
    if let Some(local) = local {
        keys.insert("rope_local_base_freq".to_owned(), float(local.base));
    }
    let growth = attentions(spec).find_map(|attention| attention.growth);
    let mut scaling = scaling(rope, spec, container, keys);
    if let Some(growth) = growth.filter(|growth| growth.shift == 0) {
        scaling.insert(GROWTH.to_owned(), float(growth.factor));
        scaling.insert("original_max_position_embeddings".to_owned(), json!(growth.every));
    }
    if !scaling.is_empty() {
        keys.insert("rope_scaling".to_owned(), Value::Object(scaling));
    }
}

/// The keys of `rope_scaling`; where GGUF has a tensor instead, see [`factors`].
fn scaling(rope: &RopeSpec, spec: &Spec, container: Container, keys: &mut Keys) -> Map<String, Value> {
    let gguf = container == Container::Gguf;
    let value = match &rope.scaling {
        Scaling::None => json!({}),
        Scaling::Linear { factor } => json!({ "rope_type": "linear", "factor": float(*factor) }),
        // GGUF has no word for it.
        Scaling::DynamicNtk { .. } if gguf => json!({}),
        Scaling::DynamicNtk { factor, .. } => json!({ "rope_type": "dynamic", "factor": float(*factor) }),
        Scaling::Yarn { factor, original, beta_fast, beta_slow, attention, truncate } => {
            // GGUF's factor multiplies what YaRN itself says; Hugging Face's replaces it.
            let usual = yarn_attention(*factor, 1.0);
            let attention = if gguf { attention / usual } else { *attention };
            let mut value = json!({
                "rope_type": "yarn", "factor": float(*factor), "original_max_position_embeddings": original,
                "beta_fast": float(*beta_fast), "beta_slow": float(*beta_slow), "attention_factor": float(attention),
            });
            if !truncate {
                value["truncate"] = json!(false);
            }
            value
        }
        Scaling::ByWavelength { .. } | Scaling::PerDimension { .. } if gguf && factors(rope).one.is_some() => json!({}),
        Scaling::ByWavelength { factor, low, high, original } => json!({
            "rope_type": BY_WAVELENGTH, "factor": float(*factor), "low_freq_factor": float(*low),
            "high_freq_factor": float(*high), "original_max_position_embeddings": original,
        }),
        Scaling::PerDimension { short, long, original, short_attention, long_attention } => {
            let list = |list: &[f32]| list.iter().copied().map(float).collect::<Vec<_>>();
            let mut value = json!({});
            let stretch = spec.context as f32 / *original as f32;
            let usual = if stretch <= 1.0 { 1.0 } else { (1.0 + stretch.ln() / (*original as f32).ln()).sqrt() };
            if short_attention != long_attention {
                value["short_mscale"] = float(*short_attention);
                value["long_mscale"] = float(*long_attention);
            } else if gguf || (short_attention - usual).abs() > 1e-6 * usual {
                value["attention_factor"] = float(*short_attention);
            }
            if gguf {
                value["original_max_position_embeddings"] = json!(original);
            } else {
                value["type"] = json!("longrope");
                value["short_factor"] = json!(list(short));
                value["long_factor"] = json!(list(long));
                keys.insert("original_max_position_embeddings".to_owned(), json!(original));
            }
            value
        }
    };
    value.as_object().cloned().unwrap_or_default()
}

/// Divisors of the rotary frequencies that GGUF keeps in tensors.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Factors {
    /// For all lengths.
    pub(super) one: Option<Vec<f32>>,
    /// For short and for long sequences.
    pub(super) two: Option<(Vec<f32>, Vec<f32>)>,
}

pub(super) fn factors(rope: &RopeSpec) -> Factors {
    match &rope.scaling {
        Scaling::ByWavelength { .. } => {
            let plain = RopeSpec { scaling: Scaling::None, ..rope.clone() };
            let (plain, scaled) = (plain.frequencies(1).0, rope.frequencies(1).0);
            let divisors = plain.iter().zip(scaled).map(|(plain, scaled)| plain / scaled).collect();
            Factors { one: Some(divisors), two: None }
        }
        Scaling::PerDimension { short, long, short_attention, long_attention, .. }
            if short == long && *short_attention == 1.0 && *long_attention == 1.0 =>
        {
            Factors { one: Some(short.clone()), two: None }
        }
        Scaling::PerDimension { short, long, .. } => Factors { one: None, two: Some((short.clone(), long.clone())) },
        _ => Factors::default(),
    }
}
