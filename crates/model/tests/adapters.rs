//! Adapters of the kit: tuned by peft, loaded here, several in one batch, each with the logits that peft computed.
#[path = "../../../tests/kit.rs"]
mod kit;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use pasture_files::outline::Outline;
use pasture_files::{Tensors, gguf, safetensors};
use pasture_kernels::{Format, Pool};
use pasture_model::{Batch, Decoder, LoadOptions, Source, load, load_adapter};
use pasture_tensor::kv::KvFormat;
use pasture_tensor::{Adapter, AdapterSite, Backend, Cpu, Ops, Precision, Weight};

/// The kit's rule for logits in f32.
const LOGITS: f32 = 2e-4;

fn base(golden: &Path) -> Decoder {
    model(&golden.join("text/llama3"))
}

fn model(folder: &Path) -> Decoder {
    let backend: Arc<dyn Backend> = Arc::new(Cpu::new(Arc::new(Pool::new(1)), Precision::Exact));
    let source = Source::open(folder).expect("the model opens");
    load(&source, &backend, &LoadOptions::default(), &mut |_, _| ()).expect("the model loads").decoder
}

fn floats(tensors: &Tensors, name: &str) -> Vec<f32> {
    let bytes = tensors.bytes(name).expect("a tensor of the kit");
    bytes.chunks_exact(4).map(|four| f32::from_le_bytes(four.try_into().expect("four bytes"))).collect()
}

/// The first batch's two texts.
fn texts(golden: &Path) -> Vec<Vec<u32>> {
    let tensors = Tensors::open(&golden.join("train/llama3/batches.safetensors")).expect("the kit's batches open");
    let list = |name: &str| -> Vec<u32> {
        let bytes = tensors.bytes(name).expect("a tensor of the kit");
        bytes.chunks_exact(4).map(|four| u32::from_le_bytes(four.try_into().expect("four bytes"))).collect()
    };
    let (ids, mask) = (list("input_ids"), list("attention_mask"));
    let text = |at: usize| {
        let seen = mask[at..at + WIDTH].iter().filter(|seen| **seen == 1).count();
        ids[at..at + seen].to_vec()
    };
    vec![text(0), text(WIDTH)]
}

/// Tokens of a text, padding included.
const WIDTH: usize = 26;

/// Logits of each text under its adapter, all in one batch.
fn run(decoder: &Decoder, parts: &[(&[u32], Option<&Arc<Adapter>>)]) -> Vec<Vec<f32>> {
    let backend = decoder.backend().clone();
    let mut kv = decoder.kv(&*backend, KvFormat::F32);
    let mut batch = Batch::default();
    for (ids, adapter) in parts {
        batch.push(kv.start(), 0, ids.len(), ids, adapter.cloned());
    }
    let mut ops = Ops::new(&*backend);
    let hidden = decoder.forward(&mut ops, &batch, &mut kv).expect("the batch fits");
    let logits = decoder.logits(&mut ops, &hidden.rows).expect("the model has a head");
    let cols = logits.cols();
    let of = |span: &pasture_model::Span| logits.values()[span.rows.start * cols..span.rows.end * cols].to_vec();
    batch.spans.iter().map(of).collect()
}

fn check(found: &[f32], expected: &[f32], what: &str) {
    let far = |(found, expected): (&f32, &f32)| (found - expected).abs() > LOGITS + LOGITS * expected.abs();
    let first = found.iter().zip(expected).position(far);
    assert!(first.is_none() && found.iter().all(|value| value.is_finite()), "{what} differs first at {first:?}");
}

