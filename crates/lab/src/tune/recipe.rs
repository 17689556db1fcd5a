//! A recipe: everything that decides what tuning does, as TOML. Keys that are absent get their defaults from the model, the
//! data and each other, once; the resolved recipe is written beside the result and gives the same run again.

use pasture_files::nearest::nearest;
use pasture_files::prompt::template::Moment;
use pasture_tensor::Precision;
use serde::{Deserialize, Serialize};
use toml::{Table, Value};

use super::error::{Error, Result};
use super::keys::{self, KEYS};
use crate::data;

/// The longest sample where the recipe does not say and the context is longer.
pub(super) const LENGTH: usize = 2048;

/// What is trained.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Method {
    /// Low-rank adapters beside frozen weights (Hu et al., arXiv 2106.09685).
    #[default]
    Lora,
    /// The same, scaled by the root of the rank (Kalajdzievski, arXiv 2312.03732).
    Rslora,
    /// The same as the first, with a length of its own for each output row (Liu et al., arXiv 2402.09353).
    Dora,
    /// All weights.
    Full,
}

/// What is learned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Loss {
    /// The next token of each text.
    Sft,
    /// Direct preference optimization (Rafailov et al., arXiv 2305.18290).
    Dpo,
    /// Identity preference optimization (Azar et al., arXiv 2310.12036).
    Ipo,
    /// The hinge of sequence likelihood calibration (Zhao et al., arXiv 2305.10425).
    Hinge,
    /// Odds ratio preference optimization (Hong et al., arXiv 2403.07691).
    Orpo,
    /// Kahneman-Tversky optimization (Ethayarajh et al., arXiv 2402.01306).
    Kto,
}

/// How AdamW keeps its moments.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Optimizer {
    /// In f32.
    #[default]
    Adamw,
    /// In blocks of 8 bits (Dettmers et al., arXiv 2110.02861).
    Adamw8bit,
}

/// How the rate goes over the steps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Schedule {
    /// Half a cosine.
    #[default]
    Cosine,
    /// A straight line.
    Linear,
    /// No fall.
    Constant,
    /// Warm-up, stable, then a fall over the last part.
    Wsd,
}

/// Which tokens are learned; as the data's own option.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs)] // The data's option has each one's meaning.
pub enum TrainOn {
    #[default]
    Answers,
    Last,
    All,
}

/// What a prompt of plain text is; as the data's own option.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs)] // The data's option has each one's meaning.
pub enum Prompts {
    #[default]
    Auto,
    Chat,
    Raw,
}

/// With which numbers products are computed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Numbers {
    /// f32 throughout.
    #[default]
    F32,
    /// Factors in bf16, sums in f32.
    Bf16,
}

impl Numbers {
    /// What a backend calls it.
    pub fn precision(self) -> Precision {
        match self {
            Numbers::F32 => Precision::Exact,
            Numbers::Bf16 => Precision::Bf16,
        }
    }
}

/// How samples come together in a batch; as the data's own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs)] // The data's has each one's meaning.
pub enum Grouping {
    #[default]
    Plain,
    Buckets,
    Packed,
}

/// A recipe; what is absent is not decided yet.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[allow(missing_docs)] // The table of keys has each one's meaning.
pub struct Recipe {
    pub method: Method,
    pub loss: Option<Loss>,
    pub kind: Option<String>,
    pub train_on: TrainOn,
    pub prompts: Prompts,
    pub truncate: bool,
    pub skip_bad: bool,
    pub now: Option<String>,
    pub rank: Option<usize>,
    pub alpha: Option<f32>,
    pub dropout: Option<f32>,
    pub targets: Option<Vec<String>>,
    pub layers: Option<String>,
    pub base_format: Option<String>,
    pub recompute: bool,
    pub precision: Numbers,
    pub optimizer: Optimizer,
    pub learning_rate: Option<f64>,
    pub beta1: Option<f64>,
    pub beta2: Option<f64>,
    pub epsilon: Option<f64>,
    pub weight_decay: Option<f64>,
    pub clip: Option<f64>,
    pub schedule: Schedule,
    pub warmup: Option<f64>,
    pub decay: Option<f64>,
    pub rate_min: Option<f64>,
    pub epochs: Option<f64>,
    pub steps: Option<usize>,
    pub batch: Option<usize>,
    pub batch_tokens: Option<usize>,
    pub accumulate: Option<usize>,
    pub length: Option<usize>,
    pub grouping: Grouping,
    pub seed: u64,
    pub held_out: Option<f64>,
    pub evaluate_every: Option<usize>,
    pub patience: usize,
    pub sample_every: Option<usize>,
    pub samples: Vec<String>,
    pub sample_tokens: Option<usize>,
    pub checkpoint_every: Option<usize>,
    pub checkpoints_kept: Option<usize>,
    pub preference_beta: Option<f64>,
    pub label_smoothing: Option<f64>,
    pub desirable_weight: Option<f64>,
    pub undesirable_weight: Option<f64>,
    pub tensorboard: Option<bool>,
    pub report: Option<bool>,
}

