//! One file from a host into a folder of blobs: once for all processes, gone on with where it ended, and under its name
//! only after its digest is right.

use std::fs::{self, File, TryLockError};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::Duration;

use ring::digest::{Context, SHA256};

use super::error::{Error, Result};
use super::http::Client;
use super::mend;
use super::partial::{BAD, Partial};
use super::ranges::{Ranges, Source};
use super::workers;
use crate::Digest;
use crate::durable;
use crate::git::{self, Sha1};

/// How often a process looks whether another has finished.
const LOOK: Duration = Duration::from_millis(50);
const STEP: usize = 1 << 20;

/// The digest that a file must have, as lower-case hexadecimal digits.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Checksum {
    /// SHA-256 of the bytes, as large files have it.
    Sha256(String),
    /// The digest under which git keeps the bytes, as small files have it.
    Git(String),
}

impl Checksum {
    /// A SHA-256 of 64 digits.
    pub(crate) fn sha256(text: &str) -> Option<Checksum> {
        is_hexadecimal(text, 64).then(|| Checksum::Sha256(text.to_owned()))
    }

    /// A git digest of 40 digits.
    pub(crate) fn git(text: &str) -> Option<Checksum> {
        is_hexadecimal(text, 40).then(|| Checksum::Git(text.to_owned()))
    }

    /// The digits, which are also the blob's name.
    pub fn digits(&self) -> &str {
        match self {
            Checksum::Sha256(digits) | Checksum::Git(digits) => digits,
        }
    }

    /// Whether bytes have it.
    pub(crate) fn fits(&self, bytes: &[u8]) -> bool {
        match self {
            Checksum::Sha256(digits) => Digest::of(bytes).hexadecimal() == *digits,
            Checksum::Git(digits) => git::digest(bytes) == *digits,
        }
    }

    /// The same kind of digest of an open file of that length.
    pub(crate) fn of(&self, file: &File, size: u64) -> Result<String> {
        match self {
            Checksum::Sha256(_) => {
                let mut sum = Context::new(&SHA256);
                parts(file, size, &mut |part| sum.update(part))?;
                Ok(Digest::from_ring(&sum.finish()).hexadecimal())
            }
            Checksum::Git(_) => {
                let mut sum = Sha1::of_file(size);
                parts(file, size, &mut |part| sum.update(part))?;
                Ok(sum.digits())
            }
        }
    }
}

/// Hands over the first `size` bytes of a file, part by part.
fn parts(file: &File, size: u64, take: &mut dyn FnMut(&[u8])) -> Result<()> {
    let mut buffer = vec![0; STEP];
    let mut at = 0;
    while at < size {
        let room = usize::try_from(size - at).unwrap_or(STEP).min(STEP);
        let fault = |fault| pasture_files::Error::read("data".as_ref(), fault);
        file.read_exact_at(&mut buffer[..room], at).map_err(fault)?;
        take(&buffer[..room]);
        at += room as u64;
    }
    Ok(())
}

fn is_hexadecimal(text: &str, digits: usize) -> bool {
    text.len() == digits && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// What happens to a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// It begins, with so many bytes already there.
    Begins(u64),
    /// So many more bytes are there.
    Arrived(u64),
    /// Another process fetches it, and this one waits.
    Waits,
    /// It is whole and damaged, and is compared with a second copy.
    Compares,
    /// It is there.
    Done,
}

/// Where blobs go, and where their locks are.
pub(crate) struct Room<'a> {
    pub blobs: &'a Path,
    pub locks: &'a Path,
    /// The blob's file name.
    pub name: &'a str,
}

/// Fetches a file unless it is there.
pub(crate) fn file(
    client: &Client,
    source: &Source<'_>,
    wanted: &Checksum,
    room: &Room<'_>,
    watch: &mut dyn FnMut(Step),
) -> Result<()> {
    let blob = room.blobs.join(room.name);
    let is_there = || fs::metadata(&blob).is_ok_and(|found| found.is_file() && found.len() == source.size);
    if is_there() {
        // A process that died after the bytes had got their name left a folder without bytes: looking removes it.
        Partial::left(room.blobs, room.name, source.size);
        watch(Step::Begins(source.size));
        watch(Step::Done);
        return Ok(());
    }
    for folder in [room.blobs, room.locks] {
        durable::folder(folder)?;
    }
    let lock = if client.network.locks { Some(claim(room, watch)?) } else { None };
    if !is_there() {
        fetch(client, source, wanted, room, watch)?;
    } else {
        watch(Step::Begins(source.size));
    }
    drop(lock);
    watch(Step::Done);
    Ok(())
}

/// Waits until no other process fetches the file.
fn claim(room: &Room<'_>, watch: &mut dyn FnMut(Step)) -> Result<File> {
    let path = room.locks.join(format!("{}.lock", room.name));
    let fault = |fault| pasture_files::Error::write(&path, fault);
    let lock = durable::partial(&path)?;
    let mut told = false;
    loop {
        match lock.try_lock() {
            Ok(()) => return Ok(lock),
            Err(TryLockError::WouldBlock) => {
                if !told {
                    watch(Step::Waits);
                }
                told = true;
                std::thread::sleep(LOOK);
            }
            Err(TryLockError::Error(error)) => return Err(fault(error).into()),
        }
    }
}

fn fetch(
    client: &Client,
    source: &Source<'_>,
    wanted: &Checksum,
    room: &Room<'_>,
    watch: &mut dyn FnMut(Step),
) -> Result<()> {
    let left = Partial::left(room.blobs, room.name, source.size);
    has_space(room.blobs, source.size.saturating_sub(left))?;
    let blob = room.blobs.join(room.name);
    let bad = room.blobs.join(format!("{}{BAD}", room.name));
    let mut partial = Partial::open(room.blobs, room.name, source.size)?;
    watch(Step::Begins(partial.done.count()));
    let ranges = Ranges::new(client, source);
    workers::fill(&ranges, &mut partial, &mut |count| watch(Step::Arrived(count)))?;
    let mut found = wanted.of(partial.data(), source.size)?;
    if found != wanted.digits() {
        watch(Step::Compares);
        mend::compare(&ranges, &mut partial)?;
        found = wanted.of(partial.data(), source.size)?;
    }
    if found != wanted.digits() {
        let kept = bad.file_name().unwrap_or_default().to_string_lossy().into_owned();
        partial.publish(&bad)?;
        let (file, wanted) = (source.what.to_owned(), wanted.digits().to_owned());
        return Err(Error::Damaged { file, wanted, found, kept });
    }
    // Where locks lie, another may have been faster.
    match blob.is_file() {
        true => partial.discard(),
        false => partial.publish(&blob)?,
    }
    // What was damaged is whole now.
    let _ = durable::remove(&bad);
    Ok(())
}

/// Refuses early what the disk cannot hold.
pub(crate) fn has_space(folder: &Path, needed: u64) -> Result<()> {
    match durable::free(folder).filter(|free| *free < needed) {
        Some(free) => Err(Error::Space { folder: folder.display().to_string(), needed, free }),
        None => Ok(()),
    }
}
