//! The model of tokenizer.json: BPE, Unigram, WordPiece or WordLevel, checked against its own vocabulary.

use serde_json::Value;

use super::super::alphabet;
use super::super::bpe::{Bpe, Merges, Units, Unknown, WholeWords};
use super::super::decode::byte_of;
use super::super::error::{Result, invalid, quoted};
use super::super::model::{Model, Unigram, WordPiece};
use super::super::vocabulary::{Pairs, Prefixes, Vocabulary};
use super::document::Document;
use super::{flag, kind, text, unsupported};

/// No published WordPiece vocabulary looks at words longer than 200.
const WORD_CHARACTERS_MAX: u64 = 1000;

/// The model and its unknown token.
pub(super) fn build(document: &Document, words: &Vocabulary, has_alphabet: bool) -> Result<(Model, Option<u32>)> {
    let options = &document.model;
    let name = match options.get("type") {
        Some(_) => text(options, "type", "the model")?,
        // Old files leave the type out.
        None if document.merges.is_some() => "BPE",
        None if document.tokens.scores.is_some() => "Unigram",
        None if options.contains_key("max_input_chars_per_word") => "WordPiece",
        None => "WordLevel",
    };
    if (name == "Unigram") != document.tokens.scores.is_some() {
        return Err(invalid("the vocabulary", "not of the model's kind", "scores for Unigram, ids for the others"));
    }
    match name {
        "BPE" => bpe(document, words, has_alphabet),
        "Unigram" => unigram(document, words),
        "WordPiece" => word_piece(document, words),
        "WordLevel" => {
            let unknown = unknown_named(document, words)?;
            Ok((Model::Words { unknown }, unknown))
        }
        other => Err(unsupported("model", other)),
    }
}

fn unknown_named(document: &Document, words: &Vocabulary) -> Result<Option<u32>> {
    let name = match document.model.get("unk_token") {
        None | Some(Value::Null) => return Ok(None),
        Some(Value::String(name)) => name,
        Some(other) => return Err(invalid("unk_token", kind(other), "a text")),
    };
    let id = words.find(name.as_bytes());
    let id = id.or_else(|| document.tokens.iter().find(|(_, token)| token == name).map(|(id, _)| id));
    match id {
        Some(id) => Ok(Some(id)),
        // As the libraries write it when there is none.
        None if name.is_empty() => Ok(None),
        None => Err(invalid("unk_token", format!("{}, which is not in the vocabulary", quoted(name)), "a token")),
    }
}

fn option_text<'a>(document: &'a Document, key: &str) -> Result<&'a str> {
    match document.model.get(key) {
        None | Some(Value::Null) => Ok(""),
        Some(_) => text(&document.model, key, "the model"),
    }
}

fn bpe(document: &Document, words: &Vocabulary, has_alphabet: bool) -> Result<(Model, Option<u32>)> {
    let options = &document.model;
    let prefix = option_text(document, "continuing_subword_prefix")?;
    if !prefix.is_empty() {
        return Err(unsupported("continuing_subword_prefix of a BPE model", prefix));
    }
    if options
        .get("dropout")
        .is_some_and(|dropout| dropout.as_f64().is_none_or(|dropout| dropout != 0.0) && !dropout.is_null())
    {
        return Err(unsupported("dropout, which makes ids random,", &options["dropout"].to_string()));
    }
    let unknown = unknown_named(document, words)?;
    let bytes = byte_tokens(words);
    let whole = flag(options, "ignore_merges", false)?;
    let pairs = pairs(document, words, has_alphabet)?;
    let has_fallback = flag(options, "byte_fallback", false)?;
    let fuses = flag(options, "fuse_unk", false)?;
    let bpe = Bpe {
        units: if has_alphabet { Units::Bytes(single_bytes(words)) } else { Units::Characters },
        merges: Merges::Listed(pairs),
        unknown: match (bytes, unknown) {
            (Some(bytes), _) if has_fallback => Unknown::Bytes(bytes),
            (_, Some(unknown)) if fuses => Unknown::Fused(unknown),
            (_, Some(unknown)) => Unknown::Each(unknown),
            (_, None) => Unknown::Dropped,
        },
        whole_words: if whole { WholeWords::Taken } else { WholeWords::Merged },
        suffix: option_text(document, "end_of_word_suffix")?.to_owned(),
        frozen: None,
    };
    Ok((Model::Bpe(bpe), unknown))
}

