//! Tables of what each source reads as, of each way a configuration is refused, and of what is left over.

#![allow(clippy::unwrap_used, reason = "a test may")]
#[path = "../../../tests/kit.rs"]
mod kit;

use std::path::PathBuf;

use pasture_files::Tensors;
use pasture_files::folder::Folder;
use pasture_files::gguf::{Metadata, Value as Stored};
use pasture_files::outline::Outline;
use pasture_model::families::{self, Blueprint};
use pasture_model::spec::{Mask, MixerSpec, Spec};
use pasture_model::{Config, Result, Scaling};
use pasture_tensor::Activation;
use serde_json::{Map, Value, json};

/// A small model, changed by the given keys; null removes one.
fn with(changes: Value) -> Value {
    let mut base = json!({
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 8, "intermediate_size": 16,
        "num_hidden_layers": 1, "num_attention_heads": 2, "num_key_value_heads": 1, "vocab_size": 265,
        "max_position_embeddings": 128, "rms_norm_eps": 1e-5, "hidden_act": "silu",
    });
    let object = base.as_object_mut().unwrap();
    for (key, value) in changes.as_object().unwrap() {
        object.insert(key.clone(), value.clone());
    }
    base
}

fn read(value: Value) -> Result<Blueprint> {
    families::blueprint(&Config::from_json("config.json", value)?)
}

fn spec(value: Value) -> Spec {
    read(value).unwrap().spec
}

/// The error names what it should, and is short.
fn refuses(changes: Value, parts: &[&str]) {
    let shown = match read(with(changes.clone())) {
        Ok(_) => panic!("{changes} was accepted"),
        Err(fault) => fault.to_string(),
    };
    assert!(parts.iter().all(|part| shown.contains(part)), "{changes}: {shown}");
    assert!(shown.contains("config.json") && shown.len() < 500, "{shown}");
}

#[test]
fn absent_keys_are_the_references_defaults() {
    let full = json!({
        "num_key_value_heads": 2, "head_dim": 4, "rope_theta": 10000.0, "rope_scaling": null, "rms_norm_eps": 1e-6,
        "tie_word_embeddings": false, "attention_bias": false, "mlp_bias": false, "max_position_embeddings": 2048,
    });
    let mut bare = with(json!({}));
    for key in ["num_key_value_heads", "rms_norm_eps", "hidden_act", "max_position_embeddings"] {
        bare.as_object_mut().unwrap().remove(key);
    }
    assert_eq!(spec(bare.clone()), spec(with(full)));
    bare.as_object_mut().unwrap().remove("architectures");
    assert_eq!(spec(bare.clone()).context, 2048, "the model type alone finds the page");
}

#[test]
fn a_value_that_no_model_has_is_refused_by_key() {
    for (changes, parts) in [
        (json!({"hidden_size": "8"}), &["\"hidden_size\"", "is \"8\"", "whole number"][..]),
        (json!({"hidden_size": 8.5}), &["\"hidden_size\"", "8.5", "whole number"]),
        (json!({"hidden_size": 0}), &["\"hidden_size\"", "is 0", "from 1"]),
        (json!({"hidden_size": 1u64 << 40}), &["\"hidden_size\"", "to 1048576"]),
        (json!({"hidden_size": null}), &["\"hidden_size\"", "missing"]),
        (json!({"num_hidden_layers": 2147483648u64}), &["\"num_hidden_layers\"", "to 2048"]),
        (json!({"num_hidden_layers": -1}), &["\"num_hidden_layers\"", "-1", "not negative"]),
        (json!({"num_attention_heads": 0}), &["\"num_attention_heads\""]),
        (json!({"num_attention_heads": 3, "num_key_value_heads": null}), &["does not divide the width 8"]),
        (json!({"num_key_value_heads": 3}), &["\"num_key_value_heads\"", "does not divide the 2 heads"]),
        (json!({"num_key_value_heads": 0}), &["\"num_key_value_heads\""]),
        (json!({"head_dim": 7}), &["\"head_dim\"", "even"]),
        (json!({"head_dim": 0}), &["\"head_dim\""]),
        (json!({"vocab_size": 0}), &["\"vocab_size\""]),
        (json!({"vocab_size": 1u64 << 40}), &["\"vocab_size\""]),
        (json!({"rms_norm_eps": -1.0}), &["\"rms_norm_eps\"", "at least 0"]),
        (json!({"rms_norm_eps": 1e300}), &["\"rms_norm_eps\"", "a number"]),
        (json!({"rope_theta": 0}), &["\"rope_theta\"", "above 0"]),
        (json!({"rope_theta": "ten"}), &["\"rope_theta\"", "a number"]),
        (json!({"tie_word_embeddings": 1}), &["\"tie_word_embeddings\"", "true or false"]),
        (json!({"hidden_act": "siluu"}), &["\"hidden_act\"", "\"siluu\"", "known are silu"]),
        (json!({"hidden_act": 3}), &["\"hidden_act\"", "a text"]),
        (json!({"eos_token_id": -7}), &["\"eos_token_id\"", "-7"]),
        (json!({"eos_token_id": [1, "x"]}), &["\"eos_token_id\"", "a list"]),
        (json!({"bos_token_id": 1u64 << 40}), &["\"bos_token_id\""]),
    ] {
        refuses(changes, parts);
    }
}

