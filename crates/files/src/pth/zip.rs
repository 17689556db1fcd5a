//! The zip container of PyTorch checkpoints: a closed reader of the central directory. Records are ranges of the file;
//! nothing is inflated, extracted or written. Only what `torch.save` writes is accepted: stored members of one root
//! folder that neither overlap nor share a name. Checksums of storages are the caller's to check.

use std::collections::HashSet;
use std::ops::Range;

use super::fault::Fault;
use crate::error::quoted;

/// Members of one archive; the largest published checkpoints have some tens of thousands.
const MEMBERS_MAX: usize = 1 << 18;
const NAME_BYTES_MAX: usize = 512;

const LOCAL_HEADER: usize = 30;
const CENTRAL_HEADER: usize = 46;
const END_RECORD: usize = 22;
const ZIP64_LOCATOR: usize = 20;
const ZIP64_END_RECORD: usize = 56;

const FLAG_DATA_DESCRIPTOR: u16 = 1 << 3;
const FLAG_UTF8: u16 = 1 << 11;

/// The folder of the records of storages.
pub(super) const STORAGES: &str = "data/";

/// Whether bytes have that CRC-32.
pub(super) fn checksum_fits(bytes: &[u8], checksum: u32) -> bool {
    let mut sum = flate2::Crc::new();
    sum.update(bytes);
    sum.sum() == checksum
}

/// One stored member.
#[derive(Debug)]
pub(super) struct Member {
    /// The name below the archive's root folder, such as `data/0`.
    pub name: String,
    /// Where its bytes lie in the file.
    pub range: Range<usize>,
    /// CRC-32 of its bytes, as the directory states it. Checked here except for the records of storages, which are
    /// not read before they are asked for.
    pub checksum: u32,
}

/// The members of an archive, sorted by name.
#[derive(Debug)]
pub(super) struct Archive {
    members: Vec<Member>,
}

impl Archive {
    /// Whether these bytes begin as a zip file does.
    pub fn recognize(file: &[u8]) -> bool {
        file.starts_with(b"PK\x03\x04") || file.starts_with(b"PK\x05\x06")
    }

    /// Reads the directory of `file` and checks every member against its local header.
    pub fn read(file: &[u8]) -> Result<Archive, Fault> {
        let directory = Directory::find(file)?;
        let entries = directory.entries(file)?;
        let root = root_of(&entries)?;
        let mut spans = Vec::with_capacity(entries.len());
        let mut members = Vec::with_capacity(entries.len());
        for entry in &entries {
            let (span, range) = entry.locate(file, directory.start)?;
            spans.push(span);
            members.push(Member { name: entry.name[root.len() + 1..].to_owned(), range, checksum: entry.checksum });
        }
        check_disjoint(&mut spans)?;
        for member in members.iter().filter(|member| !member.name.starts_with(STORAGES)) {
            if !checksum_fits(&file[member.range.clone()], member.checksum) {
                let shown = quoted(&member.name);
                return Err(Fault::container(format!(
                    "the checksum of its member {shown} does not fit its bytes; the file is damaged, fetch it again"
                )));
            }
        }
        members.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(Archive { members })
    }

    /// The member of that exact name below the root folder.
    pub fn member(&self, name: &str) -> Option<&Member> {
        let at = self.members.binary_search_by(|member| member.name.as_str().cmp(name)).ok()?;
        Some(&self.members[at])
    }

    /// Every member, sorted by name.
    pub fn members(&self) -> &[Member] {
        &self.members
    }
}

/// Where the central directory lies and how many members it must list.
struct Directory {
    start: usize,
    end: usize,
    count: usize,
}

