//! What is written into the Hugging Face cache once the blobs are there: links from a snapshot, and the reference of a
//! revision, in an order in which nobody finds half a model.

use std::fs;
use std::path::{Path, PathBuf};

use pasture_files::durable;

use super::error::Result;

/// A repository's folder in the cache.
pub(crate) struct Cached {
    root: PathBuf,
    locks: PathBuf,
}

impl Cached {
    /// The folder of `owner/name`.
    pub fn new(hub: &Path, repo: &str) -> Cached {
        let name = format!("models--{}", repo.replace('/', "--"));
        Cached { root: hub.join(&name), locks: hub.join(".locks").join(&name) }
    }

    /// Where blobs go.
    pub fn blobs(&self) -> PathBuf {
        self.root.join("blobs")
    }

    /// Where the locks of blobs are.
    pub fn locks(&self) -> &Path {
        &self.locks
    }

    /// The folder of a commit.
    pub fn snapshot(&self, commit: &str) -> PathBuf {
        self.root.join("snapshots").join(commit)
    }

    /// Makes the files of a commit visible, each a link to its blob, and then the revision.
    pub fn publish(&self, revision: &str, commit: &str, files: &[(&str, &str)]) -> Result<()> {
        let snapshot = self.snapshot(commit);
        for (path, blob) in files {
            let link = snapshot.join(path);
            let up = "../".repeat(2 + path.matches('/').count());
            place(&link, Path::new(&format!("{up}blobs/{blob}")))?;
        }
        if revision != commit {
            let reference = self.root.join("refs").join(revision);
            let is_same = fs::read_to_string(&reference).is_ok_and(|text| text == commit);
            if !is_same {
                crate::durable::folder(reference.parent().unwrap_or(&reference))?;
                durable::write_file(&reference, |sink| sink.put(commit.as_bytes()))?;
            }
        }
        Ok(())
    }
}

/// Makes a link, durably; what is in its place is replaced.
fn place(link: &Path, target: &Path) -> Result<()> {
    if fs::read_link(link).is_ok_and(|to| to == target) {
        return Ok(());
    }
    crate::durable::folder(link.parent().unwrap_or(link))?;
    Ok(crate::durable::link(target, link)?)
}
