//! An assistant as it lies in one folder with what it is made of: its base, `adapters/…`, and its own file, whose paths
//! count from there. So it is pushed, and so it is bundled.

use std::path::{Path, PathBuf};

use pasture_files::error::file_name;

use super::Assistant;

/// An assistant whose paths count from its folder, and where its adapters come from.
pub(crate) struct Packed {
    /// What its file says.
    pub text: String,
    /// Of each adapter the folder in the assistant's folder, and where it is now.
    pub adapters: Vec<(String, PathBuf)>,
}

impl Assistant {
    /// The same in a folder of its own. `single` is the base's file there; without one the folder is the base as well.
    pub(crate) fn packed(&self, single: Option<&str>) -> Packed {
        let mut own = self.clone();
        let mut adapters = Vec::new();
        own.base = single.unwrap_or(".").to_owned();
        for (number, beside) in own.adapters.iter_mut().enumerate() {
            let (path, folder) = (PathBuf::from(&beside.path), format!("adapters/{number}"));
            beside.path = match path.is_dir() {
                true => folder.clone(),
                false => format!("{folder}/{}", file_name(&path)),
            };
            adapters.push((folder, path));
        }
        // Digests stay; a path of this machine means nothing elsewhere.
        for part in &mut own.parts {
            part.name = file_name(Path::new(&part.name));
        }
        Packed { text: own.to_toml(), adapters }
    }
}
