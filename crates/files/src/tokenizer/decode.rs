//! From ids back to text: what each token contributes, and a stream that gives out whole characters only.
//! Invariant: decoding at once is streaming and joining, so the two cannot differ.

use super::added::Added;
use super::{Shown, Tokenizer};

/// How tokens become text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Decoder {
    /// Tokens are the bytes of the text.
    Bytes,
    /// Replacements within each token, then byte tokens become bytes, then the start is stripped.
    Pieces { replaced: Vec<(String, String)>, bytes: bool, leading: Leading },
    /// WordPiece: a space before each token without the prefix.
    Words { prefix: String, cleanup: bool },
    /// A suffix ends words.
    Suffixed { suffix: String },
    /// Tokens with spaces between them.
    Spaced,
}

/// What is taken off the start of the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Leading {
    Nothing,
    /// One space.
    Space,
    /// All spaces that the first token begins with.
    Spaces,
    /// Every replaced mark of the first token.
    Marks,
}

/// Turns ids into text as they come. Text is given out once its characters are whole.
pub struct TextStream {
    tokenizer: Tokenizer,
    shown: Shown,
    pending: Vec<u8>,
    is_first: bool,
    owes_space: bool,
}

impl TextStream {
    pub(super) fn new(tokenizer: Tokenizer, shown: Shown) -> TextStream {
        TextStream { tokenizer, shown, pending: Vec::new(), is_first: true, owes_space: false }
    }

    /// Takes one id and returns the text that it completes, possibly none. An id without a token is no text.
    pub fn push(&mut self, id: u32) -> String {
        let tokenizer = self.tokenizer.clone();
        let inner = &*tokenizer.0;
        let added = inner.added.by_id(id);
        if added.is_some_and(|added| added.special) && self.shown == Shown::Hide {
            return String::new();
        }
        if let Some((unknown, surface)) = &inner.unknown_surface
            && *unknown == id
        {
            self.pending.extend_from_slice(surface.as_bytes());
            self.is_first = false;
            return self.complete();
        }
        let Some(bytes) = inner.vocabulary.get(id) else { return String::new() };
        self.append(&inner.decoder, id, bytes, added);
        self.complete()
    }

    /// The text that is left: a replacement character where bytes of an unfinished one wait.
    pub fn finish(&mut self) -> String {
        let left = String::from_utf8_lossy(&self.pending).into_owned();
        self.pending.clear();
        (self.is_first, self.owes_space) = (true, false);
        left
    }

    fn append(&mut self, decoder: &Decoder, id: u32, bytes: &[u8], added: Option<&Added>) {
        let is_first = std::mem::replace(&mut self.is_first, false);
        match decoder {
            Decoder::Bytes => self.pending.extend_from_slice(bytes),
            Decoder::Pieces { replaced, bytes: has_bytes, leading } => {
                let is_byte = *has_bytes && added.is_none_or(|added| !added.special);
                if let Some(byte) = byte_of(bytes).filter(|_| is_byte) {
                    if !(is_first && byte == b' ' && *leading != Leading::Nothing) {
                        self.pending.push(byte);
                    }
                    return;
                }
                let mut text = String::from_utf8_lossy(bytes).into_owned();
                if is_first && *leading == Leading::Marks {
                    replaced.iter().for_each(|(from, _)| text = text.replace(from, ""));
                }
                replaced.iter().for_each(|(from, to)| text = text.replace(from, to));
                let text = match leading {
                    Leading::Space if is_first => text.strip_prefix(' ').unwrap_or(&text),
                    Leading::Spaces if is_first => text.trim_start_matches(' '),
                    _ => &text,
                };
                self.pending.extend_from_slice(text.as_bytes());
                let _ = id;
            }
            Decoder::Words { prefix, cleanup } => {
                let text = String::from_utf8_lossy(bytes);
                let text = match text.strip_prefix(prefix.as_str()) {
                    _ if is_first => text.into_owned(),
                    Some(rest) => rest.to_owned(),
                    None => format!(" {text}"),
                };
                let text = if *cleanup { cleaned(text) } else { text };
                self.pending.extend_from_slice(text.as_bytes());
            }
            Decoder::Suffixed { suffix } => {
                if std::mem::take(&mut self.owes_space) {
                    self.pending.push(b' ');
                }
                let text = String::from_utf8_lossy(bytes);
                let rest = text.strip_suffix(suffix.as_str());
                self.owes_space = rest.is_some();
                self.pending.extend_from_slice(rest.unwrap_or(&text).as_bytes());
            }
            Decoder::Spaced => {
                if !is_first {
                    self.pending.push(b' ');
                }
                self.pending.extend_from_slice(bytes);
            }
        }
    }

    /// Takes the whole characters out of what is pending; bytes that cannot become one are replaced.
    fn complete(&mut self) -> String {
        let mut text = String::new();
        let mut rest = self.pending.as_slice();
        loop {
            match str::from_utf8(rest) {
                Ok(valid) => {
                    text.push_str(valid);
                    rest = &[];
                    break;
                }
                Err(error) => {
                    let (valid, after) = rest.split_at(error.valid_up_to());
                    text.push_str(&String::from_utf8_lossy(valid));
                    rest = after;
                    let Some(length) = error.error_len() else { break };
                    text.push(char::REPLACEMENT_CHARACTER);
                    rest = &rest[length..];
                }
            }
        }
        let left = rest.len();
        self.pending.drain(..self.pending.len() - left);
        text
    }
}

/// The byte of a token `<0xNN>`, in exactly this spelling.
pub(super) fn byte_of(token: &[u8]) -> Option<u8> {
    let digits = token.strip_prefix(b"<0x")?.strip_suffix(b">")?;
    let is_plain = |digit: &u8| digit.is_ascii_digit() || (b'A'..=b'F').contains(digit);
    if digits.len() != 2 || !digits.iter().all(is_plain) {
        return None;
    }
    u8::from_str_radix(str::from_utf8(digits).ok()?, 16).ok()
}

/// The spaces before punctuation and contractions that WordPiece's decoder takes away, in its order.
fn cleaned(text: String) -> String {
    const RULES: [(&str, &str); 11] = [
        (" .", "."),
        (" ?", "?"),
        (" !", "!"),
        (" ,", ","),
        (" ' ", "'"),
        (" n't", "n't"),
        (" 'm", "'m"),
        (" do not", " don't"),
        (" 's", "'s"),
        (" 've", "'ve"),
        (" 're", "'re"),
    ];
    RULES.iter().fold(text, |text, (from, to)| if text.contains(from) { text.replace(from, to) } else { text })
}
