//! SentencePiece `.model` files: BPE, Unigram, word and character models with their normalization.

use super::added::{Added, AddedTokens, Trie};
use super::bpe::{Bpe, Merges, Ranks, Units, Unknown, WholeWords};
use super::charsmap::Charsmap;
use super::decode::{Decoder, Leading, byte_of};
use super::error::{Error, Result, invalid, quoted};
use super::model::{Model, Unigram};
use super::protobuf::{Field, Fields};
use super::stage::{Behavior, Kind, MARK, Spaces, Stage};
use super::vocabulary::{IDS_MAX, Prefixes, Reach, Vocabulary};
use super::{Inner, Roles, Template};

/// What a piece is, as the file numbers it.
mod kind {
    pub(super) const NORMAL: u64 = 1;
    pub(super) const UNKNOWN: u64 = 2;
    pub(super) const CONTROL: u64 = 3;
    pub(super) const USER_DEFINED: u64 = 4;
    pub(super) const BYTE: u64 = 6;
}

struct Piece<'a> {
    text: &'a str,
    score: f32,
    kind: u64,
}

/// The options that encoding needs, with the format's defaults.
struct Options<'a> {
    model: u64,
    suffix: bool,
    byte_fallback: bool,
    unknown: u64,
    bos: u64,
    eos: u64,
    pad: u64,
    unknown_surface: &'a str,
    charsmap: &'a [u8],
    prefix: bool,
    collapse: bool,
    escape: bool,
}

/// Whether a file begins as such a model does: with a piece, and pieces are messages that begin with a text.
pub(super) fn recognizes(bytes: &[u8]) -> bool {
    let piece = |bytes| Fields::new(bytes).next().ok()?;
    let Some((1, Field::Bytes(first))) = piece(bytes) else { return false };
    matches!(piece(first), Some((1, Field::Bytes(text))) if str::from_utf8(text).is_ok())
}

pub(super) fn read(bytes: &[u8]) -> Result<Inner> {
    let (pieces, options) = parse(bytes)?;
    let (vocabulary, added) = tables(&pieces)?;
    let bytes = byte_ids(&pieces, options.byte_fallback)?;
    let id = |id: u64| u32::try_from(id).ok().filter(|&id| (id as usize) < pieces.len());
    let Some(unknown) = id(options.unknown).filter(|&id| pieces[id as usize].kind == kind::UNKNOWN) else {
        return Err(invalid("unk_id", options.unknown.to_string(), "the id of the piece of type UNKNOWN"));
    };
    let is_control = |id: &u32| pieces[*id as usize].kind == kind::CONTROL;
    let roles = Roles {
        bos: id(options.bos).filter(is_control),
        eos: id(options.eos).filter(is_control),
        pad: id(options.pad).filter(is_control),
        unknown: Some(unknown),
    };
    let mut normalizer = Vec::new();
    if !options.charsmap.is_empty() {
        normalizer.push(Stage::Charsmap(Box::new(Charsmap::read(options.charsmap, "precompiled_charsmap")?)));
    }
    let Options { prefix, collapse, escape, suffix, .. } = options;
    normalizer.push(Stage::Spaces(Spaces { prefix, collapse, escape, suffix }));
    let mut splitter = Vec::new();
    let model = match options.model {
        1 => Model::Unigram(unigram(&pieces, &vocabulary, unknown, bytes)),
        2 => Model::Bpe(bpe(&pieces, unknown, bytes)),
        3 => {
            splitter.push(Stage::SplitAt { kind: Kind::One(MARK), behavior: Behavior::WithNext });
            Model::Words { unknown: Some(unknown) }
        }
        4 => Model::Bpe(bpe(&[], unknown, bytes)),
        other => return Err(Error::Unsupported { what: "SentencePiece model type", name: other.to_string() }),
    };
    let leading = match (prefix && !suffix, collapse) {
        (_, true) => Leading::Spaces,
        (true, false) => Leading::Space,
        (false, false) => Leading::Nothing,
    };
    let decoder = Decoder::Pieces { replaced: vec![(MARK.into(), " ".into())], bytes: true, leading };
    Ok(Inner {
        vocabulary,
        added,
        normalizer,
        splitter,
        model,
        decoder,
        template: Template { before: roles.bos.into_iter().collect(), ..Template::default() },
        roles,
        has_alphabet: false,
        unknown_surface: Some((unknown, options.unknown_surface.to_owned())),
        name: String::new(),
    })
}

