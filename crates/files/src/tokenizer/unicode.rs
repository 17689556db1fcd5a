//! Rewritings that need Unicode's tables: normalization forms from the crate `tokenizers`, and the stages of BERT and
//! of neural machine translation. Forms are computed from one character of ASCII to the next, since none composes
//! with what stands before it; so a text of ASCII costs nothing.

use tokenizers::NormalizedString;
use tokenizers::normalizer::Range;

use super::category::Categories;
use super::error::Result;
use super::stage::filter;
use super::text::{Text, Writer};

/// Unicode's normalization forms.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Form {
    Composed,
    Decomposed,
    CompatiblyComposed,
    CompatiblyDecomposed,
}

pub(super) fn normalize(form: Form, piece: &str, out: &mut Writer) -> Result<()> {
    let bytes = piece.as_bytes();
    let mut done = 0;
    while let Some(offset) = bytes[done..].iter().position(|byte| !byte.is_ascii()) {
        // The character before may compose with what follows it.
        let start = (done + offset).saturating_sub(1).max(done);
        let end = bytes[done + offset..].iter().position(u8::is_ascii).map_or(piece.len(), |at| done + offset + at);
        out.keep(piece, done..start)?;
        chunk(form, piece, start, end, out)?;
        done = end;
    }
    out.keep(piece, done..piece.len())
}

fn chunk(form: Form, piece: &str, start: usize, end: usize, out: &mut Writer) -> Result<()> {
    let mut normalized = NormalizedString::from(&piece[start..end]);
    match form {
        Form::Composed => normalized.nfc(),
        Form::Decomposed => normalized.nfd(),
        Form::CompatiblyComposed => normalized.nfkc(),
        Form::CompatiblyDecomposed => normalized.nfkd(),
    };
    if normalized.get() == &piece[start..end] {
        return out.keep(piece, start..end);
    }
    for (at, character) in normalized.get().char_indices() {
        let range = normalized.convert_offsets(Range::Normalized(at..at + character.len_utf8()));
        let until = range.map_or(end - start, |range| range.end);
        out.push(character.encode_utf8(&mut [0; 4]), start + until)?;
    }
    Ok(())
}

/// Marks of every kind.
pub(super) fn is_combining(character: char) -> bool {
    const MARKS: Categories = Categories(0b1_1100_0000);
    MARKS.contain(character)
}

pub(super) fn bert(text: &mut Text<'_>, clean: bool, chinese: bool, accents: bool, lowercase: bool) -> Result<()> {
    const NONSPACING: Categories = Categories(1 << 6);
    if clean {
        text.rewrite(|piece, _, out| {
            each(piece, |character, end| match character {
                '\0' | '\u{fffd}' => Ok(()),
                '\t' | '\n' | '\r' => out.push(" ", end),
                _ if is_other(character) => Ok(()),
                _ if character.is_whitespace() => out.push(" ", end),
                _ => out.push(character.encode_utf8(&mut [0; 4]), end),
            })
        })?;
    }
    if chinese && !text.text.is_ascii() {
        text.rewrite(|piece, _, out| {
            each(piece, |character, end| {
                let text = if is_chinese(character) { format!(" {character} ") } else { character.to_string() };
                out.push(&text, end)
            })
        })?;
    }
    if accents && !text.text.is_ascii() {
        text.rewrite(|piece, _, out| normalize(Form::Decomposed, piece, out))?;
        text.rewrite(|piece, _, out| filter(piece, out, |character| !NONSPACING.contain(character)))?;
    }
    if lowercase {
        super::stage::Stage::Lowercase.apply(text)?;
    }
    Ok(())
}

fn each(piece: &str, mut each: impl FnMut(char, usize) -> Result<()>) -> Result<()> {
    piece.char_indices().try_for_each(|(at, character)| each(character, at + character.len_utf8()))
}

/// Controls, format characters and private use.
fn is_other(character: char) -> bool {
    const CONTROLS: Categories = Categories(0b11 << 26);
    let private =
        matches!(character, '\u{e000}'..='\u{f8ff}' | '\u{f0000}'..='\u{ffffd}' | '\u{100000}'..='\u{10fffd}');
    private || CONTROLS.contain(character)
}

fn is_chinese(character: char) -> bool {
    matches!(
        character,
        '\u{4e00}'..='\u{9fff}'
            | '\u{3400}'..='\u{4dbf}'
            | '\u{20000}'..='\u{2a6df}'
            | '\u{2a700}'..='\u{2b73f}'
            | '\u{2b740}'..='\u{2b81f}'
            | '\u{2b920}'..='\u{2ceaf}'
            | '\u{f900}'..='\u{faff}'
            | '\u{2f800}'..='\u{2fa1f}'
    )
}

/// SentencePiece's rule set `nmt`: some controls go, other spaces become spaces.
pub(super) fn nmt(piece: &str, out: &mut Writer) -> Result<()> {
    each(piece, |character, end| match character {
        '\u{1}'..='\u{8}' | '\u{b}' | '\u{e}'..='\u{1f}' | '\u{7f}' | '\u{8f}' | '\u{9f}' => Ok(()),
        '\t'
        | '\n'
        | '\u{c}'
        | '\r'
        | '\u{1680}'
        | '\u{200b}'..='\u{200f}'
        | '\u{2028}'
        | '\u{2029}'
        | '\u{2581}'
        | '\u{feff}'
        | '\u{fffd}' => out.push(" ", end),
        _ => out.push(character.encode_utf8(&mut [0; 4]), end),
    })
}
