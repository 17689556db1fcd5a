//! Golden cases whose checks stand beside the code as tests of a crate: they are run with the given kit, once for each
//! case, and what they print is shown where they fail.

use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, bail, ensure};

use crate::model::Outcome;

/// Case, crate and test that hold it.
const CASES: [(&str, &str, &str); 5] = [
    ("formats/gguf_quants", "pasture-kernels", "formats_golden"),
    ("formats/float_tables", "pasture-kernels", "small_formats_golden"),
    ("formats/mx", "pasture-kernels", "small_formats_golden"),
    ("train/nf4", "pasture-kernels", "small_formats_golden"),
    ("samplers", "pasture-engine", "samplers_golden"),
];

/// Whether a case is held by a test.
pub fn hold(case: &str) -> bool {
    CASES.iter().any(|(known, ..)| *known == case)
}

/// Runs the test of a case. `folder` is the case's, below `golden` of its kit.
pub fn run(case: &str, folder: &Path) -> Result<Outcome> {
    let (_, package, test) = CASES.iter().find(|(known, ..)| *known == case).context("a case that a test holds")?;
    let depth = case.split('/').count();
    let root = folder.ancestors().nth(depth).context("a case stands in a kit")?;
    let Some(kit) = root.parent().filter(|_| root.file_name().is_some_and(|name| name == "golden")) else {
        return Ok(Outcome::NotCovered("its test looks for it in a folder called golden".into()));
    };
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".into());
    let output = Command::new(cargo)
        .args(["test", "--quiet", "--package", package, "--test", test, "--", "--nocapture"])
        .env("PASTURE_KIT", kit.canonicalize()?)
        .output()
        .context("cannot start cargo")?;
    let (printed, told) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    if !output.status.success() {
        bail!("{package}'s test {test} failed\n{printed}{told}");
    }
    ensure!(!told.contains("skipped: no kit"), "{package}'s test {test} did not find its case");
    Ok(Outcome::Passed)
}
