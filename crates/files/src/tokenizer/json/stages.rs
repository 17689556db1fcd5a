//! Normalizers and pre-tokenizers of tokenizer.json as stages.

use base64::Engine as _;
use serde_json::{Map, Value};

use super::super::charsmap::Charsmap;
use super::super::error::{Result, invalid, quoted};
use super::super::known;
use super::super::pattern::Pattern;
use super::super::stage::{Behavior, Kind, Prepend, Stage};
use super::super::unicode::Form;
use super::{flag, kind, text, typed, unsupported};

const DEPTH_MAX: usize = 8;
const STAGES_MAX: usize = 64;
/// Longest text that a stage may put in.
const CONTENT_BYTES_MAX: usize = 256;

fn list<'a>(object: &'a Map<String, Value>, key: &str, depth: usize, stages: &[Stage]) -> Result<&'a [Value]> {
    let value = object.get(key).unwrap_or(&Value::Null);
    if depth > DEPTH_MAX || stages.len() > STAGES_MAX {
        return Err(invalid(format!("{key:?}"), "nested too deep", format!("at most {DEPTH_MAX} levels")));
    }
    value.as_array().map(Vec::as_slice).ok_or_else(|| invalid(format!("{key:?}"), kind(value), "a list"))
}

fn short<'a>(object: &'a Map<String, Value>, key: &str, of: &str) -> Result<&'a str> {
    let text = text(object, key, of)?;
    if text.len() > CONTENT_BYTES_MAX {
        let found = format!("{} bytes long", text.len());
        return Err(invalid(format!("{key:?} of {of}"), found, format!("at most {CONTENT_BYTES_MAX}")));
    }
    Ok(text)
}

/// The pattern of `Replace` and `Split`.
fn pattern(object: &Map<String, Value>) -> Result<Pattern> {
    let value = object.get("pattern").unwrap_or(&Value::Null);
    let literal = value.as_str().or_else(|| value.get("String").and_then(Value::as_str));
    match (literal, value.get("Regex").and_then(Value::as_str)) {
        (Some(text), _) if text.len() <= CONTENT_BYTES_MAX => Ok(Pattern::literal(text)),
        (None, Some(source)) => Pattern::new(source),
        _ => Err(invalid("a pattern", kind(value), "a short text or a regular expression")),
    }
}

/// Appends the stages of a normalizer.
pub(super) fn normalizer(value: &Value, stages: &mut Vec<Stage>, depth: usize) -> Result<()> {
    if value.is_null() {
        return Ok(());
    }
    let (name, object) = typed(value, "normalizer")?;
    let stage = match name {
        "Sequence" => {
            let list = list(object, "normalizers", depth, stages)?;
            return list.iter().try_for_each(|value| normalizer(value, stages, depth + 1));
        }
        "NFC" => Stage::Form(Form::Composed),
        "NFD" => Stage::Form(Form::Decomposed),
        "NFKC" => Stage::Form(Form::CompatiblyComposed),
        "NFKD" => Stage::Form(Form::CompatiblyDecomposed),
        "Lowercase" => Stage::Lowercase,
        "StripAccents" => Stage::StripAccents,
        "Nmt" => Stage::Nmt,
        "Strip" => Stage::Strip { left: flag(object, "strip_left", true)?, right: flag(object, "strip_right", true)? },
        "Prepend" => Stage::Prepend(short(object, "prepend", "a normalizer")?.to_owned()),
        "Replace" => replace(object)?,
        "BertNormalizer" => {
            let lowercase = flag(object, "lowercase", true)?;
            Stage::Bert {
                clean: flag(object, "clean_text", true)?,
                chinese: flag(object, "handle_chinese_chars", true)?,
                accents: flag(object, "strip_accents", lowercase)?,
                lowercase,
            }
        }
        "Precompiled" => {
            let map = text(object, "precompiled_charsmap", "a normalizer")?;
            let bytes = base64::engine::general_purpose::STANDARD.decode(map);
            let bytes = bytes.map_err(|fault| invalid("precompiled_charsmap", fault.to_string(), "base64"))?;
            if bytes.is_empty() {
                return Ok(());
            }
            Stage::Charsmap(Box::new(Charsmap::read(&bytes, "precompiled_charsmap")?))
        }
        other => return Err(unsupported("normalizer", other)),
    };
    stages.push(stage);
    Ok(())
}

fn replace(object: &Map<String, Value>) -> Result<Stage> {
    let with = short(object, "content", "a normalizer")?;
    let from = object.get("pattern").and_then(|pattern| pattern.get("String")).and_then(Value::as_str);
    if from.is_some_and(str::is_empty) {
        return Err(invalid("the pattern of the normalizer \"Replace\"", quoted(""), "a text"));
    }
    let one = |text: &str| text.chars().next().filter(|first| first.len_utf8() == text.len());
    if let (Some(from), Some(to)) = (from.and_then(one), one(with)) {
        return Ok(Stage::Swap { from, to });
    }
    Ok(Stage::Replace { pattern: pattern(object)?, with: with.to_owned() })
}

