//! Loading is closed, and layouts do not matter: a committed case is written again with one thing changed, and either the
//! error names that thing, or the model is the same to the bit.

mod changed;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use changed::{Numbers, backend, case, named, open, tensors_of, written};
use pasture_files::Dtype;
use pasture_files::durable::Sink;
use pasture_files::packed::Origin;
use pasture_kernels::{Format, Kernels, Pool};
use pasture_model::names::{Names, Place, Row, Stored, fused, row};
use pasture_model::{Batch, Decoder, LoadOptions, Prepared, Source, build, families, load};
use pasture_model::{compare_prepared, packed_layout, prepare, prepared_bytes};
use pasture_tensor::kv::KvFormat;
use pasture_tensor::{Backend, Cpu, Ops, Precision};

const F32: Dtype = Dtype::Number(Format::F32);

const PLAIN: &str = "pth/bin_base";
const EXPERTS: &str = "arctic/arctic_freq2";

fn logits(decoder: &Decoder) -> Vec<f32> {
    let backend = decoder.backend().clone();
    let mut kv = decoder.kv(&*backend, KvFormat::F32);
    let batch = Batch::one(kv.start(), 0, 4, &[1, 7, 3, 5]);
    let mut ops = Ops::new(&*backend);
    let hidden = decoder.forward(&mut ops, &batch, &mut kv).expect("the batch fits");
    decoder.logits(&mut ops, &hidden.rows).expect("it has a head").into_values()
}

/// Loads a case after a change of its tensors, which must fail with a message that has all these words.
fn refuses(change: impl Fn(&mut Vec<Numbers>), words: &[&str]) {
    let mut tensors = tensors_of(PLAIN);
    change(&mut tensors);
    let root = written(PLAIN, &tensors, |config| config);
    let shown = open(root.path()).err().map_or_else(|| "it loaded".to_owned(), |fault| fault.to_string());
    assert!(words.iter().all(|word| shown.contains(word)), "{shown}: not {words:?}");
}

const UP: &str = "model.layers.0.mlp.up_proj.weight";
const NORM: &str = "model.norm.weight";

#[test]
fn what_does_not_fit_is_refused_by_name() {
    let extra = |name: &str| Numbers { name: name.to_owned(), dtype: F32, shape: vec![4], bytes: vec![0; 16] };
    refuses(|tensors| tensors.retain(|it| it.name != UP), &[UP, "is not in", "needs it as"]);
    refuses(|tensors| tensors.retain(|it| it.name != NORM), &[NORM, "is not in"]);
    refuses(|tensors| tensors.push(extra("model.layers.0.zz.weight")), &["model.layers.0.zz.weight", "has no place"]);
    refuses(|tensors| tensors.push(extra("extra.ids")), &["extra.ids", "has no place"]);
    refuses(|tensors| named(tensors, UP).shape.reverse(), &[UP, "model.safetensors", "but this model needs"]);
    refuses(|tensors| named(tensors, NORM).dtype = Dtype::I32, &[NORM, "stored as I32"]);
    refuses(|tensors| named(tensors, UP).dtype = Dtype::U32, &[UP, "stored as U32"]);
}

#[test]
fn a_tied_head_may_stand_in_the_file_if_it_is_the_same() {
    let tie = |config: String| config.replace("\"tie_word_embeddings\": false", "\"tie_word_embeddings\": true");
    let mut tensors = tensors_of(PLAIN);
    let differs = written(PLAIN, &tensors, tie);
    let shown = open(differs.path()).err().map(|fault| fault.to_string()).unwrap_or_default();
    assert!(shown.contains("\"lm_head.weight\"") && shown.contains("not the same as"), "{shown}");
    let embedding = named(&mut tensors, "model.embed_tokens.weight").bytes.clone();
    named(&mut tensors, "lm_head.weight").bytes = embedding;
    let copied = written(PLAIN, &tensors, tie);
    let unused = open(copied.path()).expect("a copy is no contradiction").unused;
    assert_eq!(unused.iter().map(|it| it.tensor.as_str()).collect::<Vec<_>>(), ["lm_head.weight"]);
}

