//! The Hugging Face cache of this machine as a hub for others: which repositories it has, what their files are and by
//! which digests, and where bytes lie. What is pushed becomes part of the same cache (`write.rs`), so that the machine
//! runs it like whatever it pulled. Invariant: no text of a request becomes a path unless every part of it is plain.

mod write;

use std::fs;
use std::path::{Path, PathBuf};

use pasture_files::folder;
use pasture_files::size::Size;
use serde_json::{Value, json};

use crate::Digest;
use crate::environment::Environment;
use crate::error::{Error, Result};
use crate::name::Name;

pub use write::{Change, Incoming};

/// A cache that is shown to others.
#[derive(Clone, Debug)]
pub struct Registry {
    root: PathBuf,
}

/// A file of a repository.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its path in the repository.
    pub path: String,
    /// Where its bytes are.
    pub blob: PathBuf,
    /// The digest by which hubs know it: SHA-256 of a large file, git's SHA-1 of a small one; none where the cache has
    /// a copy in place of a link.
    pub etag: Option<String>,
    /// Its length.
    pub bytes: u64,
}

/// A repository at one of its commits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listing {
    /// `owner/name`.
    pub name: String,
    /// The commit, of 40 hexadecimal digits.
    pub commit: String,
    /// Whether strangers see it.
    pub private: bool,
    /// Its files by path.
    pub entries: Vec<Entry>,
}

const REFERENCE_BYTES_MAX: Size = Size::new(256);
const FILES_MAX: usize = 65_536;
const DEPTH_MAX: usize = 6;
/// Marks a repository that strangers do not see; no program of the cache looks at it.
const PRIVATE: &str = ".private";

impl Registry {
    /// The registry over a machine's cache; none where there is no home.
    pub fn of(environment: &Environment) -> Option<Registry> {
        environment.hub().map(|root| Registry { root: root.to_owned() })
    }

    /// Names of all repositories of models, in alphabetical order.
    pub fn names(&self) -> Vec<String> {
        let Ok(entries) = fs::read_dir(&self.root) else { return Vec::new() };
        let names = entries.flatten().filter_map(|entry| Name::of_hub(entry.file_name().to_str()?));
        let mut names: Vec<String> = names.take(FILES_MAX).collect();
        names.sort();
        names
    }

    /// The folder of a repository; the error says why none can have that name.
    fn folder(&self, name: &str) -> Result<PathBuf> {
        let bad = |what: &str| Error::BadName { name: name.to_owned(), what: what.to_owned() };
        let parsed = Name::parse(name)?;
        match parsed.hub_folder() {
            Some(folder) if parsed.revision.is_none() && parsed.part.is_none() => Ok(self.root.join(folder)),
            _ => Err(bad("owner/name makes a repository's name")),
        }
    }

    /// Whether there is such a repository.
    pub fn has(&self, name: &str) -> bool {
        self.folder(name).is_ok_and(|folder| folder.is_dir())
    }

    /// Whether strangers do not see a repository.
    pub fn is_private(&self, name: &str) -> bool {
        self.folder(name).is_ok_and(|folder| folder.join(PRIVATE).exists())
    }

    /// The commit of a revision: a branch, a tag, or a commit itself.
    pub fn commit(&self, name: &str, revision: &str) -> Result<Option<String>> {
        let repository = self.folder(name)?;
        if is_commit(revision) && repository.join("snapshots").join(revision).is_dir() {
            return Ok(Some(revision.to_owned()));
        }
        if !is_path(revision) {
            return Ok(None);
        }
        let reference = repository.join("refs").join(revision);
        if !reference.is_file() {
            return Ok(None);
        }
        let text = folder::read_file(&reference, REFERENCE_BYTES_MAX)?;
        let commit = String::from_utf8_lossy(&text).trim().to_owned();
        Ok(Some(commit).filter(|commit| is_commit(commit)))
    }

    /// A repository at a revision; none where there is no such repository or revision.
    pub fn listing(&self, name: &str, revision: &str) -> Result<Option<Listing>> {
        let repository = self.folder(name)?;
        let Some(commit) = self.commit(name, revision)? else { return Ok(None) };
        let snapshot = repository.join("snapshots").join(&commit);
        let mut entries = Vec::new();
        if snapshot.is_dir() {
            gather(&repository, &snapshot, "", 0, &mut entries)?;
        }
        entries.sort_by(|one, next| one.path.cmp(&next.path));
        Ok(Some(Listing { name: name.to_owned(), commit, private: self.is_private(name), entries }))
    }

