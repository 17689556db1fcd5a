//! The file of keys: SQLite, readable by its owner only. Each call stands for itself, so that several programs may use
//! one file at once. Invariant: a row is never taken out; what is revoked stays, so that its id is never used again.

use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, OptionalExtension, Row, params};
use sha2::{Digest, Sha256};

use crate::caller::Scopes;
use crate::moment::since_1970;
use crate::random::{random_key, word};

/// What a key begins with, so that scanners for secrets can find one.
const PREFIX: &str = "pasture-";
/// Longest name, in letters.
const NAME_LETTERS: usize = 64;
/// How long a program waits for another that writes.
const BUSY: Duration = Duration::from_secs(5);
const COLUMNS: &str = "id, name, scopes, models, rate, tokens, in_flight, made, expires, revoked";

const TABLES: &str = "
    CREATE TABLE IF NOT EXISTS keys (
        id TEXT PRIMARY KEY,
        name TEXT NOT NULL,
        digest BLOB NOT NULL UNIQUE CHECK (length(digest) = 32),
        scopes TEXT NOT NULL,
        models TEXT,
        rate INTEGER,
        tokens INTEGER,
        in_flight INTEGER,
        made INTEGER NOT NULL,
        expires INTEGER,
        revoked INTEGER
    );
    CREATE UNIQUE INDEX IF NOT EXISTS names ON keys (name) WHERE revoked IS NULL;
    CREATE TABLE IF NOT EXISTS used (
        key TEXT NOT NULL,
        day INTEGER NOT NULL,
        requests INTEGER NOT NULL,
        tokens INTEGER NOT NULL,
        PRIMARY KEY (key, day)
    );
    PRAGMA user_version = 1;
";

/// Why keys cannot be read or changed.
#[derive(Debug)]
pub enum KeyError {
    /// What was asked for does not fit; says what to do.
    Asked(String),
    /// No key has that id or name.
    Missing(String),
    /// The file cannot be used.
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        what: String,
    },
}

impl std::fmt::Display for KeyError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            KeyError::Asked(what) => f.write_str(what),
            KeyError::Missing(name) => write!(f, "there is no key with the id or name {name:?}"),
            KeyError::File { path, what } => write!(f, "cannot use the file of keys {}: {what}", path.display()),
        }
    }
}

impl std::error::Error for KeyError {}

/// A key that is to be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewKey {
    /// A name of its own among keys that are not revoked.
    pub name: String,
    /// What it may do.
    pub scopes: Scopes,
    /// The models it may use; all where absent.
    pub models: Option<Vec<String>>,
    /// Requests a minute; any number where absent.
    pub rate: Option<u64>,
    /// Tokens a day in universal time, of prompts and answers; any number where absent.
    pub tokens: Option<u64>,
    /// Answers that are made or wait at once; [`crate::limits::KEY_IN_FLIGHT`] where absent.
    pub in_flight: Option<u64>,
    /// When it ends, in seconds since 1970; never where absent.
    pub expires: Option<u64>,
}

/// A key as the file has it, without the key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Which; no secret.
    pub id: String,
    /// What was asked for when it was made.
    pub key: NewKey,
    /// When it was made, in seconds since 1970.
    pub made: u64,
    /// When it was revoked, in seconds since 1970.
    pub revoked: Option<u64>,
}

impl Record {
    /// Can it be used at a moment, in seconds since 1970?
    pub fn holds(&self, now: u64) -> bool {
        self.revoked.is_none() && self.key.expires.is_none_or(|end| now < end)
    }
}

/// What a key used on one day.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Use {
    /// The day, counted from 1970 in universal time.
    pub day: u64,
    /// Requests that were let in.
    pub requests: u64,
    /// Tokens of prompts and answers.
    pub tokens: u64,
}

/// An open file of keys.
pub struct Book {
    path: PathBuf,
    connection: Connection,
}

