//! Each family under GGUF's names: the kit's checkpoints are written again as the converters of GGUF files write them
//! (heads interleaved where the page says so, experts stacked, offset norms with one added) and are the same model.
#[path = "../../../tests/kit.rs"]
mod kit;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use pasture_files::durable::Sink;
use pasture_files::gguf::{self, Metadata};
use pasture_files::outline::Outline;
use pasture_files::{Dtype, Tensors};
use pasture_kernels::{Format, Pool};
use pasture_model::names::{self, GgufOrder, Names, Order, Part, Place, Stored};
use pasture_model::spec::{MixerSpec, NormKind, NormSpec, Spec};
use pasture_model::{Batch, Decoder, LoadOptions, Source, build, families, load};
use pasture_tensor::kv::KvFormat;
use pasture_tensor::{Backend, Cpu, Ops, Precision};

/// A tensor on its way into a GGUF file.
struct Turned {
    shape: Vec<usize>,
    values: Vec<f32>,
}

fn backend() -> Arc<dyn Backend> {
    Arc::new(Cpu::new(Arc::new(Pool::new(1)), Precision::Exact))
}

/// The values of a checkpoint under GGUF's names.
fn turned(source: &Source, spec: &Spec, own: &Names) -> BTreeMap<String, Turned> {
    let shared = names::gguf(own);
    let mut made: BTreeMap<String, Turned> = BTreeMap::new();
    for (tensor, entry) in source.tensors.iter().filter(|(tensor, _)| own.reason(tensor).is_none()) {
        let (row, part, layer, expert) = own.find(tensor).expect("each tensor has a row");
        let place = Place { slot: row.slots[0], layer, expert };
        let (name, to) = shared.candidates(place, part).next().expect("GGUF has a name for it");
        let bytes = source.tensors.bytes(tensor).expect("its bytes are there");
        let mut values = vec![0.0; entry.shape.iter().product()];
        entry.dtype.format().expect("a number").dequantize(&bytes, &mut values);
        if own.gguf_order == GgufOrder::Interleaved
            && row.order == Order::Plain
            && ["attention.q", "attention.k"].contains(&place.slot)
        {
            values = interleaved(&values, head_dim(spec), entry.shape.get(1).copied().unwrap_or(1));
        }
        if part == Part::Weight && is_offset(spec, place.slot) {
            values.iter_mut().for_each(|value| *value += 1.0);
        }
        if row.stored == Stored::StackedTransposed || row.slots.len() > 1 && to.stored == Stored::Stacked {
            for (turn, slot) in row.slots.iter().enumerate() {
                let (name, _) =
                    shared.candidates(Place { slot, ..place }, part).next().expect("GGUF has a name for it");
                made.insert(name, alternate(&values, &entry.shape, turn, row.slots.len()));
            }
        } else if to.stored == Stored::Stacked {
            // Experts come in the order of their numbers.
            let stack = made.entry(name).or_insert_with(|| Turned { shape: vec![0], values: Vec::new() });
            stack.shape = [&[stack.shape[0] + 1], &entry.shape[..]].concat();
            stack.values.extend(values);
        } else {
            made.insert(name, Turned { shape: entry.shape.clone(), values });
        }
    }
    made
}

/// The outputs of one of the slots that take turns, of experts stored `[inputs, outputs]` or of their biases.
fn alternate(values: &[f32], shape: &[usize], turn: usize, turns: usize) -> Turned {
    let (experts, outputs) = (shape[0], shape[shape.len() - 1]);
    let inputs = if shape.len() == 3 { shape[1] } else { 1 };
    let at = |expert: usize, output: usize, input: usize| values[(expert * inputs + input) * outputs + output];
    let rows = (0..experts).flat_map(|expert| (turn..outputs).step_by(turns).map(move |output| (expert, output)));
    let turned = rows.flat_map(|(expert, output)| (0..inputs).map(move |input| at(expert, output, input))).collect();
    let shape = [&[experts, outputs / turns][..], if shape.len() == 3 { &shape[1..2] } else { &[] }].concat();
    Turned { shape, values: turned }
}

fn head_dim(spec: &Spec) -> usize {
    let mixers = spec.layers.iter().flatten().map(|branch| &branch.mixer);
    let attention = mixers.filter_map(|mixer| match mixer {
        MixerSpec::Attention(attention) => Some(attention.head_dim),
        _ => None,
    });
    attention.max().expect("a model has attention")
}

