//! Stages between a text and the model: rewriting (normalizers) and splitting (pre-tokenizers), as one closed list.
//! Readers of files build it, checked; running it cannot panic and is linear in the text.

use std::ops::Range;

use super::category::Categories;
use super::charsmap::Charsmap;
use super::error::Result;
use super::pattern::Pattern;
use super::text::{Text, Writer};
use super::unicode::{self, Form};

/// SentencePiece's character for a space.
pub(super) const MARK: char = '▁';

#[derive(Debug)]
pub(super) enum Stage {
    Form(Form),
    Lowercase,
    StripAccents,
    Bert {
        clean: bool,
        chinese: bool,
        accents: bool,
        lowercase: bool,
    },
    Nmt,
    Charsmap(Box<Charsmap>),
    /// Put before every piece that is not empty.
    Prepend(String),
    Replace {
        pattern: Pattern,
        with: String,
    },
    /// A replacement of one character by another, which needs no pattern.
    Swap {
        from: char,
        to: char,
    },
    Strip {
        left: bool,
        right: bool,
    },
    /// SentencePiece's handling of spaces, after its map of characters.
    Spaces(Spaces),
    /// A space before every piece that does not begin with one.
    PrefixSpace,
    /// Spaces become the mark, which is also put first.
    Metaspace {
        mark: char,
        prepend: Prepend,
    },
    Split {
        pattern: Pattern,
        behavior: Behavior,
        inverted: bool,
    },
    SplitAt {
        kind: Kind,
        behavior: Behavior,
    },
    /// Pieces of so many characters.
    FixedLength(usize),
}

/// When a mark is put before a piece.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Prepend {
    Always,
    /// Only where the source begins.
    First,
    Never,
}

/// Single characters to split at.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Kind {
    Space,
    Punctuation,
    Number,
    One(char),
}

/// What becomes of the things that a split finds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Behavior {
    Removed,
    Isolated,
    WithPrevious,
    WithNext,
    Contiguous,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Spaces {
    /// A mark before the text.
    pub(super) prefix: bool,
    /// Leading and trailing spaces go, runs become one.
    pub(super) collapse: bool,
    /// Spaces become marks.
    pub(super) escape: bool,
    /// The mark of `prefix` is put behind the text instead.
    pub(super) suffix: bool,
}

impl Kind {
    fn is(self, character: char) -> bool {
        match self {
            Kind::Space => character.is_whitespace(),
            Kind::Number => character.is_numeric(),
            Kind::One(one) => character == one,
            Kind::Punctuation => is_punctuation(character),
        }
    }
}

fn is_punctuation(character: char) -> bool {
    const PUNCTUATION: Categories = Categories(0b111_1111 << 12);
    if character.is_ascii() { character.is_ascii_punctuation() } else { PUNCTUATION.contain(character) }
}

impl Stage {
    /// Splits by a pattern, each match and each gap a piece.
    pub(super) fn isolate(pattern: &str) -> Result<Stage> {
        Ok(Stage::Split { pattern: Pattern::new(pattern)?, behavior: Behavior::Isolated, inverted: false })
    }

