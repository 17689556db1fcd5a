//! `cargo xtask check`: the one command that has to be green before a change is offered.

use anyhow::Result;

use crate::{cargo, step, tidy};

/// Format, rules of the house, lints, tests; the cheap ones first.
pub fn run() -> Result<()> {
    let cargo = cargo();
    step(&cargo, &["fmt", "--all", "--check"])?;
    eprintln!("== tidy");
    tidy::run()?;
    step(&cargo, &["clippy", "--workspace", "--all-targets", "--locked", "--quiet", "--", "-D", "warnings"])?;
    step(&cargo, &["test", "--workspace", "--locked"])?;
    eprintln!("check: format, tidy, lints and tests passed");
    Ok(())
}
