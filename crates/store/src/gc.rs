//! Garbage: what nobody will finish or use. Partial downloads, temporary files, folders that were being removed, and blobs
//! that nothing names. What is younger than a day may be in use by another program and stays, unless asked; a download of
//! a process that lives stays in any case, with the blobs that it has fetched and not named yet.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use pasture_files::durable::{self, Fs};

use crate::environment::Environment;
use crate::error::Result;
use crate::ledger::Ledger;
use crate::pull::partial;
use crate::repository::{self, Repository, below, entries, is_leftover};
use crate::{Origin, Place, ollama, packed, remove};

/// What is younger may be in use.
pub const AGE: Duration = Duration::from_secs(24 * 60 * 60);

/// A thing that nobody needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leftover {
    /// Where it is.
    pub path: PathBuf,
    /// What it is.
    pub kind: Kind,
    /// Whose folder it is in.
    pub origin: Origin,
    /// Bytes that come free.
    pub bytes: u64,
}

/// Kinds of leftovers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A download that did not end.
    Partial,
    /// What a writer left that was killed.
    Temporary,
    /// What a removal left that was killed.
    Removing,
    /// A blob that no snapshot or manifest names.
    Unnamed,
    /// Packed weights of a model that is gone or was changed.
    Outdated,
}

impl Kind {
    /// In words.
    pub fn words(&self) -> &'static str {
        match self {
            Kind::Partial => "partial download",
            Kind::Temporary => "temporary file",
            Kind::Removing => "half removed",
            Kind::Unnamed => "nothing names it",
            Kind::Outdated => "outdated",
        }
    }
}

/// All leftovers of at least that age.
///
/// # Errors
/// When a repository or the ledger cannot be read.
pub fn leftovers(environment: &Environment, age: Duration) -> Result<Vec<Leftover>> {
    let mut found = Vec::new();
    if let Some(hub) = environment.hub() {
        for (path, name, metadata) in entries(hub) {
            if is_leftover(&name) {
                found.push(of(path, &name, Origin::HuggingFace));
            } else if metadata.is_dir() && name.starts_with("models--") {
                of_repository(&path, &mut found)?;
            }
        }
    }
    for root in environment.ollama() {
        of_ollama(root, &mut found);
    }
    for place in environment.places() {
        if matches!(place.origin, Origin::LmStudio | Origin::Folder) {
            of_folder(&place, &mut found);
        }
    }
    if let Some(data) = environment.data() {
        let folders = [data.to_owned(), data.join(crate::bundle::WORKS)];
        let names = folders.iter().flat_map(|folder| entries(folder));
        let mut left: Vec<_> = names.filter(|(_, name, _)| is_leftover(name)).collect();
        left.dedup_by(|one, next| one.0 == next.0);
        found.extend(left.into_iter().map(|(path, name, _)| of(path, &name, Origin::Own)));
    }
    of_packed(environment, &mut found);
    found.retain(|left| !partial::is_in_use(&left.path) && is_old(&left.path, age));
    Ok(found)
}

fn of(path: PathBuf, name: &str, origin: Origin) -> Leftover {
    let kind = match name {
        _ if name.ends_with(repository::REMOVING) => Kind::Removing,
        _ if name.starts_with('.') && name.ends_with(".part") => Kind::Temporary,
        _ => Kind::Partial,
    };
    Leftover { bytes: repository::size(&path), path, kind, origin }
}

fn of_repository(path: &Path, found: &mut Vec<Leftover>) -> Result<()> {
    let repository = Repository::read(path)?;
    let leftovers = repository.leftovers.iter();
    found.extend(leftovers.map(|left| of(left.path.clone(), &left.name, Origin::HuggingFace)));
    // Names come last: what such a process has fetched is named when all of it is there.
    if repository.leftovers.iter().any(|left| partial::is_in_use(&left.path)) {
        return Ok(());
    }
    let needed = repository.needed_without(&|_, _| false);
    let unnamed = repository.blobs.iter().filter(|blob| !needed.contains(blob.name.as_str()));
    found.extend(unnamed.map(|blob| Leftover {
        path: blob.path.clone(),
        kind: Kind::Unnamed,
        origin: Origin::HuggingFace,
        bytes: blob.bytes,
    }));
    Ok(())
}

/// Folders that a removal left; whatever else lies there is the user's.
fn of_folder(place: &Place, found: &mut Vec<Leftover>) {
    let top = entries(&place.path);
    let inner = top.iter().filter(|(_, _, metadata)| metadata.is_dir()).flat_map(|(path, ..)| entries(path));
    let all = inner.chain(entries(&place.path));
    let left = all.filter(|(_, name, _)| name.starts_with('.') && name.ends_with(repository::REMOVING));
    found.extend(left.map(|(path, name, _)| of(path, &name, place.origin)));
}

