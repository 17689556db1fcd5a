//! Digests of models and data, so that a receipt says which bytes it speaks of. A folder's digest is that of the list of
//! its files, sorted by name, each with its own digest; hidden files and receipts are not part of it.

use std::fs::{self, File};
use std::io::Read;
use std::path::Path;

use pasture_files::error::file_name;
use sha2::{Digest as _, Sha256};

use super::{FILE, Input};

/// Bytes that are read at once.
const PART: usize = 1 << 20;

/// The digest of bytes: `sha256:` and 64 digits.
pub fn digest_of(bytes: &[u8]) -> String {
    text(Sha256::digest(bytes).as_slice())
}

/// Digest and size of a file, or of a folder with its files; folders inside are left out.
///
/// # Errors
/// When something cannot be read.
pub fn digest(path: &Path) -> pasture_files::Result<Input> {
    let name = file_name(path);
    if !path.is_dir() {
        let (digest, bytes) = of_file(path)?;
        return Ok(Input { name, digest, bytes });
    }
    let read = |source| pasture_files::Error::read(path, source);
    let mut names = Vec::new();
    for entry in fs::read_dir(path).map_err(read)? {
        let name = entry.map_err(read)?.file_name().to_string_lossy().into_owned();
        if !name.starts_with('.') && name != FILE && path.join(&name).is_file() {
            names.push(name);
        }
    }
    names.sort();
    let (mut list, mut bytes) = (Sha256::new(), 0);
    for name in names {
        let (digest, size) = of_file(&path.join(&name))?;
        list.update(format!("{digest} {name}\n"));
        bytes += size;
    }
    Ok(Input { name, digest: text(list.finalize().as_slice()), bytes })
}

fn of_file(path: &Path) -> pasture_files::Result<(String, u64)> {
    let read = |source| pasture_files::Error::read(path, source);
    let mut file = File::open(path).map_err(read)?;
    let (mut hasher, mut part, mut bytes) = (Sha256::new(), vec![0; PART], 0);
    loop {
        let count = file.read(&mut part).map_err(read)?;
        if count == 0 {
            return Ok((text(hasher.finalize().as_slice()), bytes));
        }
        hasher.update(&part[..count]);
        bytes += count as u64;
    }
}

fn text(digest: &[u8]) -> String {
    digest.iter().fold("sha256:".to_owned(), |text, byte| text + &format!("{byte:02x}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_the_list_of_its_files() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("b"), "two").unwrap();
        fs::write(folder.path().join("a"), "one").unwrap();
        let found = digest(folder.path()).unwrap();
        let list = format!("{} a\n{} b\n", digest_of(b"one"), digest_of(b"two"));
        assert_eq!((found.digest, found.bytes), (digest_of(list.as_bytes()), 6));
        fs::write(folder.path().join(FILE), "{}").unwrap();
        fs::write(folder.path().join(".hidden"), "x").unwrap();
        assert_eq!(digest(folder.path()).unwrap().bytes, 6);
        assert_eq!(digest(&folder.path().join("a")).unwrap().digest, digest_of(b"one"));
        assert!(digest(&folder.path().join("c")).is_err());
    }
}
