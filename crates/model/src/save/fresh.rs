//! A model that knows nothing yet: a folder of random weights from a configuration alone, with another model's tokenizer
//! and prompt. Numbers follow from the seed and a weight's place, so that the same call writes the same files.

use std::path::Path;

use pasture_files::outline::Outline;
use pasture_files::{Dtype, durable, safetensors};
use pasture_kernels::Format;
use pasture_tensor::Weight;
use serde_json::Value;

use super::folder::{carry, write_json};
use super::targets::{Content, Target, encode_plainly, targets};
use super::tokens::tokenizer_of;
use crate::config::Config;
use crate::error::Result;
use crate::load::survey::{fresh, is_offset};
use crate::load::{Slot, Source};
use crate::names::Part;
use crate::spec::Spec;

/// The spread of first weights where the configuration does not say: the references' own.
const SPREAD: f64 = 0.02;

struct Fresh<'a> {
    spec: &'a Spec,
    seed: u64,
    spread: f64,
}

impl Content for Fresh<'_> {
    fn matrix(&self, slot: &Slot) -> Result<Weight> {
        let cols = slot.cols.unwrap_or(1);
        let mut numbers = Numbers::new(self.seed, &format!("{}{}", slot.place, slot.part.ending()));
        let values: Vec<f32> = (0..slot.rows * cols).map(|_| (numbers.normal() * self.spread) as f32).collect();
        Ok(Weight::from_values(slot.rows, cols, &values))
    }

    fn vector(&self, slot: &Slot, plus_one: bool) -> Result<Vec<f32>> {
        let is_norm = slot.part == Part::Weight && slot.place.slot != "attention.sinks";
        let stored_less = is_offset(self.spec, slot) && !plus_one;
        Ok(vec![if is_norm && !stored_less { 1.0 } else { 0.0 }; slot.rows])
    }
}

/// Writes the folder. `prompt` is the model whose tokenizer and template it gets.
///
/// # Errors
/// When the configuration is of no known family, the tokenizer has more tokens than it, or the folder cannot be written.
pub fn write_fresh(config: &Value, prompt: &Source, folder: &Path, seed: u64) -> Result<()> {
    let parsed = Config::from_json("config.json", config.clone())?;
    let survey = fresh(&parsed, prompt)?;
    let tokens = tokenizer_of(prompt)?.map_or(0, |tokenizer| tokenizer.len());
    if tokens > survey.spec.vocab {
        let what = format!("is {}, but the tokenizer has {tokens} tokens", survey.spec.vocab);
        return Err(parsed.fault("vocab_size", &what));
    }
    let spread = config.get("initializer_range").and_then(Value::as_f64).unwrap_or(SPREAD);
    let content = Fresh { spec: &survey.spec, seed, spread };
    let mut targets = targets(&survey.spec, &survey.slots, &survey.own, "a folder")?;
    targets.iter_mut().for_each(|target: &mut Target| target.outline.dtype = Dtype::Number(Format::F32));
    std::fs::create_dir_all(folder).map_err(|fault| pasture_files::Error::write(folder, fault))?;
    carry(prompt, folder)?;
    let outlines: Vec<Outline> = targets.iter().map(|target| target.outline.clone()).collect();
    let metadata = [("format".to_owned(), "pt".to_owned())];
    safetensors::write(
        &folder.join("model.safetensors"),
        &metadata,
        &outlines,
        |outline, sink: &mut durable::Sink| {
            let target = targets.iter().find(|target| target.outline.name == outline.name);
            target.expect("the outline is of these").fill(&content, false, &encode_plainly, sink)
        },
    )?;
    let mut config = config.clone();
    let key = if config.get("dtype").is_some() { "dtype" } else { "torch_dtype" };
    config[key] = Value::from("float32");
    write_json(&folder.join("config.json"), &config)
}

/// Numbers of a place (SplitMix64, then Box and Muller).
struct Numbers(u64);

impl Numbers {
    fn new(seed: u64, place: &str) -> Numbers {
        let hash = place
            .bytes()
            .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
        Numbers(hash ^ seed.wrapping_mul(0x9e37_79b9_7f4a_7c15))
    }

    /// From 0 to below 1.
    fn uniform(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) >> 11) as f64 * (1.0 / (1_u64 << 53) as f64)
    }

    fn normal(&mut self) -> f64 {
        let (one, other) = (1.0 - self.uniform(), self.uniform());
        (-2.0 * one.ln()).sqrt() * (2.0 * std::f64::consts::PI * other).cos()
    }
}