/// Appends the stages of a pre-tokenizer; true if it ends in GPT-2's alphabet.
pub(super) fn splitter(value: &Value, stages: &mut Vec<Stage>, depth: usize) -> Result<bool> {
    if value.is_null() {
        return Ok(false);
    }
    let (name, object) = typed(value, "pre-tokenizer")?;
    let stage = match name {
        "Sequence" => {
            let list = list(object, "pretokenizers", depth, stages)?;
            let mut has_alphabet = false;
            for value in list {
                if has_alphabet {
                    return Err(unsupported("pre-tokenizer", "a stage behind ByteLevel"));
                }
                has_alphabet = splitter(value, stages, depth + 1)?;
            }
            return Ok(has_alphabet);
        }
        "ByteLevel" => {
            if flag(object, "add_prefix_space", true)? {
                stages.push(Stage::PrefixSpace);
            }
            if flag(object, "use_regex", true)? {
                stages.push(Stage::isolate(known::GPT_2)?);
            }
            return Ok(true);
        }
        "Split" => Stage::Split {
            pattern: pattern(object)?,
            behavior: behavior(object, "behavior", None)?,
            inverted: flag(object, "invert", false)?,
        },
        "Metaspace" => return metaspace(object, stages).map(|()| false),
        "Whitespace" => {
            Stage::Split { pattern: Pattern::new(r"\w+|[^\w\s]+")?, behavior: Behavior::Removed, inverted: true }
        }
        "WhitespaceSplit" => Stage::SplitAt { kind: Kind::Space, behavior: Behavior::Removed },
        "BertPreTokenizer" => {
            stages.push(Stage::SplitAt { kind: Kind::Space, behavior: Behavior::Removed });
            Stage::SplitAt { kind: Kind::Punctuation, behavior: Behavior::Isolated }
        }
        "Punctuation" => Stage::SplitAt {
            kind: Kind::Punctuation,
            behavior: behavior(object, "behavior", Some(Behavior::Isolated))?,
        },
        "Digits" => {
            let alone = flag(object, "individual_digits", false)?;
            let behavior = if alone { Behavior::Isolated } else { Behavior::Contiguous };
            Stage::SplitAt { kind: Kind::Number, behavior }
        }
        "CharDelimiterSplit" => {
            Stage::SplitAt { kind: Kind::One(one_character(object, "delimiter")?), behavior: Behavior::Removed }
        }
        "FixedLength" => {
            let length = object.get("length").map_or(Some(5), Value::as_u64).filter(|&length| length > 0);
            let length = length.and_then(|length| usize::try_from(length).ok());
            Stage::FixedLength(length.ok_or_else(|| invalid("\"length\"", "no length", "a whole number above 0"))?)
        }
        other => return Err(unsupported("pre-tokenizer", other)),
    };
    stages.push(stage);
    Ok(false)
}

fn metaspace(object: &Map<String, Value>, stages: &mut Vec<Stage>) -> Result<()> {
    let mark = if object.contains_key("replacement") { one_character(object, "replacement")? } else { '▁' };
    let prepend = match object.get("prepend_scheme").and_then(Value::as_str) {
        _ if !flag(object, "add_prefix_space", true)? => Prepend::Never,
        None | Some("always") => Prepend::Always,
        Some("first") => Prepend::First,
        Some("never") => Prepend::Never,
        Some(other) => return Err(unsupported("prepend_scheme", other)),
    };
    stages.push(Stage::Metaspace { mark, prepend });
    if flag(object, "split", true)? {
        stages.push(Stage::SplitAt { kind: Kind::One(mark), behavior: Behavior::WithNext });
    }
    Ok(())
}

fn one_character(object: &Map<String, Value>, key: &str) -> Result<char> {
    let text = text(object, key, "a pre-tokenizer")?;
    let mut characters = text.chars();
    match (characters.next(), characters.next()) {
        (Some(character), None) => Ok(character),
        _ => Err(invalid(format!("{key:?}"), quoted(text), "one character")),
    }
}

fn behavior(object: &Map<String, Value>, key: &str, default: Option<Behavior>) -> Result<Behavior> {
    if let (Some(default), None) = (default, object.get(key)) {
        return Ok(default);
    }
    Ok(match text(object, key, "a pre-tokenizer")? {
        "Removed" | "removed" => Behavior::Removed,
        "Isolated" | "isolated" => Behavior::Isolated,
        "MergedWithPrevious" | "merged_with_previous" => Behavior::WithPrevious,
        "MergedWithNext" | "merged_with_next" => Behavior::WithNext,
        "Contiguous" | "contiguous" => Behavior::Contiguous,
        other => return Err(unsupported("behavior of a split", other)),
    })
}
