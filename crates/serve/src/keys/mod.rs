//! Keys: made, listed and revoked in a file beside the models, which running servers read again when it changes. A key
//! itself is told once and never kept: the file has its SHA-256, which for 256 random bits is as good as any hash.

mod account;
mod book;
mod watch;

pub use account::Account;
pub use book::{Book, KeyError, NewKey, Record, Use};
pub use watch::{Keys, Known, same};

/// The name of the file in the data folder.
pub const KEYS_FILE: &str = "keys.sqlite";
