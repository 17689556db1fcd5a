//! The vocabulary of a GGUF file as the files of a Hugging Face folder: tokenizer.json, or SentencePiece's
//! tokenizer.model. And whether two tokenizers give the same ids.

use base64::Engine as _;
use serde_json::{Map, Value, json};

use super::bpe::{Bpe, Merges, Units, WholeWords};
use super::decode::byte_of;
use super::error::{Error, Result};
use super::model::Model;
use super::stage::Stage;
use super::{Inner, Specials, Tokenizer, known};
use crate::gguf::Metadata;

/// Files by their names.
pub type Files = Vec<(String, Vec<u8>)>;

/// Texts on which two tokenizers of one vocabulary differ, if they differ at all: spaces, digits, scripts, code, marks.
const PROBES: [&str; 18] = [
    "Hello there, how are you?",
    " leading and trailing spaces ",
    "two  spaces, three   spaces\tand a tab\n\nand lines\r\n",
    "1234567890 3.14159 1,000,000 2nd 0x7f",
    "I'm, you're, they've, we'll, he'd, DON'T",
    "fn main() { println!(\"{}\", a[0] + b.c); }",
    "Größe, café, naïve, Ångström, e\u{301}, ﬁne",
    "Привет, как дела?",
    "你好，世界。日本語のテキスト 한국어",
    "שלום عليكم नमस्ते ไทย",
    "😀 👩‍👩‍👧 🇩🇪 ©®™",
    "a_b-c.d/e\\f@g#h$i%j^k&l*m",
    "CamelCaseWord snake_case_word SCREAMING",
    "<s> </s> <unk> <|im_start|>user<|im_end|> [INST] [/INST] <bos>",
    "\u{a0}non-breaking\u{2003}em space\u{200b}zero width",
    "https://example.com/a?b=c&d=e#f",
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa ________ ........ !!!!!!!!",
    "",
];

/// A text that two tokenizers turn into different ids.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// The text.
    pub text: &'static str,
    /// The ids of the first.
    pub one: Vec<u32>,
    /// The ids of the second.
    pub other: Vec<u32>,
}

/// The first text of a set of probes to which two tokenizers give different ids, with the ids of both.
pub fn first_difference(one: &Tokenizer, other: &Tokenizer) -> Result<Option<Difference>> {
    for text in PROBES {
        for specials in [Specials::AsText, Specials::Parse] {
            let ids = |tokenizer: &Tokenizer| tokenizer.encode_with_special(text, specials);
            // What one vocabulary has no token for, the other must have none for either.
            let (one, other) = match (ids(one), ids(other)) {
                (Err(_), Err(_)) => continue,
                (one, other) => (one.unwrap_or_default(), other.unwrap_or_default()),
            };
            if one != other {
                return Ok(Some(Difference { text, one, other }));
            }
        }
    }
    Ok(None)
}

impl Tokenizer {
    /// The files of a folder that has the vocabulary of a GGUF file.
    ///
    /// # Errors
    /// When these files have no form for it.
    pub fn to_files(&self, metadata: &Metadata) -> Result<Files> {
        let inner = &*self.0;
        let mut files = match &inner.model {
            Model::Bpe(bpe) if matches!(bpe.units, Units::Bytes(_)) => {
                let pre = metadata.text("tokenizer.ggml.pre")?.unwrap_or_default();
                vec![json_file(byte_pairs(self, bpe, pre))]
            }
            Model::Bpe(bpe) if matches!(bpe.merges, Merges::Joined(_)) => {
                vec![("tokenizer.model".to_owned(), sentence_piece(inner, metadata)?)]
            }
            Model::Unigram(unigram) => vec![json_file(unigrams(self, &unigram.scores))],
            Model::WordPiece(_) => vec![json_file(words(self))],
            _ => {
                let name = metadata.text("tokenizer.ggml.model")?.unwrap_or_default().to_owned();
                return Err(Error::Unsupported { what: "in a folder: a vocabulary of the kind", name });
            }
        };
        files.push(pretty("tokenizer_config.json", &config(self)));
        Ok(files)
    }
}