/// Ids of the 256 single bytes, for vocabularies of bytes.
pub(in super::super) fn single_bytes(words: &Vocabulary) -> Box<[Option<u32>; 256]> {
    let mut ids = Box::new([None; 256]);
    (0..=255u8).zip(ids.iter_mut()).for_each(|(byte, id)| *id = words.find(&[byte]));
    ids
}

/// Ids of `<0x00>` to `<0xFF>`, where all are there.
pub(in super::super) fn byte_tokens(words: &Vocabulary) -> Option<Box<[u32; 256]>> {
    let mut ids = Box::new([0; 256]);
    for byte in 0..=255u8 {
        let token = format!("<0x{byte:02X}>");
        debug_assert_eq!(byte_of(token.as_bytes()), Some(byte));
        ids[byte as usize] = words.find(token.as_bytes())?;
    }
    Some(ids)
}

fn pairs(document: &Document, words: &Vocabulary, has_alphabet: bool) -> Result<Pairs> {
    let Some(merges) = &document.merges else { return Err(invalid("\"merges\"", "absent", "a list")) };
    let mut pairs = Pairs::with_capacity(merges.len());
    let mut joined = Vec::new();
    let (mut left_bytes, mut right_bytes) = (Vec::new(), Vec::new());
    for (rank, (left, right)) in merges.iter().enumerate() {
        for (text, bytes) in [(left, &mut left_bytes), (right, &mut right_bytes)] {
            bytes.clear();
            if !(has_alphabet && alphabet::extend(text, bytes)) {
                bytes.clear();
                bytes.extend_from_slice(text.as_bytes());
            }
        }
        joined.clear();
        joined.extend_from_slice(&left_bytes);
        joined.extend_from_slice(&right_bytes);
        let find = |bytes: &[u8], part: &str| {
            words.find(bytes).ok_or_else(|| {
                let found = format!("of {} and {}", quoted(left), quoted(right));
                invalid(format!("merge {rank}"), found, format!("{part} in the vocabulary"))
            })
        };
        let ids = (find(&left_bytes, "its left part")?, find(&right_bytes, "its right part")?);
        pairs.insert(ids.0, ids.1, rank as u32, find(&joined, "its result")?);
    }
    Ok(pairs)
}

fn unigram(document: &Document, words: &Vocabulary) -> Result<(Model, Option<u32>)> {
    let scores = document.tokens.scores.as_deref().unwrap_or_default();
    if let Some(at) = scores.iter().position(|score| !score.is_finite() || score.abs() > 1e30) {
        return Err(invalid(format!("the score of token {at}"), scores[at].to_string(), "a finite number"));
    }
    let unknown = match document.model.get("unk_id") {
        None | Some(Value::Null) => None,
        Some(id) => match id.as_u64() {
            Some(id) if id < scores.len() as u64 => Some(id as u32),
            _ => {
                let wanted = format!("less than the {} tokens", scores.len());
                return Err(invalid("unk_id", quoted(&id.to_string()), wanted));
            }
        },
    };
    let has_fallback = flag(&document.model, "byte_fallback", false)?;
    let mut by_id = vec![0.0; words.size()];
    by_id[..scores.len()].iter_mut().zip(scores).for_each(|(to, &score)| *to = score as f32);
    let unigram = Unigram {
        prefixes: Prefixes::new(words),
        unknown,
        unknown_score: scores.iter().fold(f64::INFINITY, |least, &score| least.min(score)) as f32 - 10.0,
        scores: by_id,
        bytes: if has_fallback { byte_tokens(words) } else { None },
    };
    Ok((Model::Unigram(unigram), unknown))
}

fn word_piece(document: &Document, words: &Vocabulary) -> Result<(Model, Option<u32>)> {
    let Some(unknown) = unknown_named(document, words)? else {
        return Err(invalid("unk_token", "absent", "a token of the vocabulary"));
    };
    let prefix = match document.model.get("continuing_subword_prefix") {
        None => "##",
        Some(_) => option_text(document, "continuing_subword_prefix")?,
    };
    let longest = document.model.get("max_input_chars_per_word").map_or(Some(100), Value::as_u64);
    let Some(characters_max) = longest.filter(|&longest| longest <= WORD_CHARACTERS_MAX) else {
        return Err(invalid("max_input_chars_per_word", "no small number", format!("at most {WORD_CHARACTERS_MAX}")));
    };
    let model = WordPiece { prefix: prefix.to_owned(), unknown, characters_max: characters_max as usize };
    Ok((Model::WordPiece(model), Some(unknown)))
}
