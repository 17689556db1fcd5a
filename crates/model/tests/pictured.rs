//! Checkpoints with a part for pictures run as the text model in them: the logits of a prompt without a picture are the
//! reference's, what is left out is named, and a folder that is written again keeps the other parts.

#![allow(clippy::unwrap_used, reason = "a test may")]
mod changed;
#[path = "../../../tests/kit.rs"]
mod kit;

use std::path::Path;

use changed::{Numbers, backend, open, written};
use pasture_files::Tensors;
use pasture_model::save::{Own, encode_plainly, plan_folder};
use pasture_model::{Batch, Config, Decoder, Source, families, survey};
use pasture_tensor::Ops;
use pasture_tensor::kv::KvFormat;
use serde_json::{Value, json};

fn logits(decoder: &Decoder, ids: &[u32]) -> Vec<f32> {
    let backend = backend();
    let mut kv = decoder.kv(&*backend, KvFormat::F32);
    let batch = Batch::one(kv.start(), 0, ids.len(), ids);
    let mut ops = Ops::new(&*backend);
    let hidden = decoder.forward(&mut ops, &batch, &mut kv).unwrap();
    decoder.logits(&mut ops, &hidden.rows).unwrap().into_values()
}

/// The numbers of a golden tensor, of four bytes each.
fn golden<T>(folder: &Path, name: &str, number: fn([u8; 4]) -> T) -> Vec<T> {
    let bytes = Tensors::open(&folder.join("golden.safetensors")).unwrap().bytes(name).unwrap().to_vec();
    bytes.chunks_exact(4).map(|four| number(four.try_into().unwrap())).collect()
}

#[test]
fn a_prompt_without_a_picture_has_the_references_logits() {
    let Some(kit) = kit::folder("golden/vision") else { return };
    for case in ["gemma3_vision", "mistral3", "llava", "llava_next", "pixtral"] {
        let folder = kit.join(case);
        let loaded = open(&folder).unwrap_or_else(|fault| panic!("{case}: {fault}"));
        assert_eq!(loaded.report.unknown, Vec::<String>::new(), "{case}");
        let left: Vec<&str> = loaded.unused.iter().map(|unused| unused.tensor.as_str()).collect();
        assert!(left.iter().any(|name| name.starts_with("vision_tower.")), "{case}: {left:?}");
        let pictures = |unused: &pasture_model::Unused| unused.reason.contains("pictures are not read yet");
        assert!(loaded.unused.iter().all(pictures), "{case}: {:?}", loaded.unused);
        let ids = golden(&folder, "text_only.ids", u32::from_le_bytes);
        let expected = golden(&folder, "text_only.logits", f32::from_le_bytes);
        let found = logits(&loaded.decoder, &ids);
        assert_eq!(found.len(), expected.len());
        for (found, expected) in found.iter().zip(&expected) {
            assert!((found - expected).abs() <= 2e-4 + 2e-4 * expected.abs(), "{case}: {found}, not {expected}");
        }
    }
}

#[test]
fn both_layouts_of_the_configuration_are_one_model() {
    let Some(kit) = kit::folder("golden/vision") else { return };
    for case in ["gemma3_vision", "mistral3", "llava", "llava_next", "pixtral"] {
        let read = |name: &str| {
            let value = pasture_files::json::read(&kit.join(case).join(name)).unwrap();
            families::blueprint(&Config::from_json(name, value).unwrap()).unwrap()
        };
        let (older, newer) = (read("config.json"), read("config.v5.json"));
        assert_eq!(newer.spec, older.spec, "{case}");
        assert_eq!(newer.report.unknown, Vec::<String>::new(), "{case}");
    }
}

/// A text model's folder as the text part of a class with pictures.
fn wrapped(case: &str, class: &str, kind: &str) -> tempfile::TempDir {
    let mut tensors = changed::tensors_of(case);
    tensors.iter_mut().for_each(|tensor| tensor.name = format!("language_model.{}", tensor.name));
    let dtype = pasture_files::Dtype::Number(pasture_kernels::Format::F32);
    let name = "vision_model.patch_embedding.weight".to_owned();
    tensors.push(Numbers { name, dtype, shape: vec![1], bytes: vec![0; 4] });
    written(case, &tensors, |config| {
        let text: Value = serde_json::from_str(&config).unwrap();
        json!({"architectures": [class], "model_type": kind, "text_config": text, "vision_config": {}}).to_string()
    })
}

#[test]
fn stacked_experts_load_from_a_part_too() {
    let Some(kit) = kit::folder("golden/text/llama4_text") else { return };
    let kit = kit.to_string_lossy().into_owned();
    let part = wrapped(&kit, "Llama4ForConditionalGeneration", "llama4");
    let ids = [1, 7, 3, 5, 60, 22];
    let (alone, part) = (open(Path::new(&kit)).unwrap(), open(part.path()).unwrap());
    assert!(logits(&part.decoder, &ids) == logits(&alone.decoder, &ids));
    assert_eq!(part.unused.len(), alone.unused.len() + 1, "{:?}", part.unused);
}

#[test]
fn a_text_part_of_another_kind_is_refused() {
    let source = wrapped("text/gemma2", "Gemma3ForConditionalGeneration", "gemma3");
    let shown = open(source.path()).err().map(|fault| fault.to_string()).unwrap_or_default();
    assert!(shown.contains("text_config.model_type") && shown.contains("gemma3_text"), "{shown}");
}

#[test]
fn a_folder_written_again_keeps_names_and_other_parts() {
    let Some(kit) = kit::folder("golden/vision") else { return };
    for case in ["gemma3_vision", "mistral3"] {
        let source = Source::open(&kit.join(case)).unwrap();
        let (survey, again) = (survey(&source).unwrap(), tempfile::tempdir().unwrap());
        let own = Own { source: &source, survey: &survey };
        let plan = plan_folder(&source, &survey).unwrap();
        plan.write(again.path(), None, &own, &encode_plainly, &mut |_, _| ()).unwrap();
        let names = |folder: &Path| -> Vec<(String, Vec<u8>)> {
            let open = Tensors::open(folder).unwrap();
            let mut all: Vec<_> =
                open.names().map(|name| (name.to_owned(), open.bytes(name).unwrap().to_vec())).collect();
            all.sort();
            all
        };
        assert!(names(again.path()) == names(&kit.join(case)), "{case}");
        let ids = [1, 7, 3, 5, 60, 22];
        let (first, second) = (open(&kit.join(case)).unwrap(), open(again.path()).unwrap());
        assert!(logits(&first.decoder, &ids) == logits(&second.decoder, &ids), "{case}");
    }
}
