//! A repository of the Hugging Face cache as a whole: references, snapshots with their links, blobs, and what programs
//! left behind. Looks only; `remove` and `gc` decide with it.

use std::collections::BTreeSet;
use std::fs::{self, Metadata};
use std::path::{Path, PathBuf};

use pasture_files::error::file_name;
use pasture_files::folder::{is_plain, read_file};
use pasture_files::size::Size;

use crate::error::Result;
use crate::pull::partial;

/// Entries of one repository that are looked at.
const ENTRIES_MAX: usize = 1 << 20;
/// Folders in folders.
const DEPTH_MAX: usize = 8;

/// What stands in a repository's folder.
#[derive(Debug, Default)]
pub(crate) struct Repository {
    /// `models--OWNER--NAME`.
    pub path: PathBuf,
    /// Files of references with the commits that they name.
    pub references: Vec<(PathBuf, String)>,
    /// By commit.
    pub snapshots: Vec<Snapshot>,
    /// Complete blobs.
    pub blobs: Vec<Blob>,
    /// Partial downloads, temporary files, and folders that are being removed.
    pub leftovers: Vec<Blob>,
}

/// A revision's files.
#[derive(Debug)]
pub(crate) struct Snapshot {
    pub commit: String,
    pub path: PathBuf,
    pub files: Vec<File>,
}

/// A file of a snapshot.
#[derive(Debug)]
pub(crate) struct File {
    pub path: PathBuf,
    /// The blob's name, where the file is a link to one.
    pub blob: Option<String>,
    /// Its own length where it is no link.
    pub bytes: u64,
}

/// A file in `blobs`, or something left behind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Blob {
    pub path: PathBuf,
    pub name: String,
    pub bytes: u64,
}

impl Repository {
    /// Looks at a repository.
    pub fn read(path: &Path) -> Result<Repository> {
        let mut found = Repository { path: path.to_owned(), ..Repository::default() };
        for (path, name, metadata) in entries(&path.join("blobs")) {
            match is_leftover(&name) || partial::is_partial(&name) {
                true => found.leftovers.push(Blob { bytes: size(&path), path, name }),
                false => found.blobs.push(Blob { path, bytes: metadata.len(), name }),
            }
        }
        for (path, metadata) in below(&path.join("refs")) {
            let name = file_name(&path);
            if is_leftover(&name) {
                found.leftovers.push(Blob { path, bytes: metadata.len(), name });
                continue;
            }
            let commit = read_file(&path, Size::new(256)).ok().and_then(|bytes| String::from_utf8(bytes).ok());
            found.references.push((path, commit.unwrap_or_default().trim_ascii().to_owned()));
        }
        for (path, name, metadata) in entries(&path.join("snapshots")) {
            if is_leftover(&name) {
                found.leftovers.push(Blob { bytes: size(&path), path, name });
            } else if metadata.is_dir() && is_plain(&name) {
                let (left, files): (Vec<_>, Vec<_>) =
                    below(&path).into_iter().partition(|(path, _)| is_leftover(&file_name(path)));
                let left = left.into_iter().map(|(path, _)| Blob { name: file_name(&path), path, bytes: 0 });
                found.leftovers.extend(left);
                let files = files.into_iter().map(|(path, metadata)| file(path, &metadata)).collect();
                found.snapshots.push(Snapshot { commit: name, path, files });
            }
        }
        found.snapshots.sort_by(|one, next| one.commit.cmp(&next.commit));
        Ok(found)
    }

    /// Names of blobs that a snapshot other than those needs.
    pub fn needed_without(&self, without: &dyn Fn(&Snapshot, &File) -> bool) -> BTreeSet<&str> {
        let files = self.snapshots.iter().flat_map(|snapshot| snapshot.files.iter().map(move |file| (snapshot, file)));
        files.filter(|(snapshot, file)| !without(snapshot, file)).filter_map(|(_, file)| file.blob.as_deref()).collect()
    }

    /// The blob of that name.
    pub fn blob(&self, name: &str) -> Option<&Blob> {
        self.blobs.iter().find(|blob| blob.name == name)
    }
}

/// Whether a name in a cache says that nobody finished it, or that somebody began to remove it.
pub(crate) fn is_leftover(name: &str) -> bool {
    let ours = name.starts_with('.') && (name.ends_with(".part") || name.ends_with(REMOVING));
    ours || name.ends_with(".incomplete") || name.ends_with(".partial")
}

/// How names of folders end that are being removed.
pub(crate) const REMOVING: &str = ".removing";

/// Bytes of a file, or of all files below a folder.
pub(crate) fn size(path: &Path) -> u64 {
    match path.symlink_metadata() {
        Ok(metadata) if metadata.is_dir() => {
            below(path).iter().filter(|(_, metadata)| metadata.is_file()).map(|(_, metadata)| metadata.len()).sum()
        }
        Ok(metadata) if metadata.is_file() => metadata.len(),
        _ => 0,
    }
}

fn file(path: PathBuf, metadata: &Metadata) -> File {
    let target = metadata.is_symlink().then(|| fs::read_link(&path).ok()).flatten();
    let blob = target.filter(|target| target.parent().is_some_and(|parent| parent.ends_with("blobs")));
    let blob = blob.and_then(|target| Some(target.file_name()?.to_str()?.to_owned()));
    let bytes = if metadata.is_file() { metadata.len() } else { 0 };
    File { path, blob, bytes }
}

/// Entries of a folder with UTF-8 names, links not followed.
pub(crate) fn entries(folder: &Path) -> Vec<(PathBuf, String, Metadata)> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten().take(ENTRIES_MAX);
    let row = |entry: fs::DirEntry| Some((entry.path(), entry.file_name().into_string().ok()?, entry.metadata().ok()?));
    let mut rows: Vec<_> = entries.filter_map(row).collect();
    rows.sort_by(|one, next| one.1.cmp(&next.1));
    rows
}

/// All files and links below a folder, links not followed.
pub(crate) fn below(folder: &Path) -> Vec<(PathBuf, Metadata)> {
    let mut files = Vec::new();
    let mut open = vec![(folder.to_owned(), 0)];
    while let Some((folder, depth)) = open.pop() {
        for (path, _, metadata) in entries(&folder) {
            match metadata.is_dir() {
                true if depth < DEPTH_MAX => open.push((path, depth + 1)),
                true => {}
                false => files.push((path, metadata)),
            }
        }
        if files.len() > ENTRIES_MAX {
            break;
        }
    }
    files.sort_by(|one, next| one.0.cmp(&next.0));
    files
}
