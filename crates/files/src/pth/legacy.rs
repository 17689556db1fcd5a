//! The form before PyTorch 1.6: five pickles (magic number, protocol, system, values, storage keys), then each storage
//! as its count and its bytes. Everything is checked to fill the file exactly.

use std::collections::HashMap;

use super::fault::Fault;
use super::machine::Unpickled;
use super::records::{Records, byte_count};
use super::value::Value;
use crate::error::quoted;
use crate::mmap::Bytes;

/// The magic number, little-endian, as PyTorch has it since its first release.
const MAGIC: [u8; 10] = [0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19];
const PROTOCOL: i64 = 1001;

/// Whether these bytes begin with the magic number's pickle.
pub(super) fn recognize(file: &[u8]) -> bool {
    // Protocol 4 and 5 put a frame of nine bytes before the number.
    let head = &file[..file.len().min(32)];
    head.starts_with(&[0x80]) && head.windows(MAGIC.len()).any(|window| window == MAGIC)
}

/// The values of a legacy file, and where its storages lie.
pub(super) fn read<'a>(name: &'a str, file: &'a Bytes) -> Result<(Unpickled<'a>, Records<'a>), Fault> {
    if !recognize(file) {
        return Err(Fault::container(what_instead(file)));
    }
    let mut at = 0;
    check_head(file, &mut at)?;
    let unpickled = next(file, &mut at)?;
    let keys = next(file, &mut at)?;
    let Value::List(list) = keys.root else {
        return Err(Fault::container("its list of storages is no list"));
    };
    let mut described = HashMap::new();
    for storage in &unpickled.arena.storages {
        let earlier = described.insert(unpickled.text(storage.key), *storage);
        if earlier.is_some_and(|earlier| (earlier.dtype, earlier.count) != (storage.dtype, storage.count)) {
            let key = quoted(unpickled.text(storage.key));
            return Err(Fault::container(format!("its storage {key} is described in two ways")));
        }
    }
    let mut records = Records::new(name, file);
    for key in keys.arena.list_items(list) {
        let Value::Text(key) = *key else {
            return Err(Fault::container("its list of storages holds something that is no text"));
        };
        let key = keys.text(key);
        let Some(storage) = described.remove(key) else {
            return Err(Fault::container(format!(
                "it has a storage {} that no tensor uses, or has it twice",
                quoted(key)
            )));
        };
        let outside = || Fault::container(format!("its storage {} does not fit the file", quoted(key)));
        let count = file.get(at..at + 8).and_then(|bytes| bytes.try_into().ok()).map(u64::from_le_bytes);
        if count != Some(storage.count) {
            return Err(outside());
        }
        at += 8;
        let length = byte_count(storage.dtype, storage.count).ok_or_else(outside)?;
        let end = at.checked_add(length).filter(|&end| end <= file.len()).ok_or_else(outside)?;
        records.add(key, storage, at..end, None)?;
        at = end;
    }
    if let Some(key) = described.into_keys().next() {
        return Err(Fault::container(format!("it has no record for the storage {}", quoted(key))));
    }
    if at != file.len() {
        return Err(Fault::container(format!("{} bytes follow its last storage", file.len() - at)));
    }
    Ok((unpickled, records))
}

/// The first three pickles: magic number, protocol, and the system, which must be little-endian.
fn check_head(file: &[u8], at: &mut usize) -> Result<(), Fault> {
    let magic = next(file, at)?;
    if !matches!(magic.root, Value::Long(span) if magic.bytes_of(span) == MAGIC) {
        return Err(Fault::container("it has no magic number"));
    }
    if next(file, at)?.root != Value::Int(PROTOCOL) {
        return Err(Fault::container(format!("its protocol is not {PROTOCOL}, the only one there is")));
    }
    let system = next(file, at)?;
    let little = match system.root {
        Value::Dict(dict) => system.arena.dict_items(dict).iter().any(|&(key, value)| {
            matches!(key, Value::Text(key) if system.text(key) == "little_endian") && value == Value::Bool(true)
        }),
        _ => false,
    };
    match little {
        true => Ok(()),
        false => Err(Fault::container("its values are not in little-endian order; save it again on a usual machine")),
    }
}

/// Runs the pickle at `at` and steps behind it.
fn next<'a>(file: &'a [u8], at: &mut usize) -> Result<Unpickled<'a>, Fault> {
    let rest = file.get(*at..).unwrap_or_default();
    let unpickled = Unpickled::run(rest).map_err(|fault| shifted(fault, *at))?;
    *at += unpickled.end;
    Ok(unpickled)
}

/// Byte positions count from the start of the file, not of one of its pickles.
fn shifted(fault: Fault, by: usize) -> Fault {
    match fault {
        Fault::Pickle { at, what } => Fault::Pickle { at: at + by, what },
        Fault::Opcode { opcode, at } => Fault::Opcode { opcode, at: at + by },
        Fault::Global { global, at } => Fault::Global { global, at: at + by },
        other => other,
    }
}

/// What a file is that is neither form, as far as its first bytes tell.
fn what_instead(file: &[u8]) -> &'static str {
    let text = file.trim_ascii_start();
    if file.is_empty() {
        "it is empty"
    } else if file.starts_with(b"version https://git-lfs") {
        "it is a Git LFS pointer, not the file itself; fetch it with `git lfs pull`"
    } else if text.starts_with(b"<") {
        "it is a web page, not a checkpoint; fetch it again"
    } else {
        "it is neither a zip archive nor a legacy file of torch.save()"
    }
}
