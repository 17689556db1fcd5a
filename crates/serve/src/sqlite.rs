//! SQLite files that the server keeps: made for their owner only, opened with the same settings, and of a version that
//! this program knows.

use std::path::Path;
use std::time::Duration;

use rusqlite::Connection;

use crate::refusal::Refusal;

/// Who else may have a file open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sharing {
    /// Other servers of this machine as well.
    Several,
    /// Nobody: a second one is refused.
    Alone,
}

/// What a file holds.
#[derive(Clone, Copy, Debug)]
pub struct Layout {
    /// In words, for errors.
    pub what: &'static str,
    /// The version of the tables.
    pub version: i64,
    pub tables: &'static str,
    pub sharing: Sharing,
}

impl From<rusqlite::Error> for Refusal {
    fn from(error: rusqlite::Error) -> Refusal {
        Refusal::ours(&format!("a file of the server's own: {error}"))
    }
}

/// Opens a file, which nobody but its owner may read, or tables that end with the program.
///
/// # Errors
/// When it cannot be made, another version of the program made it, or another server has it.
pub fn open(file: Option<&Path>, layout: Layout) -> Result<Connection, String> {
    let wrong = |error: String| match file {
        Some(file) => format!("cannot keep {} in {file:?}: {error}", layout.what),
        None => format!("cannot keep {}: {error}", layout.what),
    };
    let connection = match file {
        Some(file) => {
            create(file).map_err(|error| wrong(error.to_string()))?;
            Connection::open(file)
        }
        None => Connection::open_in_memory(),
    };
    let mut connection = connection.map_err(|error| wrong(error.to_string()))?;
    prepare(&mut connection, layout).map_err(wrong)?;
    Ok(connection)
}

/// The file, and the folder of the program's data where that is missing.
fn create(file: &Path) -> std::io::Result<()> {
    if let Some(folder) = file.parent() {
        std::fs::create_dir_all(folder)?;
    }
    let mut options = std::fs::OpenOptions::new();
    options.create(true).append(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(file).map(drop)
}

fn prepare(connection: &mut Connection, layout: Layout) -> Result<(), String> {
    let text = |error: rusqlite::Error| match error.sqlite_error_code() {
        Some(rusqlite::ErrorCode::DatabaseBusy) => "another server on this machine has it".to_owned(),
        _ => error.to_string(),
    };
    let (wait, locking) = match layout.sharing {
        Sharing::Several => (Duration::from_secs(5), ""),
        // Whoever ends just now is waited for, one that stays is not.
        Sharing::Alone => (Duration::from_millis(500), "PRAGMA locking_mode = EXCLUSIVE;"),
    };
    connection.busy_timeout(wait).map_err(text)?;
    let pragmas = "PRAGMA journal_mode = WAL; PRAGMA foreign_keys = ON; PRAGMA secure_delete = ON;
                   PRAGMA trusted_schema = OFF;";
    connection.execute_batch(&format!("{locking} {pragmas}")).map_err(text)?;
    let change = connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate).map_err(text)?;
    let version: i64 = change.query_row("PRAGMA user_version", [], |row| row.get(0)).map_err(text)?;
    if version == 0 {
        let made = change.execute_batch(layout.tables);
        made.and_then(|()| change.pragma_update(None, "user_version", layout.version)).map_err(text)?;
    } else if version != layout.version {
        return Err(format!("its version is {version}, and this program knows {}", layout.version));
    }
    change.commit().map_err(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_its_owners_of_a_known_version_and_alone_where_asked() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("deep/it.sqlite");
        let layout = |version: i64, sharing: Sharing| Layout {
            what: "it",
            version,
            tables: "CREATE TABLE one (two INTEGER);",
            sharing,
        };
        let alone = open(Some(&path), layout(1, Sharing::Alone)).unwrap();
        alone.execute("INSERT INTO one VALUES (5)", []).unwrap();
        let refused = open(Some(&path), layout(1, Sharing::Alone)).unwrap_err();
        assert!(refused.contains("another server"), "{refused}");
        drop(alone);
        let one = open(Some(&path), layout(1, Sharing::Several)).unwrap();
        let two = open(Some(&path), layout(1, Sharing::Several)).unwrap();
        let read =
            |connection: &Connection| connection.query_row("SELECT two FROM one", [], |row| row.get::<_, i64>(0));
        assert_eq!((read(&one), read(&two)), (Ok(5), Ok(5)));
        drop((one, two));
        let refused = open(Some(&path), layout(2, Sharing::Several)).unwrap_err();
        assert!(refused.contains("its version is 1, and this program knows 2"), "{refused}");
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        }
    }
}