fn pretty(name: &str, value: &Value) -> (String, Vec<u8>) {
    let text = serde_json::to_string_pretty(value).expect("a value is always JSON");
    (name.to_owned(), format!("{text}\n").into_bytes())
}

fn json_file(value: Value) -> (String, Vec<u8>) {
    pretty("tokenizer.json", &value)
}

fn added(inner: &Inner) -> Vec<Value> {
    let mut list: Vec<_> = inner.added.iter().collect();
    list.sort_by_key(|added| added.id);
    list.into_iter()
        .map(|added| {
            json!({
                "id": added.id, "content": added.content, "single_word": added.single_word,
                "lstrip": added.left_strip, "rstrip": added.right_strip, "normalized": added.normalized,
                "special": added.special,
            })
        })
        .collect()
}

/// tokenizer_config.json: names of the roles, and what stands around a text.
fn config(tokenizer: &Tokenizer) -> Value {
    let inner = &*tokenizer.0;
    let mut config = Map::new();
    let has_pieces = matches!(&inner.model, Model::Bpe(bpe) if matches!(bpe.merges, Merges::Joined(_)));
    let class = if has_pieces { "LlamaTokenizer" } else { "PreTrainedTokenizerFast" };
    config.insert("tokenizer_class".to_owned(), json!(class));
    let roles = [
        ("bos_token", inner.roles.bos),
        ("eos_token", inner.roles.eos),
        ("unk_token", inner.roles.unknown),
        ("pad_token", inner.roles.pad),
    ];
    for (key, text) in roles.into_iter().filter_map(|(key, id)| Some((key, tokenizer.token(id?)?))) {
        config.insert(key.to_owned(), json!(text));
    }
    config.insert("add_bos_token".to_owned(), json!(!inner.template.before.is_empty()));
    config.insert("add_eos_token".to_owned(), json!(!inner.template.after.is_empty()));
    config.insert("clean_up_tokenization_spaces".to_owned(), json!(false));
    if has_pieces {
        let decoder: Map<String, Value> = added(inner)
            .into_iter()
            .map(|mut token| {
                let id = token.as_object_mut().and_then(|token| token.shift_remove("id")).unwrap_or_default();
                (id.to_string(), token)
            })
            .collect();
        config.insert("added_tokens_decoder".to_owned(), Value::Object(decoder));
    }
    Value::Object(config)
}

/// The template of a post-processor.
fn post_processor(tokenizer: &Tokenizer) -> Value {
    let inner = &*tokenizer.0;
    let token = |id: &u32| json!({ "SpecialToken": { "id": tokenizer.token(*id).unwrap_or_default(), "type_id": 0 } });
    let before: Vec<Value> = inner.template.before.iter().map(token).collect();
    let after: Vec<Value> = inner.template.after.iter().map(token).collect();
    if before.is_empty() && after.is_empty() {
        return Value::Null;
    }
    let text = |name: &str, kind: u32| vec![json!({ "Sequence": { "id": name, "type_id": kind } })];
    let single = [before.clone(), text("A", 0), after.clone()].concat();
    let pair = match inner.template.pair {
        Some(_) => [before, text("A", 0), after.clone(), text("B", 1), after].concat(),
        None => [single.clone(), before, text("B", 1), after].concat(),
    };
    let specials: Map<String, Value> = inner
        .template
        .before
        .iter()
        .chain(&inner.template.after)
        .map(|id| {
            let text = tokenizer.token(*id).unwrap_or_default();
            (text.clone(), json!({ "id": text, "ids": [id], "tokens": [text] }))
        })
        .collect();
    json!({ "type": "TemplateProcessing", "single": single, "pair": pair, "special_tokens": specials })
}

/// Spelled tokens of the model: all that are no added ones, or whose id a merge needs.
fn vocabulary(tokenizer: &Tokenizer, wanted: impl Fn(u32) -> bool) -> Map<String, Value> {
    let inner = &*tokenizer.0;
    let spelled = |id: u32| match inner.has_alphabet {
        true => super::alphabet::spelling(inner.vocabulary.get(id).unwrap_or_default()),
        false => String::from_utf8_lossy(inner.vocabulary.get(id).unwrap_or_default()).into_owned(),
    };
    let ids = (0..inner.vocabulary.size() as u32).filter(|id| inner.vocabulary.get(*id).is_some() && wanted(*id));
    ids.map(|id| (spelled(id), json!(id))).collect()
}