#[test]
fn an_unknown_kind_is_refused_with_the_nearest_known() {
    for (changes, parts) in [
        (json!({"architectures": ["LlamaForCausalLn"]}), &["\"LlamaForCausalLn\"", "known are LlamaForCausalLM"][..]),
        (json!({"architectures": ["A", "B"]}), &["2 architectures"]),
        (json!({"architectures": []}), &["a list"]),
        (json!({"architectures": null, "model_type": "bort"}), &["\"bort\"", "known are bert"]),
        (json!({"model_type": "zz"}), &["\"model_type\"", "\"zz\"", "LlamaForCausalLM"]),
        (
            json!({"rope_scaling": {"rope_type": "yarm", "factor": 2.0}}),
            &["\"rope_scaling.rope_type\"", "known are yarn"],
        ),
        (json!({"rope_scaling": {"factor": 2.0}}), &["\"rope_scaling.rope_type\"", "missing"]),
        (json!({"rope_scaling": {"rope_type": "linear", "factor": 0.0}}), &["\"rope_scaling.factor\"", "above 0"]),
        (json!({"rope_scaling": {"rope_type": "linear"}}), &["\"rope_scaling.factor\"", "missing"]),
        (json!({"rope_scaling": 3}), &["\"rope_scaling\"", "is 3", "an object"]),
        (
            json!({"quantization_config": {"quant_method": "gptq", "bits": 0}}),
            &["\"gptq\" (GPTQ)", "unquantized", "GGUF"],
        ),
        (json!({"quantization_config": {}}), &["\"unnamed\""]),
    ] {
        if changes == json!({"architectures": []}) {
            assert!(read(with(changes)).is_ok(), "an empty list is an absent one");
        } else {
            refuses(changes, parts);
        }
    }
}

#[test]
fn what_another_page_reads_is_refused_unless_it_has_no_effect() {
    for changes in [
        json!({"sliding_window": 4096}),
        json!({"use_sliding_window": true}),
        json!({"num_local_experts": 8}),
        json!({"final_logit_softcapping": 30.0}),
        json!({"layer_types": ["sliding_attention"]}),
        json!({"partial_rotary_factor": 0.5, "qk_layernorm": true}),
        json!({"rope_scaling": {"rope_type": "linear", "factor": 2.0, "beta_fast": 32}}),
        json!({"vision_config": {}}),
        json!({"logit_scale": 0.5}),
    ] {
        refuses(changes, &["built without it"]);
    }
    let harmless = json!({
        "sliding_window": null, "use_sliding_window": false, "num_local_experts": 0, "logit_scale": 1,
        "layer_types": ["full_attention"], "residual_multiplier": 1.0, "rope_interleaved": false,
    });
    let found = read(with(harmless)).unwrap();
    assert_eq!(found.report.ignored.len(), 7, "{:?}", found.report);
    assert_eq!(found.spec, spec(with(json!({}))));
}

