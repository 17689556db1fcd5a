//! Quantized folders as published: the committed cases are read to the last key and tensor, and with one thing changed
//! they are refused by a message that names it. What they compute is held by `golden.rs`.

mod changed;

use changed::{Numbers, case, named, open, tensors_of, written};
use pasture_files::Dtype;
use pasture_kernels::Format;

const F32: Dtype = Dtype::Number(Format::F32);
const Q: &str = "model.layers.0.self_attn.q_proj";

const BLOCK: &str = "prequantized/fp8_block";
const WHOLE: &str = "prequantized/fp8_tensor";
const ROWS: &str = "prequantized/compressed_fp8";
const NF4: &str = "prequantized/bnb_nf4";
const FP4: &str = "prequantized/bnb_fp4";
const INT8: &str = "prequantized/bnb_int8";
const PAIRS: &str = "text/gpt_oss_mxfp4";
const UP: &str = "model.layers.0.mlp.experts.gate_up_proj";

/// What a change does to the tensors.
type Change<'c> = &'c dyn Fn(&mut Vec<Numbers>);

/// The message with which a changed case is refused.
fn told(case_name: &str, change: Change, config: &dyn Fn(String) -> String) -> String {
    let mut tensors = tensors_of(case_name);
    change(&mut tensors);
    let root = written(case_name, &tensors, config);
    open(root.path()).err().map_or_else(|| "it loaded".to_owned(), |fault| fault.to_string())
}

fn refuses(case_name: &str, change: Change, words: &[&str]) {
    let shown = told(case_name, change, &|config| config);
    assert!(words.iter().all(|word| shown.contains(word)), "{case_name}: {shown}: not {words:?}");
    assert!(shown.len() < 400, "{shown}");
}

fn without(ending: &str) -> impl Fn(&mut Vec<Numbers>) {
    move |tensors| tensors.retain(|it| it.name != format!("{Q}.{ending}"))
}

/// Changes one of the tensors of a weight.
fn with(ending: &str, change: impl Fn(&mut Numbers)) -> impl Fn(&mut Vec<Numbers>) {
    move |tensors| change(named(tensors, &format!("{Q}.{ending}")))
}

fn floats(it: &mut Numbers, values: &[f32]) {
    (it.dtype, it.shape) = (F32, vec![values.len()]);
    it.bytes = values.iter().flat_map(|value| value.to_le_bytes()).collect();
}

fn extra(name: &str) -> impl Fn(&mut Vec<Numbers>) {
    let name = name.to_owned();
    move |tensors| tensors.push(Numbers { name: name.clone(), dtype: F32, shape: vec![1], bytes: vec![0, 0, 128, 63] })
}

#[test]
fn every_key_and_tensor_of_a_published_folder_is_known() {
    for (name, aside) in [(BLOCK, 0), (WHOLE, 14), (ROWS, 0), (NF4, 0), (FP4, 0), (INT8, 0), (PAIRS, 0)] {
        let loaded = open(&case(name)).expect(name);
        assert!(loaded.report.unknown.is_empty(), "{name}: {:?}", loaded.report.unknown);
        assert_eq!(loaded.unused.len(), aside, "{name}: scales of activations are told");
    }
}

#[test]
fn scales_of_fp8_that_do_not_fit_are_refused_by_name() {
    refuses(BLOCK, &without("weight_scale_inv"), &["q_proj.weight_scale_inv", "is not in", "2x1"]);
    refuses(
        BLOCK,
        &with("weight_scale_inv", |it| floats(it, &[1.0; 2])),
        &["weight_scale_inv", "is 2 but", "needs 2x1"],
    );
    refuses(
        BLOCK,
        &with("weight_scale_inv", |it| it.dtype = Dtype::I32),
        &["weight_scale_inv", "is I32, scales are F32"],
    );
    let nan = with("weight_scale_inv", |it| it.bytes[4..8].copy_from_slice(&f32::NAN.to_le_bytes()));
    refuses(BLOCK, &nan, &["weight_scale_inv", "NaN as number 1", "finite"]);
    refuses(BLOCK, &extra("model.norm.weight_scale_inv"), &["model.norm.weight_scale_inv", "has no place"]);
    refuses(WHOLE, &without("weight_scale"), &["q_proj.weight_scale\"", "is not in"]);
    refuses(WHOLE, &with("weight_scale", |it| floats(it, &[f32::INFINITY])), &["q_proj.weight_scale\"", "inf"]);
    refuses(WHOLE, &with("weight_scale", |it| floats(it, &[1.0; 3])), &["q_proj.weight_scale\"", "is 3"]);
    refuses(WHOLE, &extra("model.layers.0.self_attn.k_scale"), &["self_attn.k_scale", "has no place"]);
    refuses(WHOLE, &extra("model.layers.0.zz.input_scale"), &["zz.input_scale", "has no place"]);
    refuses(
        ROWS,
        &with("weight_scale", |it| floats(it, &[1.0; 63])),
        &["q_proj.weight_scale\"", "is 63", "needs 64x1"],
    );
    refuses(ROWS, &with("weight", |it| it.shape = vec![32, 128]), &["q_proj.weight"]);
    refuses(ROWS, &with("weight", |it| it.dtype = Dtype::I8), &["q_proj.weight", "stored as I8"]);
}

