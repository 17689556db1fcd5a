//! One step of tuning through the one forward: losses and gradients of a low-rank adapter against peft's, and on the
//! blocks of a quantized model against the loss's own slope.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use pasture_files::{Tensors, json};
use pasture_kernels::Pool;
use pasture_model::{Batch, Decoder, LoadOptions, Source, load, load_adapter};
use pasture_tensor::kv::KvFormat;
use pasture_tensor::tape::{Gradients, Tape};
use pasture_tensor::{Adapter, AdapterSite, Backend, Cpu, Ops, Precision, Weight};

/// The kit's rules for training in f32: losses, and gradients relative to the tensor's largest entry.
const LOSS: f32 = 2e-4;
const GRADIENT: f32 = 1e-4;

/// The slope of a sum of losses in f32 by differences is exact to about this share.
const SLOPE: f32 = 2e-2;

/// A text with what each row should say next.
struct Text {
    ids: Vec<u32>,
    targets: Vec<Option<u32>>,
}

fn kit() -> Option<PathBuf> {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared");
    let golden = std::env::var_os("PASTURE_KIT").map_or_else(|| PathBuf::from(root), PathBuf::from).join("golden");
    if !golden.is_dir() {
        println!("skipped: no kit");
    }
    golden.is_dir().then_some(golden)
}

fn model(path: &Path) -> Decoder {
    let backend: Arc<dyn Backend> = Arc::new(Cpu::new(Arc::new(Pool::new(1)), Precision::Exact));
    let source = Source::open(path).expect("the kit's model opens");
    load(&source, &backend, &LoadOptions::default(), &mut |_, _| ()).expect("the kit's model loads").decoder
}

/// The mean loss over all targets, and its gradients by the adapter's weights.
fn step(decoder: &Decoder, adapter: &Arc<Adapter>, texts: &[Text]) -> (f32, Gradients) {
    let backend = decoder.backend().clone();
    let trainable = adapter.sites().values().flat_map(|site| [site.a.id(), site.b.id()]);
    let mut ops = Ops::with_tape(&*backend, Tape::new(trainable));
    let mut kv = decoder.kv(&*backend, KvFormat::F32);
    let mut batch = Batch::default();
    for text in texts {
        batch.push(kv.start(), 0, text.ids.len(), &text.ids, Some(adapter.clone()));
    }
    let hidden = decoder.forward(&mut ops, &batch, &mut kv).expect("the batch fits");
    let targets: Vec<Option<u32>> = texts.iter().flat_map(|text| text.targets.iter().copied()).collect();
    let (head, rule) = (decoder.head().expect("a head"), decoder.spec().head.as_ref().expect("a head").rule);
    let loss = ops.head_loss(&hidden.rows, head, rule, &targets);
    let share = 1.0 / targets.iter().flatten().count() as f32;
    let mean = loss.values()[0] * share;
    (mean, ops.into_tape().expect("it was given one").backward(&*backend, &loss, share))
}

fn numbers(tensors: &Tensors, name: &str) -> Vec<i32> {
    let bytes = tensors.bytes(name).expect("a tensor of the kit");
    bytes.chunks_exact(4).map(|four| i32::from_le_bytes(four.try_into().expect("four bytes"))).collect()
}

fn floats(tensors: &Tensors, name: &str) -> Vec<f32> {
    numbers(tensors, name).into_iter().map(|bits| f32::from_bits(bits as u32)).collect()
}

/// The first batch: two rows of tokens, with labels that are shifted by one and -100 where nothing counts.
fn batch(folder: &Path) -> Vec<Text> {
    let tensors = Tensors::open(&folder.join("batches.safetensors")).expect("the kit's batches open");
    let width = tensors.get("input_ids").expect("ids").shape[2];
    let (ids, labels) = (numbers(&tensors, "input_ids"), numbers(&tensors, "labels"));
    let text = |at: usize| {
        let next = labels[at + 1..at + width].iter().map(|label| u32::try_from(*label).ok());
        Text { ids: ids[at..at + width].iter().map(|id| *id as u32).collect(), targets: next.chain([None]).collect() }
    };
    vec![text(0), text(width)]
}

