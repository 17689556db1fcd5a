//! Experts on disk: the logits are those of the resident model in plain rows to the bit, the cache keeps to its limit,
//! and a file that became shorter ends the forward with an error, not the program.
#![cfg(unix)]
#[path = "../../../tests/kit.rs"]
mod kit;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use pasture_kernels::{Format, Pool};
use pasture_model::{Batch, Decoder, Error, Kv, LoadOptions, SequenceId, Source, load};
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
