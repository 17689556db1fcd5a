//! The table of a recipe's keys: name, values and meaning stand here once. Flags, help and the reader of recipe files are
//! made from it. What a key does is said by `recipe.rs`.

use toml::Value;

/// What values a key takes.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    /// One of some words.
    Word(&'static [&'static str]),
    /// A whole number from the first to the second.
    Whole(u64, u64),
    /// A number from the first to the second.
    Number(f64, f64),
    /// Yes or no.
    Switch,
    /// Any text.
    Text,
    /// Texts; the flag may be repeated.
    Texts,
}

/// One key.
#[derive(Clone, Copy, Debug)]
pub struct Key {
    /// Its name; the flag has dashes in place of underscores.
    pub name: &'static str,
    /// Its values.
    pub kind: Kind,
    /// One line for help texts.
    pub meaning: &'static str,
}

const fn key(name: &'static str, kind: Kind, meaning: &'static str) -> Key {
    Key { name, kind, meaning }
}

/// A count that no run reaches.
const MANY: u64 = 1 << 40;

/// All keys, in the order in which a recipe is written.
pub const KEYS: [Key; 49] = [
    key("method", Kind::Word(&["lora", "rslora", "dora", "full"]), "What is trained (default lora)"),
    key(
        "loss",
        Kind::Word(&["sft", "dpo", "ipo", "hinge", "orpo", "kto"]),
        "What is learned: sft the texts, the others preferences (default by the data)",
    ),
    key(
        "kind",
        Kind::Word(&["chat", "sharegpt", "alpaca", "pair", "preference", "judged", "text", "tokens"]),
        "What the data's rows are (default: what their fields say)",
    ),
    key("train_on", Kind::Word(&["answers", "last", "all"]), "Which tokens are learned (default answers)"),
    key("prompts", Kind::Word(&["auto", "chat", "raw"]), "What a prompt of plain text is (default auto)"),
    key("truncate", Kind::Switch, "Cut what is longer than length (default false: it is an error)"),
    key("skip_bad", Kind::Switch, "Leave out rows that cannot be learned from (default false: they are an error)"),
    key("now", Kind::Text, "The day that the template believes it is, YYYY-MM-DD (default: the day of the first run)"),
    key("rank", Kind::Whole(1, 1 << 16), "Rank of adapters (default 16)"),
    key("alpha", Kind::Number(0.0, 1e6), "Adapters count alpha / rank, rslora alpha / √rank (default 2 × rank)"),
    key("dropout", Kind::Number(0.0, 0.95), "Share of an adapter's inputs that training drops (default 0)"),
    key("targets", Kind::Texts, "Modules to adapt, by whole name or its last parts (default all linear layers)"),
    key("layers", Kind::Text, "Layers to train, as 0-7,12 (default all)"),
    key("base_format", Kind::Text, "Keep the frozen linear layers in this number format, as nf4 (default as stored)"),
    key(
        "recompute",
        Kind::Switch,
        "Run layers a second time instead of keeping what they made: less memory (default false)",
    ),
    key("precision", Kind::Word(&["f32", "bf16"]), "Numbers of products; sums are f32 (default f32)"),
    key("optimizer", Kind::Word(&["adamw", "adamw8bit"]), "Moments in f32, or in blocks of 8 bits (default adamw)"),
    key("learning_rate", Kind::Number(0.0, 10.0), "The largest rate (default by method and loss)"),
    key("beta1", Kind::Number(0.0, 0.999_999), "AdamW's first decay (default 0.9)"),
    key("beta2", Kind::Number(0.0, 0.999_999_9), "AdamW's second decay (default 0.999)"),
    key("epsilon", Kind::Number(1e-12, 1.0), "Added to AdamW's divisor (default 1e-8)"),
    key("weight_decay", Kind::Number(0.0, 10.0), "Pull of weights to zero, times the rate (default 0)"),
    key("clip", Kind::Number(0.0, 1e9), "Largest norm of all gradients; 0 for no limit (default 1)"),
    key("schedule", Kind::Word(&["cosine", "linear", "constant", "wsd"]), "How the rate falls (default cosine)"),
    key("warmup", Kind::Number(0.0, 1e9), "Steps in which the rate grows; below 1 a share of all (default 0.03)"),
    key("decay", Kind::Number(0.0, 1.0), "The share of steps in which wsd lowers the rate (default 0.2)"),
    key("rate_min", Kind::Number(0.0, 1.0), "The rate at the end, as a share of the largest (default 0)"),
    key("epochs", Kind::Number(0.0, 1e6), "Passes over the data (default 3)"),
    key("steps", Kind::Whole(1, MANY), "Steps in all, in place of epochs"),
    key("batch", Kind::Whole(1, 1 << 20), "Texts that run at once, at most (default 8; no limit with batch_tokens)"),
    key("batch_tokens", Kind::Whole(1, MANY), "Tokens that run at once, at most"),
    key("accumulate", Kind::Whole(1, 1 << 20), "Batches for each step (default 1)"),
    key("length", Kind::Whole(2, 1 << 32), "Tokens that a sample may have (default: the context, at most 2048)"),
    key(
        "grouping",
        Kind::Word(&["plain", "buckets", "packed"]),
        "Texts run at once as they come, of like length, or so that batch_tokens are filled (default plain)",
    ),
    key("seed", Kind::Whole(0, i64::MAX as u64), "Of everything random (default 0)"),
    key("held_out", Kind::Number(0.0, 0.9), "Share of the data kept for evaluation (default 0.05)"),
    key("evaluate_every", Kind::Whole(0, MANY), "Steps between evaluations; 0 for the end only (default 10 in a run)"),
    key(
        "patience",
        Kind::Whole(0, MANY),
        "Evaluations without a better loss after which it stops; 0 for never (default 0)",
    ),
    key("sample_every", Kind::Whole(0, MANY), "Steps between samples; 0 for none (default as evaluate_every)"),
    key("samples", Kind::Texts, "Questions that samples answer (default none)"),
    key("sample_tokens", Kind::Whole(1, 1 << 20), "Longest sample (default 64)"),
    key("checkpoint_every", Kind::Whole(1, MANY), "Steps between checkpoints (default 5 in a run, at most 200 apart)"),
    key("checkpoints_kept", Kind::Whole(2, 1 << 20), "Newest checkpoints that stay (default 2)"),
    key(
        "preference_beta",
        Kind::Number(0.0, 1e6),
        "How strongly preferences pull, as beta in their papers (default 0.1)",
    ),
    key("label_smoothing", Kind::Number(0.0, 0.499), "Share of preferences thought to be wrong, dpo only (default 0)"),
    key("desirable_weight", Kind::Number(0.0, 1e6), "How much wanted answers count in kto (default 1)"),
    key("undesirable_weight", Kind::Number(0.0, 1e6), "How much unwanted answers count in kto (default 1)"),
    key("tensorboard", Kind::Switch, "Write event files for TensorBoard (default true)"),
    key("report", Kind::Switch, "Write report.html (default true)"),
];