#[test]
fn four_bits_that_do_not_fit_are_refused_by_name() {
    let state = "weight.quant_state.bitsandbytes__nf4";
    let described = |from: &'static str, to: &'static str| {
        with(state, move |it| {
            it.bytes = String::from_utf8_lossy(&it.bytes).replace(from, to).into_bytes();
            it.shape = vec![it.bytes.len()];
        })
    };
    refuses(NF4, &without(state), &[state, "is not in"]);
    refuses(NF4, &described("{", "["), &[state]);
    refuses(NF4, &described("\"blocksize\": 64", "\"blocksize\": 48"), &[state, "blocksize", "multiple of 64"]);
    refuses(NF4, &described("\"blocksize\": 64", "\"blocksize\": 0"), &[state, "blocksize"]);
    refuses(NF4, &described("[64, 64]", "[64, 32]"), &["q_proj.weight", "2048 bytes of codes", "64x32"]);
    refuses(NF4, &described("[64, 64]", "[32, 128]"), &["q_proj.weight", "is 32x128", "needs 64x64"]);
    refuses(NF4, &described("[64, 64]", "[64, 18446744073709551615]"), &[state, "shape"]);
    refuses(NF4, &described("\"nested_blocksize\": 256", "\"nested_blocksize\": 0"), &[state, "nested_blocksize"]);
    refuses(NF4, &described("\"nested_offset\"", "\"zz\""), &[state, "nested_offset"]);
    refuses(NF4, &described("\"nf4\"", "\"fp4\""), &[state, "quant_type"]);
    refuses(NF4, &without("weight.absmax"), &["weight.absmax", "is not in"]);
    let short = with("weight.absmax", |it| (it.bytes, it.shape) = (vec![1; 63], vec![63]));
    refuses(NF4, &short, &["weight.absmax", "63 bytes", "64"]);
    refuses(NF4, &without("weight.nested_absmax"), &["weight.nested_absmax", "is not in"]);
    let nan = with("weight.nested_absmax", |it| floats(it, &[f32::NAN]));
    refuses(NF4, &nan, &["weight.nested_absmax", "NaN"]);
    let huge = with("weight.nested_absmax", |it| floats(it, &[f32::MAX]));
    assert_eq!(told(NF4, &huge, &|config| config), "it loaded", "a finite scale is a scale");
    refuses(
        NF4,
        &with("weight.nested_quant_map", |it| floats(it, &[0.0; 255])),
        &["nested_quant_map", "is 255", "256"],
    );
    refuses(NF4, &with("weight.quant_map", |it| floats(it, &[0.5; 16])), &["weight.quant_map", "levels other"]);
    refuses(NF4, &extra("lm_head.weight.absmax"), &["lm_head.weight.quant_state", "is not in"]);
    refuses(NF4, &extra("model.norm.weight.absmax"), &["model.norm.weight.absmax", "has no place"]);
    refuses(FP4, &with("weight.absmax", |it| floats(it, &[1.0; 65])), &["weight.absmax", "is 65", "needs 64"]);
    refuses(FP4, &with("weight.absmax", |it| it.bytes[..4].fill(255)), &["weight.absmax", "NaN"]);
    let cut = with("weight", |it| (it.bytes, it.shape) = (vec![0; 2047], vec![2047, 1]));
    refuses(FP4, &cut, &["q_proj.weight", "2047 bytes of codes", "2048"]);
}

