//! Files and batches in an SQLite file that one server has alone. A file is kept line by line, and an answer of a batch
//! becomes a line of its output as it comes: what is there after a crash is what was done. Every statement that a request
//! causes names the caller, so that nobody reads or removes another's.

use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use axum::http::StatusCode;
use rusqlite::{Connection, OptionalExtension, Row, Transaction, params};
use serde_json::{Value, json};

use super::limits;
use crate::moment::now;
use crate::refusal::Refusal;
use crate::sqlite::{self, Layout, Sharing};

/// The files of batches that have not ended are no file yet (`ready` is 0).
const TABLES: &str = "
    CREATE TABLE files (
        number INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, caller TEXT NOT NULL,
        purpose TEXT NOT NULL, name TEXT NOT NULL, bytes INTEGER NOT NULL DEFAULT 0, created INTEGER NOT NULL,
        expires INTEGER, ready INTEGER NOT NULL);
    CREATE INDEX files_of ON files (caller, number);
    CREATE TABLE lines (
        file INTEGER NOT NULL REFERENCES files ON DELETE CASCADE, line INTEGER NOT NULL, text BLOB NOT NULL,
        PRIMARY KEY (file, line));
    CREATE TABLE batches (
        number INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, caller TEXT NOT NULL,
        endpoint TEXT NOT NULL, input TEXT NOT NULL, metadata TEXT, kept INTEGER NOT NULL, status TEXT NOT NULL,
        errors TEXT, output INTEGER, error INTEGER, total INTEGER NOT NULL DEFAULT 0,
        completed INTEGER NOT NULL DEFAULT 0, failed INTEGER NOT NULL DEFAULT 0, created INTEGER NOT NULL,
        began INTEGER, cancelling INTEGER, ended INTEGER);
    CREATE INDEX batches_of ON batches (caller, number);
    CREATE INDEX batches_by ON batches (status);";

/// The words for batches that have not ended.
pub(super) const ACTIVE: &str = "('validating', 'in_progress', 'cancelling')";

/// The file of files and batches.
pub struct Book {
    connection: Mutex<Connection>,
    /// Bytes that a caller may keep.
    pub(super) bytes_max: i64,
}

/// A file to be kept.
pub struct NewFile {
    pub name: String,
    pub content: Vec<u8>,
    /// For how many seconds.
    pub kept: u64,
}

/// A part of a list.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Range {
    /// Begins behind this one.
    pub after: Option<String>,
    pub limit: usize,
    /// The oldest first.
    pub ascending: bool,
    pub purpose: Option<String>,
}

impl Book {
    /// Opens a file, which nobody but its owner may read and no other server may have open, or a book that ends with the
    /// program.
    ///
    /// # Errors
    /// When it cannot be made, another server has it, or another version of the program made it.
    pub fn open(file: Option<&Path>) -> Result<Book, String> {
        let layout = Layout { what: "files and batches", version: 1, tables: TABLES, sharing: Sharing::Alone };
        let bytes_max = if file.is_some() { limits::CALLER_BYTES } else { limits::MEMORY_BYTES };
        Ok(Book { connection: Mutex::new(sqlite::open(file, layout)?), bytes_max })
    }

    /// The connection. What a panic left half done was rolled back.
    pub(super) fn connection(&self) -> MutexGuard<'_, Connection> {
        self.connection.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps a file.
    pub fn add_file(&self, caller: &str, file: &NewFile) -> Result<Value, Refusal> {
        let mut connection = self.connection();
        let change = connection.transaction()?;
        let count = "SELECT count(*) FROM files WHERE caller = ?1";
        let files: i64 = change.query_row(count, [caller], |row| row.get(0))?;
        if files >= limits::FILES {
            return Err(full(format!("at most {} files are kept; delete some", limits::FILES)));
        }
        has_room(&change, caller, file.content.len(), self.bytes_max)?;
        let expires = now().saturating_add_unsigned(file.kept);
        let number = insert_file(&change, caller, "batch", &file.name, Some(expires))?;
        let mut insert = change.prepare_cached("INSERT INTO lines (file, line, text) VALUES (?1, ?2, ?3)")?;
        for (line, text) in file.content.split_inclusive(|byte| *byte == b'\n').enumerate() {
            insert.execute(params![number, line as i64, text])?;
        }
        drop(insert);
        let update = "UPDATE files SET ready = 1, bytes = ?2 WHERE number = ?1";
        change.execute(update, params![number, file.content.len() as i64])?;
        let made = change.query_row(&format!("{FILE} WHERE number = ?1"), [number], told_file)?;
        change.commit()?;
        Ok(made)
    }

    /// Files of a caller, and whether there are more.
    pub fn files(&self, caller: &str, range: &Range) -> Result<(Vec<Value>, bool), Refusal> {
        let select = format!(
            "{FILE} WHERE caller = ?1 AND ready = 1 AND (expires IS NULL OR expires > {now})
             AND (?2 IS NULL OR purpose = ?2)",
            now = now()
        );
        self.listed("files", &select, caller, range, told_file)
    }

    /// A file.
    pub fn file(&self, caller: &str, id: &str) -> Result<Value, Refusal> {
        let connection = self.connection();
        let number = file_number(&connection, caller, id)?;
        Ok(connection.query_row(&format!("{FILE} WHERE number = ?1"), [number], told_file)?)
    }

    /// Name, place and bytes of a file.
    pub fn content(&self, caller: &str, id: &str) -> Result<(String, i64, u64), Refusal> {
        let connection = self.connection();
        let number = file_number(&connection, caller, id)?;
        let row = connection.query_row("SELECT name, bytes FROM files WHERE number = ?1", [number], |row| {
            Ok((row.get::<_, String>(0)?, number, row.get::<_, i64>(1)?.max(0) as u64))
        });
        Ok(row?)
    }

