//! Rank files of tiktoken (a token in base64 and its rank in each line) and Mistral's Tekken (the same as JSON with
//! its split pattern). Two neighbors merge when their bytes together are a token, the lowest rank first.

use base64::Engine as _;
use serde::Deserialize;

use super::added::{Added, AddedTokens};
use super::bpe::{Bpe, Merges, Ranks, Units, Unknown, WholeWords};
use super::decode::Decoder;
use super::error::{Error, Result, invalid, quoted};
use super::json::single_bytes;
use super::model::Model;
use super::stage::Stage;
use super::vocabulary::{IDS_MAX, Reach, Vocabulary};
use super::{Inner, Roles, Template, known};

/// Whether the first line is base64, a space and a number.
pub(super) fn recognizes(bytes: &[u8]) -> bool {
    let line = bytes.split(|&byte| byte == b'\n').find(|line| !line.is_empty()).unwrap_or_default();
    let is_text = |byte: &u8| byte.is_ascii_alphanumeric() || b"+/= \r".contains(byte);
    line.len() < 4096 && line.iter().all(is_text)
}

/// Reads a tiktoken file. Its special tokens are those of the published vocabulary of its size.
pub(super) fn read(bytes: &[u8]) -> Result<Inner> {
    let mut vocabulary = Vocabulary::with_capacity(bytes.len() / 14, bytes.len() / 2);
    let mut count = 0;
    for (number, line) in (1..).zip(bytes.split(|&byte| byte == b'\n')) {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if line.is_empty() {
            continue;
        }
        let bad =
            |wanted: &str| invalid(format!("line {number}"), quoted(&String::from_utf8_lossy(line)), wanted.to_owned());
        let space = line.iter().position(|&byte| byte == b' ');
        let (token, rank) = line.split_at(space.ok_or_else(|| bad("a token, a space and a rank"))?);
        let token = decode(token).ok_or_else(|| bad("a token in base64"))?;
        let rank = str::from_utf8(&rank[1..]).ok().and_then(|rank| rank.parse::<u32>().ok());
        let rank = rank.filter(|&rank| rank < IDS_MAX).ok_or_else(|| bad("a rank that is a small whole number"))?;
        vocabulary.insert(rank, &token, Reach::Model)?;
        count += 1;
    }
    let added = specials(count)?;
    let bos = added.by_content("<|begin_of_text|>").map(|added| added.id);
    let eos = added.by_content("<|end_of_text|>").or(added.by_content("<|endoftext|>")).map(|added| added.id);
    let roles = Roles { bos, eos, ..Roles::default() };
    build(vocabulary, count, added, known::of_ranks(count), roles)
}

fn decode(token: &[u8]) -> Option<Vec<u8>> {
    base64::engine::general_purpose::STANDARD.decode(token).ok().filter(|token| !token.is_empty())
}

fn specials(ranks: usize) -> Result<AddedTokens> {
    let mut added = AddedTokens::default();
    let mut push = |id: usize, content: &str| added.push(Added::control(id as u32, content));
    match ranks {
        50_256 | 50_280 => push(50_256, "<|endoftext|>")?,
        100_256 => {
            let names = ["<|endoftext|>", "<|fim_prefix|>", "<|fim_middle|>", "<|fim_suffix|>"];
            (100_257..).zip(names).try_for_each(|(id, name)| push(id, name))?;
            push(100_276, "<|endofprompt|>")?;
        }
        128_000 => {
            let named = known::LLAMA_3_SPECIALS.map(str::to_owned).into_iter();
            let reserved = (3..248).map(|number| format!("<|reserved_special_token_{number}|>"));
            (128_000..).zip(named.chain(reserved)).try_for_each(|(id, name)| push(id, &name))?;
        }
        151_643 => {
            let names = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"];
            (151_643..).zip(names).try_for_each(|(id, name)| push(id, name))?;
        }
        199_998 => {
            push(199_999, "<|endoftext|>")?;
            push(200_018, "<|endofprompt|>")?;
        }
        _ => {}
    }
    Ok(added)
}

