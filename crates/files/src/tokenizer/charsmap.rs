//! SentencePiece's precompiled map of characters: a double-array trie over UTF-8 and the texts it leads to.
//! Invariant: every offset that normalizing can follow was checked when the map was read.

use super::error::{Result, invalid};
use super::text::Writer;

/// The maps in use have 240 KB.
const BYTES_MAX: usize = 4 << 20;
/// Keys are a few characters; the bound keeps a trie with a loop from reading the whole text at each place.
const KEY_BYTES_MAX: usize = 64;

#[derive(Debug, PartialEq, Eq)]
pub(super) struct Charsmap {
    units: Vec<u32>,
    /// The replacements, each with a NUL behind it.
    texts: String,
}

impl Charsmap {
    /// Reads a map; `what` names it in errors.
    pub(super) fn read(bytes: &[u8], what: &str) -> Result<Charsmap> {
        let bad = |found: String, wanted: &str| invalid(what, found, wanted);
        if bytes.len() > BYTES_MAX {
            return Err(bad(format!("{} bytes long", bytes.len()), "at most 4 MiB"));
        }
        let (size, rest) = bytes.split_first_chunk::<4>().ok_or_else(|| bad("shorter than 4 bytes".into(), "a map"))?;
        let size = u32::from_le_bytes(*size) as usize;
        if !size.is_multiple_of(4) || size < 1024 || size > rest.len() {
            let found = format!("a trie of {size} bytes in {}", rest.len());
            return Err(bad(found, "a trie of at least 1024 bytes that fits"));
        }
        let (trie, texts) = rest.split_at(size);
        let units: Vec<u32> = trie.as_chunks::<4>().0.iter().map(|&unit| u32::from_le_bytes(unit)).collect();
        let texts = str::from_utf8(texts).map_err(|_| bad("text that is not UTF-8".into(), "UTF-8"))?.to_owned();
        if !texts.is_empty() && !texts.ends_with('\0') {
            return Err(bad("a last text without an end".into(), "a NUL behind each text"));
        }
        let map = Charsmap { units, texts };
        map.check(what)?;
        Ok(map)
    }

    /// The map as files hold it.
    pub(super) fn stored(&self) -> Vec<u8> {
        let trie = self.units.iter().flat_map(|unit| unit.to_le_bytes());
        let size = (self.units.len() as u32).saturating_mul(4).to_le_bytes();
        size.into_iter().chain(trie).chain(self.texts.bytes()).collect()
    }

    /// Every value that a leaf can hold must be the start of a text.
    fn check(&self, what: &str) -> Result<()> {
        for (at, &unit) in self.units.iter().enumerate() {
            // A unit with a leaf: the leaf stands where its offset leads with label 0.
            if unit >> 31 == 0 && unit >> 8 & 1 == 1 {
                let leaf = at ^ offset(unit);
                let value = self.units.get(leaf).map(|&leaf| (leaf & 0x7fff_ffff) as usize);
                let fits = value.is_some_and(|value| value < self.texts.len() && self.texts.is_char_boundary(value));
                if !fits {
                    return Err(invalid(what, format!("a trie whose unit {at} leads outside"), "offsets inside"));
                }
            }
        }
        Ok(())
    }

    /// Length of the longest key that starts `bytes`, and its replacement.
    fn longest(&self, bytes: &[u8]) -> Option<(usize, &str)> {
        let mut place = offset(*self.units.first()?);
        let mut found = None;
        for (count, &byte) in bytes.iter().take(KEY_BYTES_MAX).enumerate() {
            place ^= byte as usize;
            let unit = *self.units.get(place)?;
            if unit & 0x8000_00ff != u32::from(byte) {
                break;
            }
            place ^= offset(unit);
            if unit >> 8 & 1 == 1 {
                let value = (self.units.get(place)? & 0x7fff_ffff) as usize;
                found = Some((count + 1, value));
            }
        }
        let (length, value) = found?;
        let text = self.texts.get(value..)?;
        Some((length, &text[..text.find('\0')?]))
    }

    pub(super) fn normalize(&self, piece: &str, out: &mut Writer) -> Result<()> {
        let mut at = 0;
        while at < piece.len() {
            match self.longest(&piece.as_bytes()[at..]) {
                Some((length, text)) if piece.is_char_boundary(at + length) => {
                    out.push(text, at + length)?;
                    at += length;
                }
                _ => {
                    let length = piece[at..].chars().next().map_or(1, char::len_utf8);
                    out.keep(piece, at..at + length)?;
                    at += length;
                }
            }
        }
        Ok(())
    }
}

fn offset(unit: u32) -> usize {
    ((unit >> 10) << ((unit & 1 << 9) >> 6)) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn garbage_is_refused() {
        for bytes in [&b""[..], b"abc", &[255; 64], &[0; 4], &[[0, 4, 0, 0].as_slice(), &[255; 1024]].concat()] {
            let read = Charsmap::read(bytes, "map");
            assert!(read.is_err() || bytes.len() > 1000, "{bytes:?}");
        }
    }
}
