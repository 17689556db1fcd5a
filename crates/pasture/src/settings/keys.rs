//! The table of settings: each one's name, flag, variable, values and meaning stand here once. Flags, help, the readers
//! of variables and files, and `pasture config` are made from it. Sampling settings come from the engine's own table.

use std::sync::OnceLock;

use pasture_engine::sampling::{self, Range};
use serde_json::{Value, json};

/// Which verbs a setting has an effect on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Every verb.
    Program,
    /// Verbs that run a model.
    Run,
    /// Verbs whose model answers.
    Answer,
    /// Verbs that choose tokens.
    Sampling,
    /// Conversations.
    Chat,
    /// Verbs that change a model and write a receipt.
    Receipt,
}

/// What values a setting takes.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    /// As the engine's table says; the engine checks it.
    Sampling(Range),
    /// A whole number from the first to the second.
    Whole(u64, u64),
    /// A number of bytes, with or without a unit.
    Bytes,
    /// One of some words.
    Word(&'static [&'static str]),
    /// Any text.
    Text,
    /// Texts; the flag may be repeated.
    Texts,
}

/// One setting.
#[derive(Clone, Debug)]
pub struct Key {
    /// The name in files: words joined by underscores.
    pub name: &'static str,
    /// The flag, without its dashes.
    pub flag: &'static str,
    /// The variable.
    pub variable: &'static str,
    /// Other names of the flag, as other programs spell it.
    pub aliases: &'static [&'static str],
    /// One letter for the flag.
    pub short: Option<char>,
    /// What it has an effect on.
    pub scope: Scope,
    /// What it takes.
    pub kind: Kind,
    /// One line for help texts.
    pub meaning: &'static str,
}

/// Name, scope, values, meaning of the settings that are not sampling.
const OWN: [(&str, Scope, Kind, &str); 14] = [
    ("color", Scope::Program, Kind::Word(&["auto", "always", "never"]), "Colors and bars on a terminal"),
    (
        "pull",
        Scope::Program,
        Kind::Word(&["terminal", "auto", "never"]),
        "When a model that is named and not here is fetched (default: on a terminal; --pull alone: auto)",
    ),
    ("threads", Scope::Run, Kind::Whole(1, 1024), "Threads that compute (default: the processors at hand)"),
    ("context", Scope::Run, Kind::Whole(1, 1 << 32), "Longest context in tokens (default: the model's own)"),
    (
        "kv_type",
        Scope::Run,
        Kind::Word(&["f16", "bf16", "f32", "q8_0", "q4_0"]),
        "How keys and values are kept: q8_0 and q4_0 take half and a quarter of f16 (default f16; f32 with --exact)",
    ),
    (
        "chunk",
        Scope::Run,
        Kind::Whole(1, 1 << 20),
        "Feeds a prompt in pieces of so many tokens; the result is the same",
    ),
    (
        "expert_cache",
        Scope::Run,
        Kind::Bytes,
        "Keeps a mixture's experts on disk and so many bytes of them in memory, as 2GiB; slow",
    ),
    (
        "prepare",
        Scope::Run,
        Kind::Word(&["use", "auto", "off"]),
        "Whether packed weights come out of a file that `pasture prepare` wrote; auto writes one where there is none (default use)",
    ),
    (
        "speculate",
        Scope::Answer,
        Kind::Word(&["auto", "off"]),
        "Whether tokens are proposed from the text so far where that is faster; the answers are the same (default auto)",
    ),
    (
        "draft",
        Scope::Answer,
        Kind::Text,
        "A smaller model with the same tokenizer proposes tokens as well; the answers are the same",
    ),
    ("max_tokens", Scope::Sampling, Kind::Whole(1, 1 << 32), "Makes at most so many new tokens"),
    ("stop", Scope::Sampling, Kind::Texts, "Ends an answer before this text; may be given several times"),
    (
        "receipt",
        Scope::Receipt,
        Kind::Word(&["quick", "full", "none"]),
        "What is measured before and after: what about two minutes allow, all of the text, or nothing (default quick)",
    ),
    ("system", Scope::Chat, Kind::Text, "The system message of a conversation"),
];

/// Names that users bring from other programs.
const ALIASES: [(&str, &[&str], Option<char>); 8] = [
    ("threads", &[], Some('t')),
    ("context", &["ctx-size", "max-model-len"], Some('c')),
    ("kv_type", &["kv"], None),
    ("temperature", &["temp"], None),
    ("repetition_penalty", &["repeat-penalty"], None),
    ("typical_p", &["typical"], None),
    ("max_tokens", &["n-predict", "num-predict"], Some('n')),
    ("seed", &[], Some('s')),
];

