//! What is pushed: blobs that are checked while they arrive, and commits. A blob has its name only when it is whole; a
//! commit is seen only when its files are there, because the branch is moved last.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

use pasture_files::Error as Fault;
use pasture_files::durable;
use ring::digest::{Context, SHA256};

use super::{Entry, PRIVATE, Registry, is_commit, is_path};
use crate::Digest;
use crate::error::{Error, Result};
use crate::git::{self, Sha1};

/// One change of a commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// A small file with its content.
    Small {
        /// Its path.
        path: String,
        /// What it holds.
        content: Vec<u8>,
    },
    /// A large file that was uploaded before.
    Large {
        /// Its path.
        path: String,
        /// Its digest.
        digest: Digest,
    },
    /// No such file or folder any more.
    Gone {
        /// Its path.
        path: String,
    },
}

/// A blob on its way in. Nothing is left of one that is dropped before [`Incoming::finish`].
pub struct Incoming {
    file: File,
    temporary: PathBuf,
    path: PathBuf,
    context: Context,
    wanted: Digest,
    length: u64,
    written: u64,
    done: bool,
}

impl Incoming {
    /// Takes the next bytes; more than were announced are refused.
    pub fn put(&mut self, bytes: &[u8]) -> Result<()> {
        self.written += bytes.len() as u64;
        if self.written > self.length {
            return Err(self.wrong(format!("more than the {} bytes that were announced", self.length)));
        }
        self.context.update(bytes);
        Ok(self.file.write_all(bytes).map_err(|fault| Fault::write(&self.path, fault))?)
    }

    /// Gives it its name, if it is what was announced.
    pub fn finish(mut self) -> Result<()> {
        if self.written != self.length {
            return Err(self.wrong(format!("{} bytes came of {}", self.written, self.length)));
        }
        let found = Digest::from_ring(&self.context.clone().finish());
        if found != self.wanted {
            return Err(self.wrong(format!("its digest is {found}, not {}", self.wanted)));
        }
        durable::publish(&self.file, &self.temporary, &self.path)?;
        self.done = true;
        Ok(())
    }

    fn wrong(&self, what: String) -> Error {
        Error::Unusable { name: self.wanted.to_string(), place: "the upload".into(), what }
    }
}

impl Drop for Incoming {
    fn drop(&mut self) {
        if !self.done {
            // What failed before is the error worth telling.
            let _ = durable::remove(&self.temporary);
        }
    }
}

impl Registry {
    /// Makes an empty repository. False where there is one already.
    pub fn create(&self, name: &str, private: bool) -> Result<bool> {
        let folder = self.folder(name)?;
        if !name.contains('/') {
            let what = "a repository that is made here has an owner: owner/name".to_owned();
            return Err(Error::BadName { name: name.to_owned(), what });
        }
        if folder.join("refs/main").is_file() {
            return Ok(false);
        }
        for part in ["blobs", "refs", "snapshots"] {
            crate::durable::folder(&folder.join(part))?;
        }
        if private {
            durable::write_file(&folder.join(PRIVATE), |_| Ok(()))?;
        }
        self.settle(&folder, "main", &BTreeMap::new(), &"0".repeat(40), "initial commit")?;
        Ok(true)
    }

    /// Opens a blob of a repository for writing.
    pub fn receive(&self, name: &str, digest: Digest, length: u64) -> Result<Incoming> {
        let blobs = self.folder(name)?.join("blobs");
        crate::durable::folder(&blobs)?;
        let path = blobs.join(digest.hexadecimal());
        let (file, temporary) = durable::create_beside(&path)?;
        let (context, wanted) = (Context::new(&SHA256), digest);
        Ok(Incoming { file, temporary, path, context, wanted, length, written: 0, done: false })
    }

