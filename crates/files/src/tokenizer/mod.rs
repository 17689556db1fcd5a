//! Tokenizers: text to ids and back, from tokenizer.json, SentencePiece, tiktoken and Tekken files, and the
//! vocabularies in GGUF. Chat templates and stop rules are not here.
//!
//! Files are hostile: each format is read into the closed types of this module, checked, before anything runs on it,
//! and encoding takes time linear in the text (times its logarithm within one unsplit piece).
#![forbid(unsafe_code)]

mod added;
mod alphabet;
mod bpe;
mod category;
mod charsmap;
mod decode;
mod error;
mod gguf;
mod into_files;
mod into_gguf;
mod json;
mod known;
mod model;
mod open;
mod pattern;
mod protobuf;
mod ranks;
mod sentencepiece;
mod settings;
mod stage;
mod text;
mod unicode;
mod vocabulary;

use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use added::{AddedTokens, Part, Stage as Place};
use bpe::{Ids, Scratch};
pub use decode::TextStream;
use decode::{Decoder, byte_of};
pub use error::{Error, Result};
pub use into_files::{Difference, Files, first_difference};
use model::Model;
use stage::Stage;
use text::Text;
use vocabulary::Vocabulary;

use crate::folder::Folder;

/// Longest text that is encoded at once.
const TEXT_BYTES_MAX: usize = 256 << 20;

/// A tokenizer. Clones share it.
#[derive(Clone)]
pub struct Tokenizer(Arc<Inner>);

/// What marks in a text become.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Specials {
    /// They stay text: `<|im_end|>` in a user's message is eleven characters.
    AsText,
    /// They become the control tokens that they spell.
    Parse,
}

/// Whether decoding shows control tokens.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Shown {
    /// As they are spelled.
    Show,
    /// Not at all.
    Hide,
}

/// Ids of a text and where each ends in it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Encoding {
    /// The tokens.
    pub ids: Vec<u32>,
    /// For each token the byte offset in the text at which what it stands for ends. A token of part of a character
    /// may end inside it.
    pub ends: Vec<usize>,
}

/// Everything that readers of formats fill in.
struct Inner {
    vocabulary: Vocabulary,
    added: AddedTokens,
    normalizer: Vec<Stage>,
    splitter: Vec<Stage>,
    model: Model,
    decoder: Decoder,
    template: Template,
    roles: Roles,
    /// Tokens are shown in GPT-2's alphabet.
    has_alphabet: bool,
    /// What SentencePiece decodes its unknown token to.
    unknown_surface: Option<(u32, String)>,
    /// The file's name.
    name: String,
}

/// What stands around a text, and around two.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Template {
    before: Vec<u32>,
    after: Vec<u32>,
    pair: Option<Vec<Slot>>,
}

/// A place in the template of two texts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Slot {
    Token(u32),
    First,
    Second,
}

/// Tokens with a part to play.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Roles {
    bos: Option<u32>,
    eos: Option<u32>,
    pad: Option<u32>,
    unknown: Option<u32>,
}

impl Tokenizer {
    /// Opens a tokenizer file, a GGUF file, or a folder with one of them. What a file is, its content says.
    pub fn open(path: impl AsRef<Path>) -> Result<Tokenizer> {
        open::open(path.as_ref())
    }

    /// The tokenizer of a model's folder; none where it has no file of a tokenizer.
    pub fn in_folder(folder: &Folder) -> Result<Option<Tokenizer>> {
        open::in_folder(folder)
    }

    /// The tokenizer in a GGUF file; none where its metadata has no vocabulary.
    pub fn from_gguf(metadata: &crate::gguf::Metadata) -> Result<Option<Tokenizer>> {
        gguf::read(metadata)?.map(|inner| Tokenizer::build(inner, "")).transpose()
    }

    /// `name` is that of the file, for errors that come up later.
    fn build(mut inner: Inner, name: &str) -> Result<Tokenizer> {
        inner.name = name.to_owned();
        let Inner { added, normalizer, vocabulary, .. } = &mut inner;
        added.build(|content| {
            let mut text = Text::new(content, 0);
            normalizer.iter().try_for_each(|stage| stage.apply(&mut text))?;
            Ok(text.text.into_owned())
        })?;
        for added in added.iter().filter(|added| added.is_mark()) {
            vocabulary.conceal(added.id);
        }
        Ok(Tokenizer(Arc::new(inner)))
    }