/// The same adapter cut to a smaller rank.
fn narrowed(adapter: &Adapter, rank: usize) -> Adapter {
    let cut = |site: &AdapterSite| {
        let mut a = vec![0.0; rank * site.a.cols()];
        a.chunks_exact_mut(site.a.cols()).enumerate().for_each(|(row, out)| site.a.row_values(row, out));
        let mut b = Vec::new();
        let mut whole = vec![0.0; site.b.cols()];
        for row in 0..site.b.rows() {
            site.b.row_values(row, &mut whole);
            b.extend_from_slice(&whole[..rank]);
        }
        let a = Weight::from_values(rank, site.a.cols(), &a);
        AdapterSite::new(a, Weight::from_values(site.b.rows(), rank, &b), site.scale)
    };
    Adapter::new(adapter.sites().iter().map(|(name, site)| (name.clone(), cut(site))).collect())
}

#[test]
fn adapters_side_by_side_give_what_each_gives_in_the_reference() {
    let Some(golden) = kit::folder("golden") else { return };
    let (decoder, texts) = (base(&golden), texts(&golden));
    let open = |kind: &str| {
        let folder = golden.join("train/llama3").join(kind);
        let adapter = load_adapter(&folder.join("final"), &decoder).expect("the kit's adapter loads");
        let results = Tensors::open(&folder.join("golden.safetensors")).expect("the kit's results open");
        (Arc::new(adapter), floats(&results, "batch0.logits_final_adapter"))
    };
    let ((plain, plain_logits), (root, root_logits)) = (open("lora"), open("rslora"));
    let (long, long_logits) = open("dora");
    let found = run(
        &decoder,
        &[
            (&texts[0], Some(&plain)),
            (&texts[0], None),
            (&texts[0], Some(&root)),
            (&texts[1], Some(&plain)),
            (&texts[1], Some(&root)),
            (&texts[1], Some(&long)),
        ],
    );
    let second = |logits: &[f32]| logits[logits.len() / 2..].to_vec();
    check(&found[0], &plain_logits, "alpha by rank");
    check(&found[2], &root_logits, "alpha by root");
    check(&found[3], &second(&plain_logits), "alpha by rank, second text");
    check(&found[4], &second(&root_logits), "alpha by root, second text");
    check(&found[5], &second(&long_logits), "with magnitudes, second text");
    let alone = run(&decoder, &[(&texts[0], None)]);
    assert!(found[1] == alone[0], "a text without an adapter is as if it were alone");
}

#[test]
fn adapters_of_different_rank_share_a_batch_and_change_no_bit_of_each_other() {
    let Some(golden) = kit::folder("golden") else { return };
    let (decoder, texts) = (base(&golden), texts(&golden));
    let folder = golden.join("train/llama3/lora/final");
    let wide = Arc::new(load_adapter(&folder, &decoder).expect("the kit's adapter loads"));
    let narrow = Arc::new(narrowed(&wide, 3));
    let together = run(&decoder, &[(&texts[0], Some(&wide)), (&texts[1], Some(&narrow))]);
    assert!(together[0] == run(&decoder, &[(&texts[0], Some(&wide))])[0]);
    assert!(together[1] == run(&decoder, &[(&texts[1], Some(&narrow))])[0]);
    assert!(together[0] != run(&decoder, &[(&texts[0], Some(&narrow))])[0], "the rank matters");
}

/// The base model with the kit's first layer, into which the adapter is merged.
fn merged(golden: &Path, kind: &str) -> Decoder {
    let base = golden.join("text/llama3");
    let tensors = Tensors::open(&base).expect("the kit's model opens");
    let layer = golden.join("train/llama3").join(kind).join("merged_layer0.safetensors");
    let layer = Tensors::open(&layer).expect("the kit's merged layer opens");
    let place = tempfile::tempdir().expect("a temporary folder");
    std::fs::copy(base.join("config.json"), place.path().join("config.json")).expect("the folder can be written");
    let from = |name: &str| if layer.get(name).is_some() { &layer } else { &tensors };
    let outline = |(name, entry): (&str, &pasture_files::Entry)| {
        let dtype = from(name).get(name).expect("it is in one of them").dtype;
        Outline { name: name.to_owned(), dtype, shape: entry.shape.clone() }
    };
    let outlines: Vec<Outline> = tensors.iter().map(outline).collect();
    safetensors::write(&place.path().join("model.safetensors"), &[], &outlines, |outline, sink| {
        sink.put(&from(&outline.name).bytes(&outline.name)?)
    })
    .expect("the folder can be written");
    model(place.path())
}