#[test]
fn tensors_known_to_be_of_no_use_are_told_with_their_reason() {
    let mut tensors = tensors_of(PLAIN);
    let name = "model.layers.0.self_attn.rotary_emb.inv_freq".to_owned();
    tensors.push(Numbers { name, dtype: F32, shape: vec![4], bytes: vec![0; 16] });
    let root = written(PLAIN, &tensors, |config| config);
    let unused = open(root.path()).expect("it loads").unused;
    assert!(unused.len() == 1 && unused[0].reason.contains("computed from the configuration"), "{unused:?}");
}

#[test]
fn buffers_that_older_versions_saved_in_every_layer_change_nothing() {
    let mut tensors = tensors_of(PLAIN);
    let layers = tensors.iter().filter(|it| it.name.ends_with(".input_layernorm.weight")).count();
    for layer in 0..layers {
        let name = format!("model.layers.{layer}.self_attn.rotary_emb.inv_freq");
        tensors.push(Numbers { name, dtype: Dtype::Number(Format::F16), shape: vec![8], bytes: vec![0; 16] });
    }
    let (plain, root) = (open(&case(PLAIN)).expect("it loads"), written(PLAIN, &tensors, |config| config));
    let old = open(root.path()).expect("it loads");
    assert_eq!(old.unused.len(), plain.unused.len() + layers);
    assert!(logits(&old.decoder) == logits(&plain.decoder));
    // Encoders had the numbers of the positions.
    for (encoder, name) in
        [("embed/bert", "embeddings.position_ids"), ("embed/xlm_roberta", "roberta.embeddings.position_ids")]
    {
        let mut tensors = tensors_of(encoder);
        tensors.push(Numbers { name: name.into(), dtype: Dtype::I64, shape: vec![1, 4], bytes: vec![0; 32] });
        let root = written(encoder, &tensors, |config| config);
        let unused = open(root.path()).expect("it loads").unused;
        assert!(unused.iter().any(|it| it.tensor == name && it.reason.contains("positions")), "{unused:?}");
    }
}

/// Loads changed tensors through a changed name table: the logits must be those of the case, bit by bit.
fn same(case_name: &str, change: impl Fn(&mut Vec<Numbers>), rows: Vec<Row>) {
    let mut tensors = tensors_of(case_name);
    let plain = open(&case(case_name)).expect("a committed case loads");
    change(&mut tensors);
    let root = written(case_name, &tensors, |config| config);
    let source = Source::open(root.path()).expect("it was just written");
    let spec = families::blueprint(&source.config).expect("the case has a page").spec;
    let own = (plain.family.names)(&spec);
    let replaced = |old: &Row| rows.iter().any(|new| new.slots.contains(&old.slots[0]));
    let kept = own.rows.iter().filter(|row| !replaced(row)).cloned();
    let names = Names::new(kept.chain(rows.iter().cloned()).collect());
    let (decoder, unused) = build(&source.tensors, &spec, &names, backend(), &mut |_, _| ()).expect("it loads");
    assert!(unused.is_empty(), "{unused:?}");
    assert!(logits(&decoder) == logits(&plain.decoder), "{case_name} is another model");
}

/// Replaces tensors by one of their bytes behind each other, for each layer that has them.
fn join(tensors: &mut Vec<Numbers>, layers: usize, parts: &[&str], to: &str, stacks: Option<usize>) {
    for layer in 0..layers {
        let full = |name: &str| format!("model.layers.{layer}.{name}");
        let taken: Vec<Numbers> =
            parts.iter().filter_map(|part| tensors.iter().find(|it| it.name == full(part)).cloned()).collect();
        if taken.len() < parts.len() {
            continue;
        }
        tensors.retain(|it| taken.iter().all(|part| part.name != it.name));
        let rows: usize = taken.iter().map(|it| it.shape[0]).sum();
        let cols = taken[0].shape[1];
        let shape = stacks.map_or_else(|| vec![rows, cols], |stacks| vec![stacks, rows / stacks, cols]);
        let bytes = taken.iter().flat_map(|it| it.bytes.clone()).collect();
        tensors.push(Numbers { name: full(to), dtype: taken[0].dtype, shape, bytes });
    }
}

/// Exchanges the dimensions of a tensor.
fn turn(tensor: &mut Numbers) {
    let (rows, cols) = (tensor.shape[0], tensor.shape[1]);
    let size = tensor.bytes.len() / rows / cols;
    let at = |row: usize, col: usize| &tensor.bytes[(row * cols + col) * size..][..size];
    let turned = (0..cols).flat_map(|col| (0..rows).map(move |row| (row, col)));
    tensor.bytes = turned.flat_map(|(row, col)| at(row, col).to_vec()).collect();
    tensor.shape.reverse();
}

