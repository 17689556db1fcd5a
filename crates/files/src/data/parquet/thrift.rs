//! Thrift's compact form, as far as Parquet's own structures need it before they are trusted: fields are found or
//! skipped. Nothing is allocated, and each step consumes bytes.
#![forbid(unsafe_code)]

/// The deepest nesting of structures that is skipped.
const DEPTH_MAX: usize = 32;

/// Kinds of values.
pub(super) const I32: u8 = 5;
pub(super) const LIST: u8 = 9;
pub(super) const STRUCT: u8 = 12;

/// A place in bytes of the compact form; `None` everywhere means that they are not.
pub(super) struct Thrift<'b> {
    bytes: &'b [u8],
    /// Bytes that were read.
    pub(super) at: usize,
}

impl<'b> Thrift<'b> {
    pub(super) fn new(bytes: &'b [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    fn byte(&mut self) -> Option<u8> {
        let byte = *self.bytes.get(self.at)?;
        self.at += 1;
        Some(byte)
    }

    fn varint(&mut self) -> Option<u64> {
        let mut value = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Some(value);
            }
        }
        None
    }

    /// A whole number of any width.
    pub(super) fn whole(&mut self) -> Option<i64> {
        let value = self.varint()?;
        Some((value >> 1) as i64 ^ -((value & 1) as i64))
    }

    /// Number and kind of the next field; kind 0 ends the structure. `last` is the number of the field before it.
    pub(super) fn field(&mut self, last: &mut i64) -> Option<(i64, u8)> {
        let head = self.byte()?;
        let (step, kind) = (i64::from(head >> 4), head & 15);
        if kind == 0 {
            return Some((0, 0));
        }
        *last = if step == 0 { self.whole()? } else { last.checked_add(step)? };
        Some((*last, kind))
    }

    /// Count and kind of a list's elements.
    pub(super) fn list(&mut self) -> Option<(u64, u8)> {
        let head = self.byte()?;
        let count = if head >> 4 == 15 { self.varint()? } else { u64::from(head >> 4) };
        Some((count, head & 15))
    }

    pub(super) fn skip(&mut self, kind: u8) -> Option<()> {
        self.skip_within(kind, DEPTH_MAX)
    }

    fn skip_within(&mut self, kind: u8, depth: usize) -> Option<()> {
        let depth = depth.checked_sub(1)?;
        match kind {
            1 | 2 => {}
            3 => {
                self.byte()?;
            }
            4..=6 => {
                self.varint()?;
            }
            7 => self.jump(8)?,
            8 => {
                let length = self.varint()?;
                self.jump(length)?;
            }
            LIST | 10 => {
                let (count, kind) = self.list()?;
                for _ in 0..count {
                    // In a list a truth value is a byte; in a structure it is the field's kind.
                    let kind = if kind <= 2 { 3 } else { kind };
                    self.skip_within(kind, depth)?;
                }
            }
            11 => {
                let count = self.varint()?;
                let kinds = if count == 0 { 0 } else { self.byte()? };
                for _ in 0..count {
                    self.skip_within(kinds >> 4, depth)?;
                    self.skip_within(kinds & 15, depth)?;
                }
            }
            STRUCT => {
                let mut last = 0;
                while let (_, kind @ 1..) = self.field(&mut last)? {
                    self.skip_within(kind, depth)?;
                }
            }
            13 => self.jump(16)?,
            _ => return None,
        }
        Some(())
    }

    fn jump(&mut self, length: u64) -> Option<()> {
        let length = usize::try_from(length).ok()?;
        self.at = self.at.checked_add(length).filter(|end| *end <= self.bytes.len())?;
        Some(())
    }
}
