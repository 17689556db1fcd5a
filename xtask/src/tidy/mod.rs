//! The rules of the house, each as one function from the tree to a list of complaints.
//! Reads text only: no crate is compiled for it. Every rule has a test that breaks it on purpose.

mod docs;
mod exempt;
mod floors;
mod shape;
pub mod source;
mod tree;
mod words;

use std::fmt;
use std::path::Path;

use anyhow::{Result, bail};

pub use tree::Tree;

/// One broken rule at one place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Complaint {
    /// Path relative to the root of the workspace.
    pub path: String,
    /// Line, counted from one; zero where the whole file is meant.
    pub line: usize,
    /// What is wrong and what to do.
    pub text: String,
}

impl fmt::Display for Complaint {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => write!(out, "{}: {}", self.path, self.text),
            line => write!(out, "{}:{line}: {}", self.path, self.text),
        }
    }
}

fn complaint(path: &str, line: usize, text: impl Into<String>) -> Complaint {
    Complaint { path: path.into(), line, text: text.into() }
}

type Rule = fn(&Tree) -> Vec<Complaint>;

/// All rules by name.
const RULES: [(&str, Rule); 15] = [
    ("floors", floors::edges),
    ("file size", shape::files),
    ("function size", shape::functions),
    ("file header", shape::headers),
    ("family names", words::families),
    ("unsafe", words::unsafe_places),
    ("forbid", words::forbid),
    ("unwrap", words::unwraps),
    ("unfinished", words::unfinished),
    ("machine paths", words::machine_paths),
    ("durable writes", words::durable_writes),
    ("walls", words::walls),
    ("dependencies", docs::dependencies),
    ("documents", docs::verbs_and_commands),
    ("places", docs::places_and_families),
];

/// Every complaint about the tree, in the order of the rules.
pub fn complaints(tree: &Tree) -> Vec<Complaint> {
    RULES.iter().flat_map(|(_, rule)| rule(tree)).chain(exempt::stale(tree)).collect()
}

/// Reads the workspace and prints what is wrong with it.
pub fn run() -> Result<()> {
    check(&crate::root())
}

fn check(root: &Path) -> Result<()> {
    let tree = Tree::read(root)?;
    let found = complaints(&tree);
    for complaint in &found {
        eprintln!("{complaint}");
    }
    if !found.is_empty() {
        bail!("{} rules of the house are broken", found.len());
    }
    eprintln!("tidy: {} rules hold in {} files", RULES.len(), tree.files().len());
    Ok(())
}
