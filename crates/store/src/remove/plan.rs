//! What goes and what stays when a model is removed, by the kind of place it is in.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use super::{Action, Removal, Stays};
use crate::environment::Environment;
use crate::error::{Error, Result};
use crate::ledger::{Ledger, Work};
use crate::name::Name;
use crate::repository::{File, Repository, Snapshot, below};
use crate::{Found, Origin, ollama, resolve_in};

pub(super) fn plan(environment: &Environment, text: &str) -> Result<Removal> {
    let works = Ledger::existing_in(environment)?.map(|ledger| ledger.works()).transpose()?.unwrap_or_default();
    let removal = match mine(environment, text) {
        Some(path) => assistant(text, path),
        None => match works.iter().find(|work| work.name == text) {
            Some(work) => return Ok(own(work, &works)),
            None => elsewhere(environment, text)?,
        },
    };
    refuse_needed(&removal, &works)?;
    Ok(removal)
}

/// The file of the assistant that a name means; an unpacked work of that name comes first.
fn mine(environment: &Environment, text: &str) -> Option<PathBuf> {
    let path = crate::assistant::path(environment, text).ok()?;
    (path.is_file() && crate::bundle::find(environment, text).is_none()).then_some(path)
}

/// An assistant is one small file; what it was made of stays.
fn assistant(name: &str, path: PathBuf) -> Removal {
    let frees = freed(&path);
    Removal { name: name.to_owned(), steps: vec![Action::File(path)], stays: Vec::new(), frees }
}

/// A model of a cache or a folder.
fn elsewhere(environment: &Environment, text: &str) -> Result<Removal> {
    let found = match resolve_in(environment, text) {
        // A repository with several models, or whose files are damaged, can be removed all the same.
        Err(fault @ (Error::Ambiguous { .. } | Error::Unusable { .. })) => {
            let name = Name::parse(text.strip_prefix("hf:").unwrap_or(text))?;
            let folder = environment.hub().zip(name.hub_folder()).map(|(hub, folder)| hub.join(folder));
            let is_whole = name.part.is_none() && folder.is_some_and(|folder| folder.is_dir());
            return if is_whole { hub_model(environment, &name, None) } else { Err(fault) };
        }
        found => found?,
    };
    if found.origin == Origin::Path {
        let what = "a path is no name: delete the file yourself, if you mean it";
        return Err(Error::BadName { name: text.to_owned(), what: what.into() });
    }
    let name = Name::parse(&found.name)?;
    match found.origin {
        Origin::Assistant => Ok(assistant(&found.name, found.path)),
        Origin::Ollama => ollama_model(environment, &name),
        Origin::LmStudio | Origin::Folder => Ok(files(&found, &name)),
        Origin::Bundle => Ok(bundle(environment, &name)),
        _ => hub_model(environment, &name, Some(&found)),
    }
}

/// Names of one's own that would lose their files.
fn refuse_needed(removal: &Removal, works: &[Work]) -> Result<()> {
    let goes = |work: &&Work| {
        removal.steps.iter().any(|step| match step {
            Action::File(path) | Action::Folder(path) => work.path.starts_with(path) || path.starts_with(&work.path),
            Action::Forget(_) => false,
        })
    };
    let needing: Vec<&str> = works.iter().filter(goes).map(|work| work.name.as_str()).collect();
    match needing.as_slice() {
        [] => Ok(()),
        names => {
            let what = format!("your own {} needs its files; remove that name first", names.join(", "));
            Err(Error::Unusable { name: removal.name.clone(), place: "use".into(), what })
        }
    }
}

/// A name of one's own. Its files stay where they were put.
fn own(work: &Work, works: &[Work]) -> Removal {
    let other = works.iter().find(|other| other.name != work.name && other.path == work.path);
    let why = match other {
        Some(other) => format!("it has the name {:?} too", other.name),
        None => "it lies where you put it; only the name goes".to_owned(),
    };
    let stays = Stays { path: work.path.clone(), bytes: crate::repository::size(&work.path), why };
    let stays = if work.path.exists() { vec![stays] } else { Vec::new() };
    Removal { name: work.name.clone(), steps: vec![Action::Forget(work.name.clone())], stays, frees: 0 }
}

