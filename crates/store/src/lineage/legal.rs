//! The licence and notice files that go along with whatever is made from a model: as files in a folder, as one key in a
//! GGUF file, which has no files beside it.

use std::collections::BTreeMap;
use std::path::Path;

use pasture_files::folder::Folder;
use pasture_files::gguf::Metadata;
use pasture_files::size::Size;
use pasture_files::{Tensors, durable, json};

use crate::error::Result;
use crate::licence::{Terms, is_gguf, is_legal};

/// The key of a GGUF file: a JSON object of names and texts.
pub(super) const KEY: &str = "pasture.legal";

/// Longest text of one file, and of all together.
const TEXT_BYTES_MAX: usize = 1 << 20;
/// Most files.
const FILES_MAX: usize = 32;
const NOTICE: &str = "NOTICE";

/// Licence and notice files: names and texts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Texts(pub BTreeMap<String, String>);

impl Texts {
    /// Those of a model's file or folder.
    ///
    /// # Errors
    /// When one that is there cannot be read.
    pub fn of_path(path: &Path) -> Result<Texts> {
        if path.is_dir() {
            return Texts::of_folder(&Folder::open(path)?);
        }
        match is_gguf(path) {
            true => Tensors::open(path)?.gguf().map_or_else(|| Ok(Texts::default()), Texts::of_gguf),
            false => Ok(Texts::default()),
        }
    }

    fn of_folder(folder: &Folder) -> Result<Texts> {
        let mut texts = Texts::default();
        let mut names = folder.names()?;
        names.sort();
        for name in names.iter().filter(|name| is_legal(name)).take(FILES_MAX) {
            if let Some(bytes) = folder.read(name, Size::of(TEXT_BYTES_MAX))? {
                texts.0.insert(name.clone(), String::from_utf8_lossy(&bytes).into_owned());
            }
        }
        Ok(texts)
    }

    /// Those that a GGUF file's key holds.
    ///
    /// # Errors
    /// When the key holds something else.
    pub fn of_gguf(metadata: &Metadata) -> Result<Texts> {
        let Some(text) = metadata.text(KEY)?.filter(|text| text.len() <= TEXT_BYTES_MAX) else {
            return Ok(Texts::default());
        };
        let value = json::parse(text.as_bytes(), KEY)?;
        let rows = value.as_object().into_iter().flatten().filter(|(name, _)| is_legal(name)).take(FILES_MAX);
        Ok(Texts(rows.filter_map(|(name, text)| Some((name.clone(), text.as_str()?.to_owned()))).collect()))
    }

    /// Adds those of another ancestor. Of two texts of one name both stay: the second is named after its model.
    pub fn join(&mut self, other: &Texts, of: &str) {
        for (name, text) in &other.0 {
            if self.0.values().any(|there| there == text) || self.0.len() >= FILES_MAX {
                continue;
            }
            let plain = |letter: char| if letter.is_ascii_alphanumeric() { letter } else { '-' };
            let suffix: String = of.chars().take(60).map(plain).collect();
            let name = if self.0.contains_key(name) { format!("{name}-of-{suffix}") } else { name.clone() };
            self.0.entry(name).or_insert_with(|| text.clone());
        }
    }

    /// Adds the lines that terms want in a file NOTICE, where no text has them.
    pub fn add_notices(&mut self, terms: &Terms) {
        let spaced = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ").replace("(c)", "©");
        for line in terms.licences.iter().filter_map(|licence| licence.notice.as_deref()) {
            let is_notice = |name: &str| name.to_uppercase().starts_with(NOTICE);
            let there = self.0.iter().any(|(name, text)| is_notice(name) && spaced(text).contains(&spaced(line)));
            if !there {
                let text = self.0.entry(NOTICE.to_owned()).or_default();
                let gap = if text.is_empty() || text.ends_with('\n') { "" } else { "\n" };
                *text += &format!("{gap}{line}\n");
            }
        }
    }

    /// Writes the files into a folder; those that are there with the same text stay as they are.
    pub(super) fn write(&self, folder: &Path) -> Result<()> {
        for (name, text) in &self.0 {
            let path = folder.join(name);
            if std::fs::read(&path).is_ok_and(|there| there == text.as_bytes()) {
                continue;
            }
            durable::write_file(&path, |sink| sink.put(text.as_bytes()))?;
        }
        Ok(())
    }

    /// The value of the key; none where there is no text, or where they are longer than a key may be.
    pub(super) fn to_key(&self) -> Option<String> {
        if self.0.is_empty() {
            return None;
        }
        let text = serde_json::to_string(&self.0).expect("names and texts are JSON");
        (text.len() <= TEXT_BYTES_MAX).then_some(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_of_two_ancestors_both_stay() {
        let texts = |text: &str| Texts(BTreeMap::from([("LICENSE".to_owned(), text.to_owned())]));
        let mut joined = texts("one");
        joined.join(&texts("one"), "a");
        joined.join(&texts("two"), "b/c");
        assert_eq!(joined.0.keys().collect::<Vec<_>>(), ["LICENSE", "LICENSE-of-b-c"]);
    }

    #[test]
    fn a_notice_that_is_asked_for_is_written_once() {
        let mut terms = Terms::default();
        terms.add_named("llama3.2");
        terms.add_named("gemma");
        let mut texts = Texts::default();
        texts.add_notices(&terms);
        let once = texts.clone();
        texts.add_notices(&terms);
        assert_eq!(texts, once);
        assert_eq!(texts.0["NOTICE"].lines().count(), 2);
    }
}
