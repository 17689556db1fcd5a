//! tokenizer.json of the Hugging Face libraries. The file is read in one pass into flat lists; stages are small JSON
//! values that become closed types in `stages` and `decoders`, the model in `model`.

mod decoders;
mod document;
mod lists;
mod model;
mod stages;
mod template;

use serde_json::{Map, Value};

use super::added::{Added, AddedTokens};
use super::error::{Error, Result, invalid, quoted};
use super::vocabulary::{Reach, Vocabulary};
use super::{Inner, Roles, Template, alphabet};
use document::Document;
pub(super) use lists::{from_merges, from_words};
pub(super) use model::single_bytes;

/// Padding and truncation beyond this are mistakes or attacks; both are left to callers anyway.
const LENGTH_MAX: u64 = 1 << 32;

/// Reads a file's text; `more` are added tokens that other files of the folder list.
pub(super) fn read(bytes: &[u8], more: &[Added]) -> Result<Inner> {
    from_document(&Document::read(bytes)?, more)
}

/// Builds a tokenizer from a document, however it came about.
fn from_document(document: &Document, more: &[Added]) -> Result<Inner> {
    check_lengths(document)?;
    let mut normalizer = Vec::new();
    stages::normalizer(&document.normalizer, &mut normalizer, 0)?;
    let mut splitter = Vec::new();
    let has_alphabet = stages::splitter(&document.pre_tokenizer, &mut splitter, 0)?;
    let mut added = AddedTokens::default();
    for value in &document.added_tokens {
        added.push(added_token(value, None)?)?;
    }
    let mut vocabulary = document.vocabulary(has_alphabet)?;
    for token in more {
        push_missing(&mut added, token)?;
    }
    add_to(&mut vocabulary, &added, has_alphabet)?;
    if document.tokens.scores.is_some() {
        // Unigram looks tokens up by their prefixes: what a user writes must not find a mark among them.
        added.iter().filter(|added| added.is_mark()).for_each(|added| vocabulary.conceal(added.id));
    }
    let (model, unknown) = model::build(document, &vocabulary, has_alphabet)?;
    let template = template::read(&document.post_processor, &vocabulary)?;
    let roles = roles(&template, &added, unknown);
    let decoder = decoders::read(&document.decoder)?;
    Ok(Inner {
        vocabulary,
        added,
        normalizer,
        splitter,
        model,
        decoder,
        template,
        roles,
        has_alphabet,
        unknown_surface: None,
        name: String::new(),
    })
}

/// A token that another file lists as well does not change the one that is there.
fn push_missing(added: &mut AddedTokens, token: &Added) -> Result<()> {
    if added.by_content(&token.content).is_none() && added.by_id(token.id).is_none() {
        added.push(token.clone())?;
    }
    Ok(())
}

/// Gives the vocabulary the added tokens that it lacks.
pub(super) fn add_to(vocabulary: &mut Vocabulary, added: &AddedTokens, has_alphabet: bool) -> Result<()> {
    let count = vocabulary.size() + added.iter().count();
    for token in added.iter() {
        match vocabulary.get(token.id) {
            None => vocabulary.insert(token.id, token.content.as_bytes(), Reach::ByIdOnly)?,
            Some(bytes) if bytes == token.content.as_bytes() => {}
            Some(bytes) if has_alphabet && alphabet::bytes(&token.content).as_deref() == Some(bytes) => {}
            Some(bytes) => {
                let found = format!("the id of {} too", quoted(&String::from_utf8_lossy(bytes)));
                let what = format!("the id {} of added token {}", token.id, quoted(&token.content));
                return Err(invalid(what, found, "an id of its own"));
            }
        }
    }
    vocabulary.check_dense(count)
}

