//! Folders older than tokenizer.json: `vocab.json` with `merges.txt`, and BERT's `vocab.txt`. They become the document
//! that the libraries would write for them.

use serde::de::DeserializeSeed as _;
use serde_json::{Value, json};

use super::super::added::Added;
use super::super::error::{Error, Result, invalid, quoted};
use super::super::{Inner, known};
use super::document::{Document, Merges, Vocab};
use super::from_document;

/// `vocab.json` and `merges.txt`; the class of tokenizer_config.json says how the text is split.
pub(in super::super) fn from_merges(vocab: &[u8], merges: &[u8], class: &str, more: &[Added]) -> Result<Inner> {
    let mut reader = serde_json::Deserializer::from_slice(vocab);
    let tokens = Vocab.deserialize(&mut reader)?;
    reader.end()?;
    let text = str::from_utf8(merges).map_err(|_| invalid("merges.txt", "not UTF-8", "UTF-8"))?;
    let mut list = Merges::default();
    for (number, line) in (1..).zip(text.lines()) {
        if line.is_empty() || (number == 1 && line.starts_with("#version")) {
            continue;
        }
        let pair = line.split_once(' ').filter(|(_, right)| !right.contains(' '));
        let pushed = pair.and_then(|(left, right)| list.push(left, right));
        pushed.ok_or_else(|| invalid(format!("line {number} of merges.txt"), quoted(line), "two tokens"))?;
    }
    let split = |pattern: &str, behavior: &str, invert: bool| {
        let split = json!({"type": "Split", "pattern": {"Regex": pattern}, "behavior": behavior, "invert": invert});
        json!({"type": "Sequence", "pretokenizers": [
            split,
            {"type": "ByteLevel", "add_prefix_space": false, "use_regex": false},
        ]})
    };
    let mut document = Document {
        tokens,
        merges: Some(list),
        pre_tokenizer: json!({"type": "ByteLevel", "add_prefix_space": false}),
        decoder: json!({"type": "ByteLevel"}),
        ..Document::default()
    };
    document.model.insert("type".into(), "BPE".into());
    match class.trim_end_matches("Fast") {
        "Qwen2Tokenizer" => {
            document.normalizer = json!({"type": "NFC"});
            document.pre_tokenizer = split(known::QWEN_2, "Isolated", false);
        }
        "CLIPTokenizer" => {
            document.normalizer = json!({"type": "Sequence", "normalizers": [
                {"type": "NFC"},
                {"type": "Replace", "pattern": {"Regex": r"\s+"}, "content": " "},
                {"type": "Lowercase"},
            ]});
            document.pre_tokenizer = split(known::CLIP, "Removed", true);
            document.model.insert("end_of_word_suffix".into(), "</w>".into());
            document.model.insert("unk_token".into(), "<|endoftext|>".into());
            for name in ["<|startoftext|>", "<|endoftext|>"] {
                if let Some((id, _)) = document.tokens.iter().find(|(_, token)| *token == name) {
                    document
                        .added_tokens
                        .push(json!({"id": id, "content": name, "special": true, "normalized": false}));
                }
            }
        }
        "" | "GPT2Tokenizer" | "RobertaTokenizer" | "GPTNeoXTokenizer" | "CodeGenTokenizer" => {}
        other => {
            return Err(Error::Unsupported {
                what: "vocab.json without tokenizer.json, of tokenizer class",
                name: quoted(other),
            });
        }
    }
    from_document(&document, more)
}

/// BERT's `vocab.txt`: a token in each line.
pub(in super::super) fn from_words(vocab: &[u8], lowercase: bool, more: &[Added]) -> Result<Inner> {
    let text = str::from_utf8(vocab).map_err(|_| invalid("vocab.txt", "not UTF-8", "UTF-8"))?;
    let mut document = Document {
        normalizer: json!({"type": "BertNormalizer", "lowercase": lowercase}),
        pre_tokenizer: json!({"type": "BertPreTokenizer"}),
        decoder: json!({"type": "WordPiece", "prefix": "##", "cleanup": true}),
        ..Document::default()
    };
    let mut special = |id: u32, token: &str| {
        if matches!(token, "[PAD]" | "[UNK]" | "[CLS]" | "[SEP]" | "[MASK]") {
            document.added_tokens.push(json!({"id": id, "content": token, "special": true, "normalized": false}));
        }
    };
    for (id, token) in (0..).zip(text.lines()) {
        special(id, token);
        document.tokens.push::<serde_json::Error>(token, id)?;
    }
    let id = |name: &str| document.tokens.iter().find(|(_, token)| *token == name).map(|(id, _)| Value::from(id));
    if let (Some(sep), Some(cls)) = (id("[SEP]"), id("[CLS]")) {
        document.post_processor = json!({"type": "BertProcessing", "sep": ["[SEP]", sep], "cls": ["[CLS]", cls]});
    }
    document.model.insert("type".into(), "WordPiece".into());
    document.model.insert("unk_token".into(), "[UNK]".into());
    from_document(&document, more)
}
