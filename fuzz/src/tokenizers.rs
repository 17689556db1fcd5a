//! Tokenizer files: opened, then used on a few texts and on their own bytes as text. What is encoded must stream back
//! as it decodes, and ends must grow; anything else is a finding.

use std::path::Path;

use pasture_files::tokenizer::{Shown, Specials, Tokenizer};

const TEXT_BYTES_MAX: usize = 4096;
const TEXTS: [&str; 4] =
    ["", "hello world", "  <|im_start|>a\u{301}\u{fdfa}\n\n \u{1f469}\u{200d}\u{1f4bb} 123's ▁", "aaaaaaaaaaaaaaaa!"];

/// Opens the file and runs it over the texts.
pub fn feed(path: &Path, bytes: &[u8]) -> String {
    let tokenizer = match Tokenizer::open(path) {
        Ok(tokenizer) => tokenizer,
        Err(error) => return error.to_string(),
    };
    let own = String::from_utf8_lossy(&bytes[..bytes.len().min(TEXT_BYTES_MAX)]);
    let mut ids = 0;
    for text in TEXTS.into_iter().chain([own.as_ref()]) {
        match run(&tokenizer, text) {
            Ok(count) => ids += count,
            Err(error) => return error.to_string(),
        }
    }
    let beyond = tokenizer.len() as u32;
    assert_eq!(tokenizer.token(beyond), None, "an id beyond the last has a token");
    format!("ok {ids} ids of {} tokens", tokenizer.len())
}

fn run(tokenizer: &Tokenizer, text: &str) -> pasture_files::tokenizer::Result<usize> {
    let ids = tokenizer.encode_with_special(text, Specials::AsText)?;
    let mut stream = tokenizer.stream_with(Shown::Show);
    let mut streamed: String = ids.iter().map(|&id| stream.push(id)).collect();
    streamed.push_str(&stream.finish());
    assert_eq!(streamed, tokenizer.decode(&ids, Shown::Show)?, "streaming differs from decoding");
    let marked = tokenizer.encode_marked(text, &[])?;
    assert_eq!(marked.ids.len(), marked.ends.len(), "an id without an end");
    assert!(marked.ends.last().is_none_or(|&end| end <= text.len()), "an end beyond the text");
    assert_eq!(marked.ids, tokenizer.encode(text, Specials::Parse)?, "marks are read in two ways");
    Ok(ids.len() + marked.ids.len())
}

/// Feeds a Tekken file after giving its vocabulary the 256 single bytes, which an input of this size seldom has.
pub fn feed_tekken(path: &Path, bytes: &[u8]) -> String {
    const LIST: &[u8] = b"\"vocab\":[";
    let mut whole = bytes.to_vec();
    if let Some(at) = bytes.windows(LIST.len()).position(|window| window == LIST) {
        let entry = |byte: u8| format!("{{\"rank\":{byte},\"token_bytes\":\"{}\"}},", base64(byte));
        let entries: String = (0..=255).map(entry).collect();
        whole.splice(at + LIST.len()..at + LIST.len(), entries.into_bytes());
    }
    match std::fs::write(path, &whole) {
        Ok(()) => feed(path, bytes),
        Err(error) => error.to_string(),
    }
}

/// One byte in base64.
fn base64(byte: u8) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let digit = |index: u8| char::from(DIGITS[usize::from(index)]);
    format!("{}{}==", digit(byte >> 2), digit((byte & 3) << 4))
}
