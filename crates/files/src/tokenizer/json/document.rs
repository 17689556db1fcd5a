//! The first pass over tokenizer.json: vocabulary and merges go into flat lists, all else into small JSON values.
//! Invariant: memory is a small multiple of the file's length, whatever stands in it.

use std::cell::Cell;
use std::fmt;

use serde::Deserializer as _;
use serde::de::{DeserializeSeed, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

use super::super::alphabet;
use super::super::error::{Error, Result, invalid};
use super::super::vocabulary::{IDS_MAX, Reach, Vocabulary};
use crate::json::Seed;

/// Values outside the vocabulary: ten for each of twenty thousand added tokens.
const SMALL_VALUES_MAX: usize = 200_000;

/// A file as it stands.
#[derive(Default)]
pub(super) struct Document {
    pub(super) added_tokens: Vec<Value>,
    pub(super) normalizer: Value,
    pub(super) pre_tokenizer: Value,
    pub(super) post_processor: Value,
    pub(super) decoder: Value,
    pub(super) padding: Value,
    pub(super) truncation: Value,
    /// The model's options: all but vocabulary and merges.
    pub(super) model: Map<String, Value>,
    pub(super) tokens: Tokens,
    pub(super) merges: Option<Merges>,
    pub(super) has_model: bool,
}

/// The vocabulary: texts back to back, and for each its end and its id. Unigram has scores.
#[derive(Default)]
pub(super) struct Tokens {
    pub(super) text: String,
    pub(super) ends: Vec<u32>,
    pub(super) ids: Vec<u32>,
    pub(super) scores: Option<Vec<f64>>,
}

impl Tokens {
    pub(super) fn iter(&self) -> impl Iterator<Item = (u32, &str)> {
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        starts.zip(&self.ends).zip(&self.ids).map(|((start, &end), &id)| (id, &self.text[start as usize..end as usize]))
    }

    pub(super) fn push<E: serde::de::Error>(&mut self, token: &str, id: u32) -> Result<(), E> {
        self.text.push_str(token);
        self.ends.push(u32::try_from(self.text.len()).map_err(|_| E::custom("the vocabulary is longer than 4 GiB"))?);
        self.ids.push(id);
        Ok(())
    }
}

/// Merges: texts back to back, for each where its left and its right part end.
#[derive(Default)]
pub(super) struct Merges {
    text: String,
    ends: Vec<(u32, u32)>,
}

impl Merges {
    pub(super) fn len(&self) -> usize {
        self.ends.len()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        let starts = std::iter::once(0).chain(self.ends.iter().map(|ends| ends.1));
        starts.zip(&self.ends).map(|(start, &(middle, end))| {
            (&self.text[start as usize..middle as usize], &self.text[middle as usize..end as usize])
        })
    }

    pub(super) fn push(&mut self, left: &str, right: &str) -> Option<()> {
        self.text.push_str(left);
        let middle = u32::try_from(self.text.len()).ok()?;
        self.text.push_str(right);
        self.ends.push((middle, u32::try_from(self.text.len()).ok()?));
        (!left.is_empty() && !right.is_empty()).then_some(())
    }
}

impl Document {
    pub(super) fn read(bytes: &[u8]) -> Result<Document> {
        let mut reader = serde_json::Deserializer::from_slice(bytes);
        let left = Cell::new(SMALL_VALUES_MAX);
        let document = reader.deserialize_map(Whole(&left))?;
        reader.end()?;
        if !document.has_model {
            return Err(Error::Json("it has no \"model\"; this is no tokenizer.json".into()));
        }
        Ok(document)
    }

    /// The vocabulary, in bytes of the text where the file writes them in GPT-2's alphabet.
    pub(super) fn vocabulary(&self, has_alphabet: bool) -> Result<Vocabulary> {
        let mut vocabulary = Vocabulary::with_capacity(self.tokens.ids.len(), self.tokens.text.len());
        if self.tokens.ids.is_empty() {
            return Err(invalid("the vocabulary", "empty", "tokens"));
        }
        for (id, token) in self.tokens.iter() {
            match has_alphabet.then(|| alphabet::bytes(token)) {
                None => vocabulary.insert(id, token.as_bytes(), Reach::Model)?,
                Some(Some(bytes)) => vocabulary.insert(id, &bytes, Reach::Model)?,
                Some(None) => vocabulary.insert(id, token.as_bytes(), Reach::ByIdOnly)?,
            }
        }
        Ok(vocabulary)
    }
}

/// The whole file.
struct Whole<'a>(&'a Cell<usize>);