impl Book {
    /// Opens a file; makes it, and its folder, where it is not there.
    ///
    /// # Errors
    /// When that fails, or the file is of another kind or a later version.
    pub fn open(path: &Path) -> Result<Book, KeyError> {
        let fail = |what: String| KeyError::File { path: path.to_owned(), what };
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).map_err(|error| fail(error.to_string()))?;
        }
        let connection = Connection::open(path).map_err(|error| fail(error.to_string()))?;
        only_owner(path).map_err(|error| fail(error.to_string()))?;
        let book = Book { path: path.to_owned(), connection };
        book.prepare().map_err(|error| book.fault(&error))?;
        let version: i64 = book.of(|db| db.query_row("PRAGMA user_version", [], |row| row.get(0)))?;
        match version {
            1 => Ok(book),
            other => Err(fail(format!("it is of version {other}, and this program knows version 1"))),
        }
    }

    fn prepare(&self) -> rusqlite::Result<()> {
        self.connection.busy_timeout(BUSY)?;
        self.connection.pragma_update(None, "journal_mode", "WAL")?;
        let version: i64 = self.connection.query_row("PRAGMA user_version", [], |row| row.get(0))?;
        if version == 0 {
            self.connection.execute_batch(&format!("BEGIN IMMEDIATE; {TABLES} COMMIT;"))?;
        }
        Ok(())
    }

    /// Makes a key; gives its text, which nothing can tell again.
    ///
    /// # Errors
    /// When the name is taken or does not fit, or the file cannot be written.
    pub fn add(&self, key: &NewKey) -> Result<(Record, String), KeyError> {
        check(key)?;
        let none = |error: std::io::Error| KeyError::Asked(error.to_string());
        let id = format!("k{}", word::<4>().map_err(none)?);
        let text = format!("{PREFIX}{}", random_key().map_err(none)?);
        let models = key.models.as_ref().map(|models| serde_json::json!(models).to_string());
        let made = since_1970().as_secs();
        let wrote = self.connection.execute(
            &format!("INSERT INTO keys ({COLUMNS}, digest) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, NULL, ?10)"),
            params![
                id,
                key.name,
                key.scopes.words().join(","),
                models,
                key.rate.map(|count| count as i64),
                key.tokens.map(|count| count as i64),
                key.in_flight.map(|count| count as i64),
                made as i64,
                key.expires.map(|moment| moment as i64),
                &digest(&text)[..],
            ],
        );
        match wrote {
            Ok(_) => Ok((Record { id, key: key.clone(), made, revoked: None }, text)),
            Err(rusqlite::Error::SqliteFailure(error, _)) if error.code == rusqlite::ErrorCode::ConstraintViolation => {
                let what = format!("there is a key called {:?} already; revoke it, or take another name", key.name);
                Err(KeyError::Asked(what))
            }
            Err(error) => Err(self.fault(&error)),
        }
    }

    /// All keys, revoked ones as well, the oldest first.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn list(&self) -> Result<Vec<Record>, KeyError> {
        let rows = |db: &Connection| {
            let mut statement = db.prepare(&format!("SELECT {COLUMNS} FROM keys ORDER BY made, rowid"))?;
            statement.query_map([], record)?.collect()
        };
        self.of(rows)
    }

    /// The key with an id, or that name which is not revoked.
    ///
    /// # Errors
    /// When there is none, or the file cannot be read.
    pub fn find(&self, name: &str) -> Result<Record, KeyError> {
        let query = format!(
            "SELECT {COLUMNS} FROM keys WHERE id = ?1 OR (name = ?1 AND revoked IS NULL) ORDER BY id = ?1 DESC LIMIT 1"
        );
        let found = self.of(|db| db.query_row(&query, [name], record).optional())?;
        found.ok_or_else(|| KeyError::Missing(name.to_owned()))
    }

    /// Revokes a key by id or name, for ever.
    ///
    /// # Errors
    /// When there is none, it is revoked already, or the file cannot be written.
    pub fn revoke(&self, name: &str) -> Result<Record, KeyError> {
        let found = self.find(name)?;
        if found.revoked.is_some() {
            return Err(KeyError::Asked(format!("the key {} is revoked already", found.id)));
        }
        let now = since_1970().as_secs();
        let update = "UPDATE keys SET revoked = ?1 WHERE id = ?2 AND revoked IS NULL";
        self.of(|db| db.execute(update, params![now as i64, found.id]))?;
        Ok(Record { revoked: Some(now), ..found })
    }

    /// What a key used on its last day, at most 31 of them, the latest first.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn used(&self, id: &str) -> Result<Vec<Use>, KeyError> {
        let rows = |db: &Connection| {
            let query = "SELECT day, requests, tokens FROM used WHERE key = ?1 ORDER BY day DESC LIMIT 31";
            let mut statement = db.prepare(query)?;
            let one = |row: &Row<'_>| Ok(Use { day: whole(row, 0)?, requests: whole(row, 1)?, tokens: whole(row, 2)? });
            statement.query_map([id], one)?.collect()
        };
        self.of(rows)
    }

    /// Adds to what a key used on a day.
    pub(super) fn spend(&self, id: &str, spent: Use) -> Result<(), KeyError> {
        let upsert = "INSERT INTO used (key, day, requests, tokens) VALUES (?1, ?2, ?3, ?4)
            ON CONFLICT (key, day) DO UPDATE SET requests = requests + ?3, tokens = tokens + ?4";
        let Use { day, requests, tokens } = spent;
        self.of(|db| db.execute(upsert, params![id, day as i64, requests as i64, tokens as i64]))?;
        Ok(())
    }

    /// All keys with their digests, and what each used on a day.
    pub(super) fn all(&self, day: u64) -> Result<Vec<([u8; 32], Record, Use)>, KeyError> {
        let rows = |db: &Connection| {
            let of_day = |what: &str| {
                format!("coalesce((SELECT used.{what} FROM used WHERE used.key = keys.id AND used.day = ?1), 0)")
            };
            let (requests, tokens) = (of_day("requests"), of_day("tokens"));
            let query = format!("SELECT {COLUMNS}, digest, {requests}, {tokens} FROM keys");
            let mut statement = db.prepare(&query)?;
            let one = |row: &Row<'_>| {
                let used = Use { day, requests: whole(row, 11)?, tokens: whole(row, 12)? };
                Ok((row.get::<_, [u8; 32]>(10)?, record(row)?, used))
            };
            statement.query_map([day as i64], one)?.collect()
        };
        self.of(rows)
    }

    /// A number that changes when another program wrote.
    pub(super) fn version(&self) -> Result<i64, KeyError> {
        self.of(|db| db.query_row("PRAGMA data_version", [], |row| row.get(0)))
    }

    fn of<T>(&self, work: impl FnOnce(&Connection) -> rusqlite::Result<T>) -> Result<T, KeyError> {
        work(&self.connection).map_err(|error| self.fault(&error))
    }

    fn fault(&self, error: &rusqlite::Error) -> KeyError {
        KeyError::File { path: self.path.clone(), what: error.to_string() }
    }
}