/// The key of that name.
pub fn find(name: &str) -> Option<&'static Key> {
    KEYS.iter().find(|key| key.name == name)
}

impl Key {
    /// Reads a value from a flag.
    ///
    /// # Errors
    /// In words, when the text is not among the values.
    pub fn parse(&self, text: &str) -> Result<Value, String> {
        let value = match self.kind {
            Kind::Word(_) | Kind::Text => Value::String(text.to_owned()),
            Kind::Texts => Value::Array(vec![Value::String(text.to_owned())]),
            Kind::Switch => Value::Boolean(text.parse().map_err(|_| format!("{text:?} is not true or false"))?),
            Kind::Whole(..) => Value::Integer(text.parse().map_err(|_| format!("{text:?} is no whole number"))?),
            Kind::Number(..) => Value::Float(text.parse().map_err(|_| format!("{text:?} is no number"))?),
        };
        self.check(&value)?;
        Ok(value)
    }

    /// Whether a value is among those that the key takes.
    ///
    /// # Errors
    /// In words, when it is not.
    pub fn check(&self, value: &Value) -> Result<(), String> {
        let number = || value.as_float().or_else(|| value.as_integer().map(|whole| whole as f64));
        let fits = match self.kind {
            Kind::Word(words) => value.as_str().is_some_and(|text| words.contains(&text)),
            Kind::Whole(low, high) => {
                value.as_integer().and_then(|n| u64::try_from(n).ok()).is_some_and(|n| (low..=high).contains(&n))
            }
            Kind::Number(low, high) => number().is_some_and(|number| (low..=high).contains(&number)),
            Kind::Switch => value.is_bool(),
            Kind::Text => value.is_str(),
            Kind::Texts => value.as_array().is_some_and(|list| list.iter().all(Value::is_str)),
        };
        if fits { Ok(()) } else { Err(format!("is {value}, but it must be {}", self.values())) }
    }

    /// The values in words.
    pub fn values(&self) -> String {
        match self.kind {
            Kind::Word(words) => words.join(", "),
            Kind::Whole(low, high) if high >= MANY => format!("a whole number of at least {low}"),
            Kind::Whole(low, high) => format!("a whole number from {low} to {high}"),
            Kind::Number(low, high) => format!("a number from {low} to {high}"),
            Kind::Switch => "true or false".to_owned(),
            Kind::Text => "a text".to_owned(),
            Kind::Texts => "a list of texts".to_owned(),
        }
    }
}
