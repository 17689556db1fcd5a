//! Saving: every case becomes a GGUF file and comes back as a folder, and is the same model each time, by the reference
//! results. What GGUF cannot say is refused by name, and nothing is written.

#[path = "../../../tests/kit.rs"]
mod kit;
#[path = "../../../xtask/golden/src/model/mod.rs"]
mod model;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use model::Outcome;
use pasture_files::durable::Sink;
use pasture_files::outline::Outline;
use pasture_files::{Tensors, safetensors};
use pasture_kernels::Pool;
use pasture_model::save::{Own, encode_plainly, plan_folder, plan_gguf};
use pasture_model::{Batch, Error, LoadOptions, Source, load, survey};
use pasture_tensor::kv::KvFormat;
use pasture_tensor::{Backend, Cpu, Ops, Precision};
use serde_json::Value;

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");

/// Cases that GGUF cannot hold, and a word of the reason.
const REFUSED: [(&str, &str); 14] = [
    // GGUF's word of these families knows no window.
    ("mistral_v01_swa", "Window"),
    ("ministral", "Window"),
    ("qwen25_swa_yarn", "Window"),
    // A scaling that grows with the sequence, ends of a ramp that are no whole dimensions, queries that grow.
    ("llama_rope_dynamic", "rotary"),
    ("llama_rope_yarn_opts", "rotary"),
    ("ministral3", "growth"),
    // It has the factor of scores of the published models, and their layers.
    ("gemma2", "scale"),
    ("gemma3_text", "scale"),
    ("llama4_text", "Chunk"),
    ("llama4_text_rope", "Chunk"),
    ("phi35_moe", "rotary"),
    ("arctic_freq2", "mlp"),
    ("qwen3_moe_nonorm", "Mlp"),
    ("qwen3_moe", "Mlp"),
];

fn cases(root: &Path) -> Vec<PathBuf> {
    let folders = |group: &str| {
        let entries = std::fs::read_dir(root.join(group)).into_iter().flatten().filter_map(Result::ok);
        entries.map(|entry| entry.path()).filter(|path| path.is_dir()).collect::<Vec<_>>()
    };
    let mut found: Vec<PathBuf> = ["text", "arctic", "embed", "pth"].into_iter().flat_map(folders).collect();
    found.retain(|path| !path.ends_with("hostile"));
    found.sort();
    found
}

/// The case under other files: its results stay where they are.
fn to_gguf(from: &Path, to: &Path) -> Result<(), Error> {
    let source = Source::open(from)?;
    let survey = survey(&source)?;
    let own = Own { source: &source, survey: &survey };
    plan_gguf(&source, &survey)?.write(to, None, &own, &encode_plainly, &mut |_, _| ())?;
    Ok(())
}

fn to_folder(from: &Path, to: &Path) -> Result<(), Error> {
    let source = Source::open(from)?;
    let survey = survey(&source)?;
    let own = Own { source: &source, survey: &survey };
    plan_folder(&source, &survey)?.write(to, None, &own, &encode_plainly, &mut |_, _| ())?;
    Ok(())
}

/// Sends a case through both containers; what was refused, by name.
fn round(case: &Path) -> Result<Option<String>, String> {
    let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
    let (file, again) = (folder.path().join("model.gguf"), folder.path().join("again"));
    match to_gguf(case, &file) {
        Err(Error::Architecture { .. }) => return Ok(None),
        // Numbers that are not read yet.
        Err(Error::Key { key, .. }) if key == "quantization_config" => return Ok(None),
        Err(error @ Error::CannotExpress { .. }) => return Ok(Some(error.to_string())),
        Err(error) => return Err(format!("to GGUF: {error}")),
        Ok(()) => {}
    }
    check(&file, case).map_err(|error| format!("the GGUF file: {error}"))?;
    to_folder(&file, &again).map_err(|error| format!("to a folder: {error}"))?;
    check(&again, case).map_err(|error| format!("the folder: {error}"))?;
    Ok(None)
}

fn check(model: &Path, results: &Path) -> Result<(), String> {
    match model::run_as(model, results) {
        Ok(Outcome::Passed) => Ok(()),
        Ok(Outcome::NotCovered(what)) => Err(what),
        Err(error) => Err(format!("{error:#}")),
    }
}