fn parse(bytes: &[u8]) -> Result<(Vec<Piece<'_>>, Options<'_>)> {
    let mut pieces = Vec::new();
    let mut options = Options {
        model: 1,
        suffix: false,
        byte_fallback: false,
        unknown: 0,
        bos: 1,
        eos: 2,
        pad: u64::MAX,
        unknown_surface: " \u{2047} ",
        charsmap: &[],
        prefix: true,
        collapse: true,
        escape: true,
    };
    let mut fields = Fields::new(bytes);
    while let Some((number, value)) = fields.next()? {
        match (number, value.bytes()) {
            (1, Some(message)) if pieces.len() < IDS_MAX as usize => pieces.push(piece(message, pieces.len())?),
            (1, Some(_)) => return Err(invalid("the number of pieces", "more", format!("at most {IDS_MAX}"))),
            (2, Some(message)) => options.read_trainer(message)?,
            (3, Some(message)) => options.read_normalizer(message)?,
            // Denormalization: files have an empty one.
            _ => {}
        }
    }
    if pieces.is_empty() {
        return Err(invalid("the model", "without pieces", "a vocabulary"));
    }
    Ok((pieces, options))
}

fn piece(message: &[u8], number: usize) -> Result<Piece<'_>> {
    let mut piece = Piece { text: "", score: 0.0, kind: kind::NORMAL };
    let mut fields = Fields::new(message);
    let bad = |found: &str, wanted: &str| invalid(format!("piece {number}"), found, wanted);
    while let Some((field, value)) = fields.next()? {
        match field {
            1 => {
                let text = value.bytes().and_then(|bytes| str::from_utf8(bytes).ok());
                piece.text = text.ok_or_else(|| bad("not UTF-8", "a text"))?;
            }
            2 => {
                piece.score = value
                    .float()
                    .filter(|score| score.is_finite())
                    .ok_or_else(|| bad("with a bad score", "a number"))?
            }
            3 => {
                piece.kind = value
                    .number()
                    .filter(|kind| (1..=6).contains(kind))
                    .ok_or_else(|| bad("of an unknown type", "1 to 6"))?
            }
            _ => {}
        }
    }
    if piece.text.is_empty() {
        return Err(bad("empty", "a text"));
    }
    Ok(piece)
}