    /// The ids of a text, with nothing before or after it.
    pub fn encode(&self, text: &str, specials: Specials) -> Result<Vec<u32>> {
        Ok(self.run(text, &|_| specials == Specials::Parse)?.ids)
    }

    /// What the file says stands behind a text: an end of sequence, `[SEP]`, or nothing.
    pub fn after(&self) -> &[u32] {
        &self.0.template.after
    }

    /// The ids of a text with what the file says stands around it: begin and end of sequence, `[CLS]`, `[SEP]`.
    pub fn encode_with_special(&self, text: &str, specials: Specials) -> Result<Vec<u32>> {
        let ids = self.encode(text, specials)?;
        Ok([&self.0.template.before[..], &ids, &self.0.template.after[..]].concat())
    }

    /// The ids of two texts in the file's template for pairs; without one, one after the other.
    pub fn encode_pair(&self, first: &str, second: &str, specials: Specials) -> Result<Vec<u32>> {
        let (first, second) = (self.encode(first, specials)?, self.encode(second, specials)?);
        let Some(slots) = &self.0.template.pair else { return Ok([first, second].concat()) };
        let parts = slots.iter().map(|slot| match slot {
            Slot::Token(id) => std::slice::from_ref(id),
            Slot::First => &first[..],
            Slot::Second => &second[..],
        });
        Ok(parts.collect::<Vec<&[u32]>>().concat())
    }

    /// The ids of a rendered prompt: marks become control tokens, except where they touch one of the ranges `plain`,
    /// which hold what users wrote. Nothing is put before or after.
    pub fn encode_marked(&self, text: &str, plain: &[Range<usize>]) -> Result<Encoding> {
        let mut plain: Vec<&Range<usize>> = plain.iter().filter(|range| !range.is_empty()).collect();
        plain.sort_by_key(|range| range.start);
        // Ends are made to grow, so that nested ranges do not hide one another.
        let mut ends: Vec<usize> = plain.iter().map(|range| range.end).collect();
        for at in 1..ends.len() {
            ends[at] = ends[at].max(ends[at - 1]);
        }
        let ids = self.run(text, &|mark: Range<usize>| {
            let before = plain.partition_point(|range| range.start < mark.end);
            before == 0 || ends[before - 1] <= mark.start
        })?;
        Ok(Encoding { ids: ids.ids, ends: ids.ends })
    }

    fn run(&self, text: &str, allowed: &dyn Fn(Range<usize>) -> bool) -> Result<Ids> {
        self.run_unnamed(text, allowed).map_err(|error| match error {
            Error::TooManySteps | Error::NoToken(_) if !self.0.name.is_empty() => error.within(&self.0.name),
            other => other,
        })
    }

    fn run_unnamed(&self, text: &str, allowed: &dyn Fn(Range<usize>) -> bool) -> Result<Ids> {
        if text.len() > TEXT_BYTES_MAX {
            return Err(Error::TextTooLong { place: "before normalization", found: text.len(), limit: TEXT_BYTES_MAX });
        }
        let inner = &*self.0;
        let (mut out, mut scratch) = (Ids::default(), Scratch::default());
        inner.added.split(text, Place::Raw, allowed, |part| match part {
            Part::Token(id, end) => {
                out.push(id, end);
                Ok(())
            }
            Part::Text(text, start) => {
                let mut work = Text::new(text, start);
                inner.normalizer.iter().try_for_each(|stage| stage.apply(&mut work))?;
                if !inner.added.has_normalized() {
                    return inner.encode(work, &mut scratch, &mut out);
                }
                let source = |range: Range<usize>| work.source_end(range.start)..work.source_end(range.end);
                inner.added.split(
                    &work.text,
                    Place::Normalized,
                    |range| allowed(source(range)),
                    |part| match part {
                        Part::Token(id, end) => {
                            out.push(id, work.source_end(end));
                            Ok(())
                        }
                        Part::Text(text, at) => inner.encode(work.part(at..at + text.len()), &mut scratch, &mut out),
                    },
                )
            }
        })?;
        Ok(out)
    }

    /// The text of ids. Ids without a token are no text; bytes that are no UTF-8 become replacement characters.
    pub fn decode(&self, ids: &[u32], specials: Shown) -> Result<String> {
        let mut stream = TextStream::new(self.clone(), specials);
        let mut text = String::new();
        ids.iter().for_each(|&id| text.push_str(&stream.push(id)));
        text.push_str(&stream.finish());
        Ok(text)
    }

