//! Are all bytes what they were? Every file whose digest is known is read and compared: blobs of the Hugging Face cache
//! and of Ollama by their names, works of one's own and everything else by what the ledger remembers.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Seek};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::digest::Digest;
use crate::environment::Environment;
use crate::error::Result;
use crate::git::Sha1;
use crate::ledger::{Ledger, Seen, Stamp};
use crate::repository::{Repository, below, entries};
use crate::sums::{Quick, Sums, parts};
use crate::{Found, Origin, list_in, ollama, resolve_in};

mod fresh;

pub use fresh::changed;

/// A file that is read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Whose file it is: a model's name, or a repository's.
    pub model: String,
    /// As its place calls it.
    pub path: PathBuf,
    /// Its length now.
    pub bytes: u64,
    wanted: Wanted,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Wanted {
    /// By its name, and what the ledger remembers of that file.
    Sha256(Digest, Option<Seen>),
    /// The name of a small file of the hub: SHA-1 over a header of git's and the content.
    Git(String),
    /// By what the ledger remembers.
    Remembered(Option<Seen>),
    /// A link, reference or manifest that leads nowhere.
    Lost(String),
}

impl Wanted {
    /// What the ledger remembers of a file that has the wanted digest, with the digest that is read faster.
    fn quick(&self) -> Option<(&Seen, Quick)> {
        let known = match self {
            Wanted::Sha256(digest, Some(known)) if known.digest == *digest => known,
            Wanted::Remembered(Some(known)) => known,
            _ => return None,
        };
        known.quick.map(|quick| (known, quick))
    }
}

/// What reading a file showed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The bytes are those that belong to its name.
    Good,
    /// They are not.
    Damaged(String),
    /// The file changed since its digest was noted, and so did its time, number or length: somebody wrote it.
    Changed,
    /// No digest was known; now one is, for the next time.
    Noted,
    /// It is not there, or cannot be read.
    Lost(String),
}

impl Verdict {
    /// Whether somebody has to look.
    pub fn is_fault(&self) -> bool {
        matches!(self, Verdict::Damaged(_) | Verdict::Changed | Verdict::Lost(_))
    }
}

/// Everything that can be verified; of one model where a name is given.
///
/// # Errors
/// When there is no such model, or the ledger cannot be read.
pub fn targets(environment: &Environment, name: Option<&str>) -> Result<Vec<Target>> {
    let ledger = Ledger::existing_in(environment)?;
    let mut all = Collected { ledger, known: BTreeSet::new(), targets: Vec::new() };
    let Some(name) = name else {
        all.places(environment)?;
        for found in list_in(environment)? {
            all.model(&found)?;
        }
        return Ok(all.targets);
    };
    let found = resolve_in(environment, name)?;
    all.model(&found)?;
    for layer in &found.layers {
        all.file(&found.name, &layer.path)?;
    }
    Ok(all.targets)
}

struct Collected {
    ledger: Option<Ledger>,
    /// Real paths that are on the list.
    known: BTreeSet<PathBuf>,
    targets: Vec<Target>,
}

impl Collected {
    /// Caches as a whole, so that what no model needs any more is read too, and what leads nowhere is found.
    fn places(&mut self, environment: &Environment) -> Result<()> {
        for (path, name, _) in environment.hub().map(entries).unwrap_or_default() {
            if name.starts_with("models--") && path.is_dir() {
                self.repository(&name, &path)?;
            }
        }
        for root in environment.ollama() {
            for (manifest, _) in below(&root.join("manifests")) {
                match ollama::digests(&manifest) {
                    Ok(digests) => {
                        for digest in digests {
                            self.file("Ollama", &root.join("blobs").join(digest.blob_name()))?;
                        }
                    }
                    Err(fault) => self.lost("Ollama", &manifest, fault.to_string()),
                }
            }
        }
        Ok(())
    }

    fn repository(&mut self, name: &str, path: &Path) -> Result<()> {
        let repository = Repository::read(path)?;
        let model = name.strip_prefix("models--").unwrap_or(name).replacen("--", "/", 1);
        for file in repository.snapshots.iter().flat_map(|snapshot| &snapshot.files) {
            self.file(&model, &file.path)?;
        }
        for (path, commit) in &repository.references {
            if !repository.snapshots.iter().any(|snapshot| snapshot.commit == *commit) {
                self.lost(&model, path, format!("it names the revision {commit:?}, which is not there"));
            }
        }
        Ok(())
    }

    /// All files of a model, or the one that it is.
    fn model(&mut self, found: &Found) -> Result<()> {
        if found.origin == Origin::Own || !found.path.is_dir() {
            let paths = if found.path.is_dir() { files(&found.path) } else { crate::hub::parts(&found.path) };
            return paths.iter().try_for_each(|path| self.file(&found.name, path));
        }
        below(&found.path).iter().try_for_each(|(path, _)| self.file(&found.name, path))
    }

    fn file(&mut self, model: &str, path: &Path) -> Result<()> {
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        if crate::repository::is_leftover(&name) {
            return Ok(());
        }
        let Ok(real) = fs::canonicalize(path) else {
            self.lost(model, path, "it is not there, or leads nowhere".into());
            return Ok(());
        };
        if !self.known.insert(real.clone()) {
            return Ok(());
        }
        let Ok(metadata) = real.metadata() else {
            self.lost(model, path, "it cannot be read".into());
            return Ok(());
        };
        if metadata.is_file() {
            let wanted = self.wanted(&real)?;
            self.targets.push(Target { model: model.to_owned(), path: path.to_owned(), bytes: metadata.len(), wanted });
        }
        Ok(())
    }