#[test]
fn the_first_step_of_a_low_rank_tune_is_the_references() {
    let Some(golden) = kit() else { return };
    let (folder, decoder) = (golden.join("train/llama3"), model(&golden.join("text/llama3")));
    let facts = json::read(&folder.join("golden.json")).expect("the kit's facts");
    for kind in ["lora", "rslora"] {
        let adapter = Arc::new(load_adapter(&folder.join(kind).join("initial"), &decoder).expect("it loads"));
        let (loss, gradients) = step(&decoder, &adapter, &batch(&folder));
        let expected = facts["runs"][kind]["trace"][0]["loss"].as_f64().expect("a loss") as f32;
        assert!((loss - expected).abs() <= LOSS, "{kind}: loss {loss}, not {expected}");
        let results = Tensors::open(&folder.join(kind).join("golden.safetensors")).expect("the kit's results open");
        for (module, site) in adapter.sites() {
            for (weight, letter) in [(&site.a, "A"), (&site.b, "B")] {
                let expected = floats(&results, &format!("grad.base_model.model.{module}.lora_{letter}.weight"));
                let found = gradients.weight(weight.id()).map_or_else(|| vec![0.0; expected.len()], <[f32]>::to_vec);
                let largest = expected.iter().fold(0.0_f32, |largest, value| largest.max(value.abs()));
                let far = found
                    .iter()
                    .zip(&expected)
                    .find(|(found, expected)| (*found - *expected).abs() > GRADIENT * largest);
                assert!(far.is_none(), "{kind} {module} lora_{letter}: {far:?} of largest {largest}");
            }
        }
    }
}

/// An adapter of rank 2 at some modules, whose B is moved by `by` along a fixed direction.
fn moved(decoder: &Decoder, by: f32) -> (Arc<Adapter>, Vec<f32>) {
    let wave = |len: usize, pace: f32| (0..len).map(|at| (at as f32 * pace).sin() * 0.1).collect::<Vec<f32>>();
    let mut directions = Vec::new();
    let mut sites = BTreeMap::new();
    for name in ["model.layers.0.self_attn.k_proj", "model.layers.0.mlp.down_proj"] {
        let module = decoder.sites().get(name).expect("the model has it");
        let direction = wave(module.outputs * 2, 1.7);
        let b: Vec<f32> = wave(module.outputs * 2, 0.3).iter().zip(&direction).map(|(b, d)| b + by * d).collect();
        let a = Weight::from_values(2, module.inputs, &wave(module.inputs * 2, 0.9));
        sites.insert(name.to_owned(), AdapterSite { a, b: Weight::from_values(module.outputs, 2, &b), scale: 1.0 });
        directions.extend(direction);
    }
    (Arc::new(Adapter::new(sites)), directions)
}

#[test]
fn an_adapter_on_quantized_blocks_has_the_slope_of_its_loss() {
    let Some(golden) = kit() else { return };
    for case in ["q4_k_m", "q8_0"] {
        let decoder = model(&golden.join("gguf").join(case).join("model.gguf"));
        let ids: Vec<u32> = (0..12).map(|at| at * 17 % 320).collect();
        let targets = ids[1..].iter().map(|id| Some(*id)).chain([None]).collect();
        let texts = [Text { ids, targets }];
        let (adapter, directions) = moved(&decoder, 0.0);
        let (_, gradients) = step(&decoder, &adapter, &texts);
        let order = ["model.layers.0.self_attn.k_proj", "model.layers.0.mlp.down_proj"];
        let weights = order.iter().map(|name| adapter.site(name).expect("it was made").b.id());
        let found: Vec<f32> = weights.flat_map(|id| gradients.weight(id).expect("it is reached").to_vec()).collect();
        let slope: f32 = found.iter().zip(&directions).map(|(g, d)| g * d).sum();
        let at = |by: f32| step(&decoder, &moved(&decoder, by).0, &texts).0;
        let difference = (at(0.05) - at(-0.05)) / 0.1;
        assert!((slope - difference).abs() <= SLOPE * difference.abs().max(1e-2), "{case}: {slope}, not {difference}");
    }
}
