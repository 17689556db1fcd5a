//! The data of a run: rows of a file become samples by the model's own prompt object, part of them is held out.

use std::path::Path;

use pasture_files::prompt::Prompt;
use pasture_lab::data::{Dataset, Facts};
use pasture_lab::receipt::Input;
use pasture_lab::tune::{HELD_OUT, Recipe, Samples};

use crate::exit::Failure;

/// A file of data, ready to be learned.
pub struct Data {
    /// What is learned.
    pub samples: Samples,
    /// What is measured.
    pub held_out: Samples,
    /// What was found.
    pub facts: Facts,
    /// The file, by the digest of its rows.
    pub input: Input,
}

/// Reads a file for a model.
pub fn read(file: &Path, prompt: &Prompt, context: usize, recipe: &Recipe) -> Result<Data, Failure> {
    let dataset = Dataset::read(file, prompt, &recipe.reading(context)?, &mut |_| {})?;
    let facts = dataset.facts.clone();
    let bytes = std::fs::metadata(file).map_or(0, |found| found.len());
    let input = Input { name: facts.file.clone(), digest: facts.digest.clone(), bytes };
    let share = recipe.held_out.unwrap_or(HELD_OUT);
    let (samples, held_out) = dataset.split(share, recipe.seed);
    Ok(Data { samples: samples.into(), held_out: held_out.into(), facts, input })
}