#[test]
fn an_adapter_beside_a_layer_is_the_layer_with_the_adapter_merged_in() {
    let Some(golden) = kit::folder("golden") else { return };
    let texts = texts(&golden);
    for kind in ["lora", "rslora", "dora"] {
        let folder = golden.join("train/llama3").join(kind);
        let decoder = merged(&golden, kind);
        let whole = load_adapter(&folder.join("final"), &decoder).expect("the kit's adapter loads");
        let above = whole.sites().iter().filter(|(module, _)| !module.starts_with("model.layers.0."));
        let above: BTreeMap<_, _> = above.map(|(module, site)| (module.clone(), site.clone())).collect();
        assert_eq!(above.len() * 2, whole.sites().len(), "one layer of two is merged");
        let above = Arc::new(Adapter::new(above));
        let results = Tensors::open(&folder.join("golden.safetensors")).expect("the kit's results open");
        let expected = floats(&results, "batch0.logits_merged");
        let found = run(&decoder, &[(&texts[0], Some(&above)), (&texts[1], Some(&above))]);
        check(&found[0], &expected, kind);
        check(&found[1], &expected[expected.len() / 2..], kind);
    }
}

/// The folder's adapter with one key of its description changed.
fn refused(folder: &Path, decoder: &Decoder, key: &str, value: serde_json::Value) -> String {
    let place = tempfile::tempdir().expect("a temporary folder");
    let copy =
        |name: &str| std::fs::copy(folder.join(name), place.path().join(name)).expect("the folder can be written");
    copy("adapter_model.safetensors");
    copy("adapter_config.json");
    let path = place.path().join("adapter_config.json");
    let text = std::fs::read_to_string(&path).expect("it was copied");
    let mut description: serde_json::Value = serde_json::from_str(&text).expect("the kit's description is JSON");
    description[key] = value;
    std::fs::write(&path, description.to_string()).expect("the folder can be written");
    load_adapter(place.path(), decoder).err().map(|fault| fault.to_string()).unwrap_or_default()
}

#[test]
fn an_adapter_that_asks_for_more_is_refused_by_name() {
    let Some(golden) = kit::folder("golden") else { return };
    let decoder = base(&golden);
    for (kind, key, value, named) in [
        ("dora", "use_dora", serde_json::json!(false), "lora_magnitude_vector"),
        ("lora", "use_dora", serde_json::json!(true), "lora_magnitude_vector"),
        ("lora", "modules_to_save", serde_json::json!(["lm_head"]), "modules_to_save"),
    ] {
        let shown = refused(&golden.join("train/llama3").join(kind).join("final"), &decoder, key, value);
        assert!(shown.contains(named) && shown.contains("adapter_"), "{kind}: {shown}");
    }
}

/// The module's name in GGUF files of Llama's family.
fn gguf_name(module: &str) -> String {
    let parts: Vec<&str> = module.split('.').collect();
    let kind = match parts[parts.len() - 1] {
        "q_proj" => "attn_q",
        "k_proj" => "attn_k",
        "v_proj" => "attn_v",
        "o_proj" => "attn_output",
        "gate_proj" => "ffn_gate",
        "up_proj" => "ffn_up",
        "down_proj" => "ffn_down",
        other => panic!("{other} has no name here"),
    };
    format!("blk.{}.{kind}", parts[2])
}

