//! What an assistant is made of, by digest: SHA-256 of a file, or of the list of a folder's files with theirs.
//! A blob of a cache whose name is its digest is not read again.

use std::fs::File;
use std::path::{Path, PathBuf};

use pasture_files::Error as Fault;

use crate::Digest;
use crate::error::Result;

/// One thing that an assistant is made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// Its path; a name where it has none.
    pub name: String,
    /// Its digest.
    pub digest: Digest,
    /// Bytes of its files.
    pub bytes: u64,
}

/// Files of a folder, and folders in folders.
const FILES_MAX: usize = 65_536;
const DEPTH_MAX: usize = 8;

impl Part {
    /// What is different now; lengths are compared, and nothing is read.
    pub(super) fn changed(&self) -> Option<String> {
        let path = Path::new(&self.name);
        if !path.is_absolute() {
            return None;
        }
        if !path.exists() {
            return Some(format!("{:?} is gone", pasture_files::error::file_name(path)));
        }
        let bytes: u64 = tree(path).ok()?.iter().map(|file| file.1).sum();
        let name = pasture_files::error::file_name(path);
        (bytes != self.bytes).then(|| format!("{name:?} had {} bytes and has {bytes}", self.bytes))
    }
}

/// A file or folder as a part.
pub fn part_of(path: &Path) -> Result<Part> {
    let files = tree(path)?;
    let bytes = files.iter().map(|file| file.1).sum();
    let digest = match path.is_dir() {
        false => digest_of(path)?,
        true => {
            let mut list = String::new();
            for (name, _, file) in &files {
                list.push_str(&format!("{} {name}\n", digest_of(file)?));
            }
            Digest::of(list.as_bytes())
        }
    };
    Ok(Part { name: path.to_string_lossy().into_owned(), digest, bytes })
}

/// A file, or all files below a folder by their names in it, sorted: name with `/`, length, path. Names that begin with
/// a dot are left out.
pub fn tree(path: &Path) -> Result<Vec<(String, u64, PathBuf)>> {
    let mut found = Vec::new();
    match path.is_dir() {
        true => gather(path, "", 0, &mut found)?,
        false => {
            let bytes = path.metadata().map_err(|fault| Fault::read(path, fault))?.len();
            found.push((pasture_files::error::file_name(path), bytes, path.to_owned()));
        }
    }
    found.sort();
    Ok(found)
}

fn gather(folder: &Path, before: &str, depth: usize, found: &mut Vec<(String, u64, PathBuf)>) -> Result<()> {
    let entries = std::fs::read_dir(folder).map_err(|fault| Fault::read(folder, fault))?;
    for entry in entries {
        let path = entry.map_err(|fault| Fault::read(folder, fault))?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if name.starts_with('.') {
            continue;
        }
        let name = format!("{before}{name}");
        let metadata = path.metadata().map_err(|fault| Fault::read(&path, fault))?;
        if metadata.is_dir() && depth < DEPTH_MAX {
            gather(&path, &format!("{name}/"), depth + 1, found)?;
        } else if metadata.is_file() {
            found.push((name, metadata.len(), path));
        } else {
            return Err(Fault::unsupported(name, "it is no file, or lies too deep").into());
        }
        if found.len() > FILES_MAX {
            return Err(Fault::unsupported(before, format!("it has more than {FILES_MAX} files")).into());
        }
    }
    Ok(())
}

/// The SHA-256 of a file, read once in pieces; that in the name of a cache's blob is believed.
pub(crate) fn digest_of(path: &Path) -> Result<Digest> {
    let target = std::fs::read_link(path).ok();
    let known =
        target.as_ref().and_then(|target| Digest::parse(&format!("sha256:{}", target.file_name()?.to_str()?)).ok());
    if let Some(known) = known {
        return Ok(known);
    }
    let digest = File::open(path).and_then(|file| Digest::of_reader(file, &mut |_| true));
    Ok(digest.map_err(|fault| Fault::read(path, fault))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_that_changed_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a.bin");
        std::fs::write(&file, b"abc").unwrap();
        let (alone, all) = (part_of(&file).unwrap(), part_of(folder.path()).unwrap());
        assert_eq!((alone.digest, alone.bytes), (Digest::of(b"abc"), 3));
        assert_eq!(all.digest, Digest::of(format!("{} a.bin\n", alone.digest).as_bytes()));
        assert_eq!((alone.changed(), all.changed()), (None, None));
        std::fs::write(&file, b"abcd").unwrap();
        assert_eq!(alone.changed().as_deref(), Some("\"a.bin\" had 3 bytes and has 4"));
        std::fs::remove_file(&file).unwrap();
        assert_eq!(alone.changed().as_deref(), Some("\"a.bin\" is gone"));
    }
}