fn build(mut vocabulary: Vocabulary, count: usize, added: AddedTokens, pattern: &str, roles: Roles) -> Result<Inner> {
    if count == 0 {
        return Err(invalid("the vocabulary", "empty", "tokens"));
    }
    super::json::add_to(&mut vocabulary, &added, false)?;
    let bytes = single_bytes(&vocabulary);
    if let Some(byte) = bytes.iter().position(Option::is_none) {
        return Err(invalid(format!("the token of byte {byte}"), "absent", "a token for each byte"));
    }
    let model = Bpe {
        units: Units::Bytes(bytes),
        merges: Merges::Joined(Ranks::Id),
        unknown: Unknown::Refused,
        whole_words: WholeWords::Taken,
        suffix: String::new(),
        frozen: None,
    };
    Ok(Inner {
        vocabulary,
        added,
        normalizer: Vec::new(),
        splitter: vec![Stage::isolate(pattern)?],
        model: Model::Bpe(model),
        decoder: Decoder::Bytes,
        template: Template { before: roles.bos.into_iter().collect(), ..Template::default() },
        roles,
        has_alphabet: false,
        unknown_surface: None,
        name: String::new(),
    })
}

#[derive(Deserialize)]
struct Tekken<'a> {
    config: Config,
    #[serde(borrow)]
    vocab: Vec<Entry<'a>>,
    #[serde(default)]
    special_tokens: Option<Vec<Special>>,
}

#[derive(Deserialize)]
struct Config {
    pattern: String,
    default_vocab_size: usize,
    default_num_special_tokens: usize,
}

#[derive(Deserialize)]
struct Entry<'a> {
    rank: u32,
    token_bytes: &'a str,
}

#[derive(Deserialize)]
struct Special {
    rank: u32,
    token_str: String,
    #[serde(default = "yes")]
    is_control: bool,
}

fn yes() -> bool {
    true
}

/// Whether a JSON file begins as Tekken's do.
pub(super) fn recognizes_tekken(bytes: &[u8]) -> bool {
    let mut start = bytes.iter().filter(|byte| !byte.is_ascii_whitespace()).take(9).copied();
    b"{\"config\"".iter().all(|&byte| start.next() == Some(byte))
}

/// Reads a Tekken file. Special tokens have the first ids, ranks follow.
pub(super) fn read_tekken(bytes: &[u8]) -> Result<Inner> {
    let file: Tekken<'_> = serde_json::from_slice(bytes)?;
    let Config { pattern, default_vocab_size: size, default_num_special_tokens: reserved } = file.config;
    if size > IDS_MAX as usize || reserved >= size || reserved > 1 << 16 {
        let found = format!("{reserved} of {size}");
        return Err(invalid("the number of special tokens", found, "less than the size of the vocabulary"));
    }
    let mut vocabulary = Vocabulary::with_capacity(size, bytes.len() / 8);
    let mut count = 0;
    for entry in file.vocab {
        let id = entry.rank as usize + reserved;
        // Files hold more ranks than the model has tokens.
        if id < size {
            let token = decode(entry.token_bytes.as_bytes());
            let bad = || invalid(format!("token_bytes of rank {}", entry.rank), quoted(entry.token_bytes), "base64");
            vocabulary.insert(id as u32, &token.ok_or_else(bad)?, Reach::Model)?;
            count += 1;
        }
    }
    let mut added = AddedTokens::default();
    for special in file.special_tokens.unwrap_or_else(usual_specials) {
        if special.rank as usize >= reserved {
            let found = special.rank.to_string();
            return Err(invalid("the rank of a special token", found, format!("less than {reserved}")));
        }
        let make = if special.is_control { Added::control } else { Added::text };
        added.push(make(special.rank, special.token_str))?;
    }
    for id in (0..reserved as u32).filter(|&id| added.by_id(id).is_none()).collect::<Vec<u32>>() {
        added.push(Added::control(id, format!("<SPECIAL_{id}>")))?;
    }
    let id = |content: &str| added.by_content(content).map(|added| added.id);
    let roles = Roles { bos: id("<s>"), eos: id("</s>"), pad: id("<pad>"), unknown: id("<unk>") };
    build(vocabulary, count, added, &pattern, roles)
}

/// The special tokens of files that list none.
fn usual_specials() -> Vec<Special> {
    let special = |(rank, token): (u32, &&str)| Special { rank, token_str: (*token).to_owned(), is_control: true };
    (0..).zip(known::TEKKEN_SPECIALS.iter()).map(special).collect()
}

/// The error for a file that nothing recognizes.
pub(super) fn unknown_format() -> Error {
    Error::Json("it is neither tokenizer.json, SentencePiece, tiktoken, Tekken nor GGUF".into())
}
