//! Where the program keeps data of its own, and where running servers say that they are.

use std::path::PathBuf;

use etcetera::BaseStrategy;

/// The folder of data: `PASTURE_HOME`, else Pasture's folder among the user's data; none without a home folder.
pub fn data() -> Option<PathBuf> {
    let own = folder("PASTURE_HOME");
    own.or_else(|| Some(etcetera::choose_base_strategy().ok()?.data_dir().join("pasture")))
}

/// The folder in which running servers tell of themselves: in `XDG_RUNTIME_DIR`, else in the folder of data.
pub fn running() -> Option<PathBuf> {
    folder("XDG_RUNTIME_DIR").map(|folder| folder.join("pasture")).or_else(|| Some(data()?.join("run")))
}

fn folder(variable: &str) -> Option<PathBuf> {
    std::env::var_os(variable).filter(|folder| !folder.is_empty()).map(PathBuf::from)
}
