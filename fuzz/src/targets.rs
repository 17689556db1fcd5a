//! The readers, each as one function from a file to a word about what came of it. Errors are fine, panics are not.

use std::path::Path;

use anyhow::{Context as _, Result};
use pasture_files::Tensors;

use crate::archive;

/// One reader and where its inputs come from.
#[derive(Clone, Copy)]
pub struct Target {
    /// What the command line calls it.
    pub name: &'static str,
    /// The name of the input file; readers look at its ending.
    pub file: &'static str,
    /// Files or folders of the kit.
    pub seeds: &'static [&'static str],
    /// Files or folders of this repository.
    pub own_seeds: &'static [&'static str],
    /// Endings of the files that are taken from folders; none: all.
    pub takes: &'static [&'static str],
    /// Inputs that need no file.
    pub literals: &'static [&'static str],
    /// Reads the file (the bytes are the same) and says what came of it.
    pub feed: fn(&Path, &[u8]) -> String,
}

const TARGETS: [Target; 4] = [
    Target {
        name: "gguf",
        file: "input.gguf",
        seeds: &["hostile/gguf", "golden/gguf"],
        own_seeds: &[],
        takes: &[".gguf"],
        literals: &["GGUF\u{3}\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0"],
        feed: |path, _| tensors(path),
    },
    Target {
        name: "safetensors",
        file: "input.safetensors",
        seeds: &["hostile/safetensors", "golden/samplers"],
        own_seeds: &[],
        takes: &[".safetensors"],
        literals: &["\u{2}\0\0\0\0\0\0\0{}"],
        feed: |path, _| tensors(path),
    },
    Target {
        name: "pth",
        file: "input.pth",
        seeds: &["hostile/pth", "golden/pth"],
        own_seeds: &[],
        takes: &[".pth", ".bin", ".pt"],
        literals: &[],
        feed: |path, _| tensors(path),
    },
    Target {
        name: "pickle",
        file: "input.pth",
        seeds: &[],
        own_seeds: &[],
        takes: &[],
        literals: &["}.", "](NJ\u{3}\0\0\0e.", PICKLE],
        feed: |path, bytes| match std::fs::write(path, archive::checkpoint(bytes)) {
            Ok(()) => tensors(path),
            Err(error) => error.to_string(),
        },
    },
];

/// A dictionary of a transposed tensor `w`, the same under `p`, and a number.
const PICKLE: &str = "ccollections\nOrderedDict\n)R(X\u{1}\0\0\0wctorch._utils\n_rebuild_tensor\n(\
    (X\u{7}\0\0\0storagectorch\nFloatStorage\nX\u{1}\0\0\x000X\u{3}\0\0\0cpuJ\u{4}\0\0\0tQ\
    K\u{0}(K\u{2}K\u{2}t(K\u{1}K\u{2}ttRq\u{0}X\u{1}\0\0\0ph\u{0}X\u{1}\0\0\0nM\u{1}\u{1}u.";

/// The target of a name.
pub fn find(name: &str) -> Result<Target> {
    let known = || TARGETS.map(|target| target.name).join(", ");
    TARGETS
        .into_iter()
        .find(|target| target.name == name)
        .with_context(|| format!("unknown target {name:?}: {}", known()))
}

/// Opens a file of tensors and touches every one of them.
fn tensors(path: &Path) -> String {
    let tensors = match Tensors::open(path) {
        Ok(tensors) => tensors,
        Err(error) => return error.to_string(),
    };
    let mut sum = 0u64;
    for name in tensors.names() {
        match tensors.bytes(name) {
            Ok(bytes) => sum += bytes.as_slice().iter().step_by(997).map(|b| u64::from(*b)).sum::<u64>(),
            Err(error) => return error.to_string(),
        }
    }
    format!("ok {} tensors, sum {sum}", tensors.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_literal_pickle_reads_as_tensors() {
        let path = std::env::temp_dir().join(format!("pasture-pickle-{}.pth", std::process::id()));
        std::fs::write(&path, archive::checkpoint(PICKLE.as_bytes())).unwrap();
        let outcome = tensors(&path);
        std::fs::remove_file(&path).unwrap();
        assert_eq!(outcome, "ok 2 tensors, sum 0");
    }
}
