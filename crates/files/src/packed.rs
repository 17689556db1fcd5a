//! A file of packed weights, laid out as they lie in memory, so that programs map it. Formats and layouts are words here.
//!
//! 64 bytes that name the kind, the weights' bytes at multiples of 64, a table in JSON, and 64 bytes that say where the
//! table is, with its digest: a file that was cut short has no end. Opening reads the table and no weight.
#![forbid(unsafe_code)]
#![deny(clippy::indexing_slicing)]

use std::collections::HashMap;
use std::fs;
use std::ops::Range;
use std::path::Path;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::durable::Sink;
use crate::error::{Error, Result, file_name, quoted};
use crate::folder;
use crate::mmap::Bytes;
use crate::size::Size;

/// How the file begins and ends. The last digit is the version of what is written here.
const MAGIC: [u8; 8] = *b"PastPak1";

/// Bytes of the beginning, of the end, and what each weight's place is a multiple of: a line of a processor's cache.
pub const ALIGNMENT: usize = 64;

/// Bytes that are written at once, at multiples of it: the system then keeps them in pages of this size.
const PART: usize = 2 << 20;

/// Longest table that is read.
const TABLE_BYTES_MAX: usize = 1 << 28;

/// What a file of packed weights was made from, and how its weights lie.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    /// What the model was called.
    pub name: String,
    /// The files it was read from and how they looked.
    pub source: String,
    /// Which layouts: files of others are of no use.
    pub layout: String,
}

/// A weight in the file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Which of the model's weights it is.
    pub name: String,
    /// The name of its number format.
    pub format: String,
    /// Whether its rows are packed; plain otherwise.
    pub packed: bool,
    /// Outputs.
    pub rows: usize,
    /// Inputs.
    pub cols: usize,
}

/// The end's table.
#[derive(Serialize, Deserialize)]
struct Table {
    #[serde(flatten)]
    origin: Origin,
    weights: Vec<Row>,
}

#[derive(Serialize, Deserialize)]
struct Row {
    #[serde(flatten)]
    entry: Entry,
    start: usize,
    bytes: usize,
}

/// An open file of packed weights.
#[derive(Debug)]
pub struct Packed {
    origin: Origin,
    bytes: Bytes,
    weights: HashMap<String, (Entry, Range<usize>)>,
}

impl Packed {
    /// Maps a file and reads its table.
    ///
    /// # Errors
    /// When it cannot be read, others than its owner may write it, or it is not whole.
    pub fn open(path: &Path) -> Result<Packed> {
        let name = file_name(path);
        private(path)?;
        let bytes = folder::map_file(path)?;
        let invalid = |what: &str| Error::invalid(&name, what);
        let whole = bytes.len().checked_sub(ALIGNMENT).and_then(|end| Some((end, bytes.get(end..)?)));
        let (end, last) = whole.ok_or_else(|| invalid("it is shorter than its own beginning"))?;
        if end < ALIGNMENT || !bytes.starts_with(&MAGIC) {
            return Err(invalid("it does not begin as a file of packed weights does"));
        }
        let last = End::read(last).ok_or_else(|| invalid("it does not end as a file of packed weights does"))?;
        let table_end = last.start.checked_add(last.bytes).filter(|to| *to == end && last.bytes <= TABLE_BYTES_MAX);
        let table = table_end.and_then(|to| bytes.get(last.start..to));
        let table = table.ok_or_else(|| invalid("its table lies outside"))?;
        if Sha256::digest(table)[..] != last.digest {
            return Err(invalid("its table is damaged"));
        }
        let table: Table = serde_json::from_slice(table).map_err(|fault| crate::json::fault_in(&name, &fault))?;
        let mut weights = HashMap::with_capacity(table.weights.len());
        for Row { entry, start, bytes } in table.weights {
            let to = start.checked_add(bytes).filter(|to| *to <= last.start && start.is_multiple_of(ALIGNMENT));
            let to = to.ok_or_else(|| invalid(&format!("weight {} lies outside", quoted(&entry.name))))?;
            if let Some((twice, _)) = weights.insert(entry.name.clone(), (entry, start..to)) {
                return Err(invalid(&format!("weight {} stands twice in it", quoted(&twice.name))));
            }
        }
        Ok(Packed { origin: table.origin, bytes, weights })
    }

    /// What it was made from.
    pub fn origin(&self) -> &Origin {
        &self.origin
    }

