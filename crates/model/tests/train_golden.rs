//! Tuning: the kit's traces, a step on quantized weights, adapters of different rank in one step. What of a trace is
//! compared and how stands with the runner of `cargo xtask golden`, which this test compiles.
#[path = "../../../tests/kit.rs"]
mod kit;

#[path = "../../../xtask/golden/src/train/mod.rs"]
mod train;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use pasture_files::outline::Outline;
use pasture_files::{Dtype, Tensors, gguf};
use pasture_kernels::{Format, Kernels, Pool};
use pasture_model::{Decoder, Kind, LoadOptions, Source, load};
use pasture_tensor::tape::Tape;
use pasture_tensor::{Adapter, AdapterSite, Backend, Cpu, Precision, Weight};
use train::{Step, Text, batches, ids, step, within};

/// The slope of a loss in f32 by differences is exact to about this share.
const SLOPE: f32 = 2e-2;

#[test]
fn losses_gradients_and_tuned_adapters_are_the_references() {
    let Some(golden) = kit::folder("golden") else { return };
    let runs = ["full", "lora", "rslora", "dora"];
    for (case, more) in [("llama3", &["preferences"][..]), ("gemma2", &[]), ("mixtral", &["router auxiliary loss"])] {
        let passed = [&runs[..], more].concat();
        let covered = train::run(&golden.join("train").join(case)).unwrap_or_else(|fault| panic!("{case}: {fault:#}"));
        assert_eq!(covered.passed, passed, "{case}");
        assert!(covered.open.is_empty(), "{case}: {:?}", covered.open);
    }
    let covered = train::run(&golden.join("train/nf4")).unwrap_or_else(|fault| panic!("nf4: {fault:#}"));
    assert_eq!(covered.passed, ["a step on NF4"]);
}

fn model(path: &Path, backend: &Arc<dyn Backend>) -> Decoder {
    let source = Source::open(path).expect("the model opens");
    load(&source, backend, &LoadOptions::default(), &mut |_, _| ()).expect("the model loads").decoder
}

/// Numbers in -1..1 that look random and are the same everywhere.
fn numbers(seed: u64, len: usize) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1 << 23) as f32 - 1.0
    };
    (0..len).map(|_| next()).collect()
}

/// An adapter of that rank beside every module where one can stand; neither half is zero.
fn adapter(decoder: &Decoder, rank: usize, seed: u64) -> Arc<Adapter> {
    let dense = decoder.sites().iter().filter(|(_, module)| module.kind == Kind::Dense);
    let site = |(at, (name, module)): (usize, (&str, &pasture_model::Module))| {
        let seed = seed + 2 * at as u64;
        let small = |seed, len| -> Vec<f32> { numbers(seed, len).iter().map(|value| 0.1 * value).collect() };
        let a = Weight::from_values(rank, module.inputs, &small(seed, rank * module.inputs));
        let b = Weight::from_values(module.outputs, rank, &small(seed + 1, module.outputs * rank));
        (name.to_owned(), AdapterSite::new(a, b, 2.0))
    };
    let sites: BTreeMap<_, _> = dense.enumerate().map(site).collect();
    assert!(!sites.is_empty());
    Arc::new(Adapter::new(sites))
}

/// Some texts of which every token has its successor as target, but the last.
fn texts(vocab: usize, lengths: &[usize]) -> Vec<Text> {
    let text = |(at, len): (usize, &usize)| {
        let number = |value: &f32| ((value + 1.0) / 2.0 * vocab as f32) as u32 % vocab as u32;
        let ids: Vec<u32> = numbers(50 + at as u64, *len).iter().map(number).collect();
        let targets = ids[1..].iter().map(|id| Some(*id)).chain([None]).collect();
        Text { ids, targets }
    };
    lengths.iter().enumerate().map(text).collect()
}

