//! Where the test kit is: `PASTURE_KIT`, else `../shared` beside the repository. Without one a test prints a line and
//! checks nothing.

use std::path::PathBuf;

/// A folder of the kit; none, with one line that says so, where there is no kit.
pub fn folder(name: &str) -> Option<PathBuf> {
    let beside = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared");
    let root = std::env::var_os("PASTURE_KIT").map_or_else(|| PathBuf::from(beside), PathBuf::from);
    let folder = root.join(name);
    if !folder.is_dir() {
        println!("skipped: no kit, {name} is not checked");
        return None;
    }
    Some(folder)
}
