//! Where the program keeps data of its own, and where running servers say that they are.

use std::path::PathBuf;

use pasture_store::Environment;

/// The folder of data, the same for everything that is kept there; none without a home folder.
pub fn data() -> Option<PathBuf> {
    Environment::current().data().map(PathBuf::from)
}

/// The folder in which running servers tell of themselves: in `XDG_RUNTIME_DIR`, else in the folder of data.
pub fn running() -> Option<PathBuf> {
    let own = std::env::var_os("XDG_RUNTIME_DIR").filter(|folder| !folder.is_empty()).map(PathBuf::from);
    own.map(|folder| folder.join("pasture")).or_else(|| Some(data()?.join("run")))
}
