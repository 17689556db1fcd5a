//! A file that is being fetched: a folder `DIGEST.OWNER.part` beside the blobs, with the bytes and a log of which of
//! them are there. A later process takes over the folder of a dead one by renaming it, which only one can do; the
//! folder of a process that lives is left alone, even where locks lie.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use pasture_files::size::Size;
use pasture_files::{durable, folder};

use super::error::Result;
use super::spans::Spans;

const DATA: &str = "data";
const LOG: &str = "log";
/// How the names of folders end.
const PART: &str = ".part";
/// How the name of a file ends that proved damaged.
pub(crate) const BAD: &str = ".bad";
const LOG_BYTES_MAX: Size = Size::new(32 << 20);
/// Where processes cannot be asked for, a folder that nobody wrote to for so long belongs to a dead one.
const IDLE: Duration = Duration::from_secs(600);

/// A file that is not whole yet.
pub(crate) struct Partial {
    folder: PathBuf,
    /// Whether the folder has served its purpose.
    settled: bool,
    data: File,
    log: File,
    /// Which bytes are there.
    pub done: Spans,
    /// Which bytes were fetched twice and compared, after the whole had proved damaged.
    pub checked: Spans,
}

impl Partial {
    /// Goes on where a dead process ended, or begins.
    pub fn open(blobs: &Path, digest: &str, size: u64) -> Result<Partial> {
        let own = blobs.join(format!("{digest}.{}{PART}", owner()));
        let adopted = abandoned(blobs, digest)
            .into_iter()
            .find(|old| File::open(old).is_ok_and(|handle| durable::publish(&handle, old, &own).is_ok()));
        if adopted.is_none() {
            crate::durable::folder(&own)?;
        }
        let path = own.join(DATA);
        let fault = |fault| pasture_files::Error::write(&path, fault);
        let data = crate::durable::partial(&path)?;
        let is_fresh = data.metadata().map_err(fault)?.len() != size;
        let first = format!("{digest} {size}");
        let (done, checked) = match is_fresh {
            true => Default::default(),
            false => read_log(&own.join(LOG), &first, size),
        };
        data.set_len(size).map_err(fault)?;
        // Written anew, so that its length follows what is there and not how often it was begun.
        let lines = done.iter().map(|span| line(false, span)).chain(checked.iter().map(|span| line(true, span)));
        let text: String = std::iter::once(format!("{first}\n")).chain(lines).collect();
        durable::write_file(&own.join(LOG), |sink| sink.put(text.as_bytes()))?;
        let log = durable::append_to(&own.join(LOG))?;
        Ok(Partial { folder: own, settled: false, data, log, done, checked })
    }

    /// Bytes of it that a dead process left.
    pub fn left(blobs: &Path, digest: &str, size: u64) -> u64 {
        let left = |folder: PathBuf| read_log(&folder.join(LOG), &format!("{digest} {size}"), size).0.count();
        abandoned(blobs, digest).into_iter().map(left).next().unwrap_or(0)
    }

    /// Where the bytes go.
    pub fn data(&self) -> &File {
        &self.data
    }

    /// Remembers that these bytes are there, for a process after this one.
    pub fn record(&mut self, from: u64, to: u64) -> Result<()> {
        self.done.add(from, to);
        self.note(&line(false, (from, to)))
    }

    /// Remembers that these bytes were compared.
    pub fn record_checked(&mut self, from: u64, to: u64) -> Result<()> {
        self.checked.add(from, to);
        self.note(&line(true, (from, to)))
    }

    fn note(&mut self, line: &str) -> Result<()> {
        let path = self.folder.join(LOG);
        Ok(self.log.write_all(line.as_bytes()).map_err(|fault| pasture_files::Error::write(&path, fault))?)
    }

    /// Writes bytes at their place.
    pub fn put(data: &File, at: u64, bytes: &[u8]) -> Result<()> {
        Ok(data.write_all_at(bytes, at).map_err(|fault| pasture_files::Error::write(Path::new(DATA), fault))?)
    }

    /// Gives the bytes their name, durably, and removes what was needed until then.
    pub fn publish(mut self, path: &Path) -> Result<()> {
        durable::publish(&self.data, &self.folder.join(DATA), path)?;
        self.settled = true;
        // What is left is a log without bytes: the next who looks removes it.
        let _ = fs::remove_dir_all(&self.folder);
        Ok(())
    }

