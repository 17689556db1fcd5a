//! How the store's files reach disk: the one sequence of `pasture_files::durable` (temporary file in the same folder →
//! `fsync` → rename → `fsync` of the folder) under the names that the store uses. Nothing here writes in another way.

use std::fs::File;
use std::path::Path;

use pasture_files::durable::{self, Disk};

use crate::error::Result;

/// Writes the file at `path` in one step: `fill` writes its content, then it appears under its name, complete and
/// durable. When anything fails, what stood there before still stands and nothing is left beside it.
///
/// # Errors
/// Those of `fill`, and the system's when the file cannot be made.
pub fn write(path: &Path, fill: impl FnOnce(&mut File) -> Result<()>) -> Result<()> {
    let (mut file, temporary) = durable::create_beside(path)?;
    match fill(&mut file) {
        Ok(()) => Ok(durable::publish(&file, &temporary, path)?),
        Err(fault) => {
            // What failed before is the error worth telling.
            let _ = durable::remove(&temporary);
            Err(fault)
        }
    }
}

/// Gives a complete partial file its final name: `fsync`, rename, `fsync` of the folders.
///
/// # Errors
/// When it cannot be renamed; it is still there then.
pub fn rename(partial: &Path, path: &Path) -> Result<()> {
    Ok(durable::rename_on(&Disk, partial, path)?)
}

/// Makes a symbolic link of that name to `target`, in place of what has the name, in one step.
///
/// # Errors
/// When the system makes no such link.
pub fn link(target: &Path, path: &Path) -> Result<()> {
    Ok(durable::link_on(&Disk, target, path)?)
}

/// Makes a folder and those above it; one that is there is made already.
///
/// # Errors
/// When the system refuses.
pub fn folder(path: &Path) -> Result<()> {
    Ok(durable::create_folders_on(&Disk, path)?)
}

/// Opens the partial file of a download to be read and written at any place, made where there is none.
///
/// # Errors
/// When the system refuses.
pub fn partial(path: &Path) -> Result<File> {
    Ok(durable::open_partial(path)?)
}

/// Bytes that the disk of a folder has free; none where the system does not say.
pub(crate) fn free(folder: &Path) -> Option<u64> {
    let near = folder.ancestors().find(|near| near.is_dir()).unwrap_or(folder);
    let found = rustix::fs::statvfs(near).ok()?;
    Some(found.f_bavail.saturating_mul(found.f_frsize))
}

/// Removes a file or link durably; one that is not there is removed already.
///
/// # Errors
/// When the system refuses.
pub fn remove(path: &Path) -> Result<()> {
    Ok(durable::remove(path)?)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::fs;
    use std::io::Write as _;

    use super::*;
    use crate::Error;

    fn names(folder: &Path) -> Vec<String> {
        let entries = fs::read_dir(folder).unwrap();
        let mut names: Vec<String> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn a_write_that_fails_leaves_the_old_file_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        write(&path, |file| file.write_all(b"old").map_err(|fault| pasture_files::Error::write(&path, fault).into()))
            .unwrap();
        let bad = Error::BadName { name: "a".into(), what: "b".into() };
        assert!(write(&path, |file| file.write_all(b"half").map_or(Ok(()), |()| Err(bad))).is_err());
        assert_eq!(fs::read(&path).unwrap(), b"old");
        assert_eq!(names(folder.path()), ["a"]);
    }

    #[cfg(unix)]
    #[test]
    fn a_download_gets_its_name_and_a_link_is_replaced() {
        let root = tempfile::tempdir().unwrap();
        let (blobs, snapshot) = (root.path().join("repo/blobs"), root.path().join("repo/snapshots/1"));
        folder(&blobs).unwrap();
        folder(&snapshot).unwrap();
        partial(&blobs.join("x.incomplete")).unwrap().write_all(b"content").unwrap();
        rename(&blobs.join("x.incomplete"), &blobs.join("x")).unwrap();
        link(Path::new("../../blobs/absent"), &snapshot.join("model")).unwrap();
        link(Path::new("../../blobs/x"), &snapshot.join("model")).unwrap();
        assert_eq!(fs::read(snapshot.join("model")).unwrap(), b"content");
        assert_eq!((names(&blobs), names(&snapshot)), (vec!["x".to_owned()], vec!["model".to_owned()]));
        remove(&snapshot.join("model")).unwrap();
        remove(&snapshot.join("model")).unwrap();
        assert!(names(&snapshot).is_empty());
    }
}