fn is_offset(spec: &Spec, slot: &str) -> bool {
    let of_branches = spec.layers.iter().flatten().flat_map(|branch| [&branch.pre, &branch.post, &branch.after]);
    let of_heads = spec.layers.iter().flatten().filter_map(|branch| match &branch.mixer {
        MixerSpec::Attention(attention) => attention.qk_norm.as_ref(),
        _ => None,
    });
    let all = of_branches.flatten().chain(&spec.norm).chain(of_heads.flat_map(|norms| [&norms.q, &norms.k]));
    all.into_iter().any(|norm: &NormSpec| norm.slot == slot && norm.kind == NormKind::RmsOffset)
}

/// Rows of each head: the first of one half, the first of the other, the second of one half, and so on.
fn interleaved(values: &[f32], head_dim: usize, cols: usize) -> Vec<f32> {
    let row = |at: usize| &values[at * cols..][..cols];
    let half = head_dim / 2;
    let order = |head: usize| (0..half).flat_map(move |at| [head * head_dim + at, head * head_dim + half + at]);
    (0..values.len() / cols / head_dim).flat_map(order).flat_map(|at| row(at).to_vec()).collect()
}

fn write(path: &Path, tensors: &BTreeMap<String, Turned>) {
    let outline = |(name, turned): (&String, &Turned)| Outline {
        name: name.clone(),
        dtype: Dtype::Number(Format::F32),
        shape: turned.shape.clone(),
    };
    let outlines: Vec<Outline> = tensors.iter().map(outline).collect();
    let mut fill = |outline: &Outline, sink: &mut Sink| {
        let bytes: Vec<u8> = tensors[&outline.name].values.iter().flat_map(|value| value.to_le_bytes()).collect();
        sink.put(&bytes)
    };
    gguf::write(path, &Metadata::new("model.gguf"), &outlines, &mut fill).expect("it can be written");
}

fn rows(decoder: &Decoder) -> Vec<f32> {
    let backend = decoder.backend().clone();
    let mut kv = decoder.kv(&*backend, KvFormat::F32);
    let mut batch = Batch::one(kv.start(), 0, 5, &[1, 7, 3, 5, 9]);
    batch.see_all();
    let hidden = decoder.forward(&mut Ops::new(&*backend), &batch, &mut kv).expect("the batch fits");
    hidden.rows.into_values()
}

#[test]
fn every_family_is_the_same_model_under_ggufs_names() {
    let Some(golden) = kit::folder("golden") else { return };
    for case in [
        "text/llama3",
        "text/llama_bias_headdim",
        "text/gpt_oss",
        "text/gemma1",
        "text/gemma2",
        "text/gemma3_text",
        "text/mixtral",
        "text/olmo2",
        "text/phi2",
        "text/phi35_moe",
        "text/qwen3_moe",
        "arctic/arctic",
        "embed/bert",
    ] {
        let source = Source::open(&golden.join(case)).expect("the kit's model opens");
        let families::Blueprint { family, spec, .. } = families::blueprint(&source.config).expect("it has a page");
        let own = (family.names)(&spec);
        let folder = tempfile::tempdir().expect("a folder for the test");
        let path = folder.path().join("model.gguf");
        write(&path, &turned(&source, &spec, &own));
        let loaded = |tensors: &Tensors| build(tensors, &spec, &own, backend(), &mut |_, _| ()).expect(case).0;
        let (plain, again) = (loaded(&source.tensors), loaded(&Tensors::open(&path).expect("it was just written")));
        // One added and taken away again rounds the norms.
        let far = rows(&plain).iter().zip(rows(&again)).any(|(a, b)| (a - b).abs() > 1e-5 * a.abs().max(1.0));
        assert!(!far, "{case}");
    }
}

/// A stacked tensor is read expert by expert: from the GGUF file the same rows come as from the folder.
#[test]
fn experts_of_a_gguf_file_may_stay_on_disk() {
    let case = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/golden/text/mixtral"));
    let mut source = Source::open(case).expect("a committed case opens");
    let families::Blueprint { family, spec, .. } = families::blueprint(&source.config).expect("it has a page");
    let folder = tempfile::tempdir().expect("a folder for the test");
    let path = folder.path().join("model.gguf");
    write(&path, &turned(&source, &spec, &(family.names)(&spec)));
    let loaded = |source: &Source, expert_cache: Option<u64>| {
        let options = LoadOptions { expert_cache, ..LoadOptions::default() };
        load(source, &backend(), &options, &mut |_, _| ()).expect("it loads").decoder
    };
    let limit = Some(3 * 64 * 72 * 4);
    let expected = rows(&loaded(&source, limit));
    source.tensors = Tensors::open(&path).expect("it was just written");
    let decoder = loaded(&source, limit);
    assert_eq!(rows(&decoder), expected);
    let counts = decoder.expert_cache().expect("its experts are on disk").counts();
    assert!(counts.misses > 4 && Some(counts.held_bytes_max) == limit, "{counts:?}");
}
