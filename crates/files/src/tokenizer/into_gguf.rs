//! A tokenizer as GGUF metadata (`tokenizer.ggml.*`), in the four forms that llama.cpp reads. What they cannot say is
//! refused; whether the ids are the same, the caller has to try (`same_ids`).

use super::added::Added;
use super::bpe::{Bpe, Merges, Ranks, Units, Unknown, WholeWords};
use super::decode::{Decoder, byte_of};
use super::error::{Error, Result};
use super::model::{Model, Unigram};
use super::stage::{Behavior, Kind, MARK, Prepend, Stage};
use super::unicode::Form;
use super::vocabulary::Vocabulary;
use super::{Inner, Tokenizer, alphabet, known};
use crate::gguf::{Texts, Value};

/// Names of split patterns, those of the best known vocabularies first. The first that splits the same is written.
const PATTERNS: [&str; 22] = [
    "gpt-2",
    "llama-bpe",
    "dbrx",
    "qwen2",
    "tekken",
    "gpt-4o",
    "smollm",
    "starcoder",
    "qwen35",
    "hunyuan",
    "mpt",
    "deepseek-v3",
    "deepseek-coder",
    "falcon",
    "bloom",
    "viking",
    "bailingmoe",
    "seed-coder",
    "falcon3",
    "stablelm2",
    "roberta-bpe",
    "default",
];

/// The kinds of tokens, numbered as in the file.
const NORMAL: i32 = 1;
const UNKNOWN: i32 = 2;
const CONTROL: i32 = 3;
const USER_DEFINED: i32 = 4;
const UNUSED: i32 = 5;
const BYTE: i32 = 6;