/// Writes an adapter as llama.cpp's converter does: rows of queries and keys in pairs that turn together.
fn write_gguf(path: &Path, adapter: &Adapter, head_dim: usize, architecture: &str) {
    let mut metadata = gguf::Metadata::new("adapter.gguf");
    let mut put = |key: &str, value: gguf::Value| metadata.insert(key, value).expect("a new key");
    put("general.architecture", gguf::Value::text(architecture));
    put("general.type", gguf::Value::text("adapter"));
    put("adapter.type", gguf::Value::text("lora"));
    let first = adapter.sites().values().next().expect("it has sites");
    put("adapter.lora.alpha", gguf::Value::F32(first.scale * first.a.rows() as f32));
    let (mut outlines, mut values) = (Vec::new(), BTreeMap::new());
    for (module, site) in adapter.sites() {
        let paired = module.ends_with("q_proj") || module.ends_with("k_proj");
        for (ending, weight, paired) in [("lora_a", &site.a, false), ("lora_b", &site.b, paired)] {
            let name = format!("{}.weight.{ending}", gguf_name(module));
            let mut rows = Vec::new();
            let mut row = vec![0.0; weight.cols()];
            for at in 0..weight.rows() {
                let (head, inside) = (at / head_dim * head_dim, at % head_dim);
                let from = if paired { head + inside / 2 + inside % 2 * (head_dim / 2) } else { at };
                weight.row_values(from, &mut row);
                rows.extend(row.iter().flat_map(|value| value.to_le_bytes()));
            }
            outlines.push(Outline {
                name: name.clone(),
                dtype: pasture_files::Dtype::Number(Format::F32),
                shape: vec![weight.rows(), weight.cols()],
            });
            values.insert(name, rows);
        }
    }
    gguf::write(path, &metadata, &outlines, |outline, sink| sink.put(&values[&outline.name])).expect("it is written");
}

#[test]
fn an_adapter_in_a_gguf_file_is_the_one_in_the_folder() {
    let Some(golden) = kit::folder("golden") else { return };
    let (decoder, texts) = (base(&golden), texts(&golden));
    let folder = load_adapter(&golden.join("train/llama3/lora/final"), &decoder).expect("the kit's adapter loads");
    let head_dim = decoder.spec().layers.iter().flatten().find_map(|branch| match &branch.mixer {
        pasture_model::spec::MixerSpec::Attention(attention) => Some(attention.head_dim),
        _ => None,
    });
    let place = tempfile::tempdir().expect("a temporary folder");
    let path = place.path().join("adapter.gguf");
    write_gguf(&path, &folder, head_dim.expect("it attends"), "llama");
    let file = load_adapter(&path, &decoder).expect("the file loads");
    assert_eq!(file.sites().len(), folder.sites().len());
    let (file, folder) = (Arc::new(file), Arc::new(folder));
    let found = run(&decoder, &[(&texts[0], Some(&file)), (&texts[0], Some(&folder)), (&texts[0], None)]);
    assert!(found[0] == found[1], "the same numbers at the same places");
    assert!(found[0] != found[2]);
    write_gguf(&path, &folder, head_dim.expect("it attends"), "gemma2");
    let other = load_adapter(&path, &decoder).err().map(|fault| fault.to_string()).unwrap_or_default();
    assert!(other.contains("gemma2") && other.contains("llama"), "{other}");
}

#[test]
fn broken_adapters_are_errors_and_sound_ones_load() {
    let Some(hostile) = kit::folder("hostile") else { return };
    let decoder = model(&hostile.join("model/valid"));
    let manifest = std::fs::read_to_string(hostile.join("manifest.jsonl")).expect("the kit's manifest is there");
    let mut checked = 0;
    for line in manifest.lines() {
        let row: serde_json::Value = serde_json::from_str(line).expect("the kit's manifest is JSON");
        if row["kind"] != "adapter" || row["op"] != "apply" || row["base"] != "model/valid" {
            continue;
        }
        let name = row["file"].as_str().unwrap_or_default();
        let loaded = load_adapter(&hostile.join(name), &decoder);
        match (&loaded, row["must"] == "ok") {
            (Ok(_), false) => assert!(row["may"] == "ok", "{name} is taken: {}", row["note"]),
            (Err(fault), true) => panic!("{name}: {fault}"),
            _ => {}
        }
        checked += 1;
    }
    assert!(checked > 30, "{checked} cases");
}