/// A model in a folder without structure: its files.
fn files(found: &Found, name: &Name) -> Removal {
    let paths = match found.path.is_dir() {
        true => vec![found.path.clone()],
        false => crate::hub::parts(&found.path),
    };
    let frees = paths.iter().map(|path| crate::repository::size(path)).sum();
    let is_folder = found.path.is_dir();
    let step = |path: PathBuf| if is_folder { Action::Folder(path) } else { Action::File(path) };
    Removal { name: name.text().to_owned(), steps: paths.into_iter().map(step).collect(), stays: Vec::new(), frees }
}

/// An unpacked work of a bundle: the folder of its name.
fn bundle(environment: &Environment, name: &Name) -> Removal {
    let works = environment.data().map(|data| data.join(crate::bundle::WORKS)).unwrap_or_default();
    let folder = works.join(name.text());
    let frees = crate::repository::size(&folder);
    Removal { name: name.text().to_owned(), steps: vec![Action::Folder(folder)], stays: Vec::new(), frees }
}

/// Files outside of a folder that are links into it, as real paths: another tool's names for what is in it.
fn linked_from_elsewhere(environment: &Environment, inside: &Path) -> BTreeSet<PathBuf> {
    let Ok(inside) = fs::canonicalize(inside) else { return BTreeSet::new() };
    let mut found = BTreeSet::new();
    for place in environment.places() {
        for (path, metadata) in below(&place.path) {
            if metadata.is_symlink()
                && !fs::canonicalize(place.path.as_path()).is_ok_and(|root| inside.starts_with(root))
                && let Ok(real) = fs::canonicalize(&path)
                && real.starts_with(&inside)
            {
                found.insert(real);
            }
        }
    }
    found
}

/// Bytes that come free with a file's name: none where the file has another name.
fn freed(path: &Path) -> u64 {
    let Ok(metadata) = path.symlink_metadata() else { return 0 };
    #[cfg(unix)]
    if std::os::unix::fs::MetadataExt::nlink(&metadata) > 1 {
        return 0;
    }
    metadata.len()
}

/// A repository of the Hugging Face cache, a revision of it, or one model's files of a revision.
fn hub_model(environment: &Environment, name: &Name, found: Option<&Found>) -> Result<Removal> {
    let path = environment.hub().zip(name.hub_folder()).map(|(hub, folder)| hub.join(folder));
    let Some(path) = path.filter(|path| path.is_dir()) else {
        return Err(crate::not_found(environment, name));
    };
    let repository = Repository::read(&path)?;
    let goes = Goes::of(&repository, name, found)?;
    let elsewhere = linked_from_elsewhere(environment, &path);
    let mut removal = Removal { name: name.text().to_owned(), steps: Vec::new(), stays: Vec::new(), frees: 0 };
    let needed = repository.needed_without(&|snapshot, file| goes.takes(snapshot, file));
    let mut blobs: BTreeMap<&str, ()> = BTreeMap::new();
    for (snapshot, file) in repository.snapshots.iter().flat_map(|s| s.files.iter().map(move |file| (s, file))) {
        if goes.takes(snapshot, file) {
            match &file.blob {
                Some(blob) => drop(blobs.insert(blob, ())),
                None => removal.frees += file.bytes,
            }
        }
    }
    let mut content = Vec::new();
    for blob in blobs.keys().filter_map(|name| repository.blob(name)) {
        let real = fs::canonicalize(&blob.path).unwrap_or_else(|_| blob.path.clone());
        let stay = |why: &str| Stays { path: blob.path.clone(), bytes: blob.bytes, why: why.into() };
        if needed.contains(blob.name.as_str()) {
            removal.stays.push(stay("another revision or file needs it"));
        } else if elsewhere.contains(&real) {
            removal.stays.push(stay("another program's folder links to it"));
        } else {
            removal.frees += freed(&blob.path);
            content.push(Action::File(blob.path.clone()));
        }
    }
    if matches!(goes, Goes::All) && removal.stays.is_empty() {
        removal.frees += repository.leftovers.iter().map(|left| left.bytes).sum::<u64>();
        removal.frees += unnamed(&repository);
        removal.steps = vec![Action::Folder(path)];
        return Ok(removal);
    }
    removal.steps = goes.names(&repository);
    removal.steps.extend(content);
    Ok(removal)
}

