//! Where inputs start from: the kit's hostile and sound files, and findings of earlier runs. Small files only.

use std::fs;
use std::path::{Path, PathBuf};

use crate::targets::Target;

const BYTES_MAX: u64 = 256 * 1024;
const FILES_MAX: usize = 600;

/// The kit: `PASTURE_KIT`, else `../shared` beside the repository.
pub fn kit() -> Option<PathBuf> {
    let kit = std::env::var_os("PASTURE_KIT").map(PathBuf::from).unwrap_or_else(|| root().join("../shared"));
    kit.join("hostile").is_dir().then_some(kit)
}

/// The root of the workspace.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Where findings of a target are kept.
pub fn findings(target: &Target) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("findings").join(target.name)
}

/// The starting inputs of a target; where there is none, one that is empty.
pub fn read(target: &Target) -> Vec<Vec<u8>> {
    let mut folders = vec![findings(target)];
    match kit() {
        Some(kit) => folders.extend(target.seeds.iter().map(|place| kit.join(place))),
        None => eprintln!("skipped: no kit; only built-in seeds"),
    }
    folders.extend(target.own_seeds.iter().map(|place| root().join(place)));
    let mut files = Vec::new();
    for folder in folders {
        collect(&folder, target, &mut files);
    }
    files.sort();
    let mut inputs: Vec<Vec<u8>> = files.iter().take(FILES_MAX).filter_map(|path| fs::read(path).ok()).collect();
    inputs.extend(target.literals.iter().map(|text| text.as_bytes().to_vec()));
    if inputs.is_empty() {
        inputs.push(Vec::new());
    }
    inputs
}

fn collect(place: &Path, target: &Target, files: &mut Vec<PathBuf>) {
    if place.is_file() {
        files.push(place.to_path_buf());
        return;
    }
    let Ok(entries) = fs::read_dir(place) else { return };
    for entry in entries.flatten() {
        let path = entry.path();
        let name = entry.file_name().to_string_lossy().into_owned();
        if path.is_dir() {
            collect(&path, target, files);
            continue;
        }
        let taken = target.takes.is_empty() || target.takes.iter().any(|end| name.ends_with(end));
        if taken && entry.metadata().is_ok_and(|m| m.len() <= BYTES_MAX) {
            files.push(path);
        }
    }
}