#[test]
fn what_nobody_reads_is_explained_or_listed() {
    let found = read(with(json!({
        "transformers_version": "99.0", "auto_map": {"AutoConfig": "configuration_zz.ZzConfig"}, "attention_dropout": 0.1,
        "zz_trick": true, "rope_scaling": {"rope_type": "linear", "factor": 2.0, "zz": 1}, "quantization_config": null,
    })))
    .unwrap();
    assert_eq!(found.report.unknown, ["zz_trick", "rope_scaling.zz"], "{:?}", found.report);
    let reason = |key: &str| found.report.ignored.iter().find(|ignored| ignored.key == key).unwrap();
    assert!(reason("auto_map").reason.contains("never run"));
    assert_eq!(reason("attention_dropout").reason, "it is for training only");
    assert!(reason("attention_dropout").tuning.contains("setting of its own"));
    let config = Config::from_json("config.json", with(json!({"rope_thetas": 1}))).unwrap();
    let report = families::blueprint(&config).unwrap().report;
    let shown = report.strict(&config).unwrap_err().to_string();
    assert!(shown.contains("\"rope_thetas\"") && shown.contains("is it \"rope_theta\"?"), "{shown}");
}

#[test]
fn what_is_no_object_is_refused() {
    for value in [json!([]), json!(3), json!("x"), Value::Null] {
        assert!(Config::from_json("config.json", value).is_err());
    }
}

#[test]
fn both_layouts_of_rope_keys_read_alike() {
    let old = json!({"rope_theta": 5e5, "rope_scaling": {"type": "linear", "factor": 4.0}});
    let new = json!({"rope_parameters": {"rope_theta": 5e5, "rope_type": "linear", "factor": 4.0}});
    assert_eq!(spec(with(old)), spec(with(new)));
    let plain = json!({"rope_parameters": {"rope_theta": 10000.0, "rope_type": "default"}});
    assert_eq!(spec(with(plain)), spec(with(json!({}))));
    let equal = json!({"rope_theta": 5e5, "rope_parameters": {"rope_theta": 5e5, "rope_type": "default"}});
    assert_eq!(spec(with(equal)), spec(with(json!({"rope_theta": 5e5}))));
    refuses(
        json!({"rope_theta": 1.0, "rope_parameters": {"rope_theta": 2.0}}),
        &["\"rope_theta\"", "rope_parameters.rope_theta"],
    );
    refuses(json!({"rope_parameters": {"rope_type": "linear", "factor": 0}}), &["\"rope_parameters.factor\""]);
    refuses(json!({"rope_parameters": 3}), &["\"rope_parameters\""]);
}