    pub(super) fn apply(&self, text: &mut Text<'_>) -> Result<()> {
        match self {
            Stage::Form(_) if text.text.is_ascii() => Ok(()),
            Stage::Form(form) => text.rewrite(|piece, _, out| unicode::normalize(*form, piece, out)),
            Stage::Lowercase => text.rewrite(|piece, _, out| {
                each_char(piece, |character, end| {
                    let mut buffer = String::new();
                    buffer.extend(character.to_lowercase());
                    out.push(&buffer, end)
                })
            }),
            Stage::StripAccents if text.text.is_ascii() => Ok(()),
            Stage::StripAccents => text.rewrite(|piece, _, out| filter(piece, out, |c| !unicode::is_combining(c))),
            Stage::Bert { clean, chinese, accents, lowercase } => {
                unicode::bert(text, *clean, *chinese, *accents, *lowercase)
            }
            Stage::Nmt => text.rewrite(|piece, _, out| unicode::nmt(piece, out)),
            Stage::Charsmap(map) => text.rewrite(|piece, _, out| map.normalize(piece, out)),
            Stage::Prepend(prefix) => text.rewrite(|piece, _, out| {
                if !piece.is_empty() {
                    out.push(prefix, 0)?;
                }
                out.keep(piece, 0..piece.len())
            }),
            Stage::Replace { pattern, with } => text.rewrite(|piece, _, out| replace(piece, pattern, with, out)),
            Stage::Swap { from, .. } if !text.text.contains(*from) => Ok(()),
            Stage::Swap { from, to } => text.rewrite(|piece, _, out| swap(piece, *from, *to, out)),
            Stage::Strip { left, right } => text.rewrite(|piece, _, out| {
                let from = if *left { piece.len() - piece.trim_start().len() } else { 0 };
                let to = if *right { piece.trim_end().len() } else { piece.len() };
                out.keep(piece, from..to.max(from))
            }),
            Stage::Spaces(spaces) => text.rewrite(|piece, _, out| spaces.apply(piece, out)),
            Stage::PrefixSpace => text.rewrite(|piece, _, out| {
                if !piece.starts_with(' ') {
                    out.push(" ", 0)?;
                }
                out.keep(piece, 0..piece.len())
            }),
            Stage::Metaspace { mark, prepend } => text.rewrite(|piece, is_first, out| {
                let wanted = *prepend == Prepend::Always || (*prepend == Prepend::First && is_first);
                if wanted && !piece.starts_with([*mark, ' ']) {
                    out.push(mark.encode_utf8(&mut [0; 4]), 0)?;
                }
                swap(piece, ' ', *mark, out)
            }),
            Stage::Split { pattern, behavior, inverted } => text.split(|piece, keep| {
                let mut parts = Parts::new(*behavior, keep);
                pattern.each_match(piece, |range| parts.found(range, !*inverted))?;
                parts.end(piece.len(), *inverted);
                Ok(())
            }),
            Stage::SplitAt { kind, behavior } => text.split(|piece, keep| {
                let mut parts = Parts::new(*behavior, keep);
                for (at, character) in piece.char_indices().filter(|&(_, character)| kind.is(character)) {
                    parts.found(at..at + character.len_utf8(), true);
                }
                parts.end(piece.len(), false);
                Ok(())
            }),
            Stage::FixedLength(length) => text.split(|piece, keep| every(*length, piece, keep)),
        }
    }
}

/// Puts matches and gaps together as a behavior says.
struct Parts<'a> {
    behavior: Behavior,
    keep: &'a mut dyn FnMut(Range<usize>),
    done: usize,
    /// The part that may still grow, and whether the last thing was a match.
    open: Option<Range<usize>>,
    after_match: bool,
}

