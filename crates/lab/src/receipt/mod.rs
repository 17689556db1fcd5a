//! Receipts: what was done to a model, from what, and what it did to quality and speed. A receipt is a JSON file beside
//! the result. It holds measured figures only; whatever was not measured is named with the reason.

mod digest;
mod files;
mod machine;
mod measure;
mod require;
mod shown;

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use pasture_files::{durable, folder, json, size::Size};
use serde::{Deserialize, Serialize};
use serde_json::Value;

pub use digest::{digest, digest_of};
pub use files::{Asked, Made, measure_files, measure_quality};
pub use machine::{Machine, Memory, processor};
pub use measure::{Measured, Plan, Side, TEXT, TEXT_NAME, Text, Words, divergence, measure, speed};
pub use require::{Broken, Requirements};

/// The name of the file beside a result that is a folder.
pub const FILE: &str = "receipt.json";

/// The version of the file's layout that this program writes.
const LAYOUT: u32 = 1;

/// A receipt is far smaller; a larger file is none.
const BYTES_MAX: u64 = 64 << 20;

/// What was done to a model, and what came of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Receipt {
    /// Version of this layout: 1.
    pub receipt: u32,
    /// What was done.
    pub change: Change,
    /// The models that it began with.
    pub base: Vec<Input>,
    /// The data that it used, if any.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub data: Vec<Input>,
    /// Every setting, as it was resolved.
    pub recipe: Value,
    /// Programs and formats by name.
    pub versions: BTreeMap<String, String>,
    /// The machine that did it.
    pub machine: Machine,
    /// How much was measured.
    pub level: Level,
    /// Figures of the model before.
    pub before: Measures,
    /// Figures of the result.
    pub after: Measures,
    /// What was not measured, and why.
    pub unmeasured: Vec<Unmeasured>,
    /// The conditions that the result had to meet, as they were written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub required: Option<String>,
}

/// What was done to a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Change {
    /// Training.
    Tune,
    /// Joining an adapter or other models to it.
    Merge,
    /// Storing its weights in other number formats.
    Quantize,
}

/// How much is measured.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// As much as two minutes allow.
    #[default]
    Quick,
    /// All of the text and of every task.
    Full,
    /// Nothing.
    None,
}

/// A model or a data file that a change began with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Input {
    /// As it was named.
    pub name: String,
    /// `sha256:` and 64 digits: of the file, or of a folder's list of files.
    pub digest: String,
    /// Bytes of its files.
    pub bytes: u64,
}

/// The figures of one model. What is absent was not measured.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Measures {
    /// Perplexity of a text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub perplexity: Option<Perplexity>,
    /// How far its predictions are from those of the model before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub divergence: Option<Divergence>,
    /// Scores of tasks by `task/metric`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub tasks: BTreeMap<String, Score>,
    /// Bytes of its weights.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
    /// Tokens of a prompt in a second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prompt_tokens_per_second: Option<f64>,
    /// New tokens of one answer in a second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub new_tokens_per_second: Option<f64>,
}

/// Perplexity of a text: `exp` of the mean negative log-likelihood of its tokens.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Perplexity {
    /// The perplexity over tokens.
    pub value: f64,
    /// Standard error of the value, from that of the mean.
    pub stderr: f64,
    /// Tokens that were scored.
    pub tokens: u64,
    /// Tokens that a window holds.
    pub window: usize,
    /// Tokens from one window to the next.
    pub stride: usize,
    /// The text's name.
    pub text: String,
    /// Digest of the text that was scored.
    pub digest: String,
}

/// How far a model's predictions are from another's, over the same text.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Divergence {
    /// Mean of KL(parent ‖ model) over positions, in nats.
    pub kl: f64,
    /// Its standard error.
    pub stderr: f64,
    /// The 99th percentile of KL over positions.
    pub kl_p99: f64,
    /// The largest KL of a position.
    pub kl_max: f64,
    /// Share of positions at which both think the same token the most probable, 0 to 1.
    pub top1: f64,
    /// Positions that were compared.
    pub tokens: u64,
}

/// The score of one metric of one task.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Score {
    /// The mean over samples.
    pub value: f64,
    /// Its standard error; absent for one sample.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stderr: Option<f64>,
    /// Samples that were scored.
    pub samples: u64,
    /// Whether more is better.
    pub higher_is_better: bool,
}