/// All settings, the program's own first.
pub fn all() -> &'static [Key] {
    static ALL: OnceLock<Vec<Key>> = OnceLock::new();
    ALL.get_or_init(|| {
        let own = OWN.iter().map(|(name, scope, kind, meaning)| key(name, *scope, *kind, meaning));
        let sampling = sampling::FIELDS
            .iter()
            .map(|field| key(field.name, Scope::Sampling, Kind::Sampling(field.range), field.meaning));
        own.chain(sampling).collect()
    })
}

fn key(name: &'static str, scope: Scope, kind: Kind, meaning: &'static str) -> Key {
    let (aliases, short) =
        ALIASES.iter().find(|(of, ..)| *of == name).map_or((&[] as &[&str], None), |(_, long, short)| (*long, *short));
    // The table lives as long as the program, and clap wants names that do.
    let forever = |text: String| -> &'static str { Box::leak(text.into_boxed_str()) };
    let (flag, variable) = (forever(name.replace('_', "-")), forever(format!("PASTURE_{}", name.to_uppercase())));
    Key { name, flag, variable, aliases, short, scope, kind, meaning }
}

/// The setting of that name.
pub fn find(name: &str) -> Option<&'static Key> {
    all().iter().find(|key| key.name == name)
}

/// The setting of that name, as files or flags spell it.
pub fn find_spelled(name: &str) -> Option<&'static Key> {
    find(name).or_else(|| all().iter().find(|key| key.flag == name || key.aliases.contains(&name)))
}

impl Key {
    /// Reads the setting from a flag or a variable.
    ///
    /// # Errors
    /// In words, when the text is not among the values.
    pub fn parse(&self, text: &str) -> Result<Value, String> {
        let value = match self.kind {
            Kind::Text => json!(text),
            Kind::Texts => json!([text]),
            Kind::Word(_) => json!(text),
            Kind::Bytes => json!(text),
            Kind::Whole(..) => number(text)?,
            Kind::Sampling(range) => match range {
                Range::Steps => json!(text),
                Range::Biases(..) => biases(text)?,
                Range::Tokens(_) => text.split(',').map(|id| number(id.trim())).collect::<Result<Value, _>>()?,
                _ => number(text)?,
            },
        };
        self.check(&value)?;
        Ok(value)
    }

    /// Whether a value is among those that the setting takes.
    ///
    /// # Errors
    /// In words, when it is not.
    pub fn check(&self, value: &Value) -> Result<(), String> {
        let fits = match self.kind {
            Kind::Text => value.is_string(),
            Kind::Texts => value.as_array().is_some_and(|list| list.iter().all(is_stop)),
            Kind::Word(words) => value.as_str().is_some_and(|text| words.contains(&text)),
            Kind::Bytes => bytes(value).is_some(),
            Kind::Whole(low, high) => value.as_u64().is_some_and(|number| (low..=high).contains(&number)),
            Kind::Sampling(_) => {
                let set = sampling::SamplingOptions::default().set(self.name, value);
                return set.map_err(|error| error.to_string());
            }
        };
        if fits { Ok(()) } else { Err(format!("{} is {value}, but it must be {}", self.name, self.values())) }
    }

    /// The values in words.
    pub fn values(&self) -> String {
        match self.kind {
            Kind::Sampling(range) => range.to_string(),
            Kind::Whole(low, high) => format!("a whole number from {low} to {high}"),
            Kind::Word(words) => words.join(", "),
            Kind::Bytes => "a number of bytes, as 800MB or 2GiB".into(),
            Kind::Text => "a text".into(),
            Kind::Texts => format!("texts of 1 to {TEXT_BYTES_MAX} bytes"),
        }
    }

    /// What stands for the value in help texts.
    pub fn placeholder(&self) -> &'static str {
        match self.kind {
            Kind::Sampling(Range::Steps) => "STEP;STEP",
            Kind::Sampling(Range::Biases(..)) => "ID:NUMBER,…",
            Kind::Sampling(Range::Tokens(_)) => "ID,ID",
            Kind::Sampling(_) | Kind::Whole(..) => "N",
            Kind::Word(_) => "WORD",
            Kind::Bytes => "SIZE",
            Kind::Text | Kind::Texts => "TEXT",
        }
    }
}

/// Longest text before which an answer may end; the engine takes no longer one.
const TEXT_BYTES_MAX: usize = 256;

fn is_stop(text: &Value) -> bool {
    text.as_str().is_some_and(|text| (1..=TEXT_BYTES_MAX).contains(&text.len()))
}