impl<'a> Parts<'a> {
    fn new(behavior: Behavior, keep: &'a mut dyn FnMut(Range<usize>)) -> Parts<'a> {
        Parts { behavior, keep, done: 0, open: None, after_match: false }
    }

    /// What the pattern found; `is_match` is false where the pattern describes what is kept.
    fn found(&mut self, range: Range<usize>, is_match: bool) {
        if range.start > self.done {
            self.add(self.done..range.start, !is_match);
        }
        self.done = range.end;
        self.add(range, is_match);
    }

    fn end(&mut self, end: usize, inverted: bool) {
        if end > self.done {
            self.add(self.done..end, inverted);
        }
        self.close();
    }

    fn close(&mut self) {
        if let Some(range) = self.open.take() {
            (self.keep)(range);
        }
    }

    fn add(&mut self, range: Range<usize>, is_match: bool) {
        let joins = match self.behavior {
            Behavior::Removed | Behavior::Isolated => false,
            Behavior::Contiguous => is_match == self.after_match,
            Behavior::WithPrevious => is_match && !self.after_match,
            Behavior::WithNext => self.after_match && !is_match,
        };
        self.after_match = is_match;
        match &mut self.open {
            Some(open) if joins => open.end = range.end,
            _ => {
                self.close();
                if !(is_match && self.behavior == Behavior::Removed) {
                    self.open = Some(range);
                }
            }
        }
    }
}

impl Spaces {
    fn apply(self, piece: &str, out: &mut Writer) -> Result<()> {
        let text = if self.collapse { piece.trim_start_matches(' ') } else { piece };
        let offset = piece.len() - text.len();
        let text = if self.collapse { text.trim_end_matches(' ') } else { text };
        if text.is_empty() {
            return Ok(());
        }
        let mark = if self.escape { "▁" } else { " " };
        if self.prefix && !self.suffix {
            out.push(mark, 0)?;
        }
        let mut after_space = false;
        let mut done = 0;
        for (at, _) in text.match_indices(' ') {
            if at > done {
                out.keep(piece, offset + done..offset + at)?;
                after_space = false;
            }
            if !(after_space && self.collapse) {
                out.push(mark, offset + at + 1)?;
            }
            after_space = true;
            done = at + 1;
        }
        out.keep(piece, offset + done..offset + text.len())?;
        if self.prefix && self.suffix {
            out.push(mark, piece.len())?;
        }
        Ok(())
    }
}

/// Pieces of `length` characters.
fn every(length: usize, piece: &str, keep: &mut dyn FnMut(Range<usize>)) -> Result<()> {
    let mut start = 0;
    for (at, _) in piece.char_indices().step_by(length).skip(1) {
        keep(start..at);
        start = at;
    }
    keep(start..piece.len());
    Ok(())
}

fn each_char(piece: &str, mut each: impl FnMut(char, usize) -> Result<()>) -> Result<()> {
    piece.char_indices().try_for_each(|(at, character)| each(character, at + character.len_utf8()))
}

/// Keeps the characters for which `wanted` holds.
pub(super) fn filter(piece: &str, out: &mut Writer, wanted: impl Fn(char) -> bool) -> Result<()> {
    let mut done = 0;
    for (at, character) in piece.char_indices().filter(|&(_, character)| !wanted(character)) {
        out.keep(piece, done..at)?;
        done = at + character.len_utf8();
    }
    out.keep(piece, done..piece.len())
}

fn swap(piece: &str, from: char, to: char, out: &mut Writer) -> Result<()> {
    let mut buffer = [0; 4];
    let to = to.encode_utf8(&mut buffer);
    let mut done = 0;
    for (at, found) in piece.match_indices(from) {
        out.keep(piece, done..at)?;
        done = at + found.len();
        out.push(to, done)?;
    }
    out.keep(piece, done..piece.len())
}

fn replace(piece: &str, pattern: &Pattern, with: &str, out: &mut Writer) -> Result<()> {
    let mut done = 0;
    let mut written = Ok(());
    pattern.each_match(piece, |range| {
        if written.is_ok() {
            written = out.keep(piece, done..range.start).and_then(|()| out.push(with, range.end));
            done = range.end;
        }
    })?;
    written?;
    out.keep(piece, done..piece.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(stages: &[Stage], text: &str, expect: &[&str]) {
        let mut work = Text::new(text, 0);
        for stage in stages {
            stage.apply(&mut work).unwrap();
        }
        let pieces: Vec<&str> = work.pieces.iter().map(|range| &work.text[range.clone()]).collect();
        assert_eq!(pieces, expect, "{text:?} by {stages:?}");
    }

    fn split(pattern: &str, behavior: Behavior, inverted: bool) -> Stage {
        Stage::Split { pattern: Pattern::new(pattern).unwrap(), behavior, inverted }
    }

    #[test]
    fn each_behavior_treats_delimiters_its_way() {
        let text = "the-final--countdown";
        check(&[split("-", Behavior::Removed, false)], text, &["the", "final", "countdown"]);
        check(&[split("-", Behavior::Removed, true)], text, &["-", "-", "-"]);
        check(&[split("-", Behavior::Isolated, false)], text, &["the", "-", "final", "-", "-", "countdown"]);
        check(&[split("-", Behavior::WithPrevious, false)], text, &["the-", "final-", "-", "countdown"]);
        check(&[split("-", Behavior::WithNext, false)], text, &["the", "-final", "-", "-countdown"]);
        check(&[split("-", Behavior::Contiguous, false)], text, &["the", "-", "final", "--", "countdown"]);
    }

    #[test]
    fn spaces_become_marks_and_pieces_begin_with_them() {
        let metaspace = |prepend| Stage::Metaspace { mark: MARK, prepend };
        let at_marks = || Stage::SplitAt { kind: Kind::One(MARK), behavior: Behavior::WithNext };
        check(&[metaspace(Prepend::Always), at_marks()], "a b", &["▁a", "▁b"]);
        check(&[metaspace(Prepend::First), at_marks()], " a  b", &["▁a", "▁", "▁b"]);
        check(&[metaspace(Prepend::Never)], "a b", &["a▁b"]);
        let spaces = |collapse| Stage::Spaces(Spaces { prefix: true, collapse, escape: true, suffix: false });
        check(&[spaces(true)], "  a   b ", &["▁a▁b"]);
        check(&[spaces(false)], " a", &["▁▁a"]);
        check(&[spaces(true)], "  ", &[]);
    }
}
