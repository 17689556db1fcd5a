//! The keys of a running server: a table in memory that a thread of its own keeps up with the file, and to which it
//! writes what was used. Invariant: a file that cannot be read any more changes nothing; a revoked key was refused
//! within half a second of being revoked, while the file can be read.

use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use super::account::Account;
use super::book::{Book, KeyError, Record, digest};
use crate::caller::Caller;
use crate::moment::since_1970;

/// How often the file is looked at.
const LOOK: Duration = Duration::from_millis(250);

/// A key in memory.
struct Entry {
    digest: [u8; 32],
    record: Record,
    caller: Caller,
    account: Arc<Account>,
}

impl Entry {
    /// What is known of it, unless it was revoked.
    fn known(&self) -> Option<Known> {
        self.record.revoked.is_none().then(|| Known {
            caller: self.caller.clone(),
            models: self.record.key.models.as_ref().map(|models| models.as_slice().into()),
            account: self.account.clone(),
            expired: !self.record.holds(since_1970().as_secs()),
        })
    }
}

/// The keys of a running server.
pub struct Keys {
    table: Arc<RwLock<Vec<Arc<Entry>>>>,
    /// Dropped when the server ends, which ends the thread after it wrote down what was used.
    end: Mutex<Option<Sender<()>>>,
    thread: Mutex<Option<std::thread::JoinHandle<()>>>,
}

/// A key that was found.
pub struct Known {
    /// Whose it is.
    pub caller: Caller,
    /// Models it may use; all where absent.
    pub models: Option<Arc<[String]>>,
    /// Its quotas.
    pub account: Arc<Account>,
    /// Whether it has ended.
    pub expired: bool,
}

impl Keys {
    /// Reads a file and begins to watch it; one that is not there may come later.
    ///
    /// # Errors
    /// When the file is there and cannot be used, or the system gives no thread.
    pub fn watch(path: &Path) -> Result<Keys, KeyError> {
        let table = Arc::new(RwLock::new(Vec::new()));
        let mut keeper = Keeper { path: path.to_owned(), book: None, version: 0, table: table.clone() };
        keeper.keep()?;
        let (end, ended) = channel::<()>();
        let thread = std::thread::Builder::new().name("pasture-keys".to_owned());
        let thread = thread.spawn(move || keeper.run(&ended));
        let fail = |error: std::io::Error| KeyError::File { path: path.to_owned(), what: error.to_string() };
        Ok(Keys { table, end: Mutex::new(Some(end)), thread: Mutex::new(Some(thread.map_err(fail)?)) })
    }

    /// Is there a key at all, be it revoked or expired? Then nobody comes in without one.
    pub fn any(&self) -> bool {
        !self.table.read().unwrap_or_else(PoisonError::into_inner).is_empty()
    }

    /// Is there a key that can be used now?
    pub fn usable(&self) -> bool {
        let now = since_1970().as_secs();
        self.table.read().unwrap_or_else(PoisonError::into_inner).iter().any(|entry| entry.record.holds(now))
    }

    /// The key of a text. All keys are compared, each in a time that does not depend on where it differs.
    pub fn find(&self, text: &str) -> Option<Known> {
        let given = digest(text);
        let table = self.table.read().unwrap_or_else(PoisonError::into_inner);
        let mut found: Option<&Arc<Entry>> = None;
        for entry in table.iter() {
            if same(&entry.digest, &given) {
                found = Some(entry);
            }
        }
        found.and_then(|entry| entry.known())
    }

    /// The key of an id.
    pub fn of(&self, id: &str) -> Option<Known> {
        let table = self.table.read().unwrap_or_else(PoisonError::into_inner);
        table.iter().find(|entry| entry.record.id == id)?.known()
    }
}

impl Keys {
    /// Writes down what was used, and ends to look.
    pub fn finish(&self) {
        drop(self.end.lock().unwrap_or_else(PoisonError::into_inner).take());
        if let Some(thread) = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take() {
            let _ = thread.join();
        }
    }
}

impl Drop for Keys {
    fn drop(&mut self) {
        self.finish();
    }
}

/// Are two digests the same?
pub fn same(one: &[u8; 32], other: &[u8; 32]) -> bool {
    one.iter().zip(other).fold(0, |differ, (one, other)| differ | std::hint::black_box(one ^ other)) == 0
}

/// The thread that keeps table and file the same.
struct Keeper {
    path: PathBuf,
    /// Open since the file is there.
    book: Option<Book>,
    version: i64,
    table: Arc<RwLock<Vec<Arc<Entry>>>>,
}

impl Keeper {
    fn run(mut self, ended: &Receiver<()>) {
        let mut told = false;
        loop {
            let last = ended.recv_timeout(LOOK) != Err(RecvTimeoutError::Timeout);
            let outcome = self.keep();
            // Said once, not four times a second.
            if let Err(error) = &outcome
                && !told
            {
                eprintln!("error: {error}; the keys as they were before stay in force");
            }
            told = outcome.is_err();
            if last {
                return;
            }
        }
    }

