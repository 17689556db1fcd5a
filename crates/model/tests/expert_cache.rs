//! Experts on disk: the logits are those of the resident model in plain rows to the bit, the cache keeps to its limit,
//! and a file that became shorter ends the forward with an error, not the program.
#![cfg(unix)]
#[path = "../../../tests/kit.rs"]
mod kit;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use pasture_files::outline::Outline;
use pasture_files::{Dtype, safetensors};
use pasture_kernels::{Format, Pool};
use pasture_model::save::{Own, encode_plainly, plan_gguf};
use pasture_model::{Batch, Decoder, Error, Kv, LoadOptions, SequenceId, Source, load, survey};
use pasture_tensor::backend::Group;
use pasture_tensor::kv::KvFormat;
use pasture_tensor::{Backend, Cpu, Ops, Precision, Tensor, Weight, reference};

/// The processor's products over plain rows, as experts from disk are; nothing else is of its own.
struct PlainRows(Cpu);

impl Backend for PlainRows {
    fn name(&self) -> &'static str {
        "plain rows"
    }

    fn precision(&self) -> Precision {
        self.0.precision()
    }

    fn weight<'a>(&self, format: Format, rows: usize, cols: usize, row: &(dyn Fn(usize) -> &'a [u8] + Sync)) -> Weight {
        reference::weight(format, rows, cols, row)
    }

    fn grouped(&self, x: &Tensor, groups: &[Group]) -> Tensor {
        self.0.grouped(x, groups)
    }
}

fn committed(case: &str) -> PathBuf {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/golden")).join(case)
}

fn open(folder: &Path, expert_cache: Option<u64>) -> Result<Decoder, Error> {
    let backend: Arc<dyn Backend> = Arc::new(PlainRows(Cpu::new(Arc::new(Pool::new(1)), Precision::Exact)));
    let options = LoadOptions { expert_cache, ..LoadOptions::default() };
    Ok(load(&Source::open(folder)?, &backend, &options, &mut |_, _| ())?.decoder)
}

fn kv(decoder: &Decoder) -> Kv {
    decoder.kv(&**decoder.backend(), KvFormat::F32)
}

fn run(decoder: &Decoder, kv: &mut Kv, sequence: SequenceId, ids: &[u32]) -> Result<Vec<f32>, Error> {
    let mut ops = Ops::new(&**decoder.backend());
    let start = kv.len(sequence);
    let hidden = decoder.forward(&mut ops, &Batch::one(sequence, start, start + ids.len(), ids), kv)?;
    Ok(decoder.logits(&mut ops, &hidden.rows)?.into_values())
}

const PROMPT: [u32; 9] = [1, 7, 3, 5, 60, 22, 9, 11, 40];

/// A prompt and two more tokens.
fn logits(decoder: &Decoder) -> Vec<f32> {
    let mut kv = kv(decoder);
    let sequence = kv.start();
    let parts = [&PROMPT[..], &[8], &[30]].map(|part| run(decoder, &mut kv, sequence, part).expect("it fits"));
    parts.concat()
}

/// Bytes of one expert, as the error of a cache that is too small names them.
fn expert_bytes(folder: &Path) -> u64 {
    let Err(Error::ExpertCache { what }) = open(folder, Some(1)) else { panic!("one byte holds no expert") };
    what.split(' ').nth(2).and_then(|word| word.parse().ok()).expect("the error says how many bytes")
}

fn check(folder: &Path) {
    let expected = logits(&open(folder, None).expect("it loads"));
    let one = expert_bytes(folder);
    for held in [1, 3, 1000] {
        let decoder = open(folder, Some(held * one)).expect("it loads");
        assert_eq!(logits(&decoder), expected, "{folder:?} with {held} experts in memory");
        let counts = decoder.expert_cache().expect("its experts are on disk").counts();
        assert!(counts.held_bytes_max <= held * one && counts.misses > 0, "{counts:?}");
        assert!(counts.read_bytes >= counts.misses * one, "{counts:?}");
        assert!(decoder.expert_bytes_a_token().expect("it reads") >= one);
        if held == 1000 {
            let before = counts.misses;
            assert_eq!(logits(&decoder), expected, "a second time");
            assert_eq!(decoder.expert_cache().expect("as before").counts().misses, before, "all were in memory");
        }
    }
}

#[test]
fn a_mixture_on_disk_has_the_logits_of_one_in_memory() {
    for case in ["text/mixtral", "text/qwen3_moe_nonorm", "text/dbrx", "arctic/arctic_freq2"] {
        check(&committed(case));
    }
    let Some(golden) = kit::folder("golden") else { return };
    for case in ["text/phi35_moe", "text/llama4_text", "text/gpt_oss", "arctic/arctic"] {
        check(&golden.join(case));
    }
}

