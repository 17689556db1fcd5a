//! The ledger: names of one's own works, and the digests of files that were seen. One SQLite file (`ledger.sqlite` in
//! Pasture's folder of data) in WAL mode, which several processes use at once. It holds no weights: losing it loses
//! names, and nothing that runs. What was made of what, and receipts, travel with the files (`lineage/`).

mod rows;
mod schema;

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rusqlite::{Connection, Transaction, TransactionBehavior};

use crate::durable;
use crate::environment::Environment;
use crate::error::{Error, Result};
pub use rows::{Seen, Stamp, Work};

/// The file's name in Pasture's folder of data.
pub const FILE: &str = "ledger.sqlite";

/// How long one process waits for another's change.
const WAIT: Duration = Duration::from_secs(30);

/// An open ledger. Each thread opens its own.
pub struct Ledger {
    connection: Connection,
    path: PathBuf,
}

impl Ledger {
    /// The user's ledger, made where there is none: `$PASTURE_HOME`, `$XDG_DATA_HOME/pasture` or
    /// `~/.local/share/pasture`.
    ///
    /// # Errors
    /// Where there is no such folder, where it cannot be opened, and where a later version of Pasture made it.
    pub fn open() -> Result<Ledger> {
        Ledger::open_in(&Environment::current())
    }

    /// [`Ledger::open`] with another environment.
    ///
    /// # Errors
    /// As there.
    pub fn open_in(environment: &Environment) -> Result<Ledger> {
        let folder = environment.data().ok_or(Error::NoData)?;
        durable::folder(folder)?;
        Ledger::open_at(&folder.join(FILE))
    }

    /// The ledger of an environment; none where none was made yet.
    ///
    /// # Errors
    /// Where it cannot be opened.
    pub fn existing_in(environment: &Environment) -> Result<Option<Ledger>> {
        let file = environment.data().map(|folder| folder.join(FILE)).filter(|file| file.is_file());
        file.map(|file| Ledger::open_at(&file)).transpose()
    }

    /// The ledger of that file, made where there is none.
    ///
    /// # Errors
    /// Where it cannot be opened, and where a later version of Pasture made it.
    pub fn open_at(path: &Path) -> Result<Ledger> {
        let told = |doing| move |source| Error::Ledger { doing, source };
        let mut connection = Connection::open(path).map_err(told("open"))?;
        connection.busy_timeout(WAIT).map_err(told("open"))?;
        connection.pragma_update(None, "foreign_keys", true).map_err(told("open"))?;
        if !schema::is_current(&connection).map_err(told("open"))? {
            // Changing to WAL does not wait for others, so that one process at a time does it.
            let lock = durable::partial(&path.with_extension("lock"))?;
            lock.lock().map_err(|fault| pasture_files::Error::write(path, fault))?;
            schema::migrate(&mut connection)?;
        }
        // A commit that was told is on the disk, also when the power goes.
        connection.pragma_update(None, "synchronous", "FULL").map_err(told("open"))?;
        Ok(Ledger { connection, path: path.to_owned() })
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Runs changes as one: all of them or none, and nobody else's in between.
    ///
    /// # Errors
    /// Those of `change`, after which nothing has changed, and the ledger's own.
    pub fn change<T>(&mut self, change: impl FnOnce(&Change<'_>) -> Result<T>) -> Result<T> {
        let told = |doing| move |source| Error::Ledger { doing, source };
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate);
        let change_in = Change { transaction: transaction.map_err(told("change"))? };
        let value = change(&change_in)?;
        change_in.transaction.commit().map_err(told("change"))?;
        Ok(value)
    }

    /// Whether SQLite finds its file whole; what is wrong with it otherwise.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn check(&self) -> Result<Option<String>> {
        let found = self.connection.query_row("PRAGMA quick_check(1)", [], |row| row.get::<_, String>(0));
        let found = found.map_err(|source| Error::Ledger { doing: "check", source })?;
        Ok((found != "ok").then_some(found))
    }
}

/// A change that is not yet final: the same verbs as [`Ledger`]'s, which see each other's effects.
pub struct Change<'l> {
    transaction: Transaction<'l>,
}

/// Seconds since 1970.
pub(crate) fn now() -> i64 {
    seconds(SystemTime::now())
}

pub(crate) fn seconds(time: SystemTime) -> i64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| i64::try_from(since.as_secs()).unwrap_or(i64::MAX))
}