/// The same checkpoint with every number written out in f32.
fn written_out(from: &Path, to: &Path) {
    let tensors = Tensors::open(from).expect("the kit's model opens");
    let outlines = tensors.iter().map(|(name, entry)| Outline {
        name: name.to_owned(),
        dtype: Dtype::Number(Format::F32),
        shape: entry.shape.clone(),
    });
    let outlines: Vec<Outline> = outlines.collect();
    let metadata = tensors.gguf().expect("it is a GGUF file");
    gguf::write(to, metadata, &outlines, |outline, sink| {
        let format = tensors.get(&outline.name).and_then(|entry| entry.dtype.format()).expect("a known format");
        let mut values = vec![0.0; outline.shape.iter().product()];
        format.dequantize(&tensors.bytes(&outline.name)?, &mut values);
        let mut bytes = vec![0; values.len() * 4];
        Format::F32.quantize(&values, None, &mut bytes);
        sink.put(&bytes)
    })
    .expect("the folder can be written");
}

fn check_same(found: &Step, expected: &Step, adapter: &Adapter, limit: f32) {
    assert!((found.loss - expected.loss).abs() <= limit * expected.loss, "{} not {}", found.loss, expected.loss);
    for (name, id) in ids(adapter) {
        let [found, expected] = [found, expected].map(|step| step.gradients.weight(id).expect("it has a gradient"));
        let largest = expected.iter().fold(0.0_f32, |largest, value| largest.max(value.abs()));
        assert!(largest > 0.0, "{name} has a gradient");
        let far = found.iter().zip(expected).position(|(a, b)| !within(*a, *b, limit * largest));
        assert!(far.is_none(), "{name}: {far:?} of largest {largest}");
    }
}

#[test]
fn a_step_on_frozen_quantized_weights_is_the_step_on_their_values() {
    let Some(golden) = kit::folder("golden") else { return };
    let place = tempfile::tempdir().expect("a temporary folder");
    for (case, format) in [("q4_k_m", Format::Q4_K), ("q8_0", Format::Q8_0)] {
        let quantized = golden.join("gguf").join(case).join("model.gguf");
        let tensors = Tensors::open(&quantized).expect("the kit's model opens");
        assert!(tensors.iter().any(|(_, entry)| entry.dtype == Dtype::Number(format)), "{case} has such blocks");
        let plain = place.path().join(format!("{case}.gguf"));
        written_out(&quantized, &plain);
        for kernels in Kernels::all() {
            let cpu = || -> Arc<dyn Backend> {
                Arc::new(Cpu::new(Arc::new(Pool::with_kernels(2, kernels)), Precision::Exact))
            };
            let (quantized, plain) = (model(&quantized, &cpu()), model(&plain, &cpu()));
            let texts = texts(quantized.spec().vocab, &[23, 9]);
            let adapter = adapter(&quantized, 4, 7);
            let parts: Vec<_> = texts.iter().map(|text| (text, Some(&adapter))).collect();
            let [found, expected] = [&quantized, &plain]
                .map(|model| step(model, &parts, Tape::new(ids(&adapter).into_values())).expect("it runs"));
            check_same(&found, &expected, &adapter, 2e-5);
            let frozen = quantized.parameters();
            assert!(!frozen.is_empty());
            assert!(frozen.iter().all(|frozen| found.gradients.weight(frozen.weight).is_none()), "frozen");
        }
    }
}