impl<'a> Options<'a> {
    fn read_trainer(&mut self, message: &'a [u8]) -> Result<()> {
        let mut fields = Fields::new(message);
        while let Some((number, value)) = fields.next()? {
            match number {
                3 => self.model = value.number().unwrap_or(0),
                24 => self.suffix = value.flag().unwrap_or(self.suffix),
                35 => self.byte_fallback = value.flag().unwrap_or(self.byte_fallback),
                40 => self.unknown = value.number().unwrap_or(self.unknown),
                41 => self.bos = value.number().unwrap_or(self.bos),
                42 => self.eos = value.number().unwrap_or(self.eos),
                43 => self.pad = value.number().unwrap_or(self.pad),
                44 => {
                    let surface = value.bytes().and_then(|bytes| str::from_utf8(bytes).ok());
                    self.unknown_surface = surface.filter(|text| text.len() <= 64).unwrap_or(self.unknown_surface);
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn read_normalizer(&mut self, message: &'a [u8]) -> Result<()> {
        let mut fields = Fields::new(message);
        while let Some((number, value)) = fields.next()? {
            match number {
                2 => self.charsmap = value.bytes().unwrap_or_default(),
                3 => self.prefix = value.flag().unwrap_or(self.prefix),
                4 => self.collapse = value.flag().unwrap_or(self.collapse),
                5 => self.escape = value.flag().unwrap_or(self.escape),
                _ => {}
            }
        }
        Ok(())
    }
}

fn tables(pieces: &[Piece<'_>]) -> Result<(Vocabulary, AddedTokens)> {
    let bytes = pieces.iter().map(|piece| piece.text.len()).sum();
    let mut vocabulary = Vocabulary::with_capacity(pieces.len(), bytes);
    let mut added = AddedTokens::default();
    for (id, piece) in (0u32..).zip(pieces) {
        let reach = match piece.kind {
            kind::NORMAL | kind::USER_DEFINED => Reach::Model,
            // The library's BPE merges through unused pieces, and then takes them apart; no file at hand has any.
            _ => Reach::ByIdOnly,
        };
        vocabulary.insert(id, piece.text.as_bytes(), reach)?;
        match piece.kind {
            kind::CONTROL | kind::UNKNOWN => added.push(Added::control(id, piece.text))?,
            // Other users' pieces never merge, and no space is put behind them.
            kind::USER_DEFINED if Added::text(id, piece.text).is_mark() => added.push(Added::text(id, piece.text))?,
            _ => {}
        }
    }
    Ok((vocabulary, added))
}

/// Ids of the byte pieces, where unknown characters become bytes.
fn byte_ids(pieces: &[Piece<'_>], wanted: bool) -> Result<Option<Box<[u32; 256]>>> {
    let mut ids = Box::new([u32::MAX; 256]);
    for (id, piece) in (0u32..).zip(pieces).filter(|(_, piece)| piece.kind == kind::BYTE) {
        let byte = byte_of(piece.text.as_bytes());
        let byte = byte.ok_or_else(|| invalid(format!("byte piece {id}"), quoted(piece.text), "<0x00> to <0xFF>"))?;
        ids[byte as usize] = id;
    }
    match (wanted, ids.iter().position(|&id| id == u32::MAX)) {
        (false, _) => Ok(None),
        (true, None) => Ok(Some(ids)),
        (true, Some(byte)) => Err(invalid(format!("byte piece <0x{byte:02X}>"), "absent", "a piece for each byte")),
    }
}

fn bpe(pieces: &[Piece<'_>], unknown: u32, bytes: Option<Box<[u32; 256]>>) -> Bpe {
    let scores: Vec<f32> = pieces.iter().map(|piece| piece.score).collect();
    let mut frozen = Trie::default();
    for (id, piece) in (0u32..).zip(pieces).filter(|(_, piece)| piece.kind == kind::USER_DEFINED) {
        if !Added::text(id, piece.text).is_mark() {
            frozen.insert(piece.text.as_bytes(), id);
        }
    }
    let merges = if pieces.is_empty() { Ranks::Table(Vec::new()) } else { Ranks::of_scores(&scores) };
    Bpe {
        units: Units::Characters,
        merges: Merges::Joined(merges),
        unknown: bytes.map_or(Unknown::Fused(unknown), Unknown::Bytes),
        whole_words: WholeWords::Merged,
        suffix: String::new(),
        frozen: (!frozen.is_empty()).then_some(frozen),
    }
}

fn unigram(pieces: &[Piece<'_>], words: &Vocabulary, unknown: u32, bytes: Option<Box<[u32; 256]>>) -> Unigram {
    let normal = || pieces.iter().filter(|piece| piece.kind == kind::NORMAL).map(|piece| piece.score);
    let least = normal().fold(f32::INFINITY, f32::min);
    let most = normal().fold(f32::NEG_INFINITY, f32::max);
    let score = |piece: &Piece<'_>| match piece.kind {
        // The library's bonus, with which users' pieces always win.
        kind::USER_DEFINED => piece.text.len() as f32 * most - 0.1,
        _ => piece.score,
    };
    Unigram {
        scores: pieces.iter().map(score).collect(),
        prefixes: Prefixes::new(words),
        unknown: Some(unknown),
        unknown_score: if least.is_finite() { least - 10.0 } else { -10.0 },
        bytes,
    }
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use proptest::prelude::*;
    use proptest::test_runner::TestRunner;
    use serde_json::json;

    use super::super::{Specials, Tokenizer, json};
    use super::*;

    /// The tokenizer.json that the libraries would write for a Unigram model.
    fn as_json(pieces: &[Piece<'_>], options: &Options<'_>) -> Vec<u8> {
        let vocab: Vec<_> = pieces.iter().map(|piece| json!([piece.text, piece.score])).collect();
        let map = base64::engine::general_purpose::STANDARD.encode(options.charsmap);
        let special = json!({"id": 0, "content": "<unk>", "special": true, "normalized": false,
            "single_word": false, "lstrip": false, "rstrip": false});
        let file = json!({
            "version": "1.0",
            "truncation": null,
            "padding": null,
            "added_tokens": [special],
            "normalizer": {"type": "Sequence", "normalizers": [
                {"type": "Precompiled", "precompiled_charsmap": map},
                {"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": " "},
            ]},
            "pre_tokenizer": {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": true},
            "post_processor": null,
            "decoder": {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": true},
            "model": {"type": "Unigram", "unk_id": 0, "vocab": vocab, "byte_fallback": false},
        });
        file.to_string().into_bytes()
    }

    #[test]
    fn a_unigram_model_as_tokenizer_json_gives_the_ids_of_the_crate() {
        let beside = || std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared");
        let kit = std::env::var_os("PASTURE_KIT").map_or_else(beside, std::path::PathBuf::from);
        let Ok(bytes) = std::fs::read(kit.join("assets/tokenizers/spm/torchtune-m/m.model")) else {
            println!("skipped: no kit");
            return;
        };
        let (pieces, options) = parse(&bytes).unwrap();
        let file = as_json(&pieces, &options);
        let ours = Tokenizer::build(json::read(&file, &[]).unwrap(), "").unwrap();
        let theirs = tokenizers::Tokenizer::from_bytes(&file).unwrap();
        // No combining marks: where one follows a character of the map, the crate drops it, SentencePiece does not.
        let text =
            "([a-zA-Z]{1,6}|[ \\n\\t]{1,3}|[0-9.,!?]{1,3}|[ﬁ①Ａ-Ｚ\u{fdfa}½ａ-ｚ가-힣éα-ωа-я一-龥😀]{1,3}){0,16}";
        let check = |text: String| {
            let wanted = theirs.encode(text.as_str(), false).unwrap();
            prop_assert_eq!(ours.encode(&text, Specials::Parse).unwrap(), wanted.get_ids(), "{:?}", text);
            let decoded = theirs.decode(wanted.get_ids(), false).unwrap();
            prop_assert_eq!(ours.decode(wanted.get_ids(), super::super::Shown::Show).unwrap(), decoded);
            Ok(())
        };
        let config = ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() };
        TestRunner::new(config).run(&proptest::string::string_regex(text).unwrap(), check).unwrap();
    }
}
