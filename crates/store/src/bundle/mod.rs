//! Bundles: models with their prompt, adapters, card, licence, receipts and lineage in one file, for machines without a
//! network. The file is the same for the same input, its pieces can be mapped, and every byte of it is signed or checked.
//! The layout stands in docs/decisions/bundles.md.

mod assistant;
mod collect;
mod open;
mod pack;
mod unpack;

use std::path::Path;

use pasture_files::error::file_name;
use pasture_files::folder::is_plain;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::error::{Error, Result};
use crate::lineage::Lineage;

pub use assistant::{Base, gather_assistant};
pub use collect::{Gathered, gather};
pub use open::{Bundle, Signature};
pub use pack::pack;
pub use unpack::{Unpacked, find, names};
pub(crate) use unpack::{WORKS, is_work};

const MAGIC: [u8; 8] = *b"PASTURE\x1a";
const VERSION: u32 = 1;
/// Every part begins at a multiple of this.
const ALIGNMENT: u64 = 64;
const HEAD_BYTES: usize = 64;
const SIGNATURE_BYTES: usize = 128;
/// Longest manifest, and the most pieces and works in it.
const MANIFEST_BYTES_MAX: u64 = 32 << 20;
const PIECES_MAX: usize = 16_384;
const WORKS_MAX: usize = 64;
/// Folders below each other in a piece's path.
const DEPTH_MAX: usize = 6;

/// What a bundle holds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// Version of this layout: 1.
    pub bundle: u32,
    /// What the bundle is called.
    pub name: String,
    /// The program that wrote it.
    pub made_with: String,
    /// The works in it; each has a folder of its name.
    pub works: Vec<Work>,
    /// Its files, in the order in which they lie.
    pub pieces: Vec<Piece>,
}

/// A model, adapter or assistant in a bundle.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Work {
    /// Its name, and that of its folder.
    pub name: String,
    /// What it is.
    pub kind: Kind,
    /// The file in its folder that is opened; none where the folder is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// What it was made from, and how.
    pub lineage: Lineage,
    /// What holds for it: licences, what they ask, warnings.
    pub terms: Value,
}

/// What a work is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// A model that runs.
    Model,
    /// What stands beside a model's weights.
    Adapter,
    /// A model with a prompt, settings and adapters.
    Assistant,
}

impl Kind {
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Model => "model",
            Kind::Adapter => "adapter",
            Kind::Assistant => "assistant",
        }
    }
}

/// One file of a bundle.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Piece {
    /// `work/file` or `work/folder/file`, of plain names.
    pub path: String,
    /// Where it begins, counted from the first piece.
    pub offset: u64,
    /// Its length.
    pub bytes: u64,
    /// 64 digits.
    pub sha256: String,
}

/// Whether a file is a bundle, by its first bytes.
pub fn is_bundle(path: &Path) -> bool {
    let mut first = [0; MAGIC.len()];
    let read = std::fs::File::open(path).and_then(|mut file| std::io::Read::read_exact(&mut file, &mut first));
    path.is_file() && read.is_ok() && first == MAGIC
}

/// The error of a bundle that is not as it should be.
fn wrong(path: &Path, what: impl Into<String>) -> Error {
    Error::Bundle { file: file_name(path), what: what.into() }
}

/// The next multiple of the alignment; none past the largest number.
fn aligned(at: u64) -> Option<u64> {
    at.checked_next_multiple_of(ALIGNMENT)
}

/// Where pieces begin behind a manifest of so many bytes.
fn start(manifest: u64) -> Option<u64> {
    aligned(manifest.checked_add(HEAD_BYTES as u64)?)?.checked_add(SIGNATURE_BYTES as u64)
}

/// Checks everything that a manifest says against its rules and the bytes that pieces have: nothing is used before.
fn check(manifest: &Manifest, path: &Path, length: u64) -> Result<()> {
    let mut at = 0;
    let bad = |what: String| Err(wrong(path, what));
    if manifest.bundle != VERSION {
        return bad(format!("its list of pieces has layout {}, and {VERSION} is read here", manifest.bundle));
    }
    if manifest.pieces.len() > PIECES_MAX || manifest.works.len() > WORKS_MAX || manifest.works.is_empty() {
        return bad(format!("{} works and {} pieces", manifest.works.len(), manifest.pieces.len()));
    }
    let names: Vec<&str> =
        manifest.works.iter().map(|work| work.name.as_str()).chain([manifest.name.as_str()]).collect();
    if let Some(name) = names.iter().find(|name| !is_safe(name)) {
        return bad(format!("{} is no plain name", pasture_files::error::quoted(name)));
    }
    let mut seen = std::collections::HashSet::new();
    if let Some(work) = manifest.works.iter().find(|work| !seen.insert(work.name.to_lowercase())) {
        return bad(format!("two works are called {:?}", work.name));
    }
    for piece in &manifest.pieces {
        let shown = pasture_files::error::quoted(&piece.path);
        let parts: Vec<&str> = piece.path.split('/').collect();
        if parts.len() < 2 || parts.len() > DEPTH_MAX || !parts.iter().all(|part| is_safe(part)) {
            return bad(format!("piece {shown} has a name that is no plain file name in a work's folder"));
        }
        if !manifest.works.iter().any(|work| work.name == parts[0]) {
            return bad(format!("piece {shown} belongs to no work"));
        }
        // Systems that do not tell capitals apart would write one over the other.
        if !seen.insert(format!("/{}", piece.path.to_lowercase())) {
            return bad(format!("two pieces are called {shown}"));
        }
        if piece.sha256.len() != 64 || !piece.sha256.bytes().all(|byte| b"0123456789abcdef".contains(&byte)) {
            return bad(format!("piece {shown} has no SHA-256"));
        }
        let end = piece.offset.checked_add(piece.bytes).filter(|end| piece.offset == at && *end <= length);
        let Some(end) = end.and_then(aligned) else {
            return bad(format!("piece {shown} does not lie where the one before it ends"));
        };
        at = end;
    }
    if at != length {
        return bad(format!(
            "it has {length} bytes of pieces, and the last one ends at {at}: it is cut, or something was added"
        ));
    }
    for work in &manifest.works {
        let there = |file: &String| manifest.pieces.iter().any(|piece| piece.path == format!("{}/{file}", work.name));
        if !work.file.as_ref().is_none_or(there) {
            return bad(format!("the file of {:?} is none of its pieces", work.name));
        }
    }
    Ok(())
}

/// Whether a name is plain on every system: also not one of the devices that some systems have in every folder.
fn is_safe(name: &str) -> bool {
    let stem = name.split('.').next().unwrap_or_default().to_ascii_uppercase();
    let numbered = |word: &str| stem.strip_prefix(word).is_some_and(|rest| rest.len() == 1 && rest >= "0");
    let device = ["CON", "PRN", "AUX", "NUL"].contains(&stem.as_str()) || numbered("COM") || numbered("LPT");
    is_plain(name) && !device && !name.ends_with('.')
}

#[cfg(test)]
mod tests;