    /// Where the name of a file's folder and its own say what its digest is.
    fn wanted(&self, real: &Path) -> Result<Wanted> {
        let name = real.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let is_blob = real.parent().is_some_and(|parent| parent.ends_with("blobs"));
        let is_git = name.len() == 40 && name.bytes().all(|byte| byte.is_ascii_hexdigit());
        if let Ok(digest) = Digest::parse_hex(name.strip_prefix("sha256-").unwrap_or(name))
            && is_blob
        {
            return Ok(Wanted::Sha256(digest, self.seen(real)?));
        }
        if is_blob && is_git {
            return Ok(Wanted::Git(name.to_owned()));
        }
        Ok(Wanted::Remembered(self.seen(real)?))
    }

    fn seen(&self, real: &Path) -> Result<Option<Seen>> {
        match &self.ledger {
            Some(ledger) if real.to_str().is_some() => ledger.seen(real),
            _ => Ok(None),
        }
    }

    fn lost(&mut self, model: &str, path: &Path, what: String) {
        let target = Target { model: model.to_owned(), path: path.to_owned(), bytes: 0, wanted: Wanted::Lost(what) };
        if !self.targets.contains(&target) {
            self.targets.push(target);
        }
    }
}

/// Files of a folder itself, as [`Digest::of_path`] has them.
fn files(folder: &Path) -> Vec<PathBuf> {
    let files = entries(folder).into_iter().filter(|(path, name, _)| !name.starts_with('.') && path.is_file());
    files.map(|(path, ..)| path).collect()
}

/// What is done with a file that somebody wrote since its digest was noted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Accept {
    /// It is told.
    No,
    /// Its present digest counts from now on.
    Changed,
}

/// Reads targets with so many threads; verdicts stand in the order of the targets. Digests are noted in the ledger.
/// `seen` hears how many bytes were read, and ends the reading when it says false.
///
/// # Errors
/// When the ledger cannot be written.
pub fn verify(
    environment: &Environment,
    targets: &[Target],
    threads: usize,
    accept: Accept,
    seen: &(dyn Fn(u64) -> bool + Sync),
) -> Result<Vec<Verdict>> {
    let next = AtomicUsize::new(0);
    let verdicts = Mutex::new(vec![None; targets.len()]);
    std::thread::scope(|scope| {
        for _ in 0..threads.clamp(1, targets.len().max(1)) {
            scope.spawn(|| {
                while let Some((number, target)) =
                    Some(next.fetch_add(1, Ordering::Relaxed)).and_then(|number| Some((number, targets.get(number)?)))
                {
                    let verdict = look(target, accept, seen);
                    verdicts.lock().unwrap_or_else(|poison| poison.into_inner())[number] = Some(verdict);
                }
            });
        }
    });
    let found = verdicts.into_inner().unwrap_or_else(|poison| poison.into_inner());
    let (mut verdicts, mut noted) = (Vec::new(), Vec::new());
    for (verdict, note) in found.into_iter().flatten() {
        verdicts.push(verdict);
        noted.extend(note);
    }
    if !noted.is_empty() {
        let mut ledger = Ledger::open_in(environment)?;
        ledger.change(|change| noted.iter().try_for_each(|seen| change.put_seen(seen)))?;
    }
    Ok(verdicts)
}

fn look(target: &Target, accept: Accept, seen: &(dyn Fn(u64) -> bool + Sync)) -> (Verdict, Option<Seen>) {
    match read(target, accept, seen) {
        Ok(found) => found,
        Err(fault) => (Verdict::Lost(fault.to_string()), None),
    }
}

fn read(target: &Target, accept: Accept, seen: &(dyn Fn(u64) -> bool + Sync)) -> io::Result<(Verdict, Option<Seen>)> {
    if let Wanted::Lost(what) = &target.wanted {
        return Ok((Verdict::Lost(what.clone()), None));
    }
    let real = fs::canonicalize(&target.path)?;
    let mut file = File::open(&real)?;
    let stamp = Stamp::of(&file.metadata()?);
    if let Wanted::Git(wanted) = &target.wanted {
        let found = git_digest(&mut file, stamp.bytes, seen)?;
        let good = found == *wanted;
        return Ok((if good { Verdict::Good } else { Verdict::Damaged(format!("its digest is {found}")) }, None));
    }
    let known = target.wanted.quick();
    if let Some((known, quick)) = known
        && Quick::of_reader(&mut file, &mut |count| seen(count))? == quick
    {
        return Ok((Verdict::Good, (known.stamp != stamp).then(|| Seen { stamp, ..known.clone() })));
    }
    file.rewind()?;
    // Bytes that are read a second time were counted already.
    let Sums { digest, quick } =
        Sums::of_reader(&mut file, &mut |count| seen(if known.is_some() { 0 } else { count }))?;
    let note = real.to_str().map(|_| Seen { path: real.clone(), digest, quick: Some(quick), stamp });
    Ok(match &target.wanted {
        Wanted::Sha256(wanted, _) if *wanted != digest => (Verdict::Damaged(format!("its digest is {digest}")), None),
        Wanted::Remembered(Some(known)) if known.digest != digest => match (known.stamp == stamp, accept) {
            (true, _) => (Verdict::Damaged(format!("its digest is {digest}, and was {}", known.digest)), None),
            (false, Accept::No) => (Verdict::Changed, None),
            (false, Accept::Changed) => (Verdict::Noted, note),
        },
        Wanted::Remembered(None) => (Verdict::Noted, note),
        _ => (Verdict::Good, note),
    })
}

/// Git's name for a file's content.
fn git_digest(file: &mut File, bytes: u64, seen: &(dyn Fn(u64) -> bool + Sync)) -> io::Result<String> {
    let mut sum = Sha1::of_file(bytes);
    parts(file, &mut |count| seen(count), &mut |part| sum.update(part))?;
    Ok(sum.digits())
}