    /// Removes it.
    pub fn discard(mut self) {
        self.settled = true;
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// What ends early is left to whoever comes next, this process among them.
impl Drop for Partial {
    fn drop(&mut self) {
        let digest = self.folder.file_name().and_then(|name| name.to_str()?.split('.').next()).map(str::to_owned);
        if let (false, Some(digest), Ok(handle)) = (self.settled, digest, File::open(&self.folder)) {
            let free = self.folder.with_file_name(format!("{digest}.0-{}-{}{PART}", std::process::id(), count()));
            let _ = durable::publish(&handle, &self.folder, &free);
        }
    }
}

/// Whether a name beside blobs is that of a file which is being fetched, or of one that proved damaged.
pub(crate) fn is_partial(name: &str) -> bool {
    owner_of(name).is_some() || name.ends_with(BAD)
}

/// Whether what has such a name belongs to a process that lives.
pub(crate) fn is_in_use(path: &Path) -> bool {
    let owner = path.file_name().and_then(|name| owner_of(name.to_str()?));
    owner.is_some_and(|owner| is_alive(owner, path))
}

/// The owner in the name of a partial folder, as [`owner`] writes it.
fn owner_of(name: &str) -> Option<&str> {
    let (digest, owner) = name.strip_suffix(PART)?.split_once('.')?;
    let numbers = owner.split('-').filter(|part| part.parse::<u64>().is_ok()).count();
    (!digest.is_empty() && numbers == 3 && owner.matches('-').count() == 2).then_some(owner)
}

fn line(checked: bool, (from, to): (u64, u64)) -> String {
    format!("{} {from} {to}\n", if checked { "checked" } else { "done" })
}

/// What a log says; a line that is cut off or senseless says nothing.
fn read_log(path: &Path, first: &str, size: u64) -> (Spans, Spans) {
    let (mut done, mut checked) = (Spans::default(), Spans::default());
    let bytes = folder::read_file(path, LOG_BYTES_MAX).unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    let mut lines = text.split_inclusive('\n');
    if lines.next().and_then(|line| line.strip_suffix('\n')) != Some(first) {
        return Default::default();
    }
    for line in lines.filter_map(|line| line.strip_suffix('\n')) {
        let words: Vec<&str> = line.split(' ').collect();
        let [kind, from, to] = words.as_slice() else { continue };
        let (Ok(from), Ok(to)) = (from.parse::<u64>(), to.parse::<u64>()) else { continue };
        match *kind {
            _ if from > to || to > size => {}
            "done" => done.add(from, to),
            "checked" => checked.add(from, to),
            _ => {}
        }
    }
    (done, checked)
}

/// Folders of that file whose owners are dead, the one with the most in it first; what holds no bytes any more is
/// removed.
fn abandoned(blobs: &Path, digest: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(blobs).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let owner = name.to_str().and_then(|name| name.strip_prefix(digest)?.strip_prefix('.')?.strip_suffix(PART));
        let Some(owner) = owner.filter(|owner| !is_alive(owner, &entry.path())) else { continue };
        match entry.path().join(DATA).is_file() {
            true => found.push((fs::metadata(entry.path().join(LOG)).map_or(0, |log| log.len()), entry.path())),
            // The owner died after the bytes had got their name.
            false if !owner.is_empty() => drop(fs::remove_dir_all(entry.path())),
            false => {}
        }
    }
    found.sort();
    found.into_iter().rev().map(|(_, path)| path).collect()
}

/// A name for this use that no other has: the process, when it began, and a count.
fn owner() -> String {
    let process = std::process::id();
    format!("{process}-{}-{}", began(process).unwrap_or(0), count())
}

fn count() -> u64 {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    COUNT.fetch_add(1, Ordering::Relaxed)
}

fn is_alive(owner: &str, folder: &Path) -> bool {
    let mut parts = owner.split('-').map(|part| part.parse::<u64>().ok());
    let (Some(Some(process)), Some(Some(time))) = (parts.next(), parts.next()) else { return true };
    if Path::new("/proc/self/stat").is_file() {
        return u32::try_from(process).ok().and_then(began) == Some(time);
    }
    let modified = fs::metadata(folder.join(LOG)).and_then(|log| log.modified()).ok();
    modified.and_then(|modified| modified.elapsed().ok()).is_none_or(|idle| idle < IDLE)
}

/// When a process began, in ticks since the machine did: with it a number that is used again is another process.
fn began(process: u32) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    // The program's name stands in parentheses and may hold anything; the time is the twentieth word after it.
    text.rsplit_once(')')?.1.split_whitespace().nth(19)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dead_owners_bytes_are_taken_over_and_a_living_ones_are_not() {
        let folder = tempfile::tempdir().unwrap();
        let mut first = Partial::open(folder.path(), "ab", 100).unwrap();
        Partial::put(first.data(), 10, b"hello").unwrap();
        first.record(10, 15).unwrap();
        let second = Partial::open(folder.path(), "ab", 100).unwrap();
        assert_eq!(second.done.count(), 0, "the first owner lives");
        second.discard();
        drop(first);
        let dead = fs::read_dir(folder.path()).unwrap().flatten().map(|entry| entry.path()).next().unwrap();
        // Cut off in the middle of a line, and with one that points behind the end.
        let mut log = durable::append_to(&dead.join(LOG)).unwrap();
        log.write_all(b"done 90 200\nchecked 10 12\ndone 50 6").unwrap();
        assert_eq!(Partial::left(folder.path(), "ab", 100), 5);
        assert_eq!(Partial::left(folder.path(), "ab", 99), 0);
        let third = Partial::open(folder.path(), "ab", 100).unwrap();
        assert_eq!(third.done.iter().collect::<Vec<_>>(), [(10, 15)]);
        assert_eq!(third.checked.iter().collect::<Vec<_>>(), [(10, 12)]);
        assert!(!dead.exists());
        third.publish(&folder.path().join("ab")).unwrap();
        let names: Vec<_> = fs::read_dir(folder.path()).unwrap().flatten().map(|entry| entry.file_name()).collect();
        assert_eq!(names, ["ab"]);
    }

    #[test]
    fn this_process_lives_and_a_later_one_of_its_number_is_another() {
        let here = Path::new("none");
        assert!(is_alive(&owner(), here));
        assert!(!is_alive(&format!("{}-1-0", std::process::id()), here));
        assert!(is_in_use(&here.join(format!("ab.{}.part", owner()))));
        for name in ["ab.0-1-0.part", "ab.bad"] {
            assert!(is_partial(name) && !is_in_use(Path::new(name)), "{name}");
        }
        for name in ["ab", ".ab.1.0.part", "ab.1-2.part", "ab.x-1-2.part", ".1-2-3.part"] {
            assert!(!is_partial(name), "{name}");
        }
    }
}
