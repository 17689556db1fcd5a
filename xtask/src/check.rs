//! `cargo xtask check`: the one command that has to be green before a change is offered.

use anyhow::Result;

use crate::{cargo, licenses, step, tidy};

/// Format, rules of the house, licences, lints, tests; the cheap ones first.
pub fn run() -> Result<()> {
    let cargo = cargo();
    step(&cargo, &["fmt", "--all", "--check"])?;
    eprintln!("== tidy");
    tidy::run()?;
    eprintln!("== licenses");
    licenses::run()?;
    step(&cargo, &["clippy", "--workspace", "--all-targets", "--locked", "--quiet", "--", "-D", "warnings"])?;
    step(&cargo, &["test", "--workspace", "--locked"])?;
    eprintln!("check: format, tidy, licenses, lints and tests passed");
    Ok(())
}
