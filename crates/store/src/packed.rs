//! Files of packed weights: where they are, of which model's files they were made, and whether those are still as they
//! were. One folder of Pasture's cache, which only its owner reads; each file may be removed at any time.
//!
//! Invariant: a file's name is the digest of what it was made of, so that a model whose files changed has another name.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use pasture_files::durable::{self as files, Disk, Sink};
use pasture_files::packed::{Origin, Packed};
use pasture_files::size::Size;

use crate::digest::Digest;
use crate::durable;
use crate::environment::Environment;
use crate::error::{Error, Result};
use crate::ledger::Stamp;
use crate::repository::entries;

/// A file of packed weights.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    /// Where it is.
    pub path: PathBuf,
    /// Its length.
    pub bytes: u64,
    /// What it was made of; in words what is wrong with it.
    pub made_of: Result<Origin, String>,
}

/// Held by whoever writes or removes such files; let go when dropped.
#[derive(Debug)]
pub struct Held {
    _file: File,
}

/// The folder of such files; none where there is no folder for caches.
pub fn folder(environment: &Environment) -> Option<PathBuf> {
    environment.cache().map(|cache| cache.join("packed"))
}

/// What tells a model's files from all others, and from themselves after a change: real paths, lengths, times of change
/// and numbers in the file system. The same by which the store takes a file for unchanged.
///
/// # Errors
/// When a file is not there.
pub fn source_of(paths: &[PathBuf]) -> Result<String> {
    let one = |path: &PathBuf| {
        let metadata = fs::metadata(path).map_err(|fault| pasture_files::Error::read(path, fault))?;
        let Stamp { bytes, modified_ns, inode } = Stamp::of(&metadata);
        Ok((path.to_string_lossy().into_owned(), bytes, modified_ns, inode))
    };
    let all = paths.iter().map(one).collect::<Result<Vec<_>>>()?;
    Ok(serde_json::to_string(&all).expect("texts and numbers are JSON"))
}

/// The file of a model's packed weights in some layout, whether it is there or not.
pub fn path(environment: &Environment, source: &str, layout: &str) -> Option<PathBuf> {
    Some(folder(environment)?.join(format!("{}-{layout}", Digest::of(source.as_bytes()).hexadecimal())))
}

/// All files, by their names; leftovers of writers that were killed are left to `gc`.
pub fn list(environment: &Environment) -> Vec<Kept> {
    let found = folder(environment).map(|folder| entries(&folder)).unwrap_or_default().into_iter();
    let files = found.filter(|(_, name, metadata)| metadata.is_file() && !name.starts_with('.'));
    let one = |(path, _, metadata): (PathBuf, String, fs::Metadata)| {
        let made_of = Packed::open(&path).map(|packed| packed.origin().clone()).map_err(|fault| fault.to_string());
        Kept { bytes: metadata.len(), made_of, path }
    };
    let mut all: Vec<Kept> = files.map(one).collect();
    all.sort_by(|one, next| one.path.cmp(&next.path));
    all
}

impl Kept {
    /// Whether the model's files are as they were. One whose files changed is never used again.
    pub fn is_current(&self) -> bool {
        let Ok(origin) = &self.made_of else { return false };
        let Ok(files) = serde_json::from_str::<Vec<(String, u64, i64, u64)>>(&origin.source) else { return false };
        let paths: Vec<PathBuf> = files.into_iter().map(|(path, ..)| path.into()).collect();
        source_of(&paths).is_ok_and(|now| now == origin.source)
    }
}

/// Holds the folder, which is made where there is none; waits for others.
///
/// # Errors
/// When there is no folder for caches, or the system refuses.
pub fn hold(environment: &Environment) -> Result<Held> {
    let folder = folder(environment).ok_or(Error::NoCache)?;
    if !folder.is_dir() {
        durable::folder(&folder)?;
        only_mine(&folder, 0o700)?;
    }
    let path = folder.join(".lock");
    let file = durable::partial(&path)?;
    file.lock().map_err(|fault| pasture_files::Error::write(&path, fault))?;
    Ok(Held { _file: file })
}