    /// A weight and its bytes.
    pub fn get(&self, name: &str) -> Option<(&Entry, Bytes)> {
        let (entry, range) = self.weights.get(name)?;
        Some((entry, self.bytes.slice(range.clone())?))
    }

    /// Weights in it.
    pub fn count(&self) -> usize {
        self.weights.len()
    }

    /// Its mapped bytes.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }
}

/// The last 64 bytes.
struct End {
    start: usize,
    bytes: usize,
    digest: [u8; 32],
}

impl End {
    fn read(bytes: &[u8]) -> Option<End> {
        let (start, rest) = bytes.split_first_chunk::<8>()?;
        let (length, rest) = rest.split_first_chunk::<8>()?;
        let (digest, rest) = rest.split_first_chunk::<32>()?;
        let number = |bytes: &[u8; 8]| usize::try_from(u64::from_le_bytes(*bytes)).ok();
        (rest == [[0; 8], MAGIC].as_flattened()).then_some(())?;
        Some(End { start: number(start)?, bytes: number(length)?, digest: *digest })
    }
}

/// What another user may have written is not computed with.
fn private(path: &Path) -> Result<()> {
    #[cfg(unix)]
    for path in [Some(path), path.parent()].into_iter().flatten() {
        use std::os::unix::fs::PermissionsExt;
        let mode = fs::metadata(path).map_err(|fault| Error::read(path, fault))?.permissions().mode();
        if mode & 0o022 != 0 {
            return Err(Error::unsupported(file_name(path), "others than its owner may write it"));
        }
    }
    Ok(())
}

/// Writes a file of packed weights, weight after weight.
pub struct Writer<'s> {
    sink: &'s mut Sink,
    part: Vec<u8>,
    at: usize,
    weights: Vec<Row>,
}

impl<'s> Writer<'s> {
    /// Begins the file.
    ///
    /// # Errors
    /// When the system refuses, here and below.
    pub fn new(sink: &'s mut Sink) -> Result<Writer<'s>> {
        let mut writer = Writer { sink, part: Vec::with_capacity(PART), at: 0, weights: Vec::new() };
        writer.push(&MAGIC)?;
        Ok(writer)
    }

    /// Adds a weight.
    ///
    /// # Errors
    /// As above.
    pub fn put(&mut self, entry: Entry, bytes: &[u8]) -> Result<()> {
        self.pad()?;
        self.weights.push(Row { entry, start: self.at, bytes: bytes.len() });
        self.push(bytes)
    }

    /// Ends the file.
    ///
    /// # Errors
    /// As above.
    pub fn finish(mut self, origin: Origin) -> Result<()> {
        self.pad()?;
        let table = Table { origin, weights: std::mem::take(&mut self.weights) };
        let table = serde_json::to_vec(&table).map_err(|fault| crate::json::fault_in("packed weights", &fault))?;
        let start = self.at as u64;
        self.push(&table)?;
        [start, table.len() as u64].into_iter().try_for_each(|number| self.push(&number.to_le_bytes()))?;
        self.push(&Sha256::digest(&table))?;
        self.push([[0; 8], MAGIC].as_flattened())?;
        self.sink.put(&self.part)
    }

    fn pad(&mut self) -> Result<()> {
        let zeros = self.at.next_multiple_of(ALIGNMENT).abs_diff(self.at);
        self.push([0; ALIGNMENT].get(..zeros).unwrap_or_default())
    }

    fn push(&mut self, mut bytes: &[u8]) -> Result<()> {
        self.at += bytes.len();
        while let Some((now, rest)) = bytes.split_at_checked(PART - self.part.len()) {
            self.part.extend_from_slice(now);
            self.sink.put(&self.part)?;
            self.part.clear();
            bytes = rest;
        }
        self.part.extend_from_slice(bytes);
        Ok(())
    }
}

/// Bytes of a file with weights of these lengths, at most.
pub fn bytes_needed(weights: impl Iterator<Item = u64>) -> Size {
    // A row of the table is shorter than 300 bytes.
    let all = weights.fold(0_u64, |sum, bytes| sum.saturating_add(bytes).saturating_add(ALIGNMENT as u64 + 300));
    Size::new(all.saturating_add(1 << 16))
}

#[cfg(test)]
#[allow(clippy::indexing_slicing, reason = "a test may")]
mod tests {
    use super::*;
    use crate::durable;