fn byte_pairs(tokenizer: &Tokenizer, bpe: &Bpe, pre: &str) -> Value {
    let inner = &*tokenizer.0;
    let mut listed = match &bpe.merges {
        Merges::Listed(pairs) => pairs.listed(),
        Merges::Joined(_) => Vec::new(),
    };
    listed.sort_unstable();
    let spelled = |id: u32| super::alphabet::spelling(inner.vocabulary.get(id).unwrap_or_default());
    let merges: Vec<Value> = listed.iter().map(|(_, left, right)| json!([spelled(*left), spelled(*right)])).collect();
    let split = |pattern: &&str| json!({ "type": "Split", "pattern": { "Regex": pattern }, "behavior": "Isolated", "invert": false });
    let mut stages: Vec<Value> = known::of_gguf(pre).unwrap_or_default().iter().map(split).collect();
    let prefix = inner.splitter.iter().any(|stage| matches!(stage, Stage::PrefixSpace));
    stages.push(json!({ "type": "ByteLevel", "add_prefix_space": prefix, "trim_offsets": true, "use_regex": false }));
    let vocabulary = vocabulary(tokenizer, |id| inner.added.by_id(id).is_none());
    json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": added(inner),
        "normalizer": if known::is_composed(pre) { json!({ "type": "NFC" }) } else { Value::Null },
        "pre_tokenizer": { "type": "Sequence", "pretokenizers": stages },
        "post_processor": post_processor(tokenizer),
        "decoder": { "type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true },
        "model": {
            "type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
            "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false,
            "ignore_merges": bpe.whole_words == WholeWords::Taken, "vocab": vocabulary, "merges": merges,
        },
    })
}

fn unigrams(tokenizer: &Tokenizer, scores: &[f32]) -> Value {
    let inner = &*tokenizer.0;
    let (mut prefix, mut collapse, mut normalizers) = (false, false, Vec::new());
    for stage in &inner.normalizer {
        match stage {
            Stage::Charsmap(map) => {
                let text = base64::engine::general_purpose::STANDARD.encode(map.stored());
                normalizers.push(json!({ "type": "Precompiled", "precompiled_charsmap": text }));
            }
            Stage::Spaces(spaces) => (prefix, collapse) = (spaces.prefix, spaces.collapse),
            _ => {}
        }
    }
    if collapse {
        normalizers.push(json!({ "type": "Replace", "pattern": { "Regex": "^ +| +$" }, "content": "" }));
        normalizers.push(json!({ "type": "Replace", "pattern": { "Regex": " {2,}" }, "content": " " }));
    }
    let token = |id: usize| String::from_utf8_lossy(inner.vocabulary.get(id as u32).unwrap_or_default()).into_owned();
    let number = |score: f32| score.to_string().parse::<f64>().unwrap_or(f64::from(score));
    let vocabulary: Vec<Value> = (0..inner.vocabulary.size())
        .map(|id| json!([token(id), number(scores.get(id).copied().unwrap_or(0.0))]))
        .collect();
    let scheme = if prefix { "always" } else { "never" };
    let metaspace = json!({ "type": "Metaspace", "replacement": "▁", "prepend_scheme": scheme, "split": false });
    let has_bytes = (0..inner.vocabulary.size() as u32)
        .any(|id| inner.vocabulary.get(id).is_some_and(|bytes| byte_of(bytes).is_some()));
    json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": added(inner),
        "normalizer": { "type": "Sequence", "normalizers": normalizers },
        "pre_tokenizer": metaspace.clone(), "post_processor": post_processor(tokenizer), "decoder": metaspace,
        "model": { "type": "Unigram", "unk_id": inner.roles.unknown, "vocab": vocabulary, "byte_fallback": has_bytes },
    })
}

