//! Committed cases with one thing changed: their tensors in memory, written again beside their configuration.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use pasture_files::durable::Sink;
use pasture_files::outline::Outline;
use pasture_files::{Dtype, Tensors, safetensors};
use pasture_kernels::Pool;
use pasture_model::{LoadOptions, Loaded, Result, Source, load};
use pasture_tensor::{Backend, Cpu, Precision};

/// A tensor of a checkpoint, in the host's memory.
#[derive(Clone)]
pub struct Numbers {
    pub name: String,
    pub dtype: Dtype,
    pub shape: Vec<usize>,
    pub bytes: Vec<u8>,
}

/// A committed case.
pub fn case(name: &str) -> PathBuf {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/golden")).join(name)
}

pub fn tensors_of(case_name: &str) -> Vec<Numbers> {
    let open = Tensors::open(&case(case_name)).expect("a committed case opens");
    let read = |(name, entry): (&str, &pasture_files::Entry)| Numbers {
        name: name.to_owned(),
        dtype: entry.dtype,
        shape: entry.shape.clone(),
        bytes: open.bytes(name).expect("its bytes are there").to_vec(),
    };
    open.iter().map(read).collect()
}

/// Writes tensors beside the configuration of a case.
pub fn written(case_name: &str, tensors: &[Numbers], change: impl Fn(String) -> String) -> tempfile::TempDir {
    let root = tempfile::tempdir().expect("a folder for the test");
    let config = std::fs::read_to_string(case(case_name).join("config.json")).expect("the case has one");
    std::fs::write(root.path().join("config.json"), change(config)).expect("it can be written");
    let outline = |it: &Numbers| Outline { name: it.name.clone(), dtype: it.dtype, shape: it.shape.clone() };
    let outlines: Vec<Outline> = tensors.iter().map(outline).collect();
    let fill = |outline: &Outline, sink: &mut Sink| {
        let found = tensors.iter().find(|it| it.name == outline.name).expect("it was outlined");
        sink.put(&found.bytes)
    };
    safetensors::write(&root.path().join("model.safetensors"), &[], &outlines, fill).expect("it can be written");
    root
}

pub fn backend() -> Arc<dyn Backend> {
    Arc::new(Cpu::new(Arc::new(Pool::new(1)), Precision::Exact))
}

pub fn open(folder: &Path) -> Result<Loaded> {
    load(&Source::open(folder)?, &backend(), &LoadOptions::default(), &mut |_, _| ())
}

#[allow(dead_code, reason = "not every test changes a tensor")]
pub fn named<'t>(tensors: &'t mut [Numbers], name: &str) -> &'t mut Numbers {
    tensors.iter_mut().find(|it| it.name == name).expect("the case has it")
}
