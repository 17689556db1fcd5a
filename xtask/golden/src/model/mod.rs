//! Golden cases of whole models: opens the case's checkpoint as anybody would, and plays it (`play.rs`, `encode.rs`).
//! The test of the model crate compiles this module too, so that it uses nothing else of this program.

mod encode;
mod play;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, Result, bail, ensure};
use pasture_files::{Tensors, json};
use pasture_kernels::Pool;
use pasture_model::{Decoder, EmbedRules, Error, LoadOptions, Source, load};
use pasture_tensor::{Backend, Cpu, Precision};

/// What became of a case.
#[derive(Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is right.
    Passed,
    /// Its family has no page yet.
    NotCovered(String),
}

/// Runs a case: a folder with a checkpoint and its reference results.
#[allow(dead_code, reason = "the test of saving brings checkpoints of its own")]
pub fn run(folder: &Path) -> Result<Outcome> {
    if folder.file_name().is_some_and(|name| name == "hostile") {
        return all_refused(folder).map(|()| Outcome::Passed);
    }
    let alone = folder.join("model.gguf");
    run_as(if alone.is_file() { &alone } else { folder }, folder)
}

/// Runs a checkpoint against the results of a case's folder.
pub fn run_as(model: &Path, folder: &Path) -> Result<Outcome> {
    let decoder = match open(model) {
        Err(Error::Architecture { name, .. }) => return Ok(Outcome::NotCovered(name)),
        decoder => decoder?,
    };
    let golden = play::Golden::open(&results(folder)?)?;
    match decoder.head() {
        Some(_) => play::check(&decoder, &golden)?,
        None => encode::check(&decoder, &golden, &EmbedRules::of(&Source::open(model)?, decoder.spec().hidden)?)?,
    }
    Ok(Outcome::Passed)
}

/// Whether a model continues the prompts of a list of cases as the list says.
#[allow(dead_code, reason = "the runner has no group of trained weights, the test has")]
pub fn tells(model: &Path, cases: &Path) -> Result<()> {
    let decoder = open(model)?;
    let facts = json::read(cases)?;
    for case in facts["cases"].as_array().context("no cases")? {
        play::check_continuation(&decoder, &case["prompt_ids"], &case["greedy_ids"])?;
    }
    Ok(())
}

fn open(path: &Path) -> Result<Decoder, Error> {
    let backend: Arc<dyn Backend> = Arc::new(Cpu::new(Arc::new(Pool::new(1)), Precision::Exact));
    let loaded = load(&Source::open(path)?, &backend, &LoadOptions::default(), &mut |_, _| ())?;
    Ok(loaded.decoder)
}

/// The folder with a case's results: its own, or the one that it names.
fn results(folder: &Path) -> Result<PathBuf> {
    if folder.join("golden.safetensors").is_file() {
        return Ok(folder.to_owned());
    }
    let facts = json::read(&folder.join("golden.json"))?;
    let named = facts["golden"].as_str().and_then(|text| text.split(' ').next());
    Ok(folder.join(named.context("no results, and golden.json names none")?))
}

/// Files of which every one must be an error.
#[allow(dead_code, reason = "see its caller")]
fn all_refused(folder: &Path) -> Result<()> {
    let mut refused = 0;
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.extension().is_some_and(|ending| ending != "json") {
            if Tensors::open(&path).is_ok() {
                bail!("{:?} opened, it should be refused", path.file_name().unwrap_or_default());
            }
            refused += 1;
        }
    }
    ensure!(refused > 0, "no file to refuse");
    Ok(())
}