/// Partial downloads and, where every manifest can be read, blobs that none names.
fn of_ollama(root: &Path, found: &mut Vec<Leftover>) {
    let blobs = entries(&root.join("blobs"));
    let is_free = !blobs.iter().any(|(path, ..)| partial::is_in_use(path));
    let named = ollama::all_digests(root, None).ok().filter(|_| is_free && root.join("manifests").is_dir());
    for (path, name, metadata) in blobs {
        if partial::is_partial(&name) || is_leftover(&name) {
            found.push(of(path, &name, Origin::Ollama));
            continue;
        }
        let digest = name.strip_prefix("sha256-").and_then(|digits| crate::Digest::parse_hex(digits).ok());
        let kind = match digest {
            _ if !metadata.is_file() => continue,
            None if name.contains("-partial") => Kind::Partial,
            Some(digest) if named.as_ref().is_some_and(|named| !named.contains(&digest)) => Kind::Unnamed,
            _ => continue,
        };
        found.push(Leftover { path, kind, origin: Origin::Ollama, bytes: metadata.len() });
    }
}

/// Packed weights that are of no use any more, and what their writers left.
fn of_packed(environment: &Environment, found: &mut Vec<Leftover>) {
    let folder = packed::folder(environment).map(|folder| entries(&folder)).unwrap_or_default().into_iter();
    let left = folder.filter(|(_, name, _)| is_leftover(name));
    found.extend(left.map(|(path, name, _)| of(path, &name, Origin::Own)));
    let outdated = packed::list(environment).into_iter().filter(|kept| !kept.is_current());
    found.extend(outdated.map(|kept| Leftover {
        path: kept.path,
        kind: Kind::Outdated,
        origin: Origin::Own,
        bytes: kept.bytes,
    }));
}

/// By the latest change of it, or of anything in it: writing into a file does not touch the folder.
fn is_old(path: &Path, age: Duration) -> bool {
    let inside = below(path).into_iter().map(|(_, metadata)| metadata);
    let times = fs::symlink_metadata(path).into_iter().chain(inside).map(|metadata| metadata.modified());
    let times: std::io::Result<Vec<SystemTime>> = times.collect();
    let latest = times.ok().and_then(|times| times.into_iter().max());
    latest.is_some_and(|time| SystemTime::now().duration_since(time).unwrap_or_default() >= age)
}

/// Removes leftovers. What is gone meanwhile is no fault.
///
/// # Errors
/// When the system refuses.
pub fn collect(disk: &dyn Fs, environment: &Environment, leftovers: &[Leftover]) -> Result<()> {
    for left in leftovers {
        match left.path.is_dir() && !left.path.is_symlink() {
            true => remove::clear(disk, &left.path)?,
            false => durable::remove_on(disk, &left.path)?,
        }
    }
    if let Some(ledger) = Ledger::existing_in(environment)? {
        for seen in ledger.all_seen()?.into_iter().filter(|seen| !seen.path.exists()) {
            ledger.forget(&seen.path)?;
        }
    }
    Ok(())
}

/// Removes what a killed removal left, which nobody can want: done before the store changes, so that it never piles up.
///
/// # Errors
/// When the system refuses.
pub fn finish_removals(disk: &dyn Fs, environment: &Environment) -> Result<()> {
    let mut left = leftovers(environment, Duration::ZERO)?;
    left.retain(|left| left.kind == Kind::Removing);
    if left.is_empty() { Ok(()) } else { collect(disk, environment, &left) }
}

/// Bytes of leftovers below a folder, for `du`.
pub(crate) fn bytes_below(leftovers: &[Leftover], root: &Path) -> u64 {
    leftovers.iter().filter(|left| left.path.starts_with(root)).map(|left| left.bytes).sum()
}

/// Files below a folder with their allocated bytes and identities, each identity once.
pub(crate) fn allocated(root: &Path, known: &mut std::collections::BTreeSet<(u64, u64)>) -> u64 {
    let mut bytes = 0;
    for (_, metadata) in below(root) {
        #[cfg(unix)]
        {
            use std::os::unix::fs::MetadataExt;
            if metadata.is_file() && known.insert((metadata.dev(), metadata.ino())) {
                bytes += metadata.blocks() * 512;
            }
        }
        #[cfg(not(unix))]
        if metadata.is_file() {
            bytes += metadata.len();
        }
    }
    bytes
}