/// Bytes of blobs that no snapshot has.
fn unnamed(repository: &Repository) -> u64 {
    let needed = repository.needed_without(&|_, _| false);
    repository.blobs.iter().filter(|blob| !needed.contains(blob.name.as_str())).map(|blob| freed(&blob.path)).sum()
}

/// Which files of a repository go.
enum Goes {
    All,
    Revision(String),
    Files(BTreeSet<PathBuf>),
}

impl Goes {
    fn of(repository: &Repository, name: &Name, found: Option<&Found>) -> Result<Goes> {
        let fault = |what: String| Error::Unusable {
            name: name.text().to_owned(),
            place: "the Hugging Face cache".into(),
            what,
        };
        if name.part.is_some() {
            let found = found.ok_or_else(|| fault("no file of it has that name".into()))?;
            return Ok(Goes::Files(crate::hub::parts(&found.path).into_iter().collect()));
        }
        let Some(revision) = &name.revision else { return Ok(Goes::All) };
        let revision = revision.join("/");
        let reference = repository.path.join("refs").join(&revision);
        let by_name = repository.references.iter().find(|(path, _)| *path == reference).map(|(_, commit)| commit);
        let commit = by_name.unwrap_or(&revision);
        match repository.snapshots.iter().any(|snapshot| snapshot.commit == *commit) {
            true => Ok(Goes::Revision(commit.clone())),
            false => Err(fault(format!("without the revision {revision:?}"))),
        }
    }

    fn takes(&self, snapshot: &Snapshot, file: &File) -> bool {
        match self {
            Goes::All => true,
            Goes::Revision(commit) => snapshot.commit == *commit,
            Goes::Files(files) => files.contains(&file.path),
        }
    }

    /// The steps that take names away: references first, since one without its snapshot would be a fault.
    fn names(&self, repository: &Repository) -> Vec<Action> {
        let snapshots = repository.snapshots.iter();
        match self {
            Goes::Files(files) => files.iter().cloned().map(Action::File).collect(),
            _ => {
                let gone: Vec<&Snapshot> = snapshots
                    .filter(|snapshot| match self {
                        Goes::Revision(commit) => snapshot.commit == *commit,
                        _ => true,
                    })
                    .collect();
                let names = |commit: &String| gone.iter().any(|snapshot| snapshot.commit == *commit);
                let references = repository.references.iter().filter(|(_, commit)| names(commit));
                let references = references.map(|(path, _)| Action::File(path.clone()));
                references.chain(gone.iter().map(|snapshot| Action::Folder(snapshot.path.clone()))).collect()
            }
        }
    }
}

/// A model of Ollama's: its manifest, then the blobs that no other manifest names.
fn ollama_model(environment: &Environment, name: &Name) -> Result<Removal> {
    let (root, manifest) = ollama::manifest(environment, name).ok_or_else(|| crate::not_found(environment, name))?;
    let mut removal = Removal {
        name: name.text().to_owned(),
        steps: vec![Action::File(manifest.clone())],
        stays: Vec::new(),
        frees: freed(&manifest),
    };
    let mine = ollama::digests(&manifest)?;
    let others = ollama::all_digests(&root, Some(&manifest));
    let elsewhere = linked_from_elsewhere(environment, &root);
    for digest in mine {
        let path = root.join("blobs").join(digest.blob_name());
        let Ok(metadata) = path.symlink_metadata() else { continue };
        let stay = |why: &str| Stays { path: path.clone(), bytes: metadata.len(), why: why.into() };
        match &others {
            // Who knows what it needs?
            Err(_) => removal.stays.push(stay("another manifest there cannot be read, and may need it")),
            Ok(others) if others.contains(&digest) => removal.stays.push(stay("another model of Ollama's needs it")),
            Ok(_) if fs::canonicalize(&path).is_ok_and(|real| elsewhere.contains(&real)) => {
                removal.stays.push(stay("another program's folder links to it"));
            }
            Ok(_) => {
                removal.frees += freed(&path);
                removal.steps.push(Action::File(path));
            }
        }
    }
    Ok(removal)
}