    fn entry(name: &str, rows: usize) -> Entry {
        Entry { name: name.to_owned(), format: "F32".to_owned(), packed: true, rows, cols: 1 }
    }

    fn origin() -> Origin {
        Origin { name: "a".into(), source: "1 2 3 a".into(), layout: "1.f".into() }
    }

    fn written(path: &Path) -> Vec<u8> {
        let long: Vec<u8> = (0..PART + 100).map(|at| at as u8).collect();
        durable::write_file(path, |sink| {
            let mut writer = Writer::new(sink)?;
            writer.put(entry("one", 1), &[1, 2, 3])?;
            writer.put(entry("long", 7), &long)?;
            writer.put(entry("none", 0), &[])?;
            writer.finish(origin())
        })
        .unwrap();
        long
    }

    #[test]
    fn what_was_put_is_found_at_whole_lines() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        let long = written(&path);
        let packed = Packed::open(&path).unwrap();
        assert_eq!((packed.origin(), packed.count()), (&origin(), 3));
        for (name, rows, wanted) in [("one", 1, &[1_u8, 2, 3][..]), ("long", 7, &long), ("none", 0, &[])] {
            let (found, bytes) = packed.get(name).unwrap();
            assert_eq!((found, &bytes[..]), (&entry(name, rows), wanted));
            assert!(bytes.as_ptr().addr().is_multiple_of(ALIGNMENT) && bytes.is_mapped(), "{name}");
        }
        assert!(packed.get("two").is_none());
        assert!(packed.bytes().len() as u64 <= bytes_needed([3, long.len() as u64, 0].into_iter()).get());
    }

    #[test]
    fn a_damaged_file_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        written(&path);
        let good = fs::read(&path).unwrap();
        let check = |bytes: &[u8], part: &str| {
            fs::write(&path, bytes).unwrap();
            let text = Packed::open(&path).unwrap_err().to_string();
            assert!(text.contains(part), "{text:?} lacks {part:?}");
        };
        for length in [0, 1, 63, 64, 127, 128, 1000, good.len() / 2, good.len() - 64, good.len() - 1] {
            check(&good[..length], "\"a\" is invalid");
        }
        // Every byte of the end, some of the table, and the beginning.
        let table = good.len() - 64 - u64::from_le_bytes(good[good.len() - 56..][..8].try_into().unwrap()) as usize;
        for at in (good.len() - 64..good.len()).chain((table..good.len()).step_by(17)).chain(0..8) {
            let mut bad = good.clone();
            bad[at] ^= 0x41;
            check(&bad, "\"a\" is invalid");
        }
        check(&[good.as_slice(), b"x"].concat(), "\"a\" is invalid");
        fs::write(&path, &good).unwrap();
        Packed::open(&path).unwrap();
    }

    #[test]
    fn a_table_that_lies_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        let check = |rows: &[(&str, usize, usize)], part: Option<&str>| {
            durable::write_file(&path, |sink| {
                let mut writer = Writer::new(sink)?;
                writer.put(entry("one", 1), &[7; 64])?;
                let rows =
                    rows.iter().map(|(name, start, bytes)| Row { entry: entry(name, 1), start: *start, bytes: *bytes });
                writer.weights = rows.collect();
                writer.finish(origin())
            })
            .unwrap();
            let text = Packed::open(&path).err().map(|fault| fault.to_string());
            assert_eq!(text.is_some(), part.is_some(), "{text:?}");
            assert!(text.unwrap_or_default().contains(part.unwrap_or_default()));
        };
        check(&[("one", 64, 64)], None);
        check(&[("one", 64, 65)], Some("weight \"one\" lies outside"));
        check(&[("one", 65, 1)], Some("weight \"one\" lies outside"));
        check(&[("one", usize::MAX - 63, 64)], Some("weight \"one\" lies outside"));
        check(&[("one", 64, usize::MAX)], Some("weight \"one\" lies outside"));
        check(&[("one", 64, 1), ("one", 64, 1)], Some("stands twice"));
    }

    #[cfg(unix)]
    #[test]
    fn what_others_may_write_is_not_used() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        written(&path);
        for (what, mode, good) in [(&path, 0o644, true), (&path, 0o620, false), (&path, 0o602, false)] {
            fs::set_permissions(what, fs::Permissions::from_mode(mode)).unwrap();
            assert_eq!(Packed::open(&path).is_ok(), good, "{mode:o}");
        }
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o777)).unwrap();
        assert!(Packed::open(&path).is_err());
    }
}
