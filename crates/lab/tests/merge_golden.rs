//! Merged weights are those of peft's `merge_and_unload`, for low-rank pairs, rank-stabilized ones and DoRA.
#[path = "../../../tests/kit.rs"]
mod kit;

use std::path::Path;

use pasture_files::Tensors;
use pasture_lab::export::{Options, write};
use pasture_lab::merge::WithAdapters;
use pasture_model::save::encode_plainly;
use pasture_model::{Source, survey};

/// The kit's tolerance for weights after training.
const CLOSE: f32 = 2e-4;

fn values(tensors: &Tensors, name: &str) -> Vec<f32> {
    let entry = tensors.get(name).expect(name);
    let mut values = vec![0.0; entry.shape.iter().product()];
    entry.dtype.format().expect("numbers").dequantize(&tensors.bytes(name).expect(name), &mut values);
    values
}

/// Merges into a folder and compares the tensors that the case has.
fn check(base: &Path, case: &Path) -> Result<usize, String> {
    let source = Source::open(base).map_err(|error| error.to_string())?;
    let survey = survey(&source).map_err(|error| error.to_string())?;
    let adapter = case.join("final");
    let content =
        WithAdapters::open(&source, &survey, &[(adapter.as_path(), 1.0)]).map_err(|error| error.to_string())?;
    let folder = tempfile::tempdir().expect("a folder for the test");
    let (to, f32) = (folder.path().join("merged"), Some(pasture_kernels::Format::F32));
    let options = Options { dtype: f32, ..Options::default() };
    write(&source, &survey, &content, &encode_plainly, &to, &options, &mut |_, _| ())
        .map_err(|error| error.to_string())?;
    let made = Tensors::open(&to).map_err(|error| error.to_string())?;
    let wanted = Tensors::open(&case.join("merged_layer0.safetensors")).map_err(|error| error.to_string())?;
    let mut compared = 0;
    for name in wanted.names() {
        let (found, wanted) = (values(&made, name), values(&wanted, name));
        let far = found.iter().zip(&wanted).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        if found.len() != wanted.len() || far > CLOSE {
            return Err(format!("{name} differs by {far}"));
        }
        compared += 1;
    }
    Ok(compared)
}

#[test]
fn merged_weights_are_the_references() {
    let Some(golden) = kit::folder("golden") else { return };
    let (mut wrong, mut compared) = (Vec::new(), 0);
    for (family, base) in [("llama3", "text/llama3"), ("gemma2", "text/gemma2"), ("mixtral", "text/mixtral")] {
        for kind in ["lora", "rslora", "dora"] {
            match check(&golden.join(base), &golden.join("train").join(family).join(kind)) {
                Ok(count) => compared += count,
                Err(what) => wrong.push(format!("{family} {kind}: {what}")),
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(compared > 20, "{compared} tensors were compared");
}