/// The lists and flags on their way into metadata.
struct Parts {
    model: &'static str,
    tokens: Vec<Vec<u8>>,
    types: Vec<i32>,
    more: Vec<(&'static str, Value)>,
}

impl Tokenizer {
    /// The keys of a GGUF file that has this tokenizer; `vocab` is the number of rows of the model's embedding, to
    /// which tokens that never come are added.
    ///
    /// # Errors
    /// When GGUF has no form for it.
    pub fn to_gguf(&self, vocab: usize) -> Result<Vec<(String, Value)>> {
        let inner = &*self.0;
        if self.len() > vocab {
            let name = format!("{} tokens for an embedding of {vocab} rows", self.len());
            return Err(Error::Unsupported { what: "in GGUF: a tokenizer of", name });
        }
        let mut parts = match &inner.model {
            Model::Bpe(bpe) if matches!(bpe.units, Units::Bytes(_)) => byte_pairs(inner, bpe)?,
            Model::Bpe(bpe) => pieces(inner, bpe)?,
            Model::Unigram(unigram) => unigrams(inner, unigram)?,
            Model::WordPiece(_) => words(inner)?,
            Model::Words { .. } => return Err(unsupported("a model of whole words")),
        };
        for id in parts.tokens.len()..vocab {
            parts.tokens.push(format!("[PAD{id}]").into_bytes());
            parts.types.push(UNUSED);
            if let Some((_, scores)) = parts.more.iter_mut().find(|(key, _)| *key == "scores")
                && let Value::Numbers(numbers) = &scores
            {
                let mut list = numbers.floats().unwrap_or_default();
                list.resize(vocab, -10_000.0);
                *scores = Value::floats(&list);
            }
        }
        let mut keys = vec![
            ("tokenizer.ggml.model".to_owned(), Value::text(parts.model)),
            ("tokenizer.ggml.tokens".to_owned(), Value::Texts(Texts::from_texts(&parts.tokens))),
            ("tokenizer.ggml.token_type".to_owned(), Value::integers(&parts.types)),
        ];
        keys.extend(parts.more.into_iter().map(|(key, value)| (format!("tokenizer.ggml.{key}"), value)));
        keys.extend(around(inner)?);
        Ok(keys)
    }
}

fn unsupported(name: impl Into<String>) -> Error {
    Error::Unsupported { what: "in GGUF:", name: name.into() }
}

/// Special ids, and what stands around a text.
fn around(inner: &Inner) -> Result<Vec<(String, Value)>> {
    let (before, after) = (&inner.template.before, &inner.template.after);
    if before.len() > 1 || after.len() > 1 {
        return Err(unsupported("more than one token before or behind a text"));
    }
    let is_words = matches!(inner.model, Model::WordPiece(_));
    let bos = before.first().copied().or(inner.roles.bos);
    let eos = after.first().copied().or(inner.roles.eos);
    let mut ids = vec![("bos", bos), ("eos", eos), ("unknown", inner.roles.unknown), ("padding", inner.roles.pad)];
    if is_words {
        ids.extend([("cls", bos), ("seperator", eos)]);
    }
    let mut keys: Vec<(String, Value)> = ids
        .into_iter()
        .filter_map(|(role, id)| Some((format!("tokenizer.ggml.{role}_token_id"), Value::U32(id?))))
        .collect();
    for (key, flag) in [("add_bos_token", !before.is_empty()), ("add_eos_token", !after.is_empty())] {
        keys.push((format!("tokenizer.ggml.{key}"), Value::Bool(flag)));
    }
    Ok(keys)
}

/// Tokens and types of a vocabulary; `spell` writes an ordinary token as the form has it.
fn lists(inner: &Inner, has_bytes: bool, spell: impl Fn(&[u8]) -> Vec<u8>) -> (Vec<Vec<u8>>, Vec<i32>) {
    let one = |id: u32| -> (Vec<u8>, i32) {
        let added: Option<&Added> = inner.added.by_id(id);
        let Some(bytes) = inner.vocabulary.get(id) else { return (format!("[PAD{id}]").into_bytes(), UNUSED) };
        let kind = match added {
            _ if inner.roles.unknown == Some(id) && has_bytes => UNKNOWN,
            Some(added) if added.special => CONTROL,
            Some(_) if !(has_bytes && byte_of(bytes).is_some()) => USER_DEFINED,
            _ if has_bytes && byte_of(bytes).is_some() => BYTE,
            _ => NORMAL,
        };
        let text = match added {
            Some(added) => added.content.clone().into_bytes(),
            None => spell(bytes),
        };
        (text, kind)
    };
    (0..inner.vocabulary.size() as u32).map(one).unzip()
}

fn byte_pairs(inner: &Inner, bpe: &Bpe) -> Result<Parts> {
    if !bpe.suffix.is_empty() || !matches!(inner.decoder, Decoder::Bytes) {
        return Err(unsupported("a byte-level vocabulary with marks at the ends of words"));
    }
    let (tokens, types) = lists(inner, false, |bytes| alphabet::spelling(bytes).into_bytes());
    let spelled = |id: u32| alphabet::spelling(inner.vocabulary.get(id).unwrap_or_default());
    let merges = merges(&inner.vocabulary, bpe).into_iter();
    let merges = Texts::from_texts(merges.map(|(left, right)| format!("{} {}", spelled(left), spelled(right))));
    let (pre, prefix) = pattern(inner, bpe)?;
    let mut more = vec![("pre", Value::text(pre)), ("merges", Value::Texts(merges))];
    if prefix {
        more.push(("add_space_prefix", Value::Bool(true)));
    }
    Ok(Parts { model: "gpt2", tokens, types, more })
}

/// The name of a split pattern that does what this tokenizer does, and whether a space is put first.
fn pattern(inner: &Inner, bpe: &Bpe) -> Result<(&'static str, bool)> {
    let takes_whole = bpe.whole_words == WholeWords::Taken;
    let is_composed = matches!(inner.normalizer.as_slice(), [Stage::Form(Form::Composed)]);
    if !is_composed && !inner.normalizer.is_empty() {
        return Err(unsupported("a byte-level vocabulary with a normalizer"));
    }
    let (prefix, stages) = match inner.splitter.split_first() {
        Some((Stage::PrefixSpace, rest)) => (true, rest),
        _ => (false, &inner.splitter[..]),
    };
    let one_digit = || Stage::isolate(r"\p{N}").map(|stage| format!("{stage:?}"));
    let shown: Vec<String> = stages
        .iter()
        .map(|stage| match stage {
            Stage::SplitAt { kind: Kind::Number, behavior: Behavior::Isolated } => one_digit(),
            other => Ok(format!("{other:?}")),
        })
        .collect::<Result<_>>()?;
    for name in PATTERNS {
        let patterns = known::of_gguf(name).unwrap_or_default();
        let own = patterns.iter().map(|pattern| Stage::isolate(pattern).map(|stage| format!("{stage:?}")));
        let same = known::takes_whole_words(name) == takes_whole && known::is_composed(name) == is_composed;
        if same && own.collect::<Result<Vec<String>>>()? == shown {
            return Ok((name, prefix));
        }
    }
    Err(unsupported("a vocabulary that splits texts by a pattern without a name there"))
}

/// Merges in their order, as pairs of ids.
fn merges(words: &Vocabulary, bpe: &Bpe) -> Vec<(u32, u32)> {
    match &bpe.merges {
        Merges::Listed(pairs) => {
            let mut listed = pairs.listed();
            listed.sort_unstable();
            listed.into_iter().map(|(_, left, right)| (left, right)).collect()
        }
        Merges::Joined(ranks) => joined(words, ranks),
    }
}

/// The merge that makes each token, where tokens merge whenever they join to one: the last of those that its own bytes
/// go through.
fn joined(words: &Vocabulary, ranks: &Ranks) -> Vec<(u32, u32)> {
    let rank = |id: u32| match ranks {
        Ranks::Id => id,
        Ranks::Table(table) => table.get(id as usize).copied().unwrap_or(u32::MAX),
    };
    let mut order: Vec<u32> = words.reachable();
    order.sort_by_key(|id| rank(*id));
    let mut merges = Vec::new();
    for id in order.into_iter().filter(|id| rank(*id) != u32::MAX) {
        let bytes = words.get(id).unwrap_or_default();
        let mut parts: Vec<&[u8]> = bytes.chunks(1).collect();
        while parts.len() > 2 {
            let pair = |at: usize| {
                let len = parts[at].len() + parts[at + 1].len();
                let start: usize = parts[..at].iter().map(|part| part.len()).sum();
                words.find(&bytes[start..start + len]).map(rank).filter(|found| *found < rank(id))
            };
            let best = (0..parts.len() - 1).filter_map(|at| Some((pair(at)?, at))).min();
            let Some((_, at)) = best else { break };
            let start: usize = parts[..at].iter().map(|part| part.len()).sum();
            let len = parts[at].len() + parts[at + 1].len();
            parts.splice(at..at + 2, [&bytes[start..start + len]]);
        }
        if let [left, right] = parts[..]
            && let (Some(left), Some(right)) = (words.find(left), words.find(right))
        {
            merges.push((left, right));
        }
    }
    merges
}

fn pieces(inner: &Inner, bpe: &Bpe) -> Result<Parts> {
    if !matches!(bpe.unknown, Unknown::Bytes(_) | Unknown::Fused(_)) || !matches!(inner.decoder, Decoder::Pieces { .. })
    {
        return Err(unsupported("byte-pair encoding of characters without marks and tokens of bytes"));
    }
    let (tokens, types) = lists(inner, true, <[u8]>::to_vec);
    let scores = scores(inner, bpe);
    let mut more = vec![("scores", Value::floats(&scores)), ("pre", Value::text("default"))];
    more.extend(spaces(inner));
    Ok(Parts { model: "llama", tokens, types, more })
}

/// Scores by which the same neighbors merge first. Tokens that no merge gives come last.
fn scores(inner: &Inner, bpe: &Bpe) -> Vec<f32> {
    let size = inner.vocabulary.size();
    let ranks: Vec<u32> = match &bpe.merges {
        Merges::Listed(pairs) => {
            let mut ranks = vec![u32::MAX; size];
            for (rank, left, right) in pairs.listed() {
                let merged = pairs.find(left, right).map_or(0, |(_, merged)| merged as usize);
                ranks[merged] = ranks[merged].min(rank);
            }
            ranks
        }
        Merges::Joined(Ranks::Id) => (0..size as u32).collect(),
        Merges::Joined(Ranks::Table(table)) => table.clone(),
    };
    let last = ranks.iter().filter(|rank| **rank != u32::MAX).max().map_or(0, |last| last + 1);
    let score = |at: usize| -(ranks.get(at).copied().filter(|rank| *rank != u32::MAX).unwrap_or(last) as f32);
    (0..size).map(score).collect()
}

fn unigrams(inner: &Inner, unigram: &Unigram) -> Result<Parts> {
    if !matches!(inner.decoder, Decoder::Pieces { .. }) {
        return Err(unsupported("a unigram vocabulary without marks"));
    }
    let (tokens, types) = lists(inner, true, <[u8]>::to_vec);
    let mut scores = unigram.scores.clone();
    scores.resize(tokens.len(), 0.0);
    let mut more = vec![("scores", Value::floats(&scores)), ("pre", Value::text("default"))];
    more.extend(spaces(inner));
    for stage in &inner.normalizer {
        if let Stage::Charsmap(map) = stage {
            more.push(("precompiled_charsmap", Value::bytes(map.stored())));
        }
    }
    Ok(Parts { model: "t5", tokens, types, more })
}

/// What is done with spaces.
fn spaces(inner: &Inner) -> Vec<(&'static str, Value)> {
    let stages = || inner.normalizer.iter().chain(&inner.splitter);
    let is_first = |stage: &Stage| match stage {
        Stage::Prepend(text) => text.starts_with(MARK),
        Stage::Metaspace { prepend, .. } => *prepend != Prepend::Never,
        Stage::Spaces(spaces) => spaces.prefix,
        _ => false,
    };
    let collapses = |stage: &Stage| match stage {
        Stage::Spaces(spaces) => spaces.collapse,
        Stage::Replace { .. } | Stage::Strip { .. } => true,
        _ => false,
    };
    vec![
        ("add_space_prefix", Value::Bool(stages().any(is_first))),
        ("remove_extra_whitespaces", Value::Bool(stages().any(collapses))),
    ]
}

fn words(inner: &Inner) -> Result<Parts> {
    let spell = |bytes: &[u8]| match bytes.strip_prefix(b"##") {
        Some(rest) => rest.to_vec(),
        None => [MARK.to_string().as_bytes(), bytes].concat(),
    };
    let (tokens, types) = lists(inner, false, spell);
    Ok(Parts { model: "bert", tokens, types, more: vec![("pre", Value::text("jina-v2-en"))] })
}
