//! Why a model was not found: what was looked for, where, and what is there instead.

use pasture_files::error::quoted;

/// Why a name leads to no model.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The text is no path that exists and no name either.
    #[error("{} is no model's name: {what}", quoted(.name))]
    BadName {
        /// What the user gave.
        name: String,
        /// Which rule it breaks.
        what: String,
    },
    /// No place has it.
    #[error("there is no model {}: {looked}{}", quoted(.name), suggestion(.nearest))]
    NotFound {
        /// What the user gave.
        name: String,
        /// Where it was looked for, and as what.
        looked: String,
        /// The most similar name that is there.
        nearest: Option<String>,
    },
    /// More than one model is meant.
    #[error("{} may be any of {}; name one of them", quoted(.name), .choices.join(", "))]
    Ambiguous {
        /// What the user gave.
        name: String,
        /// Names that each mean one model.
        choices: Vec<String>,
    },
    /// A place has an entry of that name that cannot be used.
    #[error("{} is in {place}, but {what}", quoted(.name))]
    Unusable {
        /// What the user gave.
        name: String,
        /// Which place.
        place: String,
        /// What is wrong with it, and what to do.
        what: String,
    },
    /// A bundle is not as it was written, or its signature does not count here.
    #[error("{} is no bundle to be used: {what}", quoted(.file))]
    Bundle {
        /// The bundle's file.
        file: String,
        /// What is wrong, by the piece's or key's name.
        what: String,
    },
    /// A folder is there already, from elsewhere.
    #[error("cannot make {path:?}: a folder of that name is there already, and not from this bundle")]
    Taken {
        /// The folder.
        path: std::path::PathBuf,
        /// The work that would be there.
        name: String,
    },
    /// A signing key cannot be made, read, trusted or forgotten.
    #[error("{what}")]
    Key {
        /// What is wrong, and what to do.
        what: String,
    },
    /// A file that a person wrote says something that is not known.
    #[error("{}, line {line}: {what}", quoted(.file))]
    Written {
        /// Name of the file.
        file: String,
        /// Line, from 1.
        line: usize,
        /// What is wrong there.
        what: String,
    },
    /// There is no folder for Pasture's own data.
    #[error("there is no folder for Pasture's data: set PASTURE_HOME, XDG_DATA_HOME or HOME")]
    NoData,
    /// There is no folder for what can be made again.
    #[error("there is no folder for Pasture's cache: set XDG_CACHE_HOME or HOME")]
    NoCache,
    /// The disk cannot hold it.
    #[error(
        "{folder} has {free} bytes free, but {needed} are needed; make room, or set XDG_CACHE_HOME to another disk"
    )]
    Room {
        /// The folder.
        folder: String,
        /// Bytes to be written.
        needed: u64,
        /// Bytes that are free.
        free: u64,
    },
    /// SQLite refused.
    #[error("cannot {doing} the ledger: {source}")]
    Ledger {
        /// What was to be done with it.
        doing: &'static str,
        /// What SQLite said.
        source: rusqlite::Error,
    },
    /// The ledger was made by a later version of the program.
    #[error("the ledger is of a later version of Pasture ({found}, this one knows {known}); use that version")]
    Later {
        /// The ledger's.
        found: i64,
        /// This program's.
        known: i64,
    },
    /// A path that the ledger cannot hold.
    #[error("the path {} is not UTF-8; give the file a name that is", quoted(.path))]
    Path {
        /// The path, as far as it can be shown.
        path: String,
    },
    /// A file of a place cannot be read.
    #[error(transparent)]
    File(#[from] pasture_files::Error),
}

/// The result of every search.
pub type Result<T, E = Error> = std::result::Result<T, E>;

fn suggestion(nearest: &Option<String>) -> String {
    nearest.as_ref().map_or(String::new(), |name| format!("; did you mean {}?", quoted(name)))
}