/// Something that was not measured.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Unmeasured {
    /// What: `perplexity`, `divergence`, a task's name.
    pub what: String,
    /// Why not.
    pub reason: String,
}

impl Receipt {
    /// A receipt of a change, of which nothing is measured yet.
    pub fn new(change: Change, base: Vec<Input>, recipe: Value) -> Receipt {
        Receipt {
            receipt: LAYOUT,
            change,
            base,
            data: Vec::new(),
            recipe,
            versions: BTreeMap::from([("pasture".to_owned(), env!("CARGO_PKG_VERSION").to_owned())]),
            machine: Machine::this(),
            level: Level::None,
            before: Measures::default(),
            after: Measures::default(),
            unmeasured: Vec::new(),
            required: None,
        }
    }

    /// Writes the receipt beside its result ([`beside`]).
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn write(&self, result: &Path) -> pasture_files::Result<PathBuf> {
        let path = beside(result);
        let text = serde_json::to_string_pretty(self).expect("a receipt has text keys and finite numbers");
        durable::write_file(&path, |sink| sink.put(text.as_bytes()).and_then(|()| sink.put(b"\n")))?;
        Ok(path)
    }

    /// Reads the receipt beside a model; none where there is none.
    ///
    /// # Errors
    /// When the file cannot be read or is no receipt.
    pub fn read_beside(result: &Path) -> pasture_files::Result<Option<Receipt>> {
        let path = beside(result);
        if !path.is_file() {
            return Ok(None);
        }
        Receipt::read(&path).map(Some)
    }

    /// Reads a receipt.
    ///
    /// # Errors
    /// When the file cannot be read or is no receipt.
    pub fn read(path: &Path) -> pasture_files::Result<Receipt> {
        let bytes = folder::read_file(path, Size::new(BYTES_MAX))?;
        let name = pasture_files::error::file_name(path);
        let value = json::parse(&bytes, &name)?;
        serde_json::from_value(value).map_err(|fault| json::fault_in(&name, &fault))
    }
}

/// Where the receipt of a result lies: in its folder, or beside its file with `.receipt.json` behind the name.
pub fn beside(result: &Path) -> PathBuf {
    if result.is_dir() {
        return result.join(FILE);
    }
    let mut name = result.as_os_str().to_owned();
    name.push(".");
    name.push(FILE);
    PathBuf::from(name)
}

impl Level {
    /// All levels by name.
    pub const NAMES: [(&'static str, Level); 3] =
        [("quick", Level::Quick), ("full", Level::Full), ("none", Level::None)];
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = Level::NAMES.iter().find(|(_, level)| level == self).map_or("", |(name, _)| *name);
        f.write_str(name)
    }
}

impl std::str::FromStr for Level {
    type Err = String;

    fn from_str(text: &str) -> Result<Level, String> {
        let found = Level::NAMES.iter().find(|(name, _)| *name == text);
        found.map(|(_, level)| *level).ok_or_else(|| format!("{text:?} is no level: quick, full and none are"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_receipt_comes_back_as_it_was_written() {
        let folder = tempfile::tempdir().unwrap();
        let base = Input { name: "base".into(), digest: digest_of(b"x"), bytes: 1 };
        let mut receipt = Receipt::new(Change::Tune, vec![base], serde_json::json!({"rank": 16}));
        receipt.after.bytes = Some(12);
        receipt.unmeasured.push(Unmeasured { what: "perplexity".into(), reason: "the level is none".into() });
        let path = receipt.write(folder.path()).unwrap();
        assert_eq!(path, folder.path().join("receipt.json"));
        assert_eq!(Receipt::read_beside(folder.path()).unwrap().as_ref(), Some(&receipt));
        let file = folder.path().join("a.gguf");
        assert_eq!(receipt.write(&file).unwrap(), folder.path().join("a.gguf.receipt.json"));
        assert_eq!(Receipt::read_beside(&folder.path().join("b.gguf")).unwrap(), None);
    }

    #[test]
    fn what_is_no_receipt_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("receipt.json");
        for text in ["", "[]", "{\"receipt\": 1}", "{\"receipt\": 1, \"more\": 2}"] {
            std::fs::write(&path, text).unwrap();
            assert!(Receipt::read(&path).is_err(), "{text:?}");
        }
    }

    #[test]
    fn levels_have_names() {
        for (name, level) in Level::NAMES {
            assert_eq!((name.parse(), level.to_string()), (Ok(level), name.to_owned()));
        }
        assert!("fast".parse::<Level>().is_err());
    }
}
