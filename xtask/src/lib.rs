//! The chores behind `cargo xtask`, as a library so that tests can call them.
//! Nothing here is part of the product.
#![forbid(unsafe_code)]

pub mod agree;
pub mod bench;
pub mod check;
pub mod chores;
pub mod licenses;
pub mod planned;
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
    let mut command = Command::new(program);
    // What cargo says of this program is nothing to another cargo: build scripts that look at it (ring's) would make it build
    // anew what is there.
    for (name, _) in std::env::vars_os() {
        if name.to_str().is_some_and(|name| ["CARGO_MANIFEST_", "CARGO_PKG_"].iter().any(|it| name.starts_with(it))) {
            command.env_remove(&name);
        }
    }
    let status = command.args(arguments).current_dir(root()).status();
    let status = status.with_context(|| format!("cannot start `{program}`"))?;
    if !status.success() {
        bail!("`{shown}` failed ({status})");
    }
    Ok(())
}

/// Builds a program of the workspace and gives its path. The whole workspace is selected and `pasture` built beside it:
/// what a program depends on is otherwise built once more with other features, or for another share of build scripts.
pub fn built(program: &str, release: bool) -> Result<PathBuf> {
    let mut build = vec!["build", "--quiet", "--locked", "--workspace", "--bin", "pasture"];
    if program != "pasture" {
        build.extend(["--bin", program]);
    }
    if release {
        build.push("--release");
    }
    step(&cargo(), &build)?;
    let target =
        std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), |folder| root().join(folder));
    Ok(target.join(if release { "release" } else { "debug" }).join(program))
}

/// The cargo that started this program.
pub fn cargo() -> String {
    std::env::var("CARGO").unwrap_or_else(|_| "cargo".into())
}
