//! Whether a model's file is as it was when its digest was noted: length, time of change and number in the file system,
//! which costs nothing. Only a file that differs is worth reading before it is loaded.

use std::fs;

use super::Target;
use crate::Found;
use crate::environment::Environment;
use crate::error::Result;
use crate::ledger::{Ledger, Stamp};

/// Files of a model whose digest was noted and that look otherwise now. None where nothing was noted.
///
/// # Errors
/// When the ledger cannot be read.
pub fn changed(environment: &Environment, found: &Found) -> Result<Vec<Target>> {
    let Some(ledger) = Ledger::existing_in(environment)? else { return Ok(Vec::new()) };
    let mut all = super::Collected { ledger: Some(ledger), known: Default::default(), targets: Vec::new() };
    all.model(found)?;
    let super::Collected { ledger, mut targets, .. } = all;
    let ledger = ledger.expect("it was put there above");
    targets.retain(|target| {
        let real = fs::canonicalize(&target.path).ok();
        let known = real.as_ref().filter(|real| real.to_str().is_some()).and_then(|real| ledger.seen(real).ok()?);
        let now = real.and_then(|real| real.metadata().ok()).map(|metadata| Stamp::of(&metadata));
        known.zip(now).is_some_and(|(known, now)| known.stamp != now)
    });
    Ok(targets)
}
