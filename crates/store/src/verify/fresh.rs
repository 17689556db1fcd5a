//! Whether a model's file is as it was when its digest was last found right: length, time of change and number in the
//! file system, which costs nothing. Only a file that differs is worth reading before it is loaded, or one that nobody
//! has read yet.

use std::fs;

use super::{Target, Wanted};
use crate::Found;
use crate::environment::Environment;
use crate::error::Result;
use crate::ledger::{Ledger, Stamp};

/// Files of a model that look otherwise than when their digest was noted, and files of caches whose name is a digest that
/// was never compared with them. None of the files about which nothing is known.
///
/// # Errors
/// When the ledger cannot be read.
pub fn changed(environment: &Environment, found: &Found) -> Result<Vec<Target>> {
    let ledger = Ledger::existing_in(environment)?;
    let mut all = super::Collected { ledger, known: Default::default(), targets: Vec::new() };
    all.model(found)?;
    all.targets.retain(|target| {
        let known = match &target.wanted {
            Wanted::Sha256(_, None) => return true,
            Wanted::Sha256(_, Some(known)) | Wanted::Remembered(Some(known)) => known,
            _ => return false,
        };
        let now = fs::canonicalize(&target.path).and_then(|real| real.metadata());
        now.is_ok_and(|metadata| known.stamp != Stamp::of(&metadata))
    });
    Ok(all.targets)
}
