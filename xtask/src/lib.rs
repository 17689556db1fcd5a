//! The chores behind `cargo xtask`, as a library so that tests can call them.
//! Nothing here is part of the product.
#![forbid(unsafe_code)]

pub mod agree;
pub mod check;
pub mod chores;
pub mod licenses;
pub mod soak;
pub mod tidy;

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

/// The root of the workspace.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask stands in the workspace's root").to_path_buf()
}

/// Runs a command in the root of the workspace and fails with its name when it fails.
pub fn step(program: &str, arguments: &[&str]) -> Result<()> {
    let shown = format!("{program} {}", arguments.join(" "));
    eprintln!("== {shown}");
    let status = Command::new(program)
        .args(arguments)
        .current_dir(root())
        .status()
        .with_context(|| format!("cannot start `{program}`"))?;
    if !status.success() {
        bail!("`{shown}` failed ({status})");
    }
    Ok(())
}

/// The cargo that started this program.
pub fn cargo() -> String {
    std::env::var("CARGO").unwrap_or_else(|_| "cargo".into())
}
