//! One lock for the whole store: whoever adds names or files holds it shared, whoever removes some holds it alone, so
//! that nothing is removed that is about to get a name. A process that dies lets go of it.

use std::fs::File;

use crate::durable;
use crate::environment::Environment;
use crate::error::{Error, Result};

/// A held lock, let go when dropped.
#[derive(Debug)]
pub struct Lock {
    /// Closing it lets go.
    _file: File,
}

/// Holds the store together with others who add to it.
///
/// # Errors
/// When there is no folder for data, or the system has no locks.
pub fn shared(environment: &Environment) -> Result<Lock> {
    take(environment, File::lock_shared)
}

/// Holds the store alone; waits for all others.
///
/// # Errors
/// As [`shared`].
pub fn alone(environment: &Environment) -> Result<Lock> {
    take(environment, File::lock)
}

fn take(environment: &Environment, hold: fn(&File) -> std::io::Result<()>) -> Result<Lock> {
    let folder = environment.data().ok_or(Error::NoData)?;
    durable::folder(folder)?;
    let path = folder.join("store.lock");
    let file = durable::partial(&path)?;
    hold(&file).map_err(|fault| pasture_files::Error::write(&path, fault))?;
    Ok(Lock { _file: file })
}