/// Reads one added token. In tokenizer_config.json its id is the key.
pub(super) fn added_token(value: &Value, id: Option<u32>) -> Result<Added> {
    let what = || "an added token".to_owned();
    let object = value.as_object().ok_or_else(|| invalid(what(), kind(value), "an object"))?;
    let id = match id {
        Some(id) => id,
        None => match object.get("id").and_then(Value::as_u64).and_then(|id| u32::try_from(id).ok()) {
            Some(id) => id,
            None => {
                let found = object.get("id").map_or("absent".to_owned(), |id| quoted(&id.to_string()));
                return Err(invalid("the id of an added token", found, "a whole number"));
            }
        },
    };
    let content = text(object, "content", "an added token")?;
    Ok(Added {
        id,
        content: content.to_owned(),
        special: flag(object, "special", false)?,
        normalized: flag(object, "normalized", !flag(object, "special", false)?)?,
        single_word: flag(object, "single_word", false)?,
        left_strip: flag(object, "lstrip", false)?,
        right_strip: flag(object, "rstrip", false)?,
    })
}

/// Tokens of roles, as far as the file itself tells.
fn roles(template: &Template, added: &AddedTokens, unknown: Option<u32>) -> Roles {
    const BEGINS: [&str; 5] = ["<s>", "<|begin_of_text|>", "<bos>", "[CLS]", "<|startoftext|>"];
    const ENDS: [&str; 6] = ["</s>", "<|end_of_text|>", "<eos>", "<|im_end|>", "<|endoftext|>", "[SEP]"];
    const PADS: [&str; 4] = ["<pad>", "[PAD]", "<|finetune_right_pad_id|>", "<|endoftext|>"];
    let named = |names: &[&str]| names.iter().find_map(|name| added.by_content(name)).map(|added| added.id);
    Roles {
        bos: template.before.first().copied().or_else(|| named(&BEGINS)),
        eos: template.after.last().copied().or_else(|| named(&ENDS)),
        pad: named(&PADS),
        unknown,
    }
}

/// We never pad or truncate by ourselves, but a file that asks for the impossible is broken.
fn check_lengths(document: &Document) -> Result<()> {
    if let Value::Object(padding) = &document.padding {
        let fixed = padding.get("strategy").and_then(|strategy| strategy.get("Fixed"));
        let multiple = padding.get("pad_to_multiple_of");
        for (what, value) in [("the padding length", fixed), ("pad_to_multiple_of", multiple)] {
            let Some(value) = value.filter(|value| !value.is_null()) else { continue };
            if value.as_u64().is_none_or(|length| length == 0 || length > LENGTH_MAX) {
                return Err(invalid(what, quoted(&value.to_string()), "a length of a text"));
            }
        }
    }
    if let Value::Object(truncation) = &document.truncation {
        let number = |key: &str| truncation.get(key).and_then(Value::as_u64);
        let length = number("max_length").filter(|&length| length > 0 && length <= LENGTH_MAX);
        let stride = truncation.get("stride").map_or(Some(0), Value::as_u64);
        if length.is_none() || stride.is_none_or(|stride| Some(stride) >= length) {
            let found = quoted(&document.truncation.to_string());
            return Err(invalid("truncation", found, "a max_length greater than the stride"));
        }
    }
    Ok(())
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

fn text<'a>(object: &'a Map<String, Value>, key: &str, of: &str) -> Result<&'a str> {
    let value = object.get(key).unwrap_or(&Value::Null);
    value.as_str().ok_or_else(|| invalid(format!("{key} of {of}"), kind(value), "a text"))
}

fn flag(object: &Map<String, Value>, key: &str, default: bool) -> Result<bool> {
    match object.get(key) {
        None | Some(Value::Null) => Ok(default),
        Some(Value::Bool(flag)) => Ok(*flag),
        Some(other) => Err(invalid(quoted(key), kind(other), "true or false")),
    }
}

/// The type of a stage and its object.
fn typed<'a>(value: &'a Value, what: &'static str) -> Result<(&'a str, &'a Map<String, Value>)> {
    let object = value.as_object().ok_or_else(|| invalid(format!("a {what}"), kind(value), "an object"))?;
    Ok((text(object, "type", what)?, object))
}

fn unsupported(what: &'static str, name: &str) -> Error {
    Error::Unsupported { what, name: quoted(name).trim_matches('"').to_owned() }
}