/// Keys without effect unless the method trains adapters.
const ADAPTER_KEYS: [&str; 5] = ["rank", "alpha", "dropout", "targets", "base_format"];

impl Recipe {
    /// Reads a recipe's text.
    ///
    /// # Errors
    /// When it is no TOML, has a key that nobody knows, or a value out of range.
    pub fn parse(text: &str) -> Result<Recipe> {
        let table = text.parse::<Table>().map_err(|fault| Error::Syntax { what: fault.to_string() })?;
        Recipe::from_table(table)
    }

    /// A recipe of these keys.
    ///
    /// # Errors
    /// When a key is unknown, its value is out of range, or two keys exclude each other.
    pub fn from_table(table: Table) -> Result<Recipe> {
        for (name, value) in &table {
            let Some(key) = keys::find(name) else {
                let near = nearest(name, KEYS.iter().map(|key| key.name)).unwrap_or_default();
                return Err(Error::recipe(name, format!("is no key; the nearest is {near:?}")));
            };
            key.check(value).map_err(|what| Error::recipe(name, what))?;
        }
        let has = |name: &str| table.contains_key(name);
        if has("steps") && has("epochs") {
            return Err(Error::recipe("steps", "and \"epochs\" exclude each other; give one of them"));
        }
        let given: Vec<String> = table.keys().cloned().collect();
        let recipe: Recipe = Value::Table(table)
            .try_into()
            .map_err(|fault: toml::de::Error| Error::Syntax { what: fault.message().to_owned() })?;
        recipe.check_effects(&given)?;
        Ok(recipe)
    }

    /// The recipe as a file.
    pub fn to_toml(&self) -> String {
        toml::to_string(self).expect("a recipe is a flat table")
    }

    /// The recipe as JSON, for receipts.
    pub fn to_json(&self) -> serde_json::Value {
        serde_json::to_value(self).expect("a recipe is a flat table of finite numbers")
    }

    /// How the data is read for a model of such a context.
    ///
    /// # Errors
    /// When the length is more than the context, or the day is none.
    pub fn reading(&self, context: usize) -> Result<data::Options> {
        let length = self.length.unwrap_or(context.min(LENGTH));
        if length > context {
            return Err(Error::recipe("length", format!("is {length}, more than the model's context of {context}")));
        }
        let day = |text: &String| {
            let parts: Vec<i64> = text.split('-').map_while(|part| part.parse().ok()).collect();
            let date = match parts[..] {
                [year, month, day] => Moment::date(year, month as u32, day as u32),
                _ => None,
            };
            date.ok_or_else(|| Error::recipe("now", format!("is {text:?}, but it must be a day as 2026-11-24")))
        };
        Ok(data::Options {
            kind: self.kind.as_deref().and_then(data::Layout::of_kind),
            train_on: match self.train_on {
                TrainOn::Answers => data::TrainOn::Answers,
                TrainOn::Last => data::TrainOn::Last,
                TrainOn::All => data::TrainOn::All,
            },
            prompts: match self.prompts {
                Prompts::Auto => data::Prompts::Auto,
                Prompts::Chat => data::Prompts::Chat,
                Prompts::Raw => data::Prompts::Raw,
            },
            truncate: self.truncate,
            skip_bad: self.skip_bad,
            now: self.now.as_ref().map(day).transpose()?,
            ..data::Options::new(length)
        })
    }

    /// Whether adapters are trained.
    pub fn adapts(&self) -> bool {
        self.method != Method::Full
    }

