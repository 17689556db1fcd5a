//! PyTorch checkpoints of the kit against the same tensors in safetensors, and the sets of pickles that must be refused.
#![allow(clippy::unwrap_used)]

#[path = "../../../tests/kit.rs"]
mod kit;

use std::collections::BTreeMap;
use std::path::Path;

use pasture_files::{Dtype, Tensors};
use pasture_kernels::Format;

type Table = BTreeMap<String, (Dtype, Vec<usize>, Vec<u8>)>;

fn table(path: &Path) -> Table {
    let open = Tensors::open(path).unwrap_or_else(|fault| panic!("{}: {fault}", path.display()));
    let row = |(name, entry): (&str, &pasture_files::Entry)| {
        (name.to_owned(), (entry.dtype, entry.shape.clone(), open.bytes(name).unwrap().to_vec()))
    };
    open.iter().map(row).collect()
}

fn floats(bytes: &[u8]) -> Vec<f32> {
    bytes.chunks_exact(4).map(|four| f32::from_le_bytes(four.try_into().unwrap())).collect()
}

#[test]
fn every_form_of_one_model_holds_the_same_tensors() {
    let Some(golden) = kit::folder("golden/pth") else { return };
    let wanted = table(&golden.join("bin_base/model.safetensors"));
    for case in ["bin_zip", "bin_legacy", "bin_sharded", "bin_views"] {
        let found = table(&golden.join(case));
        for (name, tensor) in &wanted {
            assert!(found.get(name) == Some(tensor), "{case}: {name}");
        }
        let extra: Vec<_> =
            found.iter().filter(|row| !wanted.contains_key(row.0)).map(|row| (row.1.0, row.0)).collect();
        match case {
            "bin_views" => assert_eq!(extra.len(), 2, "{extra:?}"),
            _ => assert!(extra.is_empty(), "{case}: {extra:?}"),
        }
    }
}

/// The first hidden rows of the reference are rows of the joined embedding, exactly.
fn check_meta(folder: &Path) {
    let open = Tensors::open(folder).unwrap();
    let embedding = open.get("tok_embeddings.weight").unwrap();
    let width = embedding.shape[1];
    assert_eq!(embedding.shape, [256, 64], "{}", folder.display());
    let format = embedding.dtype.format().unwrap();
    let values: Vec<f32> = open
        .bytes("tok_embeddings.weight")
        .unwrap()
        .chunks_exact(2)
        .map(|two| u16::from_le_bytes([two[0], two[1]]))
        .map(|bits| match format {
            Format::F16 => half::f16::from_bits(bits).to_f32(),
            _ => half::bf16::from_bits(bits).to_f32(),
        })
        .collect();
    let golden = table(&folder.join("golden.safetensors"));
    let ids: Vec<u32> = floats(&golden["p0.ids"].2).iter().map(|id| id.to_bits()).collect();
    let hidden = floats(&golden["hidden.embed_tokens"].2);
    for (row, &id) in hidden.chunks_exact(width).zip(&ids) {
        assert_eq!(row, &values[id as usize * width..][..width], "{}: row {id}", folder.display());
    }
    for (name, entry) in open.iter() {
        let wanted = entry.dtype.byte_count(&entry.shape).unwrap().get();
        assert_eq!(open.bytes(name).unwrap().len() as u64, wanted, "{name}");
        open.release(name);
    }
    let shape = |name: &str| open.get(name).unwrap().shape.clone();
    let heads = shape("layers.0.attention.wk.weight");
    assert!(heads == [64, 64] || heads == [32, 64], "{heads:?}");
    let [inner, _] = shape("layers.0.feed_forward.w1.weight")[..] else { panic!("w1 is a matrix") };
    assert_eq!(shape("layers.0.feed_forward.w2.weight"), [64, inner]);
    assert_eq!(shape("layers.1.attention.wo.weight"), [64, 64]);
    assert_eq!(shape("output.weight"), [256, 64]);
    assert_eq!(shape("norm.weight"), [64]);
}

#[test]
fn shards_of_meta_join_to_whole_tensors() {
    let Some(golden) = kit::folder("golden/pth") else { return };
    for case in ["llama2_meta_2shard", "llama3_meta", "llama3_meta_2shard"] {
        check_meta(&golden.join(case));
    }
    let whole = table(&golden.join("llama2_meta_2shard"));
    assert!(table(&golden.join("llama2_meta_2shard/consolidated.01.pth")) == whole, "one shard opens all");
}

#[test]
fn a_missing_shard_is_named() {
    let Some(golden) = kit::folder("golden/pth/llama2_meta_2shard") else { return };
    let folder = tempfile::tempdir().unwrap();
    for name in ["consolidated.00.pth", "consolidated.01.pth"] {
        std::fs::copy(golden.join(name), folder.path().join(name)).unwrap();
    }
    std::fs::rename(folder.path().join("consolidated.01.pth"), folder.path().join("consolidated.02.pth")).unwrap();
    let fault = Tensors::open(folder.path()).unwrap_err().to_string();
    assert!(fault.contains("consolidated.01.pth"), "{fault}");
}

