//! Vocabularies in GGUF metadata (`tokenizer.ggml.*`): byte-pair encoding over bytes (`gpt2`) or with marks
//! (`gemma4`), SentencePiece's (`llama`), WordPiece (`bert`) and Unigram (`t5`). What a key leaves out follows
//! llama.cpp, normalization the original tokenizers.

use super::added::{Added, AddedTokens};
use super::bpe::{Bpe, Merges, Ranks, Units, Unknown, WholeWords};
use super::charsmap::Charsmap;
use super::decode::{Decoder, Leading, byte_of};
use super::error::{Error, Result, invalid, quoted};
use super::json::single_bytes;
use super::model::{Model, Unigram, WordPiece};
use super::stage::{Behavior, Kind, MARK, Spaces, Stage};
use super::unicode::Form;
use super::vocabulary::{Pairs, Prefixes, Reach, Vocabulary};
use super::{Inner, Roles, Slot, Template, alphabet, known};
use crate::gguf::{Metadata, Texts};

const TOKENS: &str = "tokenizer.ggml.tokens";

/// What a token is, as the file numbers it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Type {
    Normal,
    Unknown,
    Control,
    UserDefined,
    Unused,
    Byte,
}

/// The lists of a vocabulary, of one length.
struct Lists<'a> {
    metadata: &'a Metadata,
    tokens: &'a Texts,
    types: Vec<Type>,
}

pub(super) fn read(metadata: &Metadata) -> Result<Option<Inner>> {
    let Some(model) = metadata.text("tokenizer.ggml.model")? else { return Ok(None) };
    if matches!(model, "none" | "no_vocab") || metadata.get(TOKENS).is_none() {
        return Ok(None);
    }
    let tokens = metadata.texts(TOKENS)?.ok_or_else(|| metadata.missing(TOKENS))?;
    let types = types(metadata, tokens.len())?;
    let lists = Lists { metadata, tokens, types };
    let inner = match model {
        "gpt2" => lists.bytes()?,
        "gemma4" => lists.marked_merges()?,
        "llama" => lists.sentence_piece()?,
        "t5" => lists.unigram()?,
        "bert" => lists.word_piece()?,
        other => return Err(Error::Unsupported { what: "tokenizer.ggml.model", name: quoted(other) }),
    };
    Ok(Some(inner))
}

fn types(metadata: &Metadata, tokens: usize) -> Result<Vec<Type>> {
    const KEY: &str = "tokenizer.ggml.token_type";
    let Some(numbers) = metadata.integers(KEY)? else { return Ok(vec![Type::Normal; tokens]) };
    if numbers.len() != tokens {
        let what = format!("has {} values for {tokens} tokens", numbers.len());
        return Err(metadata.invalid(KEY, &what).into());
    }
    let read = |&number: &i64| match number {
        // Zero is written by programs that do not know.
        0 | 1 => Ok(Type::Normal),
        2 => Ok(Type::Unknown),
        3 => Ok(Type::Control),
        4 => Ok(Type::UserDefined),
        5 => Ok(Type::Unused),
        6 => Ok(Type::Byte),
        _ => Err(metadata.invalid(KEY, &format!("holds {number}, it should be 1 to 6")).into()),
    };
    numbers.iter().map(read).collect()
}

