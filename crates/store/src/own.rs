//! Works of one's own: names in the ledger for files that are somewhere. `name` gives files that exist another name, and
//! copies nothing.

use std::fs;
use std::path::Path;

use crate::digest::Digest;
use crate::environment::Environment;
use crate::error::{Error, Result};
use crate::ledger::{Ledger, Seen, Stamp, Work, now};
use crate::name::Name;
use crate::sums::Sums;
use crate::{Found, Origin, lock, resolve_in};

/// The work of that name; none where the ledger has no such name.
pub(crate) fn find(environment: &Environment, name: &Name) -> Result<Option<Found>> {
    let Some(ledger) = Ledger::existing_in(environment)? else { return Ok(None) };
    ledger.work(name.text())?.map(found).transpose()
}

/// Every work whose files are there.
pub(crate) fn list(environment: &Environment) -> Result<Vec<Found>> {
    let Some(ledger) = Ledger::existing_in(environment)? else { return Ok(Vec::new()) };
    Ok(ledger.works()?.into_iter().filter_map(|work| found(work).ok()).collect())
}

/// All names of works.
pub(crate) fn names(environment: &Environment) -> Vec<String> {
    let works = Ledger::existing_in(environment).ok().flatten().and_then(|ledger| ledger.works().ok());
    works.into_iter().flatten().map(|work| work.name).collect()
}

fn found(work: Work) -> Result<Found> {
    if !work.path.exists() {
        let what = format!("{} is gone; `pasture rm` removes the name", work.path.display());
        return Err(Error::Unusable { name: work.name, place: "your own works".into(), what });
    }
    Ok(Found { name: work.name.clone(), origin: Origin::Own, ..crate::at_path(&work.name, &work.path) })
}

/// Whether a name that is taken already is given to other files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    /// It is an error.
    Refuse,
    /// The name moves.
    Replace,
}

/// Gives the files of `from` the name `to`: both names mean the same bytes afterwards. Reads the files once for their
/// digest; `seen` hears of each part and ends it when it says false.
///
/// # Errors
/// When there is no `from`, when `to` is no name or is taken, and when something cannot be read or written.
pub fn copy(
    environment: &Environment,
    from: &str,
    to: &str,
    taken: Taken,
    seen: &mut dyn FnMut(u64) -> bool,
) -> Result<Work> {
    let name = Name::parse(to)?;
    let free = |what: String| Error::BadName { name: to.to_owned(), what };
    if name.revision.is_some() {
        return Err(free("a name of one's own has no revision".into()));
    }
    let _held = lock::shared(environment)?;
    let source = resolve_in(environment, from)?;
    match resolve_in(environment, to) {
        // A short form of another's name may be given away, its full name not.
        Ok(found) if found.origin != Origin::Own && found.name == to => {
            return Err(free(format!("{} has that already", found.origin)));
        }
        Ok(found) if found.origin == Origin::Own && taken == Taken::Refuse => {
            return Err(free("it is taken; --force moves it".into()));
        }
        _ => {}
    }
    // Links stay as they are: a snapshot's files are links, and the name means the snapshot, not one blob.
    let path = match source.path.is_absolute() {
        true => source.path.clone(),
        false => fs::canonicalize(&source.path).map_err(|fault| pasture_files::Error::read(&source.path, fault))?,
    };
    let mut ledger = Ledger::open_in(environment)?;
    let digest = digest_of(&ledger, &source.path, seen)?;
    let work = Work {
        name: to.to_owned(),
        digest,
        path,
        format: source.format.to_owned(),
        bytes: source.bytes,
        origin: (source.origin != Origin::Path).then(|| source.name.clone()),
        revision: None,
        license: None,
        made: now(),
    };
    ledger.change(|change| match change.work(to)? {
        Some(_) if taken == Taken::Refuse => Err(free("it is taken; --force moves it".into())),
        _ => change.put_work(&work),
    })?;
    Ok(work)
}

/// The digest of a model's file or folder: the known one of each file that is as it was.
fn digest_of(ledger: &Ledger, path: &Path, seen: &mut dyn FnMut(u64) -> bool) -> Result<Digest> {
    if path.is_dir() {
        return Digest::of_folder(path, &mut |file| digest_of(ledger, file, seen));
    }
    let fault = |source| pasture_files::Error::read(path, source);
    let real = fs::canonicalize(path).map_err(fault)?;
    let stamp = Stamp::of(&real.metadata().map_err(fault)?);
    if let Some(known) = ledger.seen(&real)?.filter(|known| known.stamp == stamp) {
        return Ok(known.digest);
    }
    let sums = Sums::of_reader(fs::File::open(&real).map_err(fault)?, seen).map_err(fault)?;
    ledger.put_seen(&Seen { path: real, digest: sums.digest, quick: Some(sums.quick), stamp })?;
    Ok(sums.digest)
}
