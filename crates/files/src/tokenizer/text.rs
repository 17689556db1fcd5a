//! A text on its way through normalization and splitting: what it has become, its pieces, and for each byte where
//! in the source the thing ends that the byte stands for.
//! Invariant: pieces are in order, do not overlap, and lie on character boundaries.

use std::borrow::Cow;
use std::iter::once;
use std::ops::Range;

use super::error::{Error, Result};

/// Bytes that normalization may add to a text of any length.
const GROWTH_FREE: usize = 2 << 20;
/// Compatibility forms make at most eleven bytes of one.
const GROWTH_FACTOR: usize = 12;

pub(super) struct Text<'a> {
    pub(super) text: Cow<'a, str>,
    /// Where the source ends for each byte; none while the text is the source itself.
    ends: Option<Vec<u32>>,
    /// Where the text begins in the source.
    start: usize,
    pub(super) pieces: Vec<Range<usize>>,
}

impl<'a> Text<'a> {
    /// The text that stands in the source from `start` on, as one piece.
    pub(super) fn new(text: &'a str, start: usize) -> Text<'a> {
        Text { text: Cow::Borrowed(text), ends: None, start, pieces: once(0..text.len()).collect() }
    }

    /// A range of this text as a text with one piece.
    pub(super) fn part(&self, range: Range<usize>) -> Text<'_> {
        Text {
            text: Cow::Borrowed(&self.text[range.clone()]),
            ends: self.ends.as_ref().map(|ends| ends[range.clone()].to_vec()),
            start: self.source_end(range.start),
            pieces: once(0..range.len()).collect(),
        }
    }

    /// Where the source ends for the text up to `at`.
    pub(super) fn source_end(&self, at: usize) -> usize {
        match &self.ends {
            Some(_) if at == 0 => self.start,
            Some(ends) => ends[at - 1] as usize,
            None => self.start + at,
        }
    }

    /// Splits each piece: `split` is called with its text and hands over the ranges in it that stay.
    pub(super) fn split(
        &mut self,
        mut split: impl FnMut(&str, &mut dyn FnMut(Range<usize>)) -> Result<()>,
    ) -> Result<()> {
        let mut pieces = Vec::with_capacity(self.pieces.len());
        for piece in &self.pieces {
            split(&self.text[piece.clone()], &mut |range| {
                if !range.is_empty() {
                    pieces.push(piece.start + range.start..piece.start + range.end);
                }
            })?;
        }
        self.pieces = pieces;
        Ok(())
    }

    /// Rewrites each piece; what lies between pieces is lost. `rewrite` gets the piece, whether it begins where the
    /// source begins, and where to write.
    pub(super) fn rewrite(&mut self, rewrite: impl Fn(&str, bool, &mut Writer) -> Result<()>) -> Result<()> {
        let mut writer = Writer {
            text: String::with_capacity(self.text.len() + 8),
            ends: Vec::with_capacity(self.text.len() + 8),
            limit: GROWTH_FREE + GROWTH_FACTOR * self.text.len(),
            source: 0,
            ends_before: self.ends.take(),
            start: self.start,
        };
        let mut pieces = Vec::with_capacity(self.pieces.len());
        for piece in &self.pieces {
            let from = writer.text.len();
            writer.source = piece.start;
            let is_first = writer.source_end(piece.start) == 0;
            rewrite(&self.text[piece.clone()], is_first, &mut writer)?;
            if writer.text.len() > from {
                pieces.push(from..writer.text.len());
            }
        }
        self.text = Cow::Owned(writer.text);
        self.ends = Some(writer.ends);
        self.pieces = pieces;
        Ok(())
    }
}

/// What a rewriting stage writes to.
pub(super) struct Writer {
    text: String,
    ends: Vec<u32>,
    limit: usize,
    /// Start of the piece in the former text.
    source: usize,
    ends_before: Option<Vec<u32>>,
    start: usize,
}

impl Writer {
    /// Writes text that stands for the piece up to its byte `until`.
    pub(super) fn push(&mut self, text: &str, until: usize) -> Result<()> {
        if self.text.len() + text.len() > self.limit {
            let found = self.text.len() + text.len();
            return Err(Error::TextTooLong { place: "after normalization", found, limit: self.limit });
        }
        let end = self.source_end(self.source + until) as u32;
        self.text.push_str(text);
        self.ends.resize(self.text.len(), end);
        Ok(())
    }

    /// Writes a range of the piece unchanged.
    pub(super) fn keep(&mut self, piece: &str, range: Range<usize>) -> Result<()> {
        if self.text.len() + range.len() > self.limit {
            let found = self.text.len() + range.len();
            return Err(Error::TextTooLong { place: "after normalization", found, limit: self.limit });
        }
        self.text.push_str(&piece[range.clone()]);
        let (from, to) = (self.source + range.start, self.source + range.end);
        match &self.ends_before {
            Some(ends) => self.ends.extend_from_slice(&ends[from..to]),
            None => self.ends.extend((self.start + from + 1..=self.start + to).map(|end| end as u32)),
        }
        Ok(())
    }

    fn source_end(&self, at: usize) -> usize {
        match &self.ends_before {
            Some(_) if at == 0 => self.start,
            Some(ends) => ends[at - 1] as usize,
            None => self.start + at,
        }
    }
}
