//! An assistant with its base and its adapters as one work of a bundle: whoever unpacks it needs nothing else.

use std::path::Path;

use pasture_files::error::file_name;
use pasture_files::gguf::Metadata;

use super::collect::{finished, is_works_name, of_path};
use super::{Gathered, Kind};
use crate::Content;
use crate::assistant::{Assistant, FILE};
use crate::error::Result;
use crate::lineage::{self, Lineage, Texts};

/// What an assistant stands on, as it is packed.
pub struct Base {
    /// The file in its folder that is opened; none where the folder is.
    file: Option<String>,
    files: Vec<(String, Content)>,
    texts: Texts,
}

impl Base {
    /// A model's file or folder.
    ///
    /// # Errors
    /// When a file cannot be read, or there is no model.
    pub fn at(path: &Path) -> Result<Base> {
        let (_, file, files) = of_path(path)?;
        Ok(Base { file, files, texts: Texts::of_path(path)? })
    }

    /// A GGUF file in memory, as the program's own model is one.
    ///
    /// # Errors
    /// When its keys hold something that they may not.
    pub fn of_bytes(name: &str, bytes: &[u8], metadata: &Metadata) -> Result<Base> {
        let files = vec![(name.to_owned(), Content::Bytes(bytes.to_vec()))];
        Ok(Base { file: Some(name.to_owned()), files, texts: Texts::of_gguf(metadata)? })
    }
}

/// The card of the base, whose place the assistant's own takes.
const BASES_CARD: &str = "README-of-the-base.md";

/// Gathers an assistant under a name, with all that it is made of. `lineage` is its own, as
/// [`lineage::of_assistant`] tells it.
///
/// # Errors
/// When a file cannot be read, or has a name that no bundle holds.
pub fn gather_assistant(name: &str, assistant: &Assistant, base: Base, lineage: Lineage) -> Result<Gathered> {
    is_works_name(name)?;
    let Base { file, files, mut texts } = base;
    let packed = assistant.packed(file.as_deref());
    // A base that came in an assistant's folder has that one's files beside it.
    let came_along = files.iter().any(|(there, _)| there == FILE);
    let own = |there: &str| [FILE, lineage::FILE].contains(&there) || (came_along && there == "README.md");
    let kept = files.into_iter().filter(|(there, _)| !own(there));
    let renamed = |there: String| if there == "README.md" { BASES_CARD.to_owned() } else { there };
    let mut files: Vec<(String, Content)> = kept.map(|(there, content)| (renamed(there), content)).collect();
    for (folder, path) in &packed.adapters {
        let (_, _, inner) = of_path(path)?;
        files.extend(inner.into_iter().map(|(there, content)| (format!("{folder}/{there}"), content)));
        texts.join(&Texts::of_path(path)?, &file_name(path));
    }
    if let Some(text) = assistant.license.as_ref().filter(|text| text.contains('\n')) {
        texts.join(&Texts([("LICENSE".to_owned(), text.clone())].into()), name);
    }
    files.push((FILE.to_owned(), Content::Bytes(packed.text.into_bytes())));
    Ok(finished(name, (Kind::Assistant, file, files), lineage, texts))
}
