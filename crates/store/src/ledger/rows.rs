//! The ledger's rows as values, and the verbs that read and write them. What a row says is parsed when it is read: a
//! digest that somebody else wrote wrongly is an error, never a path.

use std::fs::Metadata;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use rusqlite::{Connection, OptionalExtension, Row, ToSql, params};

use super::{Change, Ledger, now};
use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::sums::Quick;

/// A work of one's own: a name for files that are somewhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Work {
    /// What [`crate::resolve`] finds it by.
    pub name: String,
    /// Of the file, or of the list of the folder's files ([`Digest::of_path`]).
    pub digest: Digest,
    /// The file or folder.
    pub path: PathBuf,
    /// `GGUF`, `safetensors`, `PyTorch`, or what else it is.
    pub format: String,
    /// Bytes of its weights.
    pub bytes: u64,
    /// The address it is from.
    pub origin: Option<String>,
    /// The revision of that.
    pub revision: Option<String>,
    /// Its license's identifier, as `apache-2.0`.
    pub license: Option<String>,
    /// Seconds since 1970.
    pub made: i64,
}

/// What tells without reading that a file has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// Its length.
    pub bytes: u64,
    /// Nanoseconds since 1970 of its last change.
    pub modified_ns: i64,
    /// Its number in the file system; 0 where there are none.
    pub inode: u64,
}

impl Stamp {
    /// That of a file.
    pub fn of(metadata: &Metadata) -> Stamp {
        let modified = metadata.modified().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
        #[cfg(unix)]
        let inode = std::os::unix::fs::MetadataExt::ino(metadata);
        #[cfg(not(unix))]
        let inode = 0;
        let modified_ns = modified.map_or(0, |since| i64::try_from(since.as_nanos()).unwrap_or(i64::MAX));
        Stamp { bytes: metadata.len(), modified_ns, inode }
    }
}

/// A file whose digest was computed, and how it was then.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// The real path.
    pub path: PathBuf,
    /// Of its bytes.
    pub digest: Digest,
    /// Its other digest, where that was computed too.
    pub quick: Option<Quick>,
    /// How it was when they were computed.
    pub stamp: Stamp,
}

/// A column that does not hold what this program writes.
fn strange(index: usize, what: String) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(index, rusqlite::types::Type::Text, what.into())
}

fn digest(row: &Row<'_>, index: usize) -> rusqlite::Result<Digest> {
    Digest::parse(&row.get::<_, String>(index)?).map_err(|what| strange(index, what))
}

fn work(row: &Row<'_>) -> rusqlite::Result<Work> {
    Ok(Work {
        name: row.get(0)?,
        digest: digest(row, 1)?,
        path: PathBuf::from(row.get::<_, String>(2)?),
        format: row.get(3)?,
        bytes: unsigned(row, 4)?,
        origin: row.get(5)?,
        revision: row.get(6)?,
        license: row.get(7)?,
        made: row.get(8)?,
    })
}

/// SQLite's numbers have a sign; the bits are kept.
fn unsigned(row: &Row<'_>, index: usize) -> rusqlite::Result<u64> {
    Ok(row.get::<_, i64>(index)?.cast_unsigned())
}

fn seen(row: &Row<'_>) -> rusqlite::Result<Seen> {
    let stamp = Stamp { bytes: unsigned(row, 2)?, modified_ns: row.get(3)?, inode: unsigned(row, 4)? };
    let quick = row.get::<_, Option<String>>(5)?.map(|digits| Quick::parse(&digits).map_err(|what| strange(5, what)));
    let path = PathBuf::from(row.get::<_, String>(0)?);
    Ok(Seen { path, digest: digest(row, 1)?, quick: quick.transpose()?, stamp })
}

/// A path as the ledger holds it.
fn text(path: &Path) -> Result<&str> {
    path.to_str().ok_or_else(|| Error::Path { path: path.to_string_lossy().into_owned() })
}