fn check_all(root: &Path) {
    let (mut wrong, mut passed) = (Vec::new(), 0);
    for case in cases(root) {
        let name = case.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let expected = REFUSED.iter().find(|(refused, _)| *refused == name);
        match (round(&case), expected) {
            (Ok(None), None) => passed += 1,
            (Ok(Some(error)), Some((_, word))) if error.contains(word) => {}
            (found, _) => wrong.push(format!("{name}: {found:?}")),
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(passed > 0, "there are cases below {root:?}");
}

#[test]
fn a_committed_case_of_each_family_is_the_same_model_in_each_container() {
    check_all(&Path::new(ROOT).join("tests/golden"));
}

#[test]
fn the_kits_cases_are_the_same_models_in_each_container() {
    let Some(golden) = kit::folder("golden") else { return };
    check_all(&golden);
}

/// A case of which GGUF can hold less: another configuration, fewer layers.
fn changed(case: &Path, to: &Path, layers: usize, change: &[(&str, Value)]) {
    let mut config = pasture_files::json::read(&case.join("config.json")).expect("the case has a configuration");
    for (key, value) in change.iter().chain(&[("num_hidden_layers", Value::from(layers))]) {
        config[*key] = value.clone();
    }
    if let Some(types) = config["layer_types"].as_array_mut() {
        types.truncate(layers);
    }
    std::fs::write(to.join("config.json"), config.to_string()).expect("it can be written");
    let tensors = Tensors::open(case).expect("the case opens");
    let kept = |name: &str| {
        let layer = name.strip_prefix("model.layers.").and_then(|rest| rest.split('.').next()?.parse::<usize>().ok());
        layer.is_none_or(|layer| layer < layers)
    };
    let outlines: Vec<_> = tensors.outlines().into_iter().filter(|outline| kept(&outline.name)).collect();
    let fill = |outline: &Outline, sink: &mut Sink| sink.put(&tensors.bytes(&outline.name)?);
    safetensors::write(&to.join("model.safetensors"), &[], &outlines, fill).expect("it can be written");
}

fn logits(path: &Path) -> Vec<f32> {
    let backend: Arc<dyn Backend> = Arc::new(Cpu::new(Arc::new(Pool::new(1)), Precision::Exact));
    let source = Source::open(path).expect("it opens");
    let decoder = load(&source, &backend, &LoadOptions::default(), &mut |_, _| ()).expect("it loads").decoder;
    let mut kv = decoder.kv(&*backend, KvFormat::F32);
    let ids: Vec<u32> = (0..40).map(|at| at * 7 % 60 + 1).collect();
    let batch = Batch::one(kv.start(), 0, ids.len(), &ids);
    let mut ops = Ops::new(&*backend);
    let hidden = decoder.forward(&mut ops, &batch, &mut kv).expect("the batch fits");
    decoder.logits(&mut ops, &hidden.rows).expect("it has a head").into_values()
}

#[test]
fn families_whose_cases_gguf_cannot_hold_pass_in_shapes_that_it_can() {
    let Some(golden) = kit::folder("golden") else { return };
    for (name, layers, change) in [
        ("text/gemma2", 2, vec![("query_pre_attn_scalar", Value::from(16))]),
        ("text/gemma3_text", 6, vec![("query_pre_attn_scalar", Value::from(16))]),
        ("text/qwen3_moe", 1, vec![]),
        ("text/llama4_text", 4, vec![("attention_chunk_size", Value::from(8192)), ("floor_scale", Value::from(8192))]),
        ("text/phi35_moe", 2, vec![("rope_scaling", Value::Null)]),
        ("text/mistral_v01_swa", 2, vec![("sliding_window", Value::Null)]),
    ] {
        let folder = tempfile::tempdir().expect("a folder for the test");
        changed(&golden.join(name), folder.path(), layers, &change);
        let (file, again) = (folder.path().join("model.gguf"), folder.path().join("again"));
        to_gguf(folder.path(), &file).expect(name);
        to_folder(&file, &again).expect(name);
        let wanted = logits(folder.path());
        for path in [&file, &again] {
            let close = |(a, b): (&f32, &f32)| (a - b).abs() <= 2e-4 + 2e-4 * b.abs();
            assert!(logits(path).iter().zip(&wanted).all(close), "{name} from {path:?}");
        }
    }
}
