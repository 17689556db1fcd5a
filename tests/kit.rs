//! Where the kit is: `PASTURE_KIT`, else `../shared` beside the repository. Tests of every crate take this file in with
//! `#[path]`. Invariant: without the kit a test prints a line that begins with `skipped: no kit` and checks nothing.

use std::io::Write as _;
use std::path::{Path, PathBuf};

/// A folder of the kit; none, with one line that says so, where there is no kit.
pub fn folder(name: &str) -> Option<PathBuf> {
    let beside = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared");
    let folder = std::env::var_os("PASTURE_KIT").map_or_else(beside, PathBuf::from).join(name);
    if !folder.is_dir() {
        // Past the harness, which hides what a passing test prints.
        let _ = writeln!(std::io::stderr(), "skipped: no kit, there is no {folder:?}");
        return None;
    }
    Some(folder)
}