impl<'de> Visitor<'de> for Whole<'_> {
    type Value = Document;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object with a \"model\"")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Document, A::Error> {
        let mut document = Document::default();
        let seed = Seed(self.0);
        while let Some(key) = map.next_key::<String>()? {
            match key.as_str() {
                "model" if document.has_model => return Err(A::Error::custom("\"model\" stands twice")),
                "model" => {
                    document.has_model = true;
                    map.next_value_seed(Model(&mut document, self.0))?;
                }
                "added_tokens" => match map.next_value_seed(seed)? {
                    Value::Array(tokens) => document.added_tokens = tokens,
                    Value::Null => {}
                    _ => return Err(A::Error::custom("\"added_tokens\" is no list")),
                },
                "normalizer" => document.normalizer = map.next_value_seed(seed)?,
                "pre_tokenizer" => document.pre_tokenizer = map.next_value_seed(seed)?,
                "post_processor" => document.post_processor = map.next_value_seed(seed)?,
                "decoder" => document.decoder = map.next_value_seed(seed)?,
                "padding" => document.padding = map.next_value_seed(seed)?,
                "truncation" => document.truncation = map.next_value_seed(seed)?,
                _ => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(document)
    }
}

struct Model<'a>(&'a mut Document, &'a Cell<usize>);

impl<'de> DeserializeSeed<'de> for Model<'_> {
    type Value = ();

    fn deserialize<D: serde::Deserializer<'de>>(self, reader: D) -> Result<(), D::Error> {
        reader.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Model<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object with the model")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let document = self.0;
        while let Some(key) = map.next_key::<String>()? {
            match key.as_str() {
                "vocab" if !document.tokens.ids.is_empty() => return Err(A::Error::custom("\"vocab\" stands twice")),
                "vocab" => document.tokens = map.next_value_seed(Vocab)?,
                "merges" if document.merges.is_some() => return Err(A::Error::custom("\"merges\" stands twice")),
                "merges" => document.merges = map.next_value_seed(MergeList)?,
                _ => {
                    document.model.insert(key, map.next_value_seed(Seed(self.1))?);
                }
            }
        }
        Ok(())
    }
}

pub(super) struct Vocab;

impl<'de> DeserializeSeed<'de> for Vocab {
    type Value = Tokens;

    fn deserialize<D: serde::Deserializer<'de>>(self, reader: D) -> Result<Tokens, D::Error> {
        reader.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Vocab {
    type Value = Tokens;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("tokens with ids, or a list of tokens with scores")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Tokens, A::Error> {
        let mut tokens = Tokens::default();
        while let Some(token) = map.next_key_seed(Text)? {
            let id = map.next_value::<u32>()?;
            if id >= IDS_MAX {
                return Err(A::Error::custom(format!("token id {id}, expected less than {IDS_MAX}")));
            }
            tokens.push(&token, id)?;
        }
        Ok(tokens)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Tokens, A::Error> {
        let mut tokens = Tokens::default();
        let mut scores = Vec::new();
        while let Some((token, score)) = list.next_element::<(std::borrow::Cow<'de, str>, f64)>()? {
            if scores.len() >= IDS_MAX as usize {
                return Err(A::Error::custom(format!("more than {IDS_MAX} tokens")));
            }
            tokens.push(&token, scores.len() as u32)?;
            scores.push(score);
        }
        tokens.scores = Some(scores);
        Ok(tokens)
    }
}

/// A text, borrowed where it has no escapes.
struct Text;

impl<'de> DeserializeSeed<'de> for Text {
    type Value = std::borrow::Cow<'de, str>;

    fn deserialize<D: serde::Deserializer<'de>>(self, reader: D) -> Result<Self::Value, D::Error> {
        reader.deserialize_str(self)
    }
}

impl<'de> Visitor<'de> for Text {
    type Value = std::borrow::Cow<'de, str>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a text")
    }

    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
        Ok(text.into())
    }

    fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
        Ok(text.to_owned().into())
    }
}

struct MergeList;

impl<'de> DeserializeSeed<'de> for MergeList {
    type Value = Option<Merges>;

    fn deserialize<D: serde::Deserializer<'de>>(self, reader: D) -> Result<Option<Merges>, D::Error> {
        reader.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for MergeList {
    type Value = Option<Merges>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of merges")
    }

    fn visit_unit<E>(self) -> Result<Option<Merges>, E> {
        Ok(None)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Option<Merges>, A::Error> {
        let mut merges = Merges::default();
        while list.next_element_seed(Merge(&mut merges))?.is_some() {}
        Ok(Some(merges))
    }
}

/// One merge: two texts, or both in one with a space between.
struct Merge<'a>(&'a mut Merges);

impl<'de> DeserializeSeed<'de> for Merge<'_> {
    type Value = ();

    fn deserialize<D: serde::Deserializer<'de>>(self, reader: D) -> Result<(), D::Error> {
        reader.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Merge<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a merge of two tokens")
    }

    fn visit_str<E: serde::de::Error>(self, merge: &str) -> Result<(), E> {
        let number = self.0.len();
        let parts = merge.split_once(' ').filter(|(_, right)| !right.contains(' '));
        let pushed = parts.and_then(|(left, right)| self.0.push(left, right));
        pushed.ok_or_else(|| E::custom(format!("merge {number} is not two tokens with a space between")))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        let number = self.0.len();
        let bad = || A::Error::custom(format!("merge {number} is not a list of two tokens"));
        let left = list.next_element_seed(Text)?.ok_or_else(bad)?;
        let right = list.next_element_seed(Text)?.ok_or_else(bad)?;
        if list.next_element::<IgnoredAny>()?.is_some() {
            return Err(bad());
        }
        self.0.push(&left, &right).ok_or_else(bad)
    }
}