/// The digest of a key's text.
pub(super) fn digest(text: &str) -> [u8; 32] {
    Sha256::digest(text.as_bytes()).into()
}

fn check(key: &NewKey) -> Result<(), KeyError> {
    let letters = key.name.chars().count();
    let good = |letter: char| letter.is_alphanumeric() || matches!(letter, '-' | '_' | '.' | '@' | ' ');
    if letters == 0 || letters > NAME_LETTERS || !key.name.chars().all(good) || key.name.trim() != key.name {
        let what = format!("a key's name has 1 to {NAME_LETTERS} letters, digits, spaces or any of -_.@");
        return Err(KeyError::Asked(what));
    }
    let numbers = [("rate", key.rate), ("tokens", key.tokens), ("in flight", key.in_flight)];
    if let Some((what, _)) = numbers.iter().find(|(_, number)| number.is_some_and(|n| n == 0 || n > 1 << 53)) {
        return Err(KeyError::Asked(format!("the quota \"{what}\" must be from 1 to 2^53")));
    }
    if key.models.as_ref().is_some_and(Vec::is_empty) {
        return Err(KeyError::Asked("a list of models without a model lets nothing be used".to_owned()));
    }
    Ok(())
}

fn record(row: &Row<'_>) -> rusqlite::Result<Record> {
    let wrong = |column: usize, what: String| {
        rusqlite::Error::FromSqlConversionFailure(column, rusqlite::types::Type::Text, what.into())
    };
    let scopes: String = row.get(2)?;
    let models: Option<String> = row.get(3)?;
    let models = models.map(|text| serde_json::from_str(&text).map_err(|error| wrong(3, error.to_string())));
    let optional =
        |column: usize| row.get::<_, Option<i64>>(column).map(|value| value.map(|value| value.max(0) as u64));
    Ok(Record {
        id: row.get(0)?,
        key: NewKey {
            name: row.get(1)?,
            scopes: Scopes::parse(&scopes).map_err(|what| wrong(2, what))?,
            models: models.transpose()?,
            rate: optional(4)?,
            tokens: optional(5)?,
            in_flight: optional(6)?,
            expires: optional(8)?,
        },
        made: whole(row, 7)?,
        revoked: optional(9)?,
    })
}

fn whole(row: &Row<'_>, column: usize) -> rusqlite::Result<u64> {
    Ok(row.get::<_, i64>(column)?.max(0) as u64)
}

#[cfg(unix)]
fn only_owner(path: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))
}

#[cfg(not(unix))]
fn only_owner(_: &Path) -> std::io::Result<()> {
    Ok(())
}