impl Directory {
    /// `torch.save` writes no archive comment, so the end record is the last 22 bytes: there is one reading only.
    fn find(file: &[u8]) -> Result<Directory, Fault> {
        let at = file.len().checked_sub(END_RECORD).ok_or_else(cut_off)?;
        let end = &file[at..];
        if &end[..4] != b"PK\x05\x06" || u16_at(end, 20) != 0 {
            return Err(cut_off());
        }
        let disks = [u16_at(end, 4), u16_at(end, 6)];
        let (mut count, mut count_here) = (u64::from(u16_at(end, 10)), u64::from(u16_at(end, 8)));
        let (mut size, mut start) = (u64::from(u32_at(end, 12)), u64::from(u32_at(end, 16)));
        let mut directory_end = at;
        if let Some(locator) =
            at.checked_sub(ZIP64_LOCATOR).filter(|&locator| &file[locator..locator + 4] == b"PK\x06\x07")
        {
            let wide = locator.checked_sub(ZIP64_END_RECORD).ok_or_else(cut_off)?;
            if u64_at(file, locator + 8) != wide as u64 || &file[wide..wide + 4] != b"PK\x06\x06" {
                return Err(Fault::container("its zip64 end record is not where its locator says"));
            }
            let (short, long) = (u64::from(u16::MAX), u64::from(u32::MAX));
            let narrow_says = [(count_here, short), (count, short), (size, long), (start, long)];
            (count_here, count) = (u64_at(file, wide + 24), u64_at(file, wide + 32));
            (size, start) = (u64_at(file, wide + 40), u64_at(file, wide + 48));
            for ((narrow, full), value) in narrow_says.into_iter().zip([count_here, count, size, start]) {
                if narrow != full && narrow != value {
                    return Err(Fault::container("its two end records disagree"));
                }
            }
            directory_end = wide;
        }
        let split = disks.iter().any(|&disk| disk != 0 && disk != u16::MAX) || count != count_here;
        if split || start.checked_add(size) != Some(directory_end as u64) {
            return Err(Fault::container("its end record does not describe the directory before it"));
        }
        if count == 0 || count > MEMBERS_MAX as u64 || count > size / CENTRAL_HEADER as u64 {
            return Err(Fault::container(format!(
                "its end record counts {count} members in a directory of {size} bytes"
            )));
        }
        // start and end lie inside the file and count fits the directory, so the conversions are exact.
        Ok(Directory { start: start as usize, end: directory_end, count: count as usize })
    }

    fn entries(&self, file: &[u8]) -> Result<Vec<Entry>, Fault> {
        let mut rest = &file[self.start..self.end];
        let mut entries = Vec::with_capacity(self.count);
        let mut names = HashSet::with_capacity(self.count);
        for _ in 0..self.count {
            let (entry, used) = Entry::read(rest)?;
            // Case is folded because a scanner that compares exactly and a loader that does not see two files.
            if !names.insert(entry.name.to_ascii_lowercase()) {
                return Err(Fault::container(format!("two members are named {}", quoted(&entry.name))));
            }
            entries.push(entry);
            rest = &rest[used..];
        }
        if !rest.is_empty() {
            return Err(Fault::container(format!("its directory holds more than the {} members counted", self.count)));
        }
        Ok(entries)
    }
}

/// One line of the central directory.
struct Entry {
    name: String,
    flags: u16,
    checksum: u32,
    size: u64,
    header: u64,
}

impl Entry {
    /// Reads the entry at the start of `rest`; the second value is its length.
    fn read(rest: &[u8]) -> Result<(Entry, usize), Fault> {
        let damaged = || Fault::container("its directory of members is damaged");
        if rest.len() < CENTRAL_HEADER || &rest[..4] != b"PK\x01\x02" {
            return Err(damaged());
        }
        let (name_bytes, extra_bytes) = (usize::from(u16_at(rest, 28)), usize::from(u16_at(rest, 30)));
        let used = CENTRAL_HEADER + name_bytes + extra_bytes + usize::from(u16_at(rest, 32));
        if used > rest.len() {
            return Err(damaged());
        }
        let name = checked_name(&rest[CENTRAL_HEADER..CENTRAL_HEADER + name_bytes])?;
        let flags = u16_at(rest, 8);
        if flags & !(FLAG_DATA_DESCRIPTOR | FLAG_UTF8) != 0 {
            return Err(Fault::container(format!(
                "its member {} is encrypted or patched (flags {flags:#x})",
                quoted(&name)
            )));
        }
        let method = u16_at(rest, 10);
        if method != 0 {
            return Err(Fault::container(format!(
                "its member {} is compressed (method {method}), and PyTorch stores records uncompressed",
                quoted(&name)
            )));
        }
        // The upper half holds a Unix mode when the maker had one: a regular file or nothing.
        let kind = (u32_at(rest, 38) >> 16) & 0o170_000;
        if kind != 0 && kind != 0o100_000 {
            return Err(Fault::container(format!("its member {} is no plain file", quoted(&name))));
        }
        let extra = &rest[CENTRAL_HEADER + name_bytes..CENTRAL_HEADER + name_bytes + extra_bytes];
        let mut narrow = [u32_at(rest, 24), u32_at(rest, 20), u32_at(rest, 42)].map(u64::from);
        widen(&mut narrow, extra).ok_or_else(damaged)?;
        let [size, packed, header] = narrow;
        if size != packed {
            return Err(Fault::container(format!("its member {} has two sizes", quoted(&name))));
        }
        Ok((Entry { name, flags, checksum: u32_at(rest, 16), size, header }, used))
    }