impl Lists<'_> {
    /// Tokens into the table by their types. `spell` turns the file's spelling of ordinary tokens into the table's;
    /// false means that the token cannot be reached by its text.
    fn tables(&self, spell: impl Fn(&str, &mut Vec<u8>) -> bool) -> Result<(Vocabulary, AddedTokens)> {
        let bytes = self.tokens.iter().map(<[u8]>::len).sum();
        let mut vocabulary = Vocabulary::with_capacity(self.tokens.len(), bytes);
        let mut added = AddedTokens::default();
        let (unknown, mut spelled) = (self.id("unknown")?, Vec::new());
        for ((id, token), kind) in (0u32..).zip(self.tokens.iter()).zip(&self.types) {
            if *kind == Type::Byte && byte_of(token).is_none() {
                let found = quoted(&String::from_utf8_lossy(token));
                return Err(invalid(format!("byte token {id}"), found, "<0x00> to <0xFF>"));
            }
            let text = str::from_utf8(token).ok();
            let is_listed = match kind {
                Type::Control | Type::UserDefined => true,
                Type::Unknown => unknown == Some(id),
                _ => false,
            };
            match text {
                Some(text) if is_listed && !text.is_empty() => {
                    // A second token of the same text can only be decoded.
                    if added.by_content(text).is_none() {
                        let make = if *kind == Type::UserDefined { Added::text } else { Added::control };
                        added.push(make(id, text))?;
                    }
                    // Merges may lead to texts of users' tokens.
                    vocabulary.insert_unless_known(id, text.as_bytes())?;
                }
                Some(text) if *kind == Type::Normal && !text.is_empty() => {
                    spelled.clear();
                    match spell(text, &mut spelled) {
                        true => vocabulary.insert_unless_known(id, &spelled)?,
                        false => vocabulary.insert(id, token, Reach::ByIdOnly)?,
                    }
                }
                _ => vocabulary.insert(id, token, Reach::ByIdOnly)?,
            }
        }
        Ok((vocabulary, added))
    }

    fn bytes(&self) -> Result<Inner> {
        let pre = self.metadata.text("tokenizer.ggml.pre")?.unwrap_or_default();
        let Some(patterns) = known::of_gguf(pre) else {
            return Err(Error::Unsupported { what: "tokenizer.ggml.pre", name: quoted(pre) });
        };
        let (vocabulary, added) = self.tables(alphabet::extend)?;
        let pairs = self.pairs(&vocabulary, true)?;
        let takes_whole = known::takes_whole_words(pre);
        let bpe = Bpe {
            units: Units::Bytes(single_bytes(&vocabulary)),
            merges: Merges::Listed(pairs),
            unknown: self.id("unknown")?.map_or(Unknown::Dropped, Unknown::Each),
            whole_words: if takes_whole { WholeWords::Taken } else { WholeWords::Merged },
            suffix: String::new(),
            frozen: None,
        };
        let normalizer = if known::is_composed(pre) { vec![Stage::Form(Form::Composed)] } else { Vec::new() };
        let mut splitter = Vec::new();
        if self.flag("add_space_prefix", false)? {
            splitter.push(Stage::PrefixSpace);
        }
        for pattern in patterns {
            splitter.push(Stage::isolate(pattern)?);
        }
        let around = Around { bos: known::begins(pre), eos: known::ends(pre) };
        let parts = Parts { vocabulary, added, normalizer, splitter, model: Model::Bpe(bpe), decoder: Decoder::Bytes };
        Ok(Inner { has_alphabet: true, ..self.finish(parts, around)? })
    }

    fn marked_merges(&self) -> Result<Inner> {
        let (vocabulary, added) = self.tables(as_it_is)?;
        let pairs = self.pairs(&vocabulary, false)?;
        let bpe = Bpe {
            units: Units::Characters,
            merges: Merges::Listed(pairs),
            unknown: self.unknown()?,
            whole_words: WholeWords::Merged,
            suffix: String::new(),
            frozen: None,
        };
        let prefix = self.flag("add_space_prefix", false)?;
        let spaces = Spaces { prefix, collapse: false, escape: true, suffix: false };
        let splitter = vec![Stage::SplitAt { kind: Kind::One('\n'), behavior: Behavior::Contiguous }];
        let parts = Parts {
            vocabulary,
            added,
            normalizer: vec![Stage::Spaces(spaces)],
            splitter,
            model: Model::Bpe(bpe),
            decoder: pieces(prefix),
        };
        self.finish(parts, Around { bos: true, eos: false })
    }

    fn sentence_piece(&self) -> Result<Inner> {
        let (vocabulary, added) = self.tables(as_it_is)?;
        let scores = self.scores()?;
        let bpe = Bpe {
            units: Units::Characters,
            merges: Merges::Joined(Ranks::of_scores(&scores)),
            unknown: self.unknown()?,
            whole_words: WholeWords::Merged,
            suffix: String::new(),
            frozen: None,
        };
        let (normalizer, prefix) = self.spaces()?;
        let parts = Parts {
            vocabulary,
            added,
            normalizer,
            splitter: Vec::new(),
            model: Model::Bpe(bpe),
            decoder: pieces(prefix),
        };
        self.finish(parts, Around { bos: true, eos: false })
    }

    fn unigram(&self) -> Result<Inner> {
        let (mut vocabulary, added) = self.tables(as_it_is)?;
        // The table of prefixes is made here: what a user writes must not find a mark in it.
        added.iter().filter(|added| added.is_mark()).for_each(|added| vocabulary.conceal(added.id));
        let scores = self.scores()?;
        let normal = self.types.iter().zip(&scores).filter(|(kind, _)| **kind == Type::Normal);
        let least = normal.fold(f32::INFINITY, |least, (_, &score)| least.min(score));
        let bytes = match self.unknown()? {
            Unknown::Bytes(bytes) => Some(bytes),
            _ => None,
        };
        let unigram = Unigram {
            prefixes: Prefixes::new(&vocabulary),
            unknown: self.id("unknown")?,
            unknown_score: if least.is_finite() { least - 10.0 } else { -10.0 },
            scores,
            bytes,
        };
        let (normalizer, prefix) = self.spaces()?;
        let parts = Parts {
            vocabulary,
            added,
            normalizer,
            splitter: Vec::new(),
            model: Model::Unigram(unigram),
            decoder: pieces(prefix),
        };
        self.finish(parts, Around { bos: false, eos: true })
    }

    fn word_piece(&self) -> Result<Inner> {
        // Files mark the start of a word where BERT marks its continuation.
        let spell = |text: &str, out: &mut Vec<u8>| {
            let word = text.strip_prefix(MARK);
            let parts = word.map_or(["##", text], |word| ["", word]);
            out.extend_from_slice(parts.concat().as_bytes());
            true
        };
        let (vocabulary, added) = self.tables(spell)?;
        let unknown = self.id("unknown")?.or_else(|| added.by_content("[UNK]").map(|added| added.id));
        let unknown = unknown.ok_or_else(|| self.metadata.missing("tokenizer.ggml.unknown_token_id"))?;
        let lowercase = vocabulary.find(b"The").is_none();
        let model = WordPiece { prefix: "##".into(), unknown, characters_max: 100 };
        let parts = Parts {
            vocabulary,
            added,
            normalizer: vec![Stage::Bert { clean: true, chinese: true, accents: lowercase, lowercase }],
            splitter: vec![
                Stage::SplitAt { kind: Kind::Space, behavior: Behavior::Removed },
                Stage::SplitAt { kind: Kind::Punctuation, behavior: Behavior::Isolated },
            ],
            model: Model::WordPiece(model),
            decoder: Decoder::Words { prefix: "##".into(), cleanup: true },
        };
        self.finish(parts, Around { bos: true, eos: true })
    }

    /// The map of characters and the treatment of spaces, and whether a space is put first.
    fn spaces(&self) -> Result<(Vec<Stage>, bool)> {
        const MAP: &str = "tokenizer.ggml.precompiled_charsmap";
        let mut stages = Vec::new();
        if let Some(bytes) = self.metadata.integers(MAP)?
            && !bytes.is_empty()
        {
            let bytes: Vec<u8> = bytes.iter().map(|&byte| byte as u8).collect();
            stages.push(Stage::Charsmap(Box::new(Charsmap::read(&bytes, MAP)?)));
        }
        let prefix = self.flag("add_space_prefix", true)?;
        let collapse = self.flag("remove_extra_whitespaces", false)?;
        stages.push(Stage::Spaces(Spaces { prefix, collapse, escape: true, suffix: false }));
        Ok((stages, prefix))
    }

    fn scores(&self) -> Result<Vec<f32>> {
        const KEY: &str = "tokenizer.ggml.scores";
        let scores = self.metadata.floats(KEY)?.ok_or_else(|| self.metadata.missing(KEY))?;
        if scores.len() != self.tokens.len() || scores.iter().any(|score| score.is_nan()) {
            let what = format!("has {} values for {} tokens, or one that is NaN", scores.len(), self.tokens.len());
            return Err(self.metadata.invalid(KEY, &what).into());
        }
        Ok(scores)
    }

    /// Byte tokens if there are all of them, else the unknown token.
    fn unknown(&self) -> Result<Unknown> {
        let mut ids = Box::new([u32::MAX; 256]);
        for ((id, token), kind) in (0u32..).zip(self.tokens.iter()).zip(&self.types) {
            if let Some(byte) = byte_of(token).filter(|_| matches!(kind, Type::Byte | Type::Normal)) {
                ids[byte as usize] = id;
            }
        }
        if ids.iter().all(|&id| id != u32::MAX) {
            return Ok(Unknown::Bytes(ids));
        }
        Ok(self.id("unknown")?.map_or(Unknown::Refused, Unknown::Fused))
    }

    fn pairs(&self, vocabulary: &Vocabulary, has_alphabet: bool) -> Result<Pairs> {
        const KEY: &str = "tokenizer.ggml.merges";
        let merges = self.metadata.texts(KEY)?.ok_or_else(|| self.metadata.missing(KEY))?;
        let mut pairs = Pairs::with_capacity(merges.len());
        let mut joined = Vec::new();
        for (rank, merge) in merges.iter().enumerate() {
            let bad = || invalid(format!("merge {rank}"), quoted(&String::from_utf8_lossy(merge)), "two tokens");
            let text = str::from_utf8(merge).map_err(|_| bad())?;
            // The left part may itself begin with a space.
            let space = text.bytes().skip(1).position(|byte| byte == b' ').ok_or_else(bad)? + 1;
            joined.clear();
            for part in [&text[..space], &text[space + 1..]] {
                if !has_alphabet {
                    joined.extend_from_slice(part.as_bytes());
                } else if !alphabet::extend(part, &mut joined) {
                    return Err(bad());
                }
            }
            let middle = if has_alphabet { text[..space].chars().count() } else { space };
            let find = |bytes: &[u8]| vocabulary.find(bytes);
            match (find(&joined[..middle]), find(&joined[middle..]), find(&joined)) {
                (Some(left), Some(right), Some(merged)) => pairs.insert(left, right, rank as u32, merged),
                // Two tokens that join to none stay two tokens, here as in the reference.
                (Some(_), Some(_), None) => {}
                _ => return Err(bad()),
            }
        }
        Ok(pairs)
    }

    fn flag(&self, key: &str, default: bool) -> Result<bool> {
        Ok(self.metadata.bool(&format!("tokenizer.ggml.{key}"))?.unwrap_or(default))
    }

    /// The id under `tokenizer.ggml.*_token_id`, which must be one of the tokens. All ones is how some programs write
    /// that there is none.
    fn id(&self, role: &str) -> Result<Option<u32>> {
        let key = format!("tokenizer.ggml.{role}_token_id");
        match self.metadata.count(&key)? {
            None => Ok(None),
            Some(id) if id == u64::from(u32::MAX) => Ok(None),
            Some(id) if id < self.tokens.len() as u64 => Ok(Some(id as u32)),
            Some(id) => {
                let what = format!("is {id}, the vocabulary has {} tokens", self.tokens.len());
                Err(self.metadata.invalid(&key, &what).into())
            }
        }
    }

    fn finish(&self, parts: Parts, default: Around) -> Result<Inner> {
        let Parts { vocabulary, mut added, normalizer, splitter, model, decoder } = parts;
        let is_piece = matches!(decoder, Decoder::Pieces { .. });
        // llama.cpp's ids for SentencePiece files that name none.
        let usual =
            |id: u32, content: &str| Some(id).filter(|&id| is_piece && vocabulary.get(id) == Some(content.as_bytes()));
        let cls = self.id("cls")?;
        let sep = self.id("seperator")?.or(self.id("separator")?);
        let eos = self.id("eos")?.or_else(|| usual(2, "</s>"));
        let roles = Roles {
            bos: self.id("bos")?.or(cls).or_else(|| usual(1, "<s>")),
            eos: eos.or(sep),
            pad: self.id("padding")?,
            unknown: self.id("unknown")?,
        };
        let mut template = Template::default();
        if self.flag("add_bos_token", default.bos)? {
            template.before.extend(cls.or(roles.bos));
        }
        if self.flag("add_eos_token", default.eos)? {
            template.after.extend(sep.or(roles.eos));
        }
        if let (Decoder::Words { .. }, Some(&before), Some(&after)) =
            (&decoder, template.before.first(), template.after.first())
        {
            let (cls, sep) = (Slot::Token(before), Slot::Token(after));
            template.pair = Some(vec![cls, Slot::First, sep, Slot::Second, sep]);
        }
        if self.metadata.text("general.architecture")? == Some("phi3") && is_piece {
            added.strip_right(|added| match added.content.as_str() {
                "<|endoftext|>" => false,
                content => content.starts_with("<|") || content == "</s>",
            });
        }
        Ok(Inner {
            vocabulary,
            added,
            normalizer,
            splitter,
            model,
            decoder,
            template,
            roles,
            has_alphabet: false,
            unknown_surface: None,
            name: String::new(),
        })
    }
}

