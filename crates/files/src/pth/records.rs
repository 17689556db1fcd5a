//! Where the bytes of each storage lie in the file, and that they are as many as the pickle says. A record's checksum is
//! compared when its bytes are first asked for, so that opening a checkpoint reads no weights.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::{Arc, OnceLock};

use super::fault::Fault;
use super::machine::Unpickled;
use super::value::Storage;
use super::zip::{Archive, STORAGES, checksum_fits};
use crate::Dtype;
use crate::error::{Error, Result, quoted};
use crate::mmap::Bytes;
use crate::size::Size;

/// The bytes of one storage.
#[derive(Debug)]
pub(super) struct Record {
    /// Name of the checkpoint file, for errors.
    file: String,
    key: String,
    bytes: Bytes,
    checksum: Option<u32>,
    fits: OnceLock<bool>,
}

impl Record {
    /// A storage without a checksum, as the legacy form has it.
    pub fn new(file: &str, key: &str, bytes: Bytes, checksum: Option<u32>) -> Record {
        Record { file: file.to_owned(), key: key.to_owned(), bytes, checksum, fits: OnceLock::new() }
    }

    /// All bytes, not yet compared with the checksum.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// Compares the checksum, once.
    pub fn check(&self) -> Result<()> {
        let Some(checksum) = self.checksum else { return Ok(()) };
        match self.fits.get_or_init(|| checksum_fits(&self.bytes, checksum)) {
            true => Ok(()),
            false => {
                let shown = quoted(&self.key);
                let what = format!(
                    "the checksum of its storage {shown} does not fit its bytes; the file is damaged, fetch it again"
                );
                Err(Error::invalid(self.file.as_str(), what))
            }
        }
    }
}

/// The record of every storage, by its key.
#[derive(Debug)]
pub(super) struct Records<'a> {
    name: &'a str,
    file: &'a Bytes,
    records: HashMap<&'a str, (Arc<Record>, Storage)>,
}

impl<'a> Records<'a> {
    /// No records yet, of a file of that name.
    pub fn new(name: &'a str, file: &'a Bytes) -> Records<'a> {
        Records { name, file, records: HashMap::new() }
    }

    /// Adds the records `data/KEY` of a zip archive.
    pub fn add_archive(&mut self, archive: &Archive, unpickled: &Unpickled<'a>) -> Result<(), Fault> {
        for storage in &unpickled.arena.storages {
            let key = unpickled.text(storage.key);
            let Some(member) = archive.member(&format!("{STORAGES}{key}")) else {
                return Err(Fault::container(format!("it has no record for the storage {}", quoted(key))));
            };
            self.add(key, *storage, member.range.clone(), Some(member.checksum))?;
        }
        Ok(())
    }

    /// Adds one storage; a key that stands twice must say the same twice.
    pub fn add(
        &mut self,
        key: &'a str,
        storage: Storage,
        range: Range<usize>,
        checksum: Option<u32>,
    ) -> Result<(), Fault> {
        let shown = || quoted(key);
        if let Some((_, earlier)) = self.records.get(key) {
            if (earlier.dtype, earlier.count) != (storage.dtype, storage.count) {
                return Err(Fault::container(format!("its storage {} is described in two ways", shown())));
            }
            return Ok(());
        }
        let (length, count) = (range.len(), storage.count);
        if byte_count(storage.dtype, count) != Some(length) {
            let what = format!("its storage {} has {length} bytes but should hold {count} values", shown());
            return Err(Fault::container(what));
        }
        let bytes = self.file.slice(range);
        let bytes = bytes.ok_or_else(|| Fault::container(format!("its storage {} lies outside the file", shown())))?;
        let record = Record::new(self.name, key, bytes, checksum);
        self.records.insert(key, (Arc::new(record), storage));
        Ok(())
    }

    /// The record of a storage.
    pub fn record(&self, key: &str) -> Option<&Arc<Record>> {
        self.records.get(key).map(|(record, _)| record)
    }
}

/// Bytes of that many values; None where they are more than this machine can address.
pub(super) fn byte_count(dtype: Option<Dtype>, count: u64) -> Option<usize> {
    Size::new(count).mul(Size::of(dtype.map_or(1, element_bytes))).ok()?.to_usize().ok()
}

/// Bytes of one value. PyTorch's kinds are all whole bytes.
pub(super) fn element_bytes(dtype: Dtype) -> usize {
    dtype.byte_count(&[1]).ok().and_then(|size| size.to_usize().ok()).expect("every kind on the list is whole bytes")
}

/// Checks the members that are not storages, and returns the range of the pickle.
pub(super) fn check_members(archive: &Archive, file: &[u8]) -> Result<Range<usize>, Fault> {
    if archive.members().iter().any(|member| member.name == "constants.pkl" || member.name.starts_with("code/")) {
        return Err(Fault::container("it is a TorchScript program; save its state_dict() to read the tensors"));
    }
    for member in archive.members() {
        let bookkeeping =
            member.name.starts_with('.') || matches!(member.name.as_str(), "data.pkl" | "version" | "byteorder");
        let storage = member.name.strip_prefix(STORAGES).is_some_and(|key| !key.contains('/'));
        if !bookkeeping && !storage {
            return Err(Fault::container(format!(
                "its member {} is not one that PyTorch writes",
                quoted(&member.name)
            )));
        }
    }
    if let Some(order) = archive.member("byteorder")
        && &file[order.range.clone()] != b"little"
    {
        return Err(Fault::container("its values are not in little-endian order; save it again on a usual machine"));
    }
    let pickle = archive.member("data.pkl").ok_or_else(|| Fault::container("it is a zip file without a data.pkl"))?;
    Ok(pickle.range.clone())
}