fn all<T>(
    connection: &Connection,
    query: &str,
    arguments: &[&dyn ToSql],
    read: fn(&Row<'_>) -> rusqlite::Result<T>,
) -> Result<Vec<T>> {
    let run = || connection.prepare_cached(query)?.query_map(arguments, read)?.collect::<rusqlite::Result<Vec<T>>>();
    run().map_err(|source| Error::Ledger { doing: "read", source })
}

fn one<T>(
    connection: &Connection,
    query: &str,
    arguments: &[&dyn ToSql],
    read: fn(&Row<'_>) -> rusqlite::Result<T>,
) -> Result<Option<T>> {
    let run = || connection.prepare_cached(query)?.query_row(arguments, read).optional();
    run().map_err(|source| Error::Ledger { doing: "read", source })
}

fn run(connection: &Connection, statement: &str, arguments: &[&dyn ToSql]) -> Result<bool> {
    let changed = connection.prepare_cached(statement).and_then(|mut ready| ready.execute(arguments));
    changed.map(|count| count > 0).map_err(|source| Error::Ledger { doing: "change", source })
}

const WORK: &str = "SELECT name, digest, path, format, bytes, origin, revision, license, made FROM work";
const SEEN: &str = "SELECT path, digest, bytes, modified_ns, inode, quick FROM seen";

/// The verbs stand once, for the ledger (each a change of its own) and for a change of several.
macro_rules! verbs {
    ($owner:ty, $connection:ident) => {
        impl $owner {
            /// The work of that name.
            pub fn work(&self, name: &str) -> Result<Option<Work>> {
                one(&self.$connection, &format!("{WORK} WHERE name = ?1"), &[&name], work)
            }

            /// All works, by name.
            pub fn works(&self) -> Result<Vec<Work>> {
                all(&self.$connection, &format!("{WORK} ORDER BY name"), &[], work)
            }

            /// Writes a work; one of the same name is replaced.
            pub fn put_work(&self, work: &Work) -> Result<()> {
                run(
                    &self.$connection,
                    "INSERT OR REPLACE INTO work (name, digest, path, format, bytes, origin, revision, license, made)
                     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
                    params![
                        work.name,
                        work.digest.to_string(),
                        text(&work.path)?,
                        work.format,
                        work.bytes.cast_signed(),
                        work.origin,
                        work.revision,
                        work.license,
                        work.made
                    ],
                )
                .map(drop)
            }

            /// Removes a name; false where there was none. Files stay.
            pub fn remove_work(&self, name: &str) -> Result<bool> {
                run(&self.$connection, "DELETE FROM work WHERE name = ?1", &[&name])
            }

            /// Writes what digest a file had, and how it looked then.
            pub fn put_seen(&self, seen: &Seen) -> Result<()> {
                run(
                    &self.$connection,
                    "INSERT OR REPLACE INTO seen (path, digest, bytes, modified_ns, inode, quick, made)
                     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
                    params![
                        text(&seen.path)?,
                        seen.digest.to_string(),
                        seen.stamp.bytes.cast_signed(),
                        seen.stamp.modified_ns,
                        seen.stamp.inode.cast_signed(),
                        seen.quick.map(|quick| quick.to_string()),
                        now()
                    ],
                )
                .map(drop)
            }

            /// What is known of a file, by its real path.
            pub fn seen(&self, path: &Path) -> Result<Option<Seen>> {
                one(&self.$connection, &format!("{SEEN} WHERE path = ?1"), &[&text(path)?], seen)
            }

            /// All files that were seen.
            pub fn all_seen(&self) -> Result<Vec<Seen>> {
                all(&self.$connection, &format!("{SEEN} ORDER BY path"), &[], seen)
            }

            /// Forgets a file.
            pub fn forget(&self, path: &Path) -> Result<bool> {
                run(&self.$connection, "DELETE FROM seen WHERE path = ?1", &[&text(path)?])
            }
        }
    };
}

verbs!(Ledger, connection);
verbs!(Change<'_>, transaction);