/// What the kinds of vocabularies build in their own ways.
struct Parts {
    vocabulary: Vocabulary,
    added: AddedTokens,
    normalizer: Vec<Stage>,
    splitter: Vec<Stage>,
    model: Model,
    decoder: Decoder,
}

/// What stands around a text where the file does not say.
struct Around {
    bos: bool,
    eos: bool,
}

/// A text whose spelling is that of the table.
fn as_it_is(text: &str, out: &mut Vec<u8>) -> bool {
    out.extend_from_slice(text.as_bytes());
    true
}

fn pieces(prefix: bool) -> Decoder {
    Decoder::Pieces {
        replaced: vec![(MARK.to_string(), " ".to_owned())],
        bytes: true,
        leading: if prefix { Leading::Space } else { Leading::Nothing },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gguf::{Metadata, Texts, Value};

    fn check_merge(merge: &str, wanted: Result<&[u32], &str>) {
        let mut metadata = Metadata::new("vocabulary.gguf");
        let texts = |list: &[&str]| Value::Texts(Texts::from_texts(list.iter().map(|text| text.as_bytes())));
        for (key, value) in [
            ("model", Value::text("gpt2")),
            ("pre", Value::text("gpt-2")),
            ("tokens", texts(&["t", "h", "e", "he"])),
            ("merges", texts(&["h e", merge])),
        ] {
            metadata.insert(format!("tokenizer.ggml.{key}"), value).unwrap();
        }
        let found = crate::tokenizer::Tokenizer::from_gguf(&metadata)
            .and_then(|tokenizer| tokenizer.unwrap().encode("the", crate::tokenizer::Specials::AsText));
        match wanted {
            Ok(ids) => assert_eq!(found.unwrap(), ids, "{merge:?}"),
            Err(part) => assert!(found.unwrap_err().to_string().contains(part), "{merge:?}"),
        }
    }

    #[test]
    fn a_merge_to_no_token_has_no_effect_and_one_of_no_tokens_is_refused() {
        check_merge("t h", Ok(&[0, 3]));
        check_merge("t x", Err("merge 1"));
        check_merge("th", Err("merge 1"));
    }
}
