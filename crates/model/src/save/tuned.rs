//! A tuned model as a folder: a checkpoint's own layout and prompt, with the weights that a decoder has now, in f32.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use pasture_files::Dtype;
use pasture_kernels::Format;
use pasture_tensor::{Vector, Weight, WeightId};

use super::targets::{Content, encode_plainly};
use super::{Progress, plan_folder};
use crate::decoder::Decoder;
use crate::error::{Error, Result};
use crate::load::survey::is_offset;
use crate::load::{Slot, Source, Survey, survey};

/// The weights of a decoder by the slots of the checkpoint that it came from.
struct Tuned<'a> {
    survey: &'a Survey,
    matrices: HashMap<WeightId, Weight>,
    vectors: HashMap<WeightId, Vector>,
    ids: Vec<(&'a Slot, WeightId)>,
}

impl Tuned<'_> {
    fn id(&self, slot: &Slot) -> Result<WeightId> {
        let found = self.ids.iter().find(|(own, _)| own.place == slot.place && own.part == slot.part);
        found.map(|(_, id)| *id).ok_or_else(|| unknown(&slot.tensor))
    }
}

impl Content for Tuned<'_> {
    fn matrix(&self, slot: &Slot) -> Result<Weight> {
        let weight = self.matrices.get(&self.id(slot)?).ok_or_else(|| unknown(&slot.tensor))?;
        // Values in plain rows, whatever layout the device computes with.
        Ok(Weight::from_values(weight.rows(), weight.cols(), &weight.values()))
    }

    fn vector(&self, slot: &Slot, plus_one: bool) -> Result<Vec<f32>> {
        let vector = self.vectors.get(&self.id(slot)?).ok_or_else(|| unknown(&slot.tensor))?;
        let step = if plus_one && is_offset(&self.survey.spec, slot) { 1.0 } else { 0.0 };
        Ok(vector.values().iter().map(|value| value + step).collect())
    }
}

fn unknown(what: &str) -> Error {
    Error::CannotExpress {
        container: "a folder".into(),
        what: format!("{what:?}, which the tuned model does not have"),
    }
}

/// Writes the folder of a model whose weights were changed. `source` is what it was loaded from.
///
/// # Errors
/// When the folder cannot say something of the model, or cannot be written.
pub fn save_tuned(source: &Source, decoder: &mut Decoder, folder: &Path, progress: Progress) -> Result<Vec<PathBuf>> {
    let survey = survey(source)?;
    let parameters = decoder.parameters().to_vec();
    // Both lists are made in the order in which a model is put together.
    if parameters.len() != survey.slots.len() {
        return Err(unknown(&format!("{} weights", survey.slots.len())));
    }
    let ids = survey.slots.iter().zip(parameters.iter().map(|one| one.weight)).collect();
    let (matrices, vectors) = decoder.weights();
    let mut plan = plan_folder(source, &survey)?;
    for target in &mut plan.targets {
        target.outline.dtype = Dtype::Number(Format::F32);
    }
    plan.write(folder, None, &Tuned { survey: &survey, matrices, vectors, ids }, &encode_plainly, progress)
}
