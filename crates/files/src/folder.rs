//! A model's folder and the files in it. Names that come from files are hostile: only plain names open, and a link may
//! not lead out of the folder (but into the blobs of the Hugging Face cache that the folder is a snapshot of).
#![forbid(unsafe_code)]

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};

use crate::beneath;
use crate::error::{Error, Result, file_name, quoted};
use crate::mmap::Bytes;
use crate::size::Size;

/// A folder whose files may be opened by plain names.
#[derive(Clone, Debug)]
pub struct Folder {
    /// Without links.
    path: PathBuf,
    /// The only other place that links may lead to.
    blobs: Option<PathBuf>,
    name: String,
}

impl Folder {
    /// The folder at a path that the user named.
    pub fn open(path: &Path) -> Result<Folder> {
        let name = file_name(path);
        let path = fs::canonicalize(path).map_err(|fault| Error::read(path, fault))?;
        if !path.is_dir() {
            return Err(Error::unsupported(name, "it is a file, a folder was expected"));
        }
        let name = file_name(&path);
        let blobs = cache_blobs(&path);
        Ok(Folder { path, blobs, name })
    }

    /// Where the folder is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The folder's own name, as messages show it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Names of its files (and links) in alphabetical order; folders, hidden files and names that are no plain names
    /// are left out.
    pub fn names(&self) -> Result<Vec<String>> {
        let fault = |fault| Error::read(&self.path, fault);
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.path).map_err(fault)? {
            let entry = entry.map_err(fault)?;
            let is_folder = entry.file_type().map_err(fault)?.is_dir();
            if let Some(name) = entry.file_name().to_str()
                && !is_folder
                && is_plain(name)
            {
                names.push(name.to_owned());
            }
            if names.len() > NAMES_MAX {
                return Err(Error::unsupported(&self.name, format!("it has more than {NAMES_MAX} files")));
            }
        }
        names.sort();
        Ok(names)
    }

    /// The real path of a file in the folder, none where there is no such file. A name that is no plain file name and
    /// a link that leaves the folder are errors.
    pub fn find(&self, name: &str) -> Result<Option<PathBuf>> {
        if !is_plain(name) {
            let what = format!("{} is no plain file name: letters, digits and \"._-\" make one", quoted(name));
            return Err(Error::invalid(&self.name, what));
        }
        let named = self.path.join(name);
        match fs::symlink_metadata(&named) {
            Err(fault) if fault.kind() == ErrorKind::NotFound => return Ok(None),
            Err(fault) => return Err(Error::read(&named, fault)),
            Ok(_) => {}
        }
        let real = fs::canonicalize(&named).map_err(|fault| Error::read(&named, fault))?;
        let stays = real.starts_with(&self.path) || self.blobs.as_ref().is_some_and(|blobs| real.starts_with(blobs));
        if !stays {
            let what = "it is a link out of its folder; give the path of the real file, or copy it here";
            return Err(Error::unsupported(name, what));
        }
        Ok(Some(real))
    }

    /// A folder in the folder, none where there is none. A name that is no plain name and a link that leaves the folder
    /// are errors.
    pub fn inner(&self, name: &str) -> Result<Option<Folder>> {
        let Some(real) = self.find(name)? else { return Ok(None) };
        Folder::open(&real).map(Some)
    }

    /// Opens a file of the folder; none where there is no such file.
    pub fn open_file(&self, name: &str) -> Result<Option<File>> {
        self.find(name)?.map(|real| self.open_real(&real, name)).transpose()
    }

    /// Opens what [`Folder::find`] found beneath the folder it lies in, so that a link which came since leads nowhere.
    #[cfg(unix)]
    fn open_real(&self, real: &Path, name: &str) -> Result<File> {
        let mut roots = self.blobs.iter().chain([&self.path]);
        let found = roots.find_map(|root| real.strip_prefix(root).ok().map(|inside| (root, inside)));
        let (root, inside) = found.expect("what was found lies in one of them");
        let fault = |source| Error::Read { file: file_name(Path::new(name)), source };
        regular(beneath::open(root, inside).map_err(fault)?, name)
    }

    #[cfg(not(unix))]
    fn open_real(&self, real: &Path, name: &str) -> Result<File> {
        open_regular(real, name)
    }

    /// Maps a file of the folder; none where there is no such file.
    pub fn map(&self, name: &str) -> Result<Option<Bytes>> {
        let Some(file) = self.open_file(name)? else { return Ok(None) };
        Bytes::map(&file).map(Some).map_err(|fault| Error::read(Path::new(name), fault))
    }

    /// Reads a file of the folder of at most `bytes_max` bytes; none where there is no such file.
    pub fn read(&self, name: &str, bytes_max: Size) -> Result<Option<Vec<u8>>> {
        self.open_file(name)?.map(|file| read_bounded(file, name, bytes_max)).transpose()
    }

    /// The error for a file that must be there.
    pub fn missing(&self, what: impl Into<String>) -> Error {
        Error::Missing { folder: self.name.clone(), what: what.into() }
    }
}