    /// The first line of a file from a place on, and its place.
    pub fn line(&self, file: i64, from: i64) -> Result<Option<(i64, Vec<u8>)>, Refusal> {
        let connection = self.connection();
        let mut select = connection
            .prepare_cached("SELECT line, text FROM lines WHERE file = ?1 AND line >= ?2 ORDER BY line LIMIT 1")?;
        Ok(select.query_row(params![file, from], |row| Ok((row.get(0)?, row.get(1)?))).optional()?)
    }

    /// A file goes; one of which a batch still reads stays.
    pub fn delete_file(&self, caller: &str, id: &str) -> Result<(), Refusal> {
        let mut connection = self.connection();
        let change = connection.transaction()?;
        let number = file_number(&change, caller, id)?;
        let used = format!("SELECT 1 FROM batches WHERE input = ?1 AND caller = ?2 AND status IN {ACTIVE}");
        if change.prepare(&used)?.exists(params![id, caller])? {
            let message = "a batch that has not ended reads this file; cancel the batch, or wait for it";
            return Err(Refusal::new(StatusCode::CONFLICT, "file_in_use", message));
        }
        change.execute("DELETE FROM files WHERE number = ?1", [number])?;
        Ok(change.commit()?)
    }

    /// Removes what is older than it may be.
    pub fn sweep(&self) -> Result<(), Refusal> {
        let (connection, now) = (self.connection(), now());
        let files = format!(
            "DELETE FROM files WHERE ready = 1 AND expires <= ?1
             AND id NOT IN (SELECT input FROM batches WHERE status IN {ACTIVE})"
        );
        connection.execute(&files, [now])?;
        connection.execute("DELETE FROM batches WHERE ended <= ?1", [now.saturating_sub_unsigned(limits::KEPT.1)])?;
        Ok(())
    }

    /// Rows of a caller behind one of them. `select` has its conditions, and a third of the caller's own.
    pub(super) fn listed(
        &self,
        table: &str,
        select: &str,
        caller: &str,
        range: &Range,
        told: fn(&Row<'_>) -> rusqlite::Result<Value>,
    ) -> Result<(Vec<Value>, bool), Refusal> {
        let connection = self.connection();
        let (order, sign) = if range.ascending { ("ASC", '>') } else { ("DESC", '<') };
        let after = match &range.after {
            None => None,
            Some(id) => {
                let found = format!("SELECT number FROM {table} WHERE caller = ?1 AND id = ?2");
                let found: Option<i64> =
                    connection.query_row(&found, params![caller, id], |row| row.get(0)).optional()?;
                let none = || Refusal::field("after", "\"after\" must be the id of one of the list");
                Some(found.ok_or_else(none)?)
            }
        };
        let select = format!("{select} AND (?3 IS NULL OR number {sign} ?3) ORDER BY number {order} LIMIT ?4");
        let mut statement = connection.prepare(&select)?;
        let more = range.limit.saturating_add(1) as i64;
        let rows = statement.query_map(params![caller, range.purpose, after, more], told)?;
        let mut rows = rows.collect::<Result<Vec<Value>, _>>()?;
        let more = rows.len() > range.limit;
        rows.truncate(range.limit);
        Ok((rows, more))
    }
}

const FILE: &str = "SELECT id, bytes, created, expires, name, purpose FROM files";

fn told_file(row: &Row<'_>) -> rusqlite::Result<Value> {
    Ok(json!({
        "id": row.get::<_, String>(0)?, "object": "file", "bytes": row.get::<_, i64>(1)?,
        "created_at": row.get::<_, i64>(2)?, "expires_at": row.get::<_, Option<i64>>(3)?,
        "filename": row.get::<_, String>(4)?, "purpose": row.get::<_, String>(5)?, "status": "processed",
    }))
}

/// A row for a file without lines.
pub(super) fn insert_file(
    change: &Transaction<'_>,
    caller: &str,
    purpose: &str,
    name: &str,
    expires: Option<i64>,
) -> Result<i64, Refusal> {
    let mut insert = change.prepare_cached(
        "INSERT INTO files (id, caller, purpose, name, created, expires, ready)
         VALUES ('file-' || lower(hex(randomblob(12))), ?1, ?2, ?3, ?4, ?5, 0)",
    )?;
    Ok(insert.insert(params![caller, purpose, name, now(), expires])?)
}

/// The number of a caller's file.
pub(super) fn file_number(connection: &Connection, caller: &str, id: &str) -> Result<i64, Refusal> {
    let select = "SELECT number FROM files
        WHERE caller = ?1 AND id = ?2 AND ready = 1 AND (expires IS NULL OR expires > ?3)";
    let found = connection.query_row(select, params![caller, id, now()], |row| row.get(0)).optional()?;
    found.ok_or_else(|| Refusal::new(StatusCode::NOT_FOUND, "file_not_found", "there is no such file"))
}

/// Whether a caller may keep so many bytes more, of so many at most.
pub(super) fn has_room(change: &Transaction<'_>, caller: &str, bytes: usize, most: i64) -> Result<(), Refusal> {
    let mut statement = change.prepare_cached("SELECT coalesce(sum(bytes), 0) FROM files WHERE caller = ?1")?;
    let kept: i64 = statement.query_row([caller], |row| row.get(0))?;
    match kept.saturating_add_unsigned(bytes as u64) > most {
        true => Err(full(format!("at most {} MiB of files are kept; delete some", most >> 20))),
        false => Ok(()),
    }
}

fn full(message: String) -> Refusal {
    Refusal::new(StatusCode::INSUFFICIENT_STORAGE, "files_full", message)
}