    /// One file of a revision; none where the revision has no such file.
    pub fn entry(&self, name: &str, revision: &str, path: &str) -> Result<Option<(String, Entry)>> {
        let (Some(commit), true) = (self.commit(name, revision)?, is_path(path)) else { return Ok(None) };
        let repository = self.folder(name)?;
        let file = repository.join("snapshots").join(&commit).join(path);
        Ok(entry(&repository, &file, path)?.map(|entry| (commit, entry)))
    }

    /// The blob of a repository with that digest; none where it has none.
    pub fn blob(&self, name: &str, digest: &Digest) -> Result<Option<(PathBuf, u64)>> {
        let path = self.folder(name)?.join("blobs").join(digest.hexadecimal());
        let bytes = path.metadata().ok().filter(std::fs::Metadata::is_file).map(|metadata| metadata.len());
        Ok(bytes.map(|bytes| (path, bytes)))
    }
}

impl Entry {
    /// Whether it is kept apart from git, as large files are.
    pub fn is_large(&self) -> bool {
        self.etag.as_ref().is_some_and(|etag| etag.len() == 64)
    }

    /// The row of it in a hub's listing of a tree.
    pub fn row(&self) -> Value {
        let oid = self.etag.clone().unwrap_or_default();
        match self.is_large() {
            true => json!({"type": "file", "path": self.path, "size": self.bytes, "oid": oid[..40],
                           "lfs": {"oid": oid, "size": self.bytes, "pointerSize": 134}}),
            false => json!({"type": "file", "path": self.path, "size": self.bytes, "oid": oid}),
        }
    }
}

impl Listing {
    /// What hubs say of a model.
    pub fn info(&self, with_blobs: bool) -> Value {
        let sibling = |entry: &Entry| {
            let mut row = json!({"rfilename": entry.path});
            if with_blobs {
                row["size"] = json!(entry.bytes);
                row["blobId"] = json!(entry.etag.as_deref().map(|etag| &etag[..40]));
                if entry.is_large() {
                    row["lfs"] = json!({"sha256": entry.etag, "size": entry.bytes, "pointerSize": 134});
                }
            }
            row
        };
        json!({
            "_id": self.commit[..24], "id": self.name, "modelId": self.name, "sha": self.commit,
            "private": self.private, "gated": false, "disabled": false, "downloads": 0, "likes": 0, "tags": [],
            "author": self.name.split('/').next(),
            "siblings": self.entries.iter().map(sibling).collect::<Vec<_>>(),
        })
    }
}

/// Whether a text is a path in a repository: parts that are no way up, of letters that every system can have in a name.
pub fn is_path(text: &str) -> bool {
    let is_part = |part: &str| {
        let plain = |letter: char| !letter.is_control() && !r#"\:*?"<>|"#.contains(letter);
        !part.is_empty()
            && part.len() <= 200
            && !part.starts_with(' ')
            && !part.ends_with([' ', '.'])
            && part != ".."
            && part.chars().all(plain)
    };
    text.len() <= 1024 && text.split('/').count() <= DEPTH_MAX && text.split('/').all(is_part)
}

/// Whether a text is a commit: 40 digits of 0-9a-f.
pub fn is_commit(text: &str) -> bool {
    text.len() == 40 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

fn gather(repository: &Path, folder: &Path, before: &str, depth: usize, found: &mut Vec<Entry>) -> Result<()> {
    let entries = fs::read_dir(folder).map_err(|fault| pasture_files::Error::read(folder, fault))?;
    for file in entries.flatten() {
        let Some(name) = file.file_name().to_str().map(|name| format!("{before}{name}")) else { continue };
        if file.file_type().is_ok_and(|kind| kind.is_dir()) && depth + 1 < DEPTH_MAX {
            gather(repository, &file.path(), &format!("{name}/"), depth + 1, found)?;
        } else if is_path(&name) && found.len() < FILES_MAX {
            found.extend(entry(repository, &file.path(), &name)?);
        }
    }
    Ok(())
}

/// A file of a snapshot. A link that leads out of its repository counts as none.
fn entry(repository: &Path, file: &Path, path: &str) -> Result<Option<Entry>> {
    let Ok(blob) = fs::canonicalize(file) else { return Ok(None) };
    let root = fs::canonicalize(repository).map_err(|fault| pasture_files::Error::read(repository, fault))?;
    let Some(metadata) = blob.metadata().ok().filter(std::fs::Metadata::is_file) else { return Ok(None) };
    if !blob.starts_with(&root) {
        return Ok(None);
    }
    let name = blob.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let is_digest = matches!(name.len(), 40 | 64) && name.bytes().all(|byte| byte.is_ascii_hexdigit());
    let etag = (is_digest && blob.starts_with(root.join("blobs"))).then(|| name.to_owned());
    Ok(Some(Entry { path: path.to_owned(), blob, etag, bytes: metadata.len() }))
}