    /// Keys that would have no effect are errors.
    fn check_effects(&self, given: &[String]) -> Result<()> {
        let given = |name: &str| given.iter().any(|key| key == name);
        let without = |name: &str, why: &str| Err(Error::recipe(name, format!("has no effect {why}")));
        if let Some(key) = ADAPTER_KEYS.into_iter().find(|key| !self.adapts() && given(key)) {
            return without(key, "with method \"full\"");
        }
        if self.grouping == Grouping::Packed && !given("batch_tokens") {
            return without("grouping", "without \"batch_tokens\", which packs are filled to");
        }
        if self.method == Method::Dora && self.dropout.is_some_and(|share| share > 0.0) {
            return Err(Error::recipe(
                "dropout",
                "cannot be used with method \"dora\" here; leave it out, or use \"lora\"",
            ));
        }
        if given("decay") && self.schedule != Schedule::Wsd {
            return without("decay", "unless schedule is \"wsd\"");
        }
        if given("rate_min") && self.schedule == Schedule::Constant {
            return without("rate_min", "with schedule \"constant\"");
        }
        if given("patience") && self.patience > 0 && self.held_out == Some(0.0) {
            return without("patience", "when nothing is held out");
        }
        match self.loss {
            Some(Loss::Sft) if given("preference_beta") => without("preference_beta", "with loss \"sft\""),
            Some(loss) if given("label_smoothing") && loss != Loss::Dpo => {
                without("label_smoothing", "unless loss is \"dpo\"")
            }
            Some(loss) if loss != Loss::Kto && (given("desirable_weight") || given("undesirable_weight")) => {
                let key = if given("desirable_weight") { "desirable_weight" } else { "undesirable_weight" };
                without(key, "unless loss is \"kto\"")
            }
            _ => Ok(()),
        }
    }
}

/// The numbers of layers in a text like `0-7,12`.
///
/// # Errors
/// When it is no such list, or names a layer that the model does not have.
pub(super) fn layer_list(text: &str, layers: usize) -> Result<Vec<usize>> {
    let wrong = || Error::recipe("layers", format!("is {text:?}, but it must be numbers and ranges, as \"0-7,12\""));
    let number = |text: &str| text.trim().parse::<usize>().map_err(|_| wrong());
    let mut all = Vec::new();
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last) = (number(first)?, number(last)?);
        if last >= layers || first > last {
            return Err(Error::recipe(
                "layers",
                format!("asks for {part:?}, but the model has layers 0 to {}", layers - 1),
            ));
        }
        all.extend(first..=last);
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn refused(text: &str, part: &str) {
        let error = Recipe::parse(text).expect_err(text).to_string();
        assert!(error.contains(part), "{error:?} lacks {part:?}");
    }

    #[test]
    fn every_key_of_the_table_is_one_of_the_recipe() {
        for key in KEYS {
            let text = match key.kind {
                keys::Kind::Word(words) => words[0].to_owned(),
                keys::Kind::Whole(low, _) => low.to_string(),
                keys::Kind::Number(low, _) => low.to_string(),
                keys::Kind::Switch => "true".to_owned(),
                keys::Kind::Text | keys::Kind::Texts => "0".to_owned(),
            };
            let value = key.parse(&text).expect(key.name);
            let fault = Recipe::from_table(Table::from_iter([(key.name.to_owned(), value)])).err();
            let fault = fault.map(|fault| fault.to_string()).unwrap_or_default();
            assert!(fault.is_empty() || fault.contains("has no effect"), "{}: {fault}", key.name);
        }
    }

    #[test]
    fn what_has_no_meaning_is_refused_by_name() {
        refused("rang = 3", "nearest is \"rank\"");
        refused("rank = 0", "from 1");
        refused("rank = \"3\"", "\"rank\"");
        refused("method = \"qlora\"", "lora, rslora");
        refused("steps = 3\nepochs = 2", "exclude");
        refused("method = \"full\"\nrank = 3", "no effect");
        refused("decay = 0.1", "wsd");
        refused("loss = \"sft\"\npreference_beta = 0.2", "no effect");
        refused("rank = ", "TOML");
    }

    #[test]
    fn a_recipe_comes_back_as_it_was_written() {
        let recipe =
            Recipe::parse("rank = 4\nlearning_rate = 1e-3\ntargets = [\"q_proj\"]\nschedule = \"wsd\"").unwrap();
        assert_eq!(Recipe::parse(&recipe.to_toml()).unwrap(), recipe);
    }

    #[test]
    fn layers_are_numbers_and_ranges() {
        assert_eq!(layer_list("0-2,5", 6).unwrap(), [0, 1, 2, 5]);
        for wrong in ["", "a", "3-1", "6", "1-", "0-9"] {
            assert!(layer_list(wrong, 6).is_err(), "{wrong:?}");
        }
    }
}