/// A mixture whose rows are long enough for blocks of 256: a committed case's configuration, wider, with any numbers.
fn wide(folder: &Path) {
    let config = std::fs::read_to_string(committed("text/mixtral").join("config.json")).expect("the case has it");
    let sizes = [("\"hidden_size\": 64", "\"hidden_size\": 256"), ("_size\": 72", "_size\": 256")];
    let config = sizes.iter().fold(config, |config, (old, new)| config.replace(old, new));
    std::fs::write(folder.join("config.json"), config).expect("it can be written");
    let outline =
        |name: String, shape: &[usize]| Outline { name, dtype: Dtype::Number(Format::F32), shape: shape.to_vec() };
    let mut all = vec![
        outline("model.embed_tokens.weight".into(), &[256, 256]),
        outline("model.norm.weight".into(), &[256]),
        outline("lm_head.weight".into(), &[256, 256]),
    ];
    for layer in 0..2 {
        let mut of_layer = |name: &str, shape: &[usize]| {
            all.push(outline(format!("model.layers.{layer}.{name}.weight"), shape));
        };
        of_layer("input_layernorm", &[256]);
        of_layer("post_attention_layernorm", &[256]);
        ["q", "o"].iter().for_each(|part| of_layer(&format!("self_attn.{part}_proj"), &[256, 256]));
        ["k", "v"].iter().for_each(|part| of_layer(&format!("self_attn.{part}_proj"), &[128, 256]));
        of_layer("block_sparse_moe.gate", &[4, 256]);
        for (expert, part) in (0..4).flat_map(|expert| ["w1", "w2", "w3"].map(|part| (expert, part))) {
            of_layer(&format!("block_sparse_moe.experts.{expert}.{part}"), &[256, 256]);
        }
    }
    let mut state = 1u32;
    let mut fill = |outline: &Outline, sink: &mut pasture_files::durable::Sink| {
        let count: usize = outline.shape.iter().product();
        let next = |_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            ((state >> 8) as f32 / 8_388_608.0 - 1.0) * 0.15
        };
        let bytes: Vec<u8> = (0..count).map(next).flat_map(f32::to_le_bytes).collect();
        sink.put(&bytes)
    };
    safetensors::write(&folder.join("model.safetensors"), &[], &all, &mut fill).expect("it can be written");
}

#[test]
fn quantized_experts_on_disk_have_the_logits_of_those_in_memory() {
    let folder = tempfile::tempdir().expect("a folder for the test");
    wide(folder.path());
    let source = Source::open(folder.path()).expect("it was just written");
    let survey = survey(&source).expect("its tensors are there");
    let own = Own { source: &source, survey: &survey };
    for (format, block_bytes) in [(Format::Q8_0, 34 * 8), (Format::Q4_K, 144), (Format::Q6_K, 210)] {
        let mut plan = plan_gguf(&source, &survey).expect("GGUF has a word for it");
        let experts = plan.targets.iter_mut().filter(|target| target.outline.name.contains("_exps"));
        let changed = experts.map(|target| target.outline.dtype = Dtype::Number(format)).count();
        assert_eq!(changed, 6, "three stacks in each of two layers");
        let file = folder.path().join("model.gguf");
        plan.write(&file, None, &own, &encode_plainly, &mut |_, _| ()).expect("it can be written");
        assert_eq!(expert_bytes(&file), 3 * 256 * block_bytes, "{format:?}: three matrices of 256 rows of one block");
        check(&file);
    }
}

#[test]
fn a_file_cut_short_ends_the_forward_with_an_error() {
    let folder = tempfile::tempdir().expect("a folder for the test");
    for name in ["config.json", "model.safetensors"] {
        let bytes = std::fs::read(committed("text/mixtral").join(name)).expect("the case has it");
        std::fs::write(folder.path().join(name), bytes).expect("it can be written");
    }
    let decoder = open(folder.path(), Some(expert_bytes(folder.path()))).expect("it loads");
    let mut kv = kv(&decoder);
    let (whole, cut) = (kv.start(), kv.start());
    let before = run(&decoder, &mut kv, whole, &PROMPT).expect("it fits");
    let file = folder.path().join("model.safetensors");
    let bytes = std::fs::read(&file).expect("it is there");
    let open_file = || std::fs::OpenOptions::new().write(true).open(&file).expect("it can be changed");
    open_file().set_len(bytes.len() as u64 / 20).expect("it can be cut");
    let error = run(&decoder, &mut kv, cut, &PROMPT).expect_err("the experts are gone").to_string();
    assert!(error.contains("model.safetensors"), "{error}");
    assert_eq!((kv.len(cut), kv.len(whole)), (0, PROMPT.len()));
    std::os::unix::fs::FileExt::write_all_at(&open_file(), &bytes, 0).expect("it can be restored");
    assert_eq!(run(&decoder, &mut kv, cut, &PROMPT).expect("it is whole again"), before);
}

#[test]
fn what_cannot_stay_on_disk_is_refused() {
    for (case, part) in [("pth/bin_base", "has no effect"), ("text/gemma2", "this model has none")] {
        let error = open(&committed(case), Some(1 << 20)).err().expect("it is refused").to_string();
        assert!(error.contains(part), "{error}");
    }
    let Some(golden) = kit::folder("golden") else { return };
    let error = open(&golden.join("text/gpt_oss_mxfp4"), Some(1 << 20)).err().expect("it is refused").to_string();
    assert!(error.contains("codes and scales that lie apart"), "{error}");
}