    /// Writes down what was used, and reads the file again where another program changed it.
    fn keep(&mut self) -> Result<(), KeyError> {
        let mut fresh = false;
        let book = match &mut self.book {
            Some(book) => book,
            none if self.path.exists() => {
                fresh = true;
                none.insert(Book::open(&self.path)?)
            }
            _ => return Ok(()),
        };
        let before = self.table.read().unwrap_or_else(PoisonError::into_inner).clone();
        // A revoked key must be seen also while nothing can be written.
        let version = book.version()?;
        if fresh || version != self.version {
            let after = read(book, &before)?;
            *self.table.write().unwrap_or_else(PoisonError::into_inner) = after;
            self.version = version;
        }
        for entry in &before {
            for spent in entry.account.take() {
                if let Err(error) = book.spend(&entry.record.id, spent) {
                    entry.account.give_back(spent);
                    return Err(error);
                }
            }
        }
        Ok(())
    }
}

/// All keys; accounts of keys that were there before go on.
fn read(book: &Book, before: &[Arc<Entry>]) -> Result<Vec<Arc<Entry>>, KeyError> {
    let now = since_1970();
    let entries = book.all(now.as_secs() / 86_400)?.into_iter().map(|(digest, record, used)| {
        let key = &record.key;
        let old = before.iter().find(|entry| entry.record.id == record.id);
        let same = old.map(|entry| entry.account.clone());
        let fresh = || Arc::new(Account::new((key.rate, key.tokens, key.in_flight), used, now));
        let account = same.unwrap_or_else(fresh);
        let caller = Caller { id: record.id.as_str().into(), name: key.name.as_str().into(), scopes: key.scopes };
        Arc::new(Entry { digest, caller, account, record })
    });
    Ok(entries.collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::caller::{Scope, Scopes};
    use crate::keys::NewKey;

    fn new(name: &str) -> NewKey {
        let scopes = Scopes::of(&[Scope::Infer]);
        NewKey { name: name.into(), scopes, models: None, rate: None, tokens: None, in_flight: None, expires: None }
    }

    fn wait(what: &str, holds: impl Fn() -> bool) {
        for _ in 0..1000 {
            if holds() {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        panic!("{what} does not come true");
    }

    #[test]
    fn a_running_server_sees_keys_come_and_go_and_what_they_used_is_kept() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("deep/keys.sqlite");
        let keys = Keys::watch(&path).unwrap();
        assert!(!keys.any() && keys.find("pasture-").is_none() && !path.exists());
        let book = Book::open(&path).unwrap();
        let (record, text) = book.add(&NewKey { tokens: Some(50), ..new("anna") }).unwrap();
        assert!(
            text.len() == 72 && !std::fs::read(&path).unwrap().windows(16).any(|part| part == &text.as_bytes()[8..24])
        );
        wait("the key", || keys.find(&text).is_some());
        let known = keys.find(&text).unwrap();
        assert_eq!((known.caller.id.as_ref(), known.caller.name.as_ref()), (record.id.as_str(), "anna"));
        assert!(keys.usable() && !known.expired && keys.find(&text.to_uppercase()).is_none());
        known.account.request(since_1970()).unwrap();
        known.account.spend(60, since_1970());
        wait("its use", || book.used(&record.id).unwrap().iter().any(|used| (used.requests, used.tokens) == (1, 60)));
        drop(keys);
        let keys = Keys::watch(&path).unwrap();
        assert_eq!(keys.find(&text).unwrap().account.request(since_1970()).unwrap_err().code, "insufficient_quota");
        book.revoke("anna").unwrap();
        wait("its end", || keys.find(&text).is_none());
        assert!(keys.any() && !keys.usable());
    }

    #[test]
    fn names_quotas_and_files_that_do_not_fit_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keys.sqlite");
        let book = Book::open(&path).unwrap();
        let (first, _) = book.add(&new("anna")).unwrap();
        for (key, part) in [
            (new("anna"), "called \"anna\" already"),
            (new(""), "a key's name"),
            (new("a\nb"), "a key's name"),
            (new(" a"), "a key's name"),
            (NewKey { rate: Some(0), ..new("b") }, "quota \"rate\""),
            (NewKey { models: Some(Vec::new()), ..new("b") }, "list of models"),
        ] {
            let what = book.add(&key).unwrap_err().to_string();
            assert!(what.contains(part), "{what}");
        }
        assert_eq!(book.revoke(&first.id).unwrap().id, first.id);
        assert!(book.revoke(&first.id).unwrap_err().to_string().contains("already"));
        assert!(matches!(book.find("anna"), Err(KeyError::Missing(_))));
        let (second, _) =
            book.add(&NewKey { models: Some(vec!["m".into()]), expires: Some(5), ..new("anna") }).unwrap();
        assert_eq!(book.find("anna").unwrap(), second);
        assert!(!second.holds(5) && second.holds(4) && book.list().unwrap().len() == 2);
        let other = folder.path().join("other");
        std::fs::write(&other, "this is no database of any kind, and long enough to be sure of it").unwrap();
        assert!(matches!(Book::open(&other), Err(KeyError::File { .. })));
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        }
    }
}