#[test]
fn signed_bytes_and_pairs_that_do_not_fit_are_refused_by_name() {
    refuses(INT8, &without("SCB"), &["q_proj.SCB", "is not in", "64"]);
    refuses(INT8, &with("SCB", |it| floats(it, &[1.0; 32])), &["q_proj.SCB", "is 32", "needs 64"]);
    refuses(INT8, &with("SCB", |it| it.bytes[8..12].fill(255)), &["q_proj.SCB", "NaN as number 2"]);
    refuses(INT8, &with("weight_format", |it| it.bytes[0] = 1), &["q_proj.weight_format", "not known here"]);
    refuses(INT8, &extra("lm_head.SCB"), &["lm_head.SCB", "has no place"]);
    let (blocks, scales) = (format!("{UP}_blocks"), format!("{UP}_scales"));
    refuses(PAIRS, &|tensors| tensors.retain(|it| it.name != scales), &["gate_up_proj_scales", "is not in", "4x128x2"]);
    refuses(PAIRS, &|tensors| named(tensors, &scales).bytes[3] = 255, &["gate_up_proj_blocks", "no number, in row 1"]);
    refuses(PAIRS, &|tensors| named(tensors, &scales).shape = vec![4, 64, 4], &["gate_up_proj_scales", "is 4x64x4"]);
    refuses(PAIRS, &|tensors| named(tensors, &scales).dtype = Dtype::I8, &["gate_up_proj_scales", "stored as U8"]);
    refuses(PAIRS, &|tensors| named(tensors, &blocks).shape = vec![4, 128, 4, 8], &["gate_up_proj_blocks", "16 bytes"]);
    refuses(PAIRS, &|tensors| named(tensors, &blocks).shape = vec![4, 64, 4, 16], &["gate_up_proj", "4x64x4"]);
    refuses(PAIRS, &extra("model.layers.0.mlp.experts.zz_scales"), &["zz_scales", "has no place"]);
}

#[test]
fn tensors_of_other_methods_are_refused_with_what_to_take_instead() {
    for (name, method) in [("qweight", "GPTQ or AWQ"), ("q_weight", "EXL2"), ("weight_packed", "fewer bits")] {
        refuses(BLOCK, &extra(&format!("{Q}.{name}")), &[name, method, "safetensors folder or a GGUF file"]);
    }
}

#[test]
fn keys_that_say_something_else_are_refused_by_name() {
    for (name, from, to, words) in [
        (BLOCK, "[\n   32,\n   64\n  ]", "[32, 32]", &["weight_block_size", "multiple of 64"][..]),
        (BLOCK, "[\n   32,\n   64\n  ]", "[64]", &["weight_block_size", "rows and columns"]),
        (BLOCK, "\"e4m3\"", "\"e5m2\"", &["quantization_config.fmt", "e5m2", "only \"e4m3\""]),
        (ROWS, "\"num_bits\": 8", "\"num_bits\": 4", &["config_groups.group_0", "8-bit floats", "GGUF file"]),
        (ROWS, "\"strategy\": \"channel\"", "\"strategy\": \"group\"", &["config_groups.group_0"]),
        (
            ROWS,
            "\"format\": \"float-quantized\",\n  \"g",
            "\"format\": \"pack-quantized\",\n  \"g",
            &["pack-quantized"],
        ),
        (ROWS, "\"sparsity_config\": {}", "\"sparsity_config\": {\"format\": \"sparse-24\"}", &["sparsity_config"]),
        (NF4, "\"bnb_4bit_quant_type\": \"nf4\"", "\"bnb_4bit_quant_type\": \"nf5\"", &["bnb_4bit_quant_type", "nf5"]),
        (NF4, "\"load_in_8bit\": false", "\"load_in_8bit\": true", &["quantization_config", "4 bits or in 8"]),
        (NF4, "\"bitsandbytes\"", "\"bitandbytes\"", &["bitandbytes", "read are mxfp4"]),
    ] {
        let change = |config: String| {
            assert!(config.contains(from), "{name} has {from}");
            config.replace(from, to)
        };
        let shown = told(name, &|_| (), &change);
        assert!(words.iter().all(|word| shown.contains(word)), "{name}: {shown}: not {words:?}");
    }
    for (to, words) in [
        ("\"quant_method\": \"awq\"", &["\"awq\" (AWQ)", "unquantized"][..]),
        ("\"quant_method\": \"hqq\"", &["\"hqq\" (HQQ)", "unquantized"]),
        ("\"quant_method\": \"zz\"", &["\"zz\"", "read are mxfp4, fp8"]),
        ("\"bits\": 4, \"group_size\": 64", &["\"quantization_config\"", "MLX"]),
    ] {
        let shown = told(WHOLE, &|_| (), &|config| config.replace("\"quant_method\": \"fp8\"", to));
        assert!(words.iter().all(|word| shown.contains(word)) && shown.contains("GGUF"), "{shown}: not {words:?}");
    }
    let mlx = |config: String| config.replacen('{', "{\"quantization\": {\"bits\": 4, \"group_size\": 64},", 1);
    let shown = told(WHOLE, &|_| (), &mlx);
    assert!(["\"quantization\"", "MLX", "GGUF"].iter().all(|word| shown.contains(word)), "{shown}");
    let shown = told(WHOLE, &extra("model.layers.0.self_attn.k_scale"), &|config| {
        config.replace("\"activation_scheme\"", "\"kv_cache_scheme\": \"static\", \"activation_scheme\"")
    });
    assert_eq!(shown, "it loaded", "scales of keys are known where the file says that it has some");
}