#[test]
fn name_tables_read_both_ways() {
    for name in [PLAIN, EXPERTS, "text/gemma2", "text/phi1_5_qkln", "embed/bert"] {
        let source = Source::open(&case(name)).expect("a committed case opens");
        let blueprint = families::blueprint(&source.config).expect("the case has a page");
        let names = (blueprint.family.names)(&blueprint.spec);
        for tensor in source.tensors.names().filter(|tensor| names.reason(tensor).is_none()) {
            let (row, part, layer, expert) = names.find(tensor).expect("each tensor has a row");
            let place = Place { slot: row.slots[0], layer, expert };
            assert_eq!(row.tensor(part, place).as_deref(), Some(tensor));
            assert!(names.candidates(place, part).any(|(name, _)| name == tensor), "{tensor}");
        }
    }
}

#[test]
fn fused_and_transposed_tensors_are_the_same_model() {
    let qkv = ["self_attn.q_proj.weight", "self_attn.k_proj.weight", "self_attn.v_proj.weight"];
    let one = fused("model.layers.{layer}.self_attn.qkv", &["attention.q", "attention.k", "attention.v"]);
    same(PLAIN, |tensors| join(tensors, 8, &qkv, "self_attn.qkv.weight", None), vec![one]);
    let both = ["mlp.gate_proj.weight", "mlp.up_proj.weight"];
    let one = fused("model.layers.{layer}.mlp.gate_up", &["mlp.gate", "mlp.up"]);
    same(PLAIN, |tensors| join(tensors, 8, &both, "mlp.gate_up.weight", None), vec![one]);
    let down = row("model.layers.{layer}.mlp.down_proj", "mlp.down").stored(Stored::Transposed);
    let turned = |tensors: &mut Vec<Numbers>| {
        tensors.iter_mut().filter(|it| it.name.contains("down_proj")).for_each(turn);
    };
    same(PLAIN, turned, vec![down]);
}

#[test]
fn stacked_experts_are_the_same_model() {
    let experts = |tensors: &[Numbers]| {
        tensors.iter().filter(|it| it.name.starts_with("model.layers.1.") && it.name.ends_with(".w1.weight")).count()
    };
    for (slot, part) in [("expert.gate", "w1"), ("expert.up", "w3"), ("expert.down", "w2")] {
        let stack = |tensors: &mut Vec<Numbers>, stacks: bool| {
            // The dense part beside them has a tensor of that ending too.
            let count = experts(tensors) - 1;
            let names: Vec<String> =
                (0..count).map(|expert| format!("block_sparse_moe.experts.{expert}.{part}.weight")).collect();
            let names: Vec<&str> = names.iter().map(String::as_str).collect();
            join(tensors, 8, &names, "block_sparse_moe.stack.weight", stacks.then_some(count));
        };
        let stacked = |stored| vec![row("model.layers.{layer}.block_sparse_moe.stack", slot).stored(stored)];
        same(EXPERTS, |tensors| stack(tensors, false), stacked(Stored::Stacked));
        same(EXPERTS, |tensors| stack(tensors, true), stacked(Stored::Stacked));
        let ending = format!(".{part}.weight");
        let transposed = |tensors: &mut Vec<Numbers>| {
            let is_expert = |it: &&mut Numbers| it.name.contains(".experts.") && it.name.ends_with(&ending);
            tensors.iter_mut().filter(is_expert).for_each(turn);
            stack(tensors, true);
        };
        same(EXPERTS, transposed, stacked(Stored::StackedTransposed));
    }
}

/// Writes a model's packed weights for some kernels, as `source` says, and gives the file.
fn prepared(folder: &Path, from: &Source, backend: &Arc<dyn Backend>, source: &str) -> PathBuf {
    let (path, layout) = (folder.join("packed"), packed_layout(backend.layouts().expect("a processor")));
    let origin = Origin { name: "a".into(), source: source.into(), layout };
    let options = LoadOptions::default();
    let fill = |sink: &mut Sink| {
        prepare(from, backend, &options, (sink, origin), &mut |_, _| ()).expect("it is packed");
        Ok(())
    };
    pasture_files::durable::write_file(&path, fill).expect("it is written");
    path
}

