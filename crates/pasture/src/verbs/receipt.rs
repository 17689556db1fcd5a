//! Receipts of verbs that change a model: the figures, and what a result must meet. The flags are in the settings.

use std::path::Path;

use pasture_lab::receipt::{self, Asked, Input, Level, Made, Measured, Receipt, Text, Words, measure_files};
use pasture_model::Source;
use serde_json::{Value, json};

use super::model::{self, Place};
use crate::exit::{Failure, Status};
use crate::settings::{Conditions, Measuring, Origin, Settings};

/// Tokens of a text that a quick measurement and a calibration use.
const TOKENS: u32 = 16_384;

/// How much the settings say is measured.
pub fn level(settings: &Settings) -> Level {
    settings.text("receipt").and_then(|text| text.parse().ok()).unwrap_or_default()
}

impl Measuring {
    /// The most tokens that a calibration uses.
    pub fn tokens(&self) -> usize {
        self.tokens.unwrap_or(TOKENS) as usize
    }

    /// What the flags and settings ask for. Flags that need a figure go before a variable or a file that wants none.
    pub fn asked(&self, settings: &Settings, threads: usize) -> Result<Asked, Failure> {
        let mut level = level(settings);
        let needs = [("--measure", self.measure.is_some()), ("--require", self.require.is_some())];
        if let Some((flag, _)) = needs.iter().find(|(_, given)| *given && level == Level::None) {
            if matches!(settings.get("receipt"), Some((_, Origin::Flag))) {
                let what = format!("`{flag}` has no effect together with `--receipt none`: nothing is measured");
                return Err(Failure::new(Status::Usage, what));
            }
            level = Level::Quick;
        }
        let tokens_max = self.tokens.or((level != Level::Full).then_some(TOKENS)).map(|tokens| tokens as usize);
        let text = match &self.measure {
            None => None,
            Some(path) => {
                let (name, text) = (pasture_files::error::file_name(path), text_of(path)?);
                Some(Text { name, words: Words::Text(text) })
            }
        };
        Ok(Asked { level, text, tokens_max, threads })
    }

    /// Writes the receipt and says what came out; a result that breaks a condition is removed.
    pub fn finish(
        &self,
        mut receipt: Receipt,
        result: &Path,
        say: impl FnOnce(&Receipt) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        if let Some(Conditions { text, require }) = &self.require {
            let broken = require.broken(&receipt.before, &receipt.after, &receipt.unmeasured);
            if let Some(first) = broken.first() {
                let is_file = result.is_file();
                if is_file {
                    pasture_files::durable::remove(result)?;
                }
                let what = format!("the result does not meet {:?}: {}", first.condition, first.found);
                let hint = if is_file {
                    "it was removed; nothing else was changed".to_owned()
                } else {
                    format!("the folder {} stays, without a receipt", result.display())
                };
                return Err(Failure::new(Status::Failed, what).hint(hint));
            }
            receipt.required = Some(text.clone());
        }
        receipt.write(result)?;
        say(&receipt)?;
        tell(&receipt);
        Ok(())
    }
}

/// The text of a file.
pub fn text_of(path: &Path) -> Result<String, Failure> {
    model::text(None, Some(path))
}

/// A model as a receipt names what it began with.
pub fn base(place: &Place, name: &str) -> Result<Input, Failure> {
    match place {
        Place::At(path) => Ok(receipt::digest(path)?),
        Place::Starter => {
            let bytes = pasture::Model::starter_bytes();
            Ok(Input { name: name.to_owned(), digest: receipt::digest_of(bytes), bytes: bytes.len() as u64 })
        }
    }
}

/// Measures before and after, with a bar.
pub fn measured(before: &Source, result: Made<'_>, asked: &Asked, decorated: bool) -> Result<Measured, Failure> {
    let bar = model::bar("", decorated && asked.level != Level::None);
    let measured = measure_files(before, result, asked, &mut |what, done, total| {
        bar.set_message(format!("measuring {what}"));
        model::advance(&bar, done as u64, total as u64);
    });
    bar.finish_and_clear();
    Ok(measured?)
}

/// Says the figures that people look for first, beside the result.
pub fn tell(receipt: &Receipt) {
    let (before, after) = (&receipt.before, &receipt.after);
    if let (Some(was), Some(is)) = (&before.perplexity, &after.perplexity) {
        let divergence = after.divergence.as_ref().map_or_else(String::new, |it| {
            format!(", divergence {:.6} nats, same first choice {:.2} %", it.kl, it.top1 * 100.0)
        });
        eprintln!("perplexity {:.4} → {:.4}{divergence} of {} tokens", was.value, is.value, is.tokens);
    }
    let speeds = [
        ("prompt", before.prompt_tokens_per_second, after.prompt_tokens_per_second),
        ("new", before.new_tokens_per_second, after.new_tokens_per_second),
    ];
    let told = speeds.into_iter().filter_map(|(name, was, is)| Some(format!("{name} {:.0} → {:.0}", was?, is?)));
    let told: Vec<String> = told.collect();
    if !told.is_empty() {
        eprintln!("tokens a second: {}", told.join(", "));
    }
    let left: Vec<&str> = receipt.unmeasured.iter().map(|left| left.what.as_str()).collect();
    if receipt.level != Level::None && !left.is_empty() {
        eprintln!("not measured: {}; the receipt says why", left.join(", "));
    }
}

/// Adds the figures to a verb's JSON object.
pub fn with_figures(mut told: Value, receipt: &Receipt) -> Value {
    let Receipt { level, before, after, unmeasured, .. } = receipt;
    let figures = [
        ("level", json!(level)),
        ("before", json!(before)),
        ("after", json!(after)),
        ("unmeasured", json!(unmeasured)),
    ];
    figures.into_iter().for_each(|(name, value)| told[name] = value);
    told
}