    /// A stream that turns ids into text one by one; control tokens are hidden.
    pub fn stream(&self) -> TextStream {
        self.stream_with(Shown::Hide)
    }

    /// A stream that shows or hides control tokens.
    pub fn stream_with(&self, specials: Shown) -> TextStream {
        TextStream::new(self.clone(), specials)
    }

    /// How a token is spelled in the vocabulary: `Ġthe`, `▁the`, `##ing`, `<|im_end|>`.
    pub fn token(&self, id: u32) -> Option<String> {
        if let Some(added) = self.0.added.by_id(id) {
            return Some(added.content.clone());
        }
        let bytes = self.0.vocabulary.get(id)?;
        Some(if self.0.has_alphabet { alphabet::spelling(bytes) } else { String::from_utf8_lossy(bytes).into_owned() })
    }

    /// The bytes that a token contributes to a text in its middle.
    pub fn token_bytes(&self, id: u32) -> Option<Vec<u8>> {
        let bytes = self.0.vocabulary.get(id)?;
        Some(match &self.0.decoder {
            _ if self.0.added.by_id(id).is_some_and(|added| added.special) => bytes.to_vec(),
            Decoder::Bytes | Decoder::Spaced => bytes.to_vec(),
            Decoder::Pieces { bytes: true, .. } if byte_of(bytes).is_some() => byte_of(bytes).into_iter().collect(),
            Decoder::Pieces { replaced, .. } => {
                let text = String::from_utf8_lossy(bytes).into_owned();
                replaced.iter().fold(text, |text, (from, to)| text.replace(from, to)).into_bytes()
            }
            Decoder::Words { prefix, .. } => match bytes.strip_prefix(prefix.as_bytes()) {
                Some(rest) => rest.to_vec(),
                None => [b" ", bytes].concat(),
            },
            Decoder::Suffixed { suffix } => match bytes.strip_suffix(suffix.as_bytes()) {
                Some(word) => [word, b" "].concat(),
                None => bytes.to_vec(),
            },
        })
    }

    /// The id of a token as [`Tokenizer::token`] spells it.
    pub fn id(&self, token: &str) -> Option<u32> {
        if let Some(added) = self.0.added.by_content(token) {
            return Some(added.id);
        }
        let bytes = if self.0.has_alphabet { alphabet::bytes(token)? } else { token.as_bytes().to_vec() };
        self.0.vocabulary.find(&bytes)
    }

    /// Ids are below this number; not each of them need have a token.
    pub fn len(&self) -> usize {
        self.0.vocabulary.size()
    }

    /// Whether there are no tokens at all.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether an id is a control token.
    pub fn is_special(&self, id: u32) -> bool {
        self.0.added.by_id(id).is_some_and(|added| added.special)
    }

    /// The token that begins a sequence.
    pub fn bos(&self) -> Option<u32> {
        self.0.roles.bos
    }

    /// The token that ends a sequence.
    pub fn eos(&self) -> Option<u32> {
        self.0.roles.eos
    }

    /// The token that fills up a batch.
    pub fn pad(&self) -> Option<u32> {
        self.0.roles.pad
    }

    /// The token for what the vocabulary has no other token for.
    pub fn unknown(&self) -> Option<u32> {
        self.0.roles.unknown
    }

    /// Whether [`Tokenizer::encode_with_special`] begins with [`Tokenizer::bos`].
    pub fn adds_bos(&self) -> bool {
        self.0.roles.bos.is_some() && self.0.template.before.first().copied() == self.0.roles.bos
    }
}

impl Inner {
    /// Encodes a normalized text.
    fn encode(&self, mut text: Text<'_>, scratch: &mut Scratch, out: &mut Ids) -> Result<()> {
        self.splitter.iter().try_for_each(|stage| stage.apply(&mut text))?;
        for piece in &text.pieces {
            let from = out.ends.len();
            self.model.encode(&self.vocabulary, &text.text[piece.clone()], scratch, out)?;
            for end in &mut out.ends[from..] {
                *end = text.source_end(piece.start + *end);
            }
        }
        Ok(())
    }
}

impl std::fmt::Debug for Tokenizer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Tokenizer of {} tokens", self.len())
    }
}
