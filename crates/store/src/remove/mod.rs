//! Removing a model by its name. A plan says what goes, what stays and why, and how many bytes come free; doing it
//! takes names away before content, so that whatever stops it in between leaves whole models and things for `gc`.

mod plan;

use std::path::{Path, PathBuf};

use pasture_files::durable::{self, Fs};
use pasture_files::error::file_name;

use crate::environment::Environment;
use crate::error::Result;
use crate::ledger::Ledger;
use crate::repository::{self, REMOVING};

/// What removing a name does.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Removal {
    /// What the user called it.
    pub name: String,
    /// In this order.
    pub(crate) steps: Vec<Action>,
    /// Files that stay though the model goes, with the reason.
    pub stays: Vec<Stays>,
    /// Bytes that come free.
    pub frees: u64,
}

/// A file that stays.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stays {
    /// Where it is.
    pub path: PathBuf,
    /// Its length.
    pub bytes: u64,
    /// Who needs it.
    pub why: String,
}

/// One durable change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// A name in the ledger.
    Forget(String),
    /// A file or a link.
    File(PathBuf),
    /// A folder with all that is in it.
    Folder(PathBuf),
}

/// What removing a name would do.
///
/// # Errors
/// When there is no such model, when it has only a path, and when a name of one's own needs its files.
pub fn plan(environment: &Environment, name: &str) -> Result<Removal> {
    plan::plan(environment, name)
}

/// Does what a plan says.
///
/// # Errors
/// When the system refuses; what was done until then stays done, and the plan can be made again.
pub fn carry_out(disk: &dyn Fs, environment: &Environment, removal: &Removal) -> Result<()> {
    let mut moved = Vec::new();
    for step in &removal.steps {
        match step {
            Action::Forget(name) => drop(Ledger::open_in(environment)?.remove_work(name)?),
            Action::File(path) => durable::remove_on(disk, path)?,
            Action::Folder(path) => {
                // One rename takes the whole of it away; what is in it follows at leisure.
                let aside = aside(path);
                durable::rename_folder_on(disk, path, &aside)?;
                moved.push(aside);
            }
        }
    }
    moved.iter().try_for_each(|folder| clear(disk, folder))
}

/// Removes a folder and all that is in it, links not followed.
pub(crate) fn clear(disk: &dyn Fs, folder: &Path) -> Result<()> {
    let gone = |result: std::io::Result<()>, path: &Path| match result {
        Err(fault) if fault.kind() != std::io::ErrorKind::NotFound => Err(pasture_files::Error::write(path, fault)),
        _ => Ok(()),
    };
    let mut folders = vec![folder.to_owned()];
    let mut next = 0;
    while next < folders.len() {
        for (path, _, metadata) in repository::entries(&folders[next].clone()) {
            match metadata.is_dir() {
                true => folders.push(path),
                false => gone(disk.remove(&path), &path)?,
            }
        }
        next += 1;
    }
    for path in folders.iter().rev() {
        gone(disk.remove_folder(path), path)?;
    }
    Ok(durable::sync_folder_on(disk, folder.parent().unwrap_or(Path::new(".")))?)
}

/// The name that a folder has while it is removed: nobody takes it for a model.
fn aside(folder: &Path) -> PathBuf {
    let name = file_name(folder);
    let free = |number: &u32| !folder.with_file_name(format!(".{name}.{number}{REMOVING}")).exists();
    let number = (std::process::id()..).find(free).unwrap_or_default();
    folder.with_file_name(format!(".{name}.{number}{REMOVING}"))
}