#[test]
fn each_scaling_reads_its_own_keys() {
    let scaling = |keys: Value| match &spec(with(json!({"rope_scaling": keys, "head_dim": 4}))).layers[0][0].mixer {
        MixerSpec::Attention(attention) => attention.rope.clone().unwrap().scaling,
        other => panic!("{other:?}"),
    };
    assert_eq!(scaling(json!({"rope_type": "default"})), Scaling::None);
    assert_eq!(scaling(json!({"type": "dynamic", "factor": 2})), Scaling::DynamicNtk { factor: 2.0, original: 128 });
    let llama3 = json!({
        "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
        "original_max_position_embeddings": 64,
    });
    assert_eq!(scaling(llama3), Scaling::ByWavelength { factor: 8.0, low: 1.0, high: 4.0, original: 64 });
    let yarn = |attention| Scaling::Yarn {
        factor: 4.0,
        original: 32,
        beta_fast: 32.0,
        beta_slow: 1.0,
        attention,
        truncate: true,
    };
    let keys = |extra: Value| {
        let mut keys = json!({"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32});
        keys.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        keys
    };
    assert_eq!(scaling(keys(json!({}))), yarn(0.1 * 4f32.ln() + 1.0));
    assert_eq!(scaling(keys(json!({"attention_factor": 1.5}))), yarn(1.5));
    assert_eq!(scaling(keys(json!({"mscale": 1.0, "mscale_all_dim": 1.0}))), yarn(1.0));
    let long = json!({
        "type": "su", "short_factor": [1, 2], "long_factor": [3, 4], "original_max_position_embeddings": 128,
    });
    let (short, long) = match scaling(long) {
        Scaling::PerDimension { short, long, short_attention, .. } => {
            assert_eq!(short_attention, 1.0);
            (short, long)
        }
        other => panic!("{other:?}"),
    };
    assert_eq!((short, long), (vec![1.0, 2.0], vec![3.0, 4.0]));
    refuses(
        json!({"rope_scaling": {"type": "longrope", "short_factor": [1], "long_factor": [1, 1]}, "head_dim": 4}),
        &["\"rope_scaling.short_factor\"", "has 1 numbers"],
    );
}

/// A checkpoint of the named tensors, with all values one.
fn tensors(list: &[(&str, &[usize])]) -> (tempfile::TempDir, Tensors) {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("model.gguf");
    let outline = |(name, shape): &(&str, &[usize])| Outline {
        name: (*name).to_owned(),
        dtype: pasture_files::Dtype::Number(pasture_kernels::Format::F32),
        shape: shape.to_vec(),
    };
    let outlines: Vec<Outline> = list.iter().map(outline).collect();
    let mut fill = |tensor: &Outline, sink: &mut pasture_files::durable::Sink| {
        let count: usize = tensor.shape.iter().product();
        sink.put(&1f32.to_le_bytes().repeat(count))
    };
    pasture_files::gguf::write(&path, &Metadata::new("model.gguf"), &outlines, &mut fill).unwrap();
    let open = Tensors::open(&path).unwrap();
    (root, open)
}

fn metadata(changes: &[(&str, Option<Stored>)]) -> Metadata {
    let base = [
        ("general.architecture", Stored::text("llama")),
        ("llama.context_length", Stored::U32(128)),
        ("llama.embedding_length", Stored::U32(8)),
        ("llama.block_count", Stored::U32(1)),
        ("llama.feed_forward_length", Stored::U32(16)),
        ("llama.attention.head_count", Stored::U32(2)),
        ("llama.attention.head_count_kv", Stored::U32(1)),
        ("llama.attention.layer_norm_rms_epsilon", Stored::F32(1e-5)),
        ("llama.rope.dimension_count", Stored::U32(4)),
    ];
    let mut metadata = Metadata::new("model.gguf");
    for (key, value) in base {
        match changes.iter().find(|(changed, _)| *changed == key) {
            None => metadata.insert(key, value).unwrap(),
            Some((_, Some(value))) => metadata.insert(key, value.clone()).unwrap(),
            Some((_, None)) => {}
        }
    }
    for (key, value) in changes.iter().filter(|(key, _)| metadata.get(key).is_none()).cloned().collect::<Vec<_>>() {
        if let Some(value) = value {
            metadata.insert(key, value).unwrap();
        }
    }
    metadata
}

const EMBEDDING: (&str, &[usize]) = ("token_embd.weight", &[265, 8]);
const HEAD: (&str, &[usize]) = ("output.weight", &[265, 8]);

fn read_gguf(changes: &[(&str, Option<Stored>)], list: &[(&str, &[usize])]) -> Result<Blueprint> {
    let (_root, tensors) = tensors(list);
    families::blueprint(&Config::from_gguf(&metadata(changes), &tensors)?)
}

#[test]
fn gguf_metadata_reads_as_config_json_does() {
    let plain = read_gguf(&[], &[EMBEDDING, HEAD]).unwrap();
    assert_eq!(plain.spec, spec(with(json!({}))));
    assert_eq!(plain.report.unknown, Vec::<String>::new());
    let tied = read_gguf(&[], &[EMBEDDING]).unwrap();
    assert_eq!(tied.spec, spec(with(json!({"tie_word_embeddings": true}))));
    let biased = read_gguf(&[], &[EMBEDDING, HEAD, ("blk.0.attn_q.bias", &[8]), ("blk.0.attn_output.bias", &[8])]);
    assert_eq!(biased.unwrap().spec, spec(with(json!({"attention_bias": true}))));
    let lists = [("llama.attention.head_count", Some(Stored::counts(&[2, 2])))];
    assert_eq!(read_gguf(&lists, &[EMBEDDING, HEAD]).unwrap().spec, plain.spec);
    let linear = [
        ("llama.rope.scaling.type", Some(Stored::text("linear"))),
        ("llama.rope.scaling.factor", Some(Stored::F32(4.0))),
        ("llama.vocab_size", Some(Stored::U32(265))),
        ("llama.zz", Some(Stored::Bool(true))),
        ("general.name", Some(Stored::text("x"))),
    ];
    let linear = read_gguf(&linear, &[EMBEDDING, HEAD]).unwrap();
    assert_eq!(linear.spec, spec(with(json!({"rope_scaling": {"type": "linear", "factor": 4.0}}))));
    assert_eq!(linear.report.unknown, ["llama.zz"]);
    let alone = [("llama.rope.scale_linear", Some(Stored::F32(4.0)))];
    assert_eq!(read_gguf(&alone, &[EMBEDDING, HEAD]).unwrap().spec, linear.spec);
}

#[test]
fn gguf_frequency_divisors_come_from_their_tensor() {
    let found = read_gguf(&[], &[EMBEDDING, HEAD, ("rope_freqs.weight", &[2])]).unwrap().spec;
    let MixerSpec::Attention(attention) = &found.layers[0][0].mixer else { panic!("no attention") };
    let ones = vec![1.0, 1.0];
    let wanted = Scaling::PerDimension {
        short: ones.clone(),
        long: ones,
        original: 128,
        short_attention: 1.0,
        long_attention: 1.0,
    };
    assert_eq!(attention.rope.as_ref().unwrap().scaling, wanted);
}

#[test]
fn gguf_metadata_is_refused_by_its_own_keys() {
    let refuses = |changes: &[(&str, Option<Stored>)], list: &[(&str, &[usize])], part: &str| {
        let shown = read_gguf(changes, list).err().map_or("accepted".to_owned(), |fault| fault.to_string());
        assert!(shown.contains(part), "{part}: {shown}");
    };
    let plain = [EMBEDDING, HEAD];
    refuses(&[("llama.block_count", None)], &plain, "\"num_hidden_layers\"");
    refuses(&[("llama.block_count", Some(Stored::text("1")))], &plain, "\"llama.block_count\"");
    refuses(&[("llama.block_count", Some(Stored::U32(1_000_000_000)))], &plain, "from 1 to 2048");
    refuses(&[("llama.block_count", Some(Stored::I32(-1)))], &plain, "\"llama.block_count\"");
    refuses(&[("llama.attention.head_count", Some(Stored::counts(&[2, 1])))], &plain, "differs from layer to layer");
    refuses(&[("llama.attention.head_count", Some(Stored::counts(&[2; 5000])))], &plain, "at most 4096");
    refuses(&[("llama.rope.freq_base", Some(Stored::F32(f32::NAN)))], &plain, "finite");
    refuses(&[("llama.rope.dimension_count", Some(Stored::U32(6)))], &plain, "\"llama.rope.dimension_count\"");
    refuses(&[("llama.expert_count", Some(Stored::U32(8)))], &plain, "\"num_experts_per_tok\"");
    refuses(&[("general.architecture", Some(Stored::text("lama")))], &plain, "known are llama");
    refuses(&[("general.architecture", None)], &plain, "general.architecture");
    refuses(
        &[("llama.attention.value_length", Some(Stored::U32(4))), ("llama.attention.key_length", Some(Stored::U32(8)))],
        &plain,
        "value_length",
    );
    let factors = [EMBEDDING, HEAD, ("rope_freqs.weight", &[2][..])];
    refuses(&[("llama.rope.scaling.factor", Some(Stored::F32(2.0)))], &factors, "\"rope_freqs.weight\"");
    refuses(&[], &[EMBEDDING, HEAD, ("rope_freqs.weight", &[3])], "has 3 numbers");
    refuses(&[], &[EMBEDDING, HEAD, ("rope_freqs.weight", &[2, 2])], "\"rope_freqs.weight\"");
}

#[test]
fn meta_parameters_read_as_config_json_does() {
    let (_root, tensors) = tensors(&[("tok_embeddings.weight", &[265, 8]), ("output.weight", &[265, 8])]);
    let read = |params: Value| {
        families::blueprint(&Config::from_meta("params.json", params, &tensors)?).map(|found| found.spec)
    };
    let params = json!({
        "dim": 8, "n_layers": 1, "n_heads": 2, "n_kv_heads": 1, "vocab_size": -1, "multiple_of": 16, "norm_eps": 1e-5,
        "ffn_dim_multiplier": 0.66, "rope_theta": 500000.0,
    });
    let wanted = json!({"rope_theta": 5e5, "max_position_embeddings": 8192, "intermediate_size": 16});
    assert_eq!(read(params.clone()).unwrap(), spec(with(wanted.clone())));
    let changed = |key: &str, value: Value| {
        let mut params = params.clone();
        params.as_object_mut().unwrap().insert(key.to_owned(), value);
        read(params)
    };
    let scaled = changed("use_scaled_rope", json!(true)).unwrap();
    let mut with_scaling = wanted.as_object().unwrap().clone();
    with_scaling.insert("max_position_embeddings".into(), json!(131_072));
    with_scaling.insert(
        "rope_scaling".into(),
        json!({"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
            "original_max_position_embeddings": 8192}),
    );
    assert_eq!(scaled, spec(with(Value::Object(with_scaling))));
    assert!(changed("n_heads", json!("2")).unwrap_err().to_string().contains("\"n_heads\""));
    assert!(changed("dim", json!(1e12)).is_err());
    assert!(changed("moe_args", json!({})).unwrap_err().to_string().contains("\"moe_args\""));
}

/// A golden case of the kit.
fn kit(case: &str) -> Option<PathBuf> {
    kit::folder("golden").map(|golden| golden.join(case))
}

#[test]
fn golden_gguf_files_have_a_spec_without_an_unknown_key() {
    for case in ["f16", "q4_k_m", "q8_0"] {
        let Some(path) = kit(&format!("gguf/{case}")) else { return };
        let tensors = Tensors::open(&path.join("model.gguf")).unwrap();
        let config = Config::open(&tensors, &Folder::open(&path).unwrap()).unwrap();
        let found = families::blueprint(&config).unwrap();
        assert_eq!((found.spec.vocab, found.spec.layers.len()), (320, 1));
        assert!(found.report.unknown.is_empty(), "{:?}", found.report.unknown);
    }
}

#[test]
fn pages_build_what_their_reference_does() {
    let Some(path) = kit("text/gemma2") else { return };
    let value = pasture_files::json::read(&path.join("config.json")).unwrap();
    let found = spec(value);
    let mask = |layer: usize| match &found.layers[layer][0].mixer {
        MixerSpec::Attention(attention) => attention.mask,
        other => panic!("{other:?}"),
    };
    assert_eq!([mask(0), mask(1), mask(2)], [Mask::Window(16), Mask::Causal, Mask::Window(16)]);
    assert_eq!(found.embed.scale, Some(8.0));
    let MixerSpec::Mlp(mlp) = &found.layers[0][1].mixer else { panic!("no MLP") };
    assert_eq!(mlp.activation, Activation::GeluTanh);
    assert!(found.head.unwrap().tied);
}

#[test]
fn an_object_inside_another_is_closed_too() {
    let empty: Map<String, Value> = Map::new();
    refuses(json!({"rope_scaling": {"rope_type": "default", "factor": 2.0}}), &["\"rope_scaling.factor\""]);
    refuses(json!({"rope_scaling": empty}), &["\"rope_scaling.rope_type\"", "missing"]);
}
