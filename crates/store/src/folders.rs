//! Folders of models without a cache's structure: LM Studio's (`OWNER/NAME/FILE.gguf`) and those of `PASTURE_MODELS`
//! (the same, or files and folders side by side). Their files are found by name where they are; nothing is copied.

use std::fs;
use std::path::{Path, PathBuf};

use pasture_files::folder::is_plain;

use crate::environment::Environment;
use crate::error::{Error, Result};
use crate::name::Name;
use crate::{Found, Origin, hub};

/// Entries of one folder that are looked at.
const ENTRIES_MAX: usize = 65_536;

/// The model of that name; none where no folder has it.
pub(crate) fn find(environment: &Environment, name: &Name) -> Result<Option<Found>> {
    if name.revision.is_some() {
        return Ok(None);
    }
    for (origin, root) in roots(environment) {
        let inside: PathBuf = name.path().iter().collect();
        let path = root.join(inside);
        let Ok(real) = fs::canonicalize(&path) else { continue };
        if !fs::canonicalize(&root).is_ok_and(|root| real.starts_with(root)) {
            let what = "it is a link out of that folder; give the path of the real one".to_owned();
            return Err(Error::Unusable { name: name.text().to_owned(), place: origin.to_string(), what });
        }
        // A folder of folders is an owner's, no model.
        if path.is_dir() && hub::weights(&path).is_none() {
            continue;
        }
        if path.is_dir() {
            return hub::model_in(&path, name, origin).map(Some);
        }
        if name.part.is_none() && hub::format_of(name.text()).is_some() {
            return Ok(Some(Found { origin, ..crate::at_path(name.text(), &path) }));
        }
    }
    Ok(None)
}

/// Every model with weights.
pub(crate) fn list(environment: &Environment) -> Result<Vec<Found>> {
    let mut all: Vec<Found> = Vec::new();
    for text in names(environment) {
        let name = Name::parse(&text)?;
        match find(environment, &name) {
            Ok(found) => all.extend(found),
            Err(Error::Ambiguous { choices, .. }) => {
                all.extend(choices.iter().filter_map(|choice| find(environment, &Name::parse(choice).ok()?).ok()?));
            }
            // No weights, or a link that leads out: left out as `crate::list` says.
            Err(_) => {}
        }
    }
    Ok(all)
}

/// Names of whatever may be a model, in alphabetical order.
pub(crate) fn names(environment: &Environment) -> Vec<String> {
    let mut names = Vec::new();
    for (_, root) in roots(environment) {
        for one in entries(&root) {
            let path = root.join(&one);
            if !path.is_dir() {
                names.extend(hub::format_of(&one).map(|_| one));
                continue;
            }
            let inner = entries(&path).into_iter().filter(|inner| path.join(inner).is_dir());
            names.extend(inner.map(|inner| format!("{one}/{inner}")));
            names.push(one);
        }
    }
    names.retain(|name| Name::parse(name).is_ok());
    names.sort();
    names.dedup();
    names
}

fn roots(environment: &Environment) -> impl Iterator<Item = (Origin, PathBuf)> {
    let places = environment.places().into_iter();
    places
        .filter(|place| matches!(place.origin, Origin::LmStudio | Origin::Folder))
        .map(|place| (place.origin, place.path))
}

fn entries(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten().take(ENTRIES_MAX);
    entries.filter_map(|entry| entry.file_name().to_str().filter(|name| is_plain(name)).map(str::to_owned)).collect()
}