    /// Changes files of a branch, and gives the commit that it is at then. `parent`, where given, must be where it is.
    pub fn change(
        &self,
        name: &str,
        branch: &str,
        parent: Option<&str>,
        changes: &[Change],
        message: &str,
    ) -> Result<String> {
        let unusable = |what: String| Error::Unusable { name: name.to_owned(), place: "this registry".into(), what };
        let folder = self.folder(name)?;
        let listing = self.listing(name, branch)?.ok_or_else(|| unusable(format!("it has no branch {branch:?}")))?;
        if is_commit(branch) {
            return Err(unusable("a commit cannot be changed; name a branch".into()));
        }
        if parent.is_some_and(|parent| parent != listing.commit) {
            return Err(unusable(format!("its branch has moved on to {}", listing.commit)));
        }
        let mut files: BTreeMap<String, PathBuf> =
            listing.entries.into_iter().map(|Entry { path, blob, .. }| (path, blob)).collect();
        for change in changes {
            let (Change::Small { path, .. } | Change::Large { path, .. } | Change::Gone { path }) = change;
            if !is_path(path) {
                return Err(unusable(format!("{} is no path of a repository", pasture_files::error::quoted(path))));
            }
            match change {
                Change::Small { path, content } => drop(files.insert(path.clone(), small(&folder, content)?)),
                Change::Large { path, digest } => {
                    let missing = || unusable(format!("{path:?} was not uploaded"));
                    let (blob, _) = self.blob(name, digest)?.ok_or_else(missing)?;
                    files.insert(path.clone(), blob);
                }
                Change::Gone { path } => {
                    files.retain(|file, _| file != path && !file.starts_with(&format!("{path}/")));
                }
            }
        }
        let clash = files.keys().find(|path| files.keys().any(|other| other.starts_with(&format!("{path}/"))));
        if let Some(path) = clash {
            return Err(unusable(format!("{path:?} would be a file and a folder")));
        }
        self.settle(&folder, branch, &files, &listing.commit, message)
    }

    /// Makes a snapshot of files and moves the branch to it. The same files after the same commit are the same commit.
    fn settle(
        &self,
        folder: &Path,
        branch: &str,
        files: &BTreeMap<String, PathBuf>,
        parent: &str,
        message: &str,
    ) -> Result<String> {
        let mut commit = Sha1::new();
        commit.update(format!("parent {parent}\n\n{message}\n\n").as_bytes());
        for (path, blob) in files {
            commit.update(format!("{} {path}\n", blob.file_name().unwrap_or_default().to_string_lossy()).as_bytes());
        }
        let commit = commit.digits();
        let snapshot = folder.join("snapshots").join(&commit);
        crate::durable::folder(&snapshot)?;
        for (path, blob) in files {
            place(&snapshot, path, blob)?;
        }
        durable::sync_folder(&snapshot)?;
        durable::sync_folder(&folder.join("snapshots"))?;
        let reference = folder.join("refs").join(branch);
        crate::durable::folder(reference.parent().unwrap_or(folder))?;
        durable::write_file(&reference, |sink| sink.put(commit.as_bytes()))?;
        Ok(commit)
    }
}

/// Keeps a small file under the digest that git has for it.
fn small(folder: &Path, content: &[u8]) -> Result<PathBuf> {
    let path = folder.join("blobs").join(git::digest(content));
    if !path.is_file() {
        crate::durable::folder(&folder.join("blobs"))?;
        durable::write_file(&path, |sink| sink.put(content))?;
    }
    Ok(path)
}

/// Puts a file into a snapshot: a link as the cache's programs make it, or a copy where links are not to be had.
fn place(snapshot: &Path, path: &str, blob: &Path) -> Result<()> {
    let file = snapshot.join(path);
    if file.symlink_metadata().is_ok() {
        return Ok(());
    }
    if let Some(parent) = file.parent() {
        crate::durable::folder(parent)?;
    }
    #[cfg(unix)]
    if let (Some(name), true) = (blob.file_name(), blob.parent().is_some_and(|parent| parent.ends_with("blobs"))) {
        let mut target: PathBuf = std::iter::repeat_n("..", 2 + path.matches('/').count()).collect();
        target.push("blobs");
        target.push(name);
        return crate::durable::link(&target, &file);
    }
    let mut source = File::open(blob).map_err(|fault| Fault::read(blob, fault))?;
    durable::write_file(&file, |sink| {
        std::io::copy(&mut source, sink).map_err(|fault| Fault::write(&file, fault))?;
        Ok(())
    })?;
    Ok(())
}
