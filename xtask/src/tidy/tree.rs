//! The text files of the workspace, read once. Build outputs, hidden folders and binary files are left out.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};

use super::source::Source;

const EXTENSIONS: [&str; 10] = ["rs", "toml", "md", "json", "py", "sh", "txt", "jinja", "yml", "yaml"];
const LEFT_OUT: [&str; 5] = ["target", "out", "node_modules", "findings", ".git"];
const HIDDEN_KEPT: [&str; 2] = [".ci", ".cargo"];

/// Files by their path relative to the root, with `/` between folders.
pub struct Tree {
    files: BTreeMap<String, Source>,
}

impl Tree {
    /// Reads everything below a folder.
    pub fn read(root: &Path) -> Result<Self> {
        let mut files = BTreeMap::new();
        let mut folders = vec![root.to_path_buf()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(&folder).with_context(|| format!("cannot list {folder:?}"))? {
                let entry = entry?;
                let name = entry.file_name().to_string_lossy().into_owned();
                let path = entry.path();
                let hidden = name.starts_with('.') && !HIDDEN_KEPT.contains(&name.as_str());
                if hidden || LEFT_OUT.contains(&name.as_str()) {
                    continue;
                }
                let kind = entry.file_type()?;
                if kind.is_dir() {
                    folders.push(path);
                } else if kind.is_file() && is_text(&path) {
                    let Ok(text) = fs::read_to_string(&path) else { continue };
                    let relative = path.strip_prefix(root).expect("the walk stays below its root");
                    files.insert(relative.to_string_lossy().replace('\\', "/"), Source::new(text));
                }
            }
        }
        Ok(Self { files })
    }

    /// A tree made of given texts, for tests of the rules.
    pub fn of(files: &[(&str, &str)]) -> Self {
        Self { files: files.iter().map(|(path, text)| ((*path).into(), Source::new((*text).into()))).collect() }
    }

    /// All files.
    pub fn files(&self) -> &BTreeMap<String, Source> {
        &self.files
    }

    /// The text of one file.
    pub fn text(&self, path: &str) -> Option<&str> {
        self.files.get(path).map(|source| source.text.as_str())
    }

    /// Rust files of the product and its chores, tests and all.
    pub fn rust(&self) -> impl Iterator<Item = (&str, &Source)> {
        self.files.iter().filter(|(path, _)| path.ends_with(".rs")).map(|(path, source)| (path.as_str(), source))
    }

    /// Rust files below `crates/*/src`.
    pub fn product(&self) -> impl Iterator<Item = (&str, &Source)> {
        self.rust().filter(|(path, _)| path.starts_with("crates/") && path.contains("/src/"))
    }
}

fn is_text(path: &Path) -> bool {
    match path.extension().and_then(|e| e.to_str()) {
        Some(extension) => EXTENSIONS.contains(&extension),
        None => true,
    }
}