    /// Finds the member's bytes through its local header, which must agree with the directory.
    /// Returns the whole span with the header, and the range of the bytes alone.
    fn locate(&self, file: &[u8], directory_start: usize) -> Result<(Range<usize>, Range<usize>), Fault> {
        let outside = || Fault::container(format!("its member {} lies outside the file", quoted(&self.name)));
        let start = usize::try_from(self.header).map_err(|_| outside())?;
        let header_end = start.checked_add(LOCAL_HEADER).filter(|&end| end <= directory_start).ok_or_else(outside)?;
        let header = &file[start..header_end];
        let differs = || Fault::container(format!("its member {} differs from its own header", quoted(&self.name)));
        if &header[..4] != b"PK\x03\x04" || u16_at(header, 6) != self.flags || u16_at(header, 8) != 0 {
            return Err(differs());
        }
        let name_end = header_end + usize::from(u16_at(header, 26));
        let begin = name_end + usize::from(u16_at(header, 28));
        let size = usize::try_from(self.size).map_err(|_| outside())?;
        let end = begin.checked_add(size).filter(|&end| end <= directory_start).ok_or_else(outside)?;
        if &file[header_end..name_end] != self.name.as_bytes() {
            return Err(differs());
        }
        // With a data descriptor the sizes follow the bytes, and these fields may be zero.
        let deferred = self.flags & FLAG_DATA_DESCRIPTOR != 0;
        let fits = |found: u64, wanted: u64| found == wanted || (deferred && found == 0);
        let mut sizes = [u32_at(header, 22), u32_at(header, 18)].map(u64::from);
        if !deferred {
            widen(&mut sizes, &file[name_end..begin]).ok_or_else(differs)?;
        } else if sizes == [u64::from(u32::MAX); 2] {
            sizes = [self.size; 2];
        }
        let checksum = u64::from(u32_at(header, 14));
        if !fits(checksum, self.checksum.into()) || sizes.iter().any(|&found| !fits(found, self.size)) {
            return Err(differs());
        }
        Ok((start..end, begin..end))
    }
}

/// Replaces each field that is all ones by its 64-bit value in the zip64 extra field, in the order of the fields.
/// `None` when the extra fields are damaged or lack a value.
fn widen(fields: &mut [u64], mut extra: &[u8]) -> Option<()> {
    let mut wide: &[u8] = &[];
    while extra.len() >= 4 {
        let (tag, size) = (u16_at(extra, 0), usize::from(u16_at(extra, 2)));
        let body = extra.get(4..4 + size)?;
        if tag == 1 {
            wide = body;
        }
        extra = &extra[4 + size..];
    }
    for field in fields.iter_mut().filter(|field| **field == u64::from(u32::MAX)) {
        *field = u64_at(wide.get(..8)?, 0);
        wide = &wide[8..];
    }
    Some(())
}

/// Accepts `root/part/part` of harmless parts only: no climbing, no drive, no separator but `/`.
fn checked_name(bytes: &[u8]) -> Result<String, Fault> {
    let refuse = || {
        let shown = String::from_utf8_lossy(bytes);
        Fault::container(format!("its member name {} is not one that PyTorch writes", quoted(&shown)))
    };
    let name = std::str::from_utf8(bytes).map_err(|_| refuse())?;
    let odd = |letter: char| letter.is_control() || matches!(letter, '\\' | ':');
    let parts_fit = name.split('/').all(|part| !part.is_empty() && part != "." && part != "..");
    if name.len() > NAME_BYTES_MAX || name.contains(odd) || !parts_fit || !name.contains('/') {
        return Err(refuse());
    }
    Ok(name.to_owned())
}

/// The one folder that every member lies in.
fn root_of(entries: &[Entry]) -> Result<&str, Fault> {
    let root = |entry: &'_ Entry| entry.name.find('/').unwrap_or(0);
    let first = entries.first().ok_or_else(cut_off)?;
    let root = &first.name[..root(first)];
    match entries.iter().find(|entry| entry.name.split('/').next() != Some(root)) {
        None => Ok(root),
        Some(other) => Err(Fault::container(format!(
            "it holds two archives, {} and the one of {}",
            quoted(root),
            quoted(&other.name)
        ))),
    }
}

fn check_disjoint(spans: &mut [Range<usize>]) -> Result<(), Fault> {
    spans.sort_by_key(|span| span.start);
    match spans.windows(2).find(|pair| pair[0].end > pair[1].start) {
        None => Ok(()),
        Some(pair) => Err(Fault::container(format!("two members share the bytes at {}", pair[1].start))),
    }
}

fn cut_off() -> Fault {
    Fault::container("it begins as a zip file but has no end record; the file was cut off, fetch it again")
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from(u32_at(bytes, at)) | u64::from(u32_at(bytes, at + 4)) << 32
}