fn words(tokenizer: &Tokenizer) -> Value {
    let inner = &*tokenizer.0;
    let lowercase = inner.normalizer.iter().any(|stage| matches!(stage, Stage::Bert { lowercase: true, .. }));
    let unknown = inner.roles.unknown.or_else(|| tokenizer.id("[UNK]")).and_then(|id| tokenizer.token(id));
    json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": added(inner),
        "normalizer": {
            "type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": true, "strip_accents": null,
            "lowercase": lowercase,
        },
        "pre_tokenizer": { "type": "BertPreTokenizer" },
        "post_processor": post_processor(tokenizer),
        "decoder": { "type": "WordPiece", "prefix": "##", "cleanup": true },
        "model": {
            "type": "WordPiece", "unk_token": unknown, "continuing_subword_prefix": "##",
            "max_input_chars_per_word": 100, "vocab": vocabulary(tokenizer, |_| true),
        },
    })
}

/// SentencePiece's model file, with the scores and types of the metadata.
fn sentence_piece(inner: &Inner, metadata: &Metadata) -> Result<Vec<u8>> {
    let scores = metadata.floats("tokenizer.ggml.scores")?.unwrap_or_default();
    let types = metadata.integers("tokenizer.ggml.token_type")?.unwrap_or_default();
    let texts = metadata.texts("tokenizer.ggml.tokens")?;
    let is_unknown = |id: &u32| inner.vocabulary.get(*id).is_some_and(|bytes| bytes == b"<unk>");
    let unknown = inner.roles.unknown.or((0..inner.vocabulary.size() as u32).find(is_unknown));
    let none =
        || Error::Unsupported { what: "in SentencePiece: a vocabulary without", name: "an unknown token".into() };
    let unknown = unknown.ok_or_else(none)?;
    let mut file = Vec::new();
    for (id, text) in texts.into_iter().flat_map(|texts| texts.iter()).enumerate() {
        let mut piece = Vec::new();
        put_bytes(&mut piece, 1, text);
        piece.push(2 << 3 | 5);
        piece.extend(scores.get(id).copied().unwrap_or(0.0).to_le_bytes());
        let kind = types.get(id).copied().filter(|kind| *kind > 0).unwrap_or(1) as u64;
        put_number(&mut piece, 3, if id == unknown as usize { 2 } else { kind });
        put_bytes(&mut file, 1, &piece);
    }
    let mut trainer = Vec::new();
    put_number(&mut trainer, 3, 2);
    let has_bytes = (0..inner.vocabulary.size() as u32)
        .any(|id| inner.vocabulary.get(id).is_some_and(|bytes| byte_of(bytes).is_some()));
    put_number(&mut trainer, 35, u64::from(has_bytes));
    let none = u64::MAX;
    let roles = [(40, Some(unknown)), (41, inner.roles.bos), (42, inner.roles.eos), (43, inner.roles.pad)];
    for (field, id) in roles {
        put_number(&mut trainer, field, id.map_or(none, u64::from));
    }
    put_bytes(&mut file, 2, &trainer);
    let spaces = inner.normalizer.iter().find_map(|stage| match stage {
        Stage::Spaces(spaces) => Some(*spaces),
        _ => None,
    });
    let mut normalizer = Vec::new();
    put_bytes(&mut normalizer, 1, b"identity");
    put_number(&mut normalizer, 3, u64::from(spaces.is_none_or(|spaces| spaces.prefix)));
    put_number(&mut normalizer, 4, u64::from(spaces.is_some_and(|spaces| spaces.collapse)));
    put_number(&mut normalizer, 5, 1);
    put_bytes(&mut file, 3, &normalizer);
    Ok(file)
}

fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn put_number(out: &mut Vec<u8>, field: u64, value: u64) {
    put_varint(out, field << 3);
    put_varint(out, value);
}

fn put_bytes(out: &mut Vec<u8>, field: u64, bytes: &[u8]) {
    put_varint(out, field << 3 | 2);
    put_varint(out, bytes.len() as u64);
    out.extend(bytes);
}