#[test]
fn packed_weights_out_of_a_file_are_those_that_loading_packs() {
    let folder = tempfile::tempdir().expect("a folder for the test");
    let starter = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../starter/starter.gguf");
    let cases = [PLAIN, EXPERTS, "prequantized/bnb_nf4", "text/gpt_oss_mxfp4"].map(case);
    for (path, kernels) in
        cases.iter().chain([&starter]).flat_map(|path| Kernels::all().iter().map(move |it| (path, *it)))
    {
        let what = format!("{path:?} on {}", kernels.name());
        let from = Source::open(path).expect("a committed model");
        let backend: Arc<dyn Backend> = Arc::new(Cpu::new(Arc::new(Pool::with_kernels(1, kernels)), Precision::Fast));
        let (file, layout) = (prepared(folder.path(), &from, &backend, "a"), packed_layout(kernels));
        let bytes = file.metadata().expect("it is there").len();
        assert!(bytes <= prepared_bytes(&from, kernels).expect("every slot is there").get(), "{what}");
        let found = Prepared::open(&file, "a", &layout).expect("it is whole");
        compare_prepared(&from, &backend, &LoadOptions::default(), &found, &mut |_, _| ()).expect(&what);
        let load = |prepared: Option<Prepared>| {
            let options = LoadOptions { prepared, ..LoadOptions::default() };
            load(&from, &backend, &options, &mut |_, _| ()).expect("it loads")
        };
        let (ours, theirs) = (load(Some(found)), load(None));
        assert_eq!(ours.unprepared, None, "{what}");
        let bits = |decoder: &Decoder| logits(decoder).iter().map(|it| it.to_bits()).collect::<Vec<u32>>();
        assert_eq!(bits(&ours.decoder), bits(&theirs.decoder), "{what}");
        for (source, layout) in [("b", layout.as_str()), ("a", "0.0")] {
            let fault = Prepared::open(&file, source, layout).expect_err("it is of something else").to_string();
            assert!(fault.contains("it was made"), "{fault}");
        }
    }
}

#[test]
fn packed_weights_of_another_model_are_left_aside() {
    let folder = tempfile::tempdir().expect("a folder for the test");
    let backend = backend();
    let layout = packed_layout(backend.layouts().expect("a processor"));
    let told = |other: &Path, from: &Path| {
        let file = prepared(folder.path(), &Source::open(other).expect("it opens"), &backend, "a");
        let found = Prepared::open(&file, "a", &layout).expect("it is whole");
        let from = Source::open(from).expect("it opens");
        let options = LoadOptions { prepared: Some(found.clone()), ..LoadOptions::default() };
        let loaded = load(&from, &backend, &options, &mut |_, _| ()).expect("it is packed into memory");
        let plain = load(&from, &backend, &LoadOptions::default(), &mut |_, _| ()).expect("it loads");
        assert!(logits(&loaded.decoder) == logits(&plain.decoder));
        let differs = compare_prepared(&from, &backend, &LoadOptions::default(), &found, &mut |_, _| ()).is_err();
        (loaded.unprepared, differs)
    };
    assert_eq!(told(&case(PLAIN), &case(PLAIN)), (None, false));
    let (what, differs) = told(&case(EXPERTS), &case(PLAIN));
    assert!(differs && what.expect("another model").contains("another form of"));
    // The same shapes with other numbers, and the same numbers but for one in a row that loading does not look at.
    let mut tensors = tensors_of(PLAIN);
    named(&mut tensors, UP).bytes.iter_mut().for_each(|byte| *byte ^= 1);
    let (what, differs) = told(written(PLAIN, &tensors, |config| config).path(), &case(PLAIN));
    assert!(differs && what.expect("other numbers").contains("other numbers in \"mlp.up of layer 0\""));
    let mut tensors = tensors_of(PLAIN);
    named(&mut tensors, UP).bytes[0] ^= 1;
    let root = written(PLAIN, &tensors, |config| config);
    let file = prepared(folder.path(), &Source::open(root.path()).expect("it opens"), &backend, "a");
    let found = Prepared::open(&file, "a", &layout).expect("it is whole");
    let from = Source::open(&case(PLAIN)).expect("it opens");
    let fault = compare_prepared(&from, &backend, &LoadOptions::default(), &found, &mut |_, _| ());
    assert!(fault.expect_err("one byte differs").to_string().contains("\"mlp.up of layer 0\" differs"));
}