fn number(text: &str) -> Result<Value, String> {
    serde_json::from_str(text).ok().filter(Value::is_number).ok_or_else(|| format!("{text:?} is no number"))
}

/// A number of bytes above 0: `1500000000`, `800MB` (thousands), `2GiB` (1024 each); none where it is no such text.
pub fn bytes(value: &Value) -> Option<u64> {
    const UNITS: [(&str, u64); 8] = [
        ("kib", 1 << 10),
        ("mib", 1 << 20),
        ("gib", 1 << 30),
        ("tib", 1 << 40),
        ("kb", 1000),
        ("mb", 1_000_000),
        ("gb", 1_000_000_000),
        ("tb", 1_000_000_000_000),
    ];
    if let Some(number) = value.as_u64() {
        return Some(number).filter(|number| *number > 0);
    }
    let text = value.as_str()?.trim().to_ascii_lowercase();
    let unit = UNITS.iter().find_map(|(name, unit)| Some((text.strip_suffix(name)?, *unit)));
    let (number, unit) = unit.unwrap_or((text.as_str(), 1));
    let number: f64 = number.trim().parse().ok()?;
    let bytes = number * unit as f64;
    (bytes >= 1.0 && bytes < u64::MAX as f64).then_some(bytes as u64)
}

/// `7:-100,12:0.5`.
fn biases(text: &str) -> Result<Value, String> {
    let pair = |part: &str| {
        let (id, bias) = part.split_once(':').ok_or_else(|| format!("{part:?} is not ID:NUMBER"))?;
        Ok((id.trim().to_owned(), number(bias.trim())?))
    };
    Ok(Value::Object(text.split(',').map(pair).collect::<Result<_, String>>()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_parse(name: &str, text: &str, wanted: Result<Value, &str>) {
        let parsed = find(name).expect("a known setting").parse(text);
        match (&parsed, &wanted) {
            (Ok(value), Ok(wanted)) => assert_eq!(value, wanted),
            (Err(error), Err(part)) => assert!(error.contains(part), "{error:?} lacks {part:?}"),
            _ => panic!("{name} {text:?}: {parsed:?}, not {wanted:?}"),
        }
    }

    #[test]
    fn a_text_becomes_a_value_or_an_error_that_says_the_range() {
        check_parse("threads", "4", Ok(json!(4)));
        check_parse("threads", "0", Err("from 1 to 1024"));
        check_parse("threads", "many", Err("no number"));
        check_parse("temperature", "0.7", Ok(json!(0.7)));
        check_parse("temperature", "-1", Err("from 0 to 100"));
        check_parse("kv_type", "f16", Ok(json!("f16")));
        check_parse("kv_type", "f17", Err("f16, bf16, f32, q8_0, q4_0"));
        check_parse("logit_bias", "7:-100, 12:0.5", Ok(json!({"7": -100, "12": 0.5})));
        check_parse("logit_bias", "7", Err("ID:NUMBER"));
        check_parse("samplers", "top_k;temperature", Ok(json!("top_k;temperature")));
        check_parse("samplers", "top_q", Err("names of steps"));
        check_parse("stop", "###", Ok(json!(["###"])));
        check_parse("stop", "", Err("1 to 256 bytes"));
        check_parse("expert_cache", "2GiB", Ok(json!("2GiB")));
        check_parse("expert_cache", "0", Err("as 800MB or 2GiB"));
        check_parse("expert_cache", "2 sheep", Err("as 800MB or 2GiB"));
    }

    #[test]
    fn bytes_have_units_of_1000_and_of_1024() {
        for (value, wanted) in [
            (json!("2GiB"), Some(2 << 30)),
            (json!("1.5 gb"), Some(1_500_000_000)),
            (json!("4096"), Some(4096)),
            (json!(7), Some(7)),
            (json!("-1MB"), None),
            (json!("GiB"), None),
            (json!(1.5), None),
        ] {
            assert_eq!(bytes(&value), wanted, "{value}");
        }
    }

    #[test]
    fn no_two_settings_share_a_flag() {
        let mut flags: Vec<&str> = all().iter().flat_map(|key| key.aliases.iter().copied().chain([key.flag])).collect();
        let count = flags.len();
        flags.sort_unstable();
        flags.dedup();
        assert_eq!(flags.len(), count);
    }

    #[test]
    fn the_nearest_name_is_the_likeliest_slip() {
        let names = || all().iter().map(|key| key.name);
        for (typed, meant) in [("temperatur", "temperature"), ("top-p", "top_p"), ("thread", "threads")] {
            assert_eq!(pasture_files::nearest::nearest(typed, names()), Some(meant));
        }
    }
}