#[test]
fn adapters_of_different_rank_are_tuned_in_one_step_as_each_is_alone() {
    let Some(golden) = kit::folder("golden") else { return };
    let backend: Arc<dyn Backend> = Arc::new(Cpu::new(Arc::new(Pool::new(2)), Precision::Exact));
    let decoder = model(&golden.join("text/llama3"), &backend);
    let all = batches(&golden.join("train/llama3/batches.safetensors")).expect("the kit's batches open");
    let [first, second, plain] = [&all[0][0], &all[0][1], &all[1][0]];
    let (wide, narrow) = (adapter(&decoder, 8, 1), adapter(&decoder, 3, 900));
    let trainable = || ids(&wide).into_values().chain(ids(&narrow).into_values());
    let parts = [(first, Some(&wide)), (plain, None), (second, Some(&narrow))];
    let together = step(&decoder, &parts, Tape::new(trainable())).expect("it runs");
    let count = |text: &Text| text.targets.iter().flatten().count() as f32;
    let all = count(first) + count(second) + count(plain);
    let mut sum = step(&decoder, &[(plain, None)], Tape::new([])).expect("it runs").loss * count(plain);
    for (text, adapter) in [(first, &wide), (second, &narrow)] {
        let alone = step(&decoder, &[(text, Some(adapter))], Tape::new(trainable())).expect("it runs");
        sum += alone.loss * count(text);
        // The mean is over other tokens, so gradients differ by that factor alone.
        let factor = count(text) / all;
        for (name, id) in ids(adapter) {
            let [found, expected] =
                [&together, &alone].map(|step| step.gradients.weight(id).expect("it has a gradient"));
            let largest = factor * expected.iter().fold(0.0_f32, |largest, value| largest.max(value.abs()));
            let far = found.iter().zip(expected).position(|(a, b)| !within(*a, factor * b, 1e-5 * largest));
            assert!(far.is_none(), "{name}: {far:?}");
        }
    }
    assert!((together.loss - sum / all).abs() < 1e-5 * together.loss, "{} not {}", together.loss, sum / all);
}

/// An adapter of rank 2 at some modules, whose B is moved by `by` along a fixed direction.
fn moved(decoder: &Decoder, by: f32) -> (Arc<Adapter>, Vec<f32>) {
    let wave = |len: usize, pace: f32| (0..len).map(|at| (at as f32 * pace).sin() * 0.1).collect::<Vec<f32>>();
    let (mut directions, mut sites) = (Vec::new(), BTreeMap::new());
    for name in MOVED {
        let module = decoder.sites().get(name).expect("the model has it");
        let direction = wave(module.outputs * 2, 1.7);
        let b: Vec<f32> = wave(module.outputs * 2, 0.3).iter().zip(&direction).map(|(b, d)| b + by * d).collect();
        let a = Weight::from_values(2, module.inputs, &wave(module.inputs * 2, 0.9));
        sites.insert(name.to_owned(), AdapterSite::new(a, Weight::from_values(module.outputs, 2, &b), 1.0));
        directions.extend(direction);
    }
    (Arc::new(Adapter::new(sites)), directions)
}

const MOVED: [&str; 2] = ["model.layers.0.self_attn.k_proj", "model.layers.0.mlp.down_proj"];

#[test]
fn an_adapter_on_quantized_blocks_has_the_slope_of_its_loss() {
    let Some(golden) = kit::folder("golden") else { return };
    let backend: Arc<dyn Backend> = Arc::new(Cpu::new(Arc::new(Pool::new(1)), Precision::Exact));
    for case in ["q4_k_m", "q8_0"] {
        let decoder = model(&golden.join("gguf").join(case).join("model.gguf"), &backend);
        let texts = texts(decoder.spec().vocab, &[12]);
        let (adapter, directions) = moved(&decoder, 0.0);
        let trainable = || ids(&adapter).into_values();
        let found = step(&decoder, &[(&texts[0], Some(&adapter))], Tape::new(trainable())).expect("it runs").gradients;
        let weights = MOVED.map(|name| adapter.site(name).expect("it was made").b.id());
        let found = weights.iter().flat_map(|id| found.weight(*id).expect("it is reached"));
        let slope: f32 = found.zip(&directions).map(|(gradient, direction)| gradient * direction).sum();
        let at = |by: f32| {
            let (adapter, _) = moved(&decoder, by);
            step(&decoder, &[(&texts[0], Some(&adapter))], Tape::new([])).expect("it runs").loss
        };
        let difference = (at(0.05) - at(-0.05)) / 0.1;
        assert!((slope - difference).abs() <= SLOPE * difference.abs().max(1e-2), "{case}: {slope}, not {difference}");
    }
}