#[test]
fn shards_that_do_not_fit_each_other_are_refused() {
    let Some(golden) = kit::folder("golden/pth") else { return };
    let (two, three) = (golden.join("llama2_meta_2shard"), golden.join("llama3_meta_2shard"));
    let check = |files: &[(&Path, &str)], params: &str, wanted: &str| {
        let folder = tempfile::tempdir().unwrap();
        for (rank, (from, name)) in files.iter().enumerate() {
            std::fs::copy(from.join(name), folder.path().join(format!("consolidated.{rank:02}.pth"))).unwrap();
        }
        std::fs::write(folder.path().join("params.json"), params).unwrap();
        let fault = Tensors::open(folder.path()).unwrap_err().to_string();
        assert!(fault.contains(wanted), "{fault}");
    };
    let (first, second) = ("consolidated.00.pth", "consolidated.01.pth");
    check(&[(&three, first), (&three, second)], r#"{"n_kv_heads":1}"#, "more shards than key and value heads");
    check(&[(&two, first), (&three, second)], "{}", "differ in shape or kind");
    // Half the columns twice more are wider than the norms.
    check(&[(&two, first), (&two, second), (&two, first)], "{}", "make no tensor of a model of width 64");
}

#[test]
fn fixtures_read_or_are_refused_by_name() {
    let Some(fixtures) = kit::folder("assets/weights/pytorch-fixtures") else { return };
    let refused = ["broken.pt"];
    let mut count = 0;
    for entry in std::fs::read_dir(&fixtures).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|ending| ending != "pt") {
            continue;
        }
        let name = path.file_name().unwrap().to_str().unwrap();
        match Tensors::open(&path) {
            Ok(open) => {
                assert!(!refused.contains(&name), "{name} was read");
                open.names().for_each(|tensor| assert!(open.bytes(tensor).is_ok(), "{name} {tensor}"));
            }
            Err(fault) => assert!(refused.contains(&name) && fault.to_string().contains(name), "{name}: {fault}"),
        }
        count += 1;
    }
    assert_eq!(count, 30);
}

#[test]
fn values_are_those_that_were_saved() {
    let Some(fixtures) = kit::folder("assets/weights/pytorch-fixtures") else { return };
    let check = |file: &str, tensor: &str, shape: &[usize], wanted: &[u8]| {
        let (_, found, bytes) = table(&fixtures.join(file)).remove(tensor).unwrap();
        assert_eq!((found.as_slice(), bytes.as_slice()), (shape, wanted), "{file}");
    };
    let floats = |values: &[f32]| values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<u8>>();
    let counted: Vec<u8> = (1..=24i64).flat_map(i64::to_le_bytes).collect();
    check("uint8.pt", "tensor", &[4], &[0, 128, 255, 42]);
    check("bfloat16.pt", "tensor", &[3], &[192, 63, 32, 192, 96, 64]);
    check("scalar.pt", "tensor", &[], &floats(&[42.0]));
    check("tensor_2d.pt", "tensor", &[3, 2], &floats(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]));
    check("legacy_uncloned_views.pt", "tensor2", &[10], &floats(&[50., 51., 52., 53., 54., 55., 56., 57., 58., 59.]));
    check("candle/fortran_tensor_3d.pth", "tensor_fortran", &[2, 3, 4], &counted);
}

#[test]
fn training_state_around_a_model_is_left_out_by_name() {
    let Some(fixtures) = kit::folder("assets/weights/pytorch-fixtures") else { return };
    let open = Tensors::open(&fixtures.join("checkpoint.pt")).unwrap();
    assert_eq!(open.left_out(), ["optimizer_state_dict", "epoch", "loss"]);
    assert_eq!(open.names().collect::<Vec<_>>(), ["fc1.weight", "fc1.bias", "fc2.weight", "fc2.bias"]);
}

#[test]
fn one_network_in_two_containers_has_the_same_names_and_shapes() {
    let Some(mnist) = kit::folder("assets/weights/mnist") else { return };
    let outline = |file: &str| {
        let table = table(&mnist.join(file));
        table.into_iter().map(|(name, tensor)| (name, tensor.0, tensor.1)).collect::<Vec<_>>()
    };
    // Their values are of two trainings: `num_batches_tracked` says 3752 in one and 7504 in the other.
    assert_eq!(outline("mnist.pt"), outline("mnist.safetensors"));
}

#[test]
fn pickles_that_call_are_refused_and_nothing_runs() {
    for set in ["golden/pth/hostile", "assets/hostile/picklescan"] {
        let Some(folder) = kit::folder(set) else { return };
        for entry in std::fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|ending| ending == "json") {
                continue;
            }
            let name = path.file_name().unwrap().to_str().unwrap();
            match Tensors::open(&path) {
                // The only harmless one of the sets: a model of DistilBERT's form.
                Ok(open) => assert!(name == "pytorch_model.bin" && open.len() == 38, "{name} was read"),
                Err(fault) => assert!(fault.to_string().contains(name), "{fault}"),
            }
        }
    }
    assert!(!Path::new("HOSTILE_PICKLE_RAN").exists());
}