/// Writes a file of the folder in one step, where the disk has room for `needed` bytes.
///
/// # Errors
/// When it has not, when the system refuses, and those of `fill`.
pub fn write<E: From<Error> + From<pasture_files::Error>>(
    _held: &Held,
    path: &Path,
    needed: Size,
    fill: impl FnOnce(&mut Sink) -> Result<(), E>,
) -> Result<(), E> {
    let folder = path.parent().unwrap_or(Path::new("."));
    if let Some(free) = durable::free(folder).filter(|free| *free < needed.get()) {
        return Err(Error::Room { folder: folder.display().to_string(), needed: needed.get(), free }.into());
    }
    let mut failed = None;
    let written = files::write_file(path, |sink| {
        fill(sink).map_err(|fault| {
            failed = Some(fault);
            pasture_files::Error::invalid("packed weights", "they were not made")
        })
    });
    match failed {
        Some(fault) => Err(fault),
        None => Ok(written.and_then(|()| only_mine(path, 0o600))?),
    }
}

/// Removes a file of the folder. Programs that have it mapped go on with it.
///
/// # Errors
/// When the system refuses.
pub fn remove(_held: &Held, path: &Path) -> Result<()> {
    Ok(files::remove_on(&Disk, path)?)
}

/// Takes a file's or folder's rights from all others.
fn only_mine(path: &Path, mode: u32) -> pasture_files::Result<()> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let mode = fs::Permissions::from_mode(mode);
        fs::set_permissions(path, mode).map_err(|fault| pasture_files::Error::write(path, fault))?;
    }
    let _ = (path, mode);
    Ok(())
}

#[cfg(test)]
mod tests {
    use pasture_files::packed::Writer;

    use super::*;

    fn fill(source: &str) -> impl FnOnce(&mut Sink) -> Result<()> {
        let origin = Origin { name: "a".into(), source: source.to_owned(), layout: "1.f".into() };
        |sink| Ok(Writer::new(sink)?.finish(origin)?)
    }

    #[test]
    fn what_was_made_of_files_that_changed_is_not_current() {
        let home = tempfile::tempdir().unwrap();
        let environment = Environment::of(|_| None, Some(home.path().to_owned()));
        let model = home.path().join("a.gguf");
        fs::write(&model, "weights").unwrap();
        assert_eq!(list(&environment), []);
        assert!(!home.path().join(".cache").exists(), "looking makes nothing");

        let source = source_of(std::slice::from_ref(&model)).unwrap();
        let path = path(&environment, &source, "1.f").unwrap();
        assert!(path.starts_with(home.path().join(".cache/pasture/packed")));
        let held = hold(&environment).unwrap();
        write(&held, &path, Size::new(1), fill(&source)).unwrap();
        let [kept] = &list(&environment)[..] else { panic!("one file") };
        assert!(kept.is_current() && kept.path == path);
        #[cfg(unix)]
        for (path, wanted) in [(&path, 0o600), (&folder(&environment).unwrap(), 0o700)] {
            use std::os::unix::fs::PermissionsExt;
            assert_eq!(fs::metadata(path).unwrap().permissions().mode() & 0o777, wanted);
        }

        fs::write(&model, "weights!").unwrap();
        assert!(!list(&environment)[0].is_current());
        assert_ne!(source_of(std::slice::from_ref(&model)).unwrap(), source);
        fs::remove_file(&model).unwrap();
        assert!(!list(&environment)[0].is_current());
        remove(&held, &path).unwrap();
        assert_eq!(list(&environment), []);
    }

    #[test]
    fn without_room_nothing_is_written() {
        let home = tempfile::tempdir().unwrap();
        let environment = Environment::of(|_| None, Some(home.path().to_owned()));
        let path = path(&environment, "[]", "1.f").unwrap();
        let held = hold(&environment).unwrap();
        let fault = write(&held, &path, Size::new(u64::MAX), fill("[]")).unwrap_err();
        assert!(matches!(fault, Error::Room { .. }), "{fault}");
        let bad = || Error::BadName { name: "a".into(), what: "b".into() };
        let fault = write(&held, &path, Size::ZERO, |_| Err::<(), Error>(bad())).unwrap_err();
        assert!(matches!(fault, Error::BadName { .. }), "{fault}");
        let names: Vec<String> = entries(&folder(&environment).unwrap()).into_iter().map(|found| found.1).collect();
        assert_eq!(names, [".lock"]);
    }
}