/// More files than any checkpoint has.
const NAMES_MAX: usize = 65_536;

/// Whether a name from outside is a plain file name: ASCII letters, digits, `.`, `_` and `-`, no leading dot, at most
/// 200 bytes. Everything that some system reads as a path, a stream, a device or an escape lies outside that.
pub fn is_plain(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    !name.is_empty() && name.len() <= 200 && !name.starts_with('.') && name.bytes().all(plain)
}

/// Maps a file that the user named; links are followed.
pub fn map_file(path: &Path) -> Result<Bytes> {
    let real = fs::canonicalize(path).map_err(|fault| Error::read(path, fault))?;
    let file = open_regular(&real, &file_name(path))?;
    Bytes::map(&file).map_err(|fault| Error::read(path, fault))
}

/// Opens a file of a checkpoint whose path is known; links are followed.
pub(crate) fn open_named(path: &Path) -> Result<File> {
    let real = fs::canonicalize(path).map_err(|fault| Error::read(path, fault))?;
    open_regular(&real, &file_name(path))
}

/// Reads a file that the user named, of at most `bytes_max` bytes; links are followed.
pub fn read_file(path: &Path, bytes_max: Size) -> Result<Vec<u8>> {
    let real = fs::canonicalize(path).map_err(|fault| Error::read(path, fault))?;
    let name = file_name(path);
    read_bounded(open_regular(&real, &name)?, &name, bytes_max)
}

/// Opens a path without links: whatever became a link, a pipe or a device since it was resolved is refused, and
/// opening never waits.
fn open_regular(real: &Path, name: &str) -> Result<File> {
    let mut options = OpenOptions::new();
    options.read(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt;
        options.custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK);
    }
    let fault = |source| Error::Read { file: file_name(Path::new(name)), source };
    regular(options.open(real).map_err(fault)?, name)
}

/// The file, where it is a file and not a folder, a pipe or a device.
fn regular(file: File, name: &str) -> Result<File> {
    let fault = |source| Error::Read { file: file_name(Path::new(name)), source };
    if !file.metadata().map_err(fault)?.is_file() {
        return Err(Error::unsupported(name, "it is no regular file"));
    }
    Ok(file)
}

fn read_bounded(file: File, name: &str, bytes_max: Size) -> Result<Vec<u8>> {
    let fault = |source| Error::Read { file: file_name(Path::new(name)), source };
    let mut bytes = Vec::new();
    // One byte more than allowed tells a file of the limit from one above it, even while it grows.
    file.take(bytes_max.get().saturating_add(1)).read_to_end(&mut bytes).map_err(fault)?;
    if Size::of(bytes.len()) > bytes_max {
        return Err(Error::invalid(name, format!("it is longer than the {bytes_max} bytes allowed")));
    }
    Ok(bytes)
}

