//! The ledger's rows as values, and the verbs that read and write them. What a row says is parsed when it is read: a
//! digest or a step that somebody else wrote wrongly is an error, never a path.

use std::fmt;
use std::fs::Metadata;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use rusqlite::{Connection, OptionalExtension, Row, ToSql, params};

use super::{Change, Ledger, now};
use crate::digest::Digest;
use crate::error::{Error, Result};

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

/// What made a derivative.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Step {
    /// Training.
    Tune,
    /// Adapters into a model, or models with each other.
    Merge,
    /// Fewer bits.
    Quantize,
    /// An assistant made of a model, adapters, texts.
    Create,
}

impl Step {
    const ALL: [(Step, &str); 4] =
        [(Step::Tune, "tune"), (Step::Merge, "merge"), (Step::Quantize, "quantize"), (Step::Create, "create")];

    /// The step of that name.
    pub fn parse(text: &str) -> Option<Step> {
        Step::ALL.iter().find(|(_, name)| *name == text).map(|(step, _)| *step)
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        Step::ALL.iter().find(|(step, _)| *step == self).map_or("", |(_, name)| name)
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// One thing was made of another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Edge {
    /// What was made.
    pub child: Digest,
    /// Of what.
    pub parent: Digest,
    /// How.
    pub step: Step,
    /// The step's settings, as JSON.
    pub recipe: String,
    /// What the step did to quality, as JSON.
    pub receipt: Option<String>,
}

/// A measurement of a work.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Receipt {
    /// Of which bytes it speaks.
    pub digest: Digest,
    /// A word, as `eval`; there is one receipt of each kind.
    pub kind: String,
    /// JSON.
    pub body: String,
}

/// A key whose signatures count.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrustedKey {
    /// Whose it is, in the user's words.
    pub name: String,
    /// Ed25519.
    pub public: [u8; 32],
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
    /// When the digest was computed.
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

fn edge(row: &Row<'_>) -> rusqlite::Result<Edge> {
    let step: String = row.get(2)?;
    let step = Step::parse(&step).ok_or_else(|| strange(2, format!("{step:?} is no step")))?;
    Ok(Edge { child: digest(row, 0)?, parent: digest(row, 1)?, step, recipe: row.get(3)?, receipt: row.get(4)? })
}

fn receipt(row: &Row<'_>) -> rusqlite::Result<Receipt> {
    Ok(Receipt { digest: digest(row, 0)?, kind: row.get(1)?, body: row.get(2)? })
}

fn trusted_key(row: &Row<'_>) -> rusqlite::Result<TrustedKey> {
    Ok(TrustedKey { name: row.get(0)?, public: row.get(1)? })
}

fn seen(row: &Row<'_>) -> rusqlite::Result<Seen> {
    let stamp = Stamp { bytes: unsigned(row, 2)?, modified_ns: row.get(3)?, inode: unsigned(row, 4)? };
    Ok(Seen { path: PathBuf::from(row.get::<_, String>(0)?), digest: digest(row, 1)?, stamp })
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
const EDGE: &str = "SELECT child, parent, step, recipe, receipt FROM edge";
const SEEN: &str = "SELECT path, digest, bytes, modified_ns, inode FROM seen";

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

            /// All works of those bytes, by name.
            pub fn works_of(&self, digest: Digest) -> Result<Vec<Work>> {
                all(&self.$connection, &format!("{WORK} WHERE digest = ?1 ORDER BY name"), &[&digest.to_string()], work)
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

            /// Removes a name; false where there was none. Files, edges and receipts stay.
            pub fn remove_work(&self, name: &str) -> Result<bool> {
                run(&self.$connection, "DELETE FROM work WHERE name = ?1", &[&name])
            }

            /// Writes that one thing was made of another; the same step again replaces what was said of it.
            pub fn put_edge(&self, edge: &Edge) -> Result<()> {
                run(
                    &self.$connection,
                    "INSERT OR REPLACE INTO edge (child, parent, step, recipe, receipt, made)
                     VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
                    params![
                        edge.child.to_string(),
                        edge.parent.to_string(),
                        edge.step.name(),
                        edge.recipe,
                        edge.receipt,
                        now()
                    ],
                )
                .map(drop)
            }

            /// What those bytes were made of.
            pub fn parents(&self, child: Digest) -> Result<Vec<Edge>> {
                let query = format!("{EDGE} WHERE child = ?1 ORDER BY parent, step");
                all(&self.$connection, &query, &[&child.to_string()], edge)
            }

            /// What was made of those bytes.
            pub fn children(&self, parent: Digest) -> Result<Vec<Edge>> {
                let query = format!("{EDGE} WHERE parent = ?1 ORDER BY child, step");
                all(&self.$connection, &query, &[&parent.to_string()], edge)
            }

            /// Writes a receipt; one of the same kind of the same bytes is replaced.
            pub fn put_receipt(&self, receipt: &Receipt) -> Result<()> {
                run(
                    &self.$connection,
                    "INSERT OR REPLACE INTO receipt (digest, kind, body, made) VALUES (?1, ?2, ?3, ?4)",
                    params![receipt.digest.to_string(), receipt.kind, receipt.body, now()],
                )
                .map(drop)
            }

            /// All receipts of those bytes, by kind.
            pub fn receipts(&self, digest: Digest) -> Result<Vec<Receipt>> {
                let query = "SELECT digest, kind, body FROM receipt WHERE digest = ?1 ORDER BY kind";
                all(&self.$connection, query, &[&digest.to_string()], receipt)
            }

            /// Trusts a key; one of the same name is replaced.
            pub fn trust(&self, key: &TrustedKey) -> Result<()> {
                run(
                    &self.$connection,
                    "INSERT OR REPLACE INTO trusted_key (name, public, made) VALUES (?1, ?2, ?3)",
                    params![key.name, key.public, now()],
                )
                .map(drop)
            }

            /// Trusts a key no longer; false where there was none of that name.
            pub fn distrust(&self, name: &str) -> Result<bool> {
                run(&self.$connection, "DELETE FROM trusted_key WHERE name = ?1", &[&name])
            }

            /// All trusted keys, by name.
            pub fn trusted(&self) -> Result<Vec<TrustedKey>> {
                all(&self.$connection, "SELECT name, public FROM trusted_key ORDER BY name", &[], trusted_key)
            }

            /// Writes what digest a file had, and how it looked then.
            pub fn put_seen(&self, seen: &Seen) -> Result<()> {
                run(
                    &self.$connection,
                    "INSERT OR REPLACE INTO seen (path, digest, bytes, modified_ns, inode, made)
                     VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
                    params![
                        text(&seen.path)?,
                        seen.digest.to_string(),
                        seen.stamp.bytes.cast_signed(),
                        seen.stamp.modified_ns,
                        seen.stamp.inode.cast_signed(),
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
