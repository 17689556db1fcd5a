//! Reads little-endian fields from the start of a file, one after the other. Nothing is taken that is not there, and
//! each error says which field was being read and where.
#![forbid(unsafe_code)]
#![deny(clippy::arithmetic_side_effects, clippy::indexing_slicing)]

use std::fmt::Arguments;
use std::ops::Range;

use crate::error::{Error, Result};
use crate::mmap::Bytes;
use crate::size::Size;

/// The place in a file up to which it was read.
pub(super) struct Cursor<'a> {
    bytes: &'a Bytes,
    at: usize,
    file: &'a str,
}

impl<'a> Cursor<'a> {
    pub(super) fn new(bytes: &'a Bytes, file: &'a str) -> Cursor<'a> {
        Cursor { bytes, at: 0, file }
    }

    /// How far the file was read.
    pub(super) fn at(&self) -> Size {
        Size::of(self.at)
    }

    /// How many bytes are left.
    pub(super) fn left(&self) -> Size {
        Size::of(self.bytes.len().saturating_sub(self.at))
    }

    /// The error for something that was found at the place.
    pub(super) fn invalid(&self, what: impl std::fmt::Display) -> Error {
        Error::invalid(self.file, format!("{what}, before byte {}", self.at))
    }

    /// The range of the next `count` bytes.
    pub(super) fn take(&mut self, count: Size, what: Arguments<'_>) -> Result<Range<usize>> {
        let left = self.left();
        if count > left {
            let short = format!("{what} needs {count} bytes at byte {}, {left} are left", self.at);
            return Err(Error::invalid(self.file, short));
        }
        let overflow = |overflow| Error::overflow(self.file, "an offset")(overflow);
        let end = self.at().add(count).and_then(Size::to_usize).map_err(overflow)?;
        let range = self.at..end;
        self.at = end;
        Ok(range)
    }

    /// The next `count` bytes, sharing the file's memory.
    pub(super) fn bytes(&mut self, count: Size, what: Arguments<'_>) -> Result<Bytes> {
        let range = self.take(count, what)?;
        self.bytes.slice(range).ok_or_else(|| Error::invalid(self.file, format!("{what} lies outside the file")))
    }

    fn array<const N: usize>(&mut self, what: Arguments<'_>) -> Result<[u8; N]> {
        let range = self.take(Size::of(N), what)?;
        let found = self.bytes.get(range).and_then(|bytes| bytes.first_chunk::<N>());
        found.copied().ok_or_else(|| Error::invalid(self.file, format!("{what} lies outside the file")))
    }

    pub(super) fn u8(&mut self, what: Arguments<'_>) -> Result<u8> {
        self.array(what).map(u8::from_le_bytes)
    }

    pub(super) fn u16(&mut self, what: Arguments<'_>) -> Result<u16> {
        self.array(what).map(u16::from_le_bytes)
    }

    pub(super) fn u32(&mut self, what: Arguments<'_>) -> Result<u32> {
        self.array(what).map(u32::from_le_bytes)
    }

    pub(super) fn u64(&mut self, what: Arguments<'_>) -> Result<u64> {
        self.array(what).map(u64::from_le_bytes)
    }

    /// A text with its length before it, of at most `length_max` bytes.
    pub(super) fn text(&mut self, length_max: Size, what: Arguments<'_>) -> Result<Bytes> {
        let length = Size::new(self.u64(what)?);
        if length > length_max && length <= self.left() {
            return Err(self.invalid(format!("{what} has {length} bytes, at most {length_max} are allowed")));
        }
        self.bytes(length, what)
    }

    /// Skips a text with its length before it; returns where it begins, counted from `first`.
    pub(super) fn text_after(&mut self, first: Size, what: Arguments<'_>) -> Result<usize> {
        let length = Size::new(self.u64(what)?);
        let start = Size::of(self.take(length, what)?.start);
        start.sub(first).and_then(Size::to_usize).map_err(Error::overflow(self.file, "an offset"))
    }

    /// Everything read since `first`, sharing the file's memory.
    pub(super) fn since(&self, first: Size) -> Result<Bytes> {
        let first = first.to_usize().map_err(Error::overflow(self.file, "an offset"))?;
        self.bytes.slice(first..self.at).ok_or_else(|| self.invalid("a list lies outside the file"))
    }

    /// A text that must be UTF-8 and not empty: a key or a name.
    pub(super) fn name(&mut self, length_max: Size, what: Arguments<'_>) -> Result<String> {
        let bytes = self.text(length_max, what)?;
        if bytes.is_empty() {
            return Err(self.invalid(format!("{what} is empty")));
        }
        let text = std::str::from_utf8(&bytes).map_err(|_| self.invalid(format!("{what} is not UTF-8")))?;
        Ok(text.to_owned())
    }
}