/// `repo/blobs` where the folder is, or lies in, `repo/snapshots/REVISION`: there each file is a link to its blob.
fn cache_blobs(folder: &Path) -> Option<PathBuf> {
    let snapshots =
        folder.ancestors().skip(1).take(3).find(|up| up.file_name().is_some_and(|name| name == "snapshots"));
    let blobs = snapshots?.parent()?.join("blobs");
    // A link in place of the folder of blobs would lead anywhere.
    fs::symlink_metadata(&blobs).is_ok_and(|found| found.is_dir()).then_some(blobs)
}

#[cfg(all(test, unix))]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn only_plain_names_open() {
        let good = ["model.safetensors", "model-00001-of-00002.safetensors", "a", "A_1-b.c"];
        let bad = [
            "",
            ".",
            "..",
            ".hidden",
            "/a",
            "a/b",
            "../a",
            "a\\b",
            "C:a",
            "a:b",
            "~/a",
            "a b",
            "a\nb",
            "a\0",
            "%2e%2e",
            "．．",
            "http://a/b",
        ];
        for name in good {
            assert!(is_plain(name), "{name:?}");
        }
        for name in bad {
            assert!(!is_plain(name), "{name:?}");
        }
        assert!(!is_plain(&"a".repeat(201)));
    }

    fn check(folder: &Path, name: &str, wanted: &str) {
        let found = match Folder::open(folder).unwrap().read(name, Size::new(100)) {
            Ok(Some(bytes)) => String::from_utf8(bytes).unwrap(),
            Ok(None) => "none".to_owned(),
            Err(fault) => fault.to_string(),
        };
        assert!(found.contains(wanted), "{name}: {found}");
    }

    #[test]
    fn links_stay_in_the_folder() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("model");
        fs::create_dir(&folder).unwrap();
        fs::write(root.path().join("secret"), "secret").unwrap();
        fs::write(folder.join("inside"), "inside").unwrap();
        symlink("../secret", folder.join("leaves")).unwrap();
        symlink("inside", folder.join("stays")).unwrap();
        symlink("loop", folder.join("loop")).unwrap();
        symlink("nowhere", folder.join("dangling")).unwrap();
        check(&folder, "inside", "inside");
        check(&folder, "stays", "inside");
        check(&folder, "leaves", "link out of its folder");
        check(&folder, "loop", "cannot read \"loop\"");
        check(&folder, "dangling", "cannot read \"dangling\"");
        check(&folder, "absent", "none");
        check(&folder, "../secret", "no plain file name");
    }

    #[test]
    fn a_cache_snapshot_links_to_its_own_blobs_only() {
        let root = tempfile::tempdir().unwrap();
        for repo in ["models--a--b", "models--c--d"] {
            fs::create_dir_all(root.path().join(repo).join("snapshots/0123")).unwrap();
            fs::create_dir_all(root.path().join(repo).join("blobs")).unwrap();
            fs::write(root.path().join(repo).join("blobs/77"), repo).unwrap();
        }
        let snapshot = root.path().join("models--a--b/snapshots/0123");
        symlink("../../blobs/77", snapshot.join("config.json")).unwrap();
        symlink("../../../models--c--d/blobs/77", snapshot.join("other.json")).unwrap();
        check(&snapshot, "config.json", "models--a--b");
        check(&snapshot, "other.json", "link out of its folder");
    }

    #[test]
    fn a_pipe_is_refused_at_once_and_a_long_file_by_its_limit() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("long"), [0; 101]).unwrap();
        fs::create_dir(folder.path().join("folder")).unwrap();
        check(folder.path(), "long", "longer than the 100 bytes");
        check(folder.path(), "folder", "no regular file");
        let made = std::process::Command::new("mkfifo").arg(folder.path().join("pipe")).status();
        if made.is_ok_and(|status| status.success()) {
            check(folder.path(), "pipe", "no regular file");
        }
    }
}
