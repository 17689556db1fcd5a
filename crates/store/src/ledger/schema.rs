//! The ledger's tables, one step for each version of them. A step, once published, never changes: the next one adds.

use rusqlite::{Connection, TransactionBehavior};

use crate::error::{Error, Result};

/// What makes version 1 of version 0, and so on.
const STEPS: [&str; 2] = [
    "
CREATE TABLE work (
    name TEXT PRIMARY KEY,
    digest TEXT NOT NULL,
    path TEXT NOT NULL,
    format TEXT NOT NULL,
    bytes INTEGER NOT NULL,
    origin TEXT,
    revision TEXT,
    license TEXT,
    made INTEGER NOT NULL
) STRICT;
CREATE INDEX work_of_path ON work (path);
CREATE TABLE seen (
    path TEXT PRIMARY KEY,
    digest TEXT NOT NULL,
    bytes INTEGER NOT NULL,
    modified_ns INTEGER NOT NULL,
    inode INTEGER NOT NULL,
    made INTEGER NOT NULL
) STRICT;
",
    // BLAKE3 as hexadecimal digits, where it was computed too.
    "ALTER TABLE seen ADD COLUMN quick TEXT;",
];

/// The version that this program knows.
pub const VERSION: i64 = STEPS.len() as i64;

/// Whether nothing is to be done: this version, in WAL mode.
pub fn is_current(connection: &Connection) -> rusqlite::Result<bool> {
    let mode: String = connection.query_row("PRAGMA journal_mode", [], |row| row.get(0))?;
    Ok(version(connection)? == VERSION && mode == "wal")
}

fn version(connection: &Connection) -> rusqlite::Result<i64> {
    connection.query_row("PRAGMA user_version", [], |row| row.get(0))
}

/// Brings a ledger to this version; each step happens whole or not at all.
pub fn migrate(connection: &mut Connection) -> Result<()> {
    let told = |source| Error::Ledger { doing: "prepare", source };
    connection.query_row("PRAGMA journal_mode = WAL", [], |_| Ok(())).map_err(told)?;
    loop {
        let change = connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(told)?;
        let found = version(&change).map_err(told)?;
        let Some(step) = usize::try_from(found).ok().and_then(|found| STEPS.get(found)) else {
            return match found == VERSION {
                true => Ok(()),
                false => Err(Error::Later { found, known: VERSION }),
            };
        };
        change.execute_batch(step).map_err(told)?;
        change.pragma_update(None, "user_version", found + 1).map_err(told)?;
        change.commit().map_err(told)?;
    }
}
