//! Which licence a model's files name: the front matter of its card, keys of a GGUF file, and words of the licence's own
//! text. What a repository says is repeated, not judged.

use std::io::Read as _;
use std::path::Path;

use pasture_files::Tensors;
use pasture_files::folder::{self, Folder};
use pasture_files::gguf::Metadata;
use pasture_files::size::Size;

use super::{Licence, known};
use crate::error::Result;

/// Longest model card or licence text that is read.
const TEXT_BYTES_MAX: u64 = 4 << 20;
/// Most licence files of a folder that are read.
const TEXTS_MAX: usize = 16;

/// What one place says of a model's licence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Statement {
    /// The name that stands there; of a text without one, the file's.
    pub named: String,
    /// Where it stands: `README.md`, `the file's metadata`, a licence file.
    pub place: String,
    /// What it means, where it is known here.
    pub licence: Option<&'static Licence>,
    /// The address that stands beside the name.
    pub link: Option<String>,
}

/// The licence that a name means, in any spelling. Of a choice (`Apache-2.0 OR MIT`) the first that is known: whoever
/// receives the work may take it.
pub fn named(name: &str) -> Option<&'static Licence> {
    let name = name.trim().to_lowercase();
    if name.contains(" or ") {
        return name.split(" or ").find_map(named);
    }
    let name = name.strip_prefix("license:").unwrap_or(&name);
    known().iter().find(|licence| {
        licence.id == name || licence.name.to_lowercase() == name || licence.aliases.iter().any(|alias| alias == name)
    })
}

/// The licence that a repository is published under, where its name is known: whatever a copy's card says, this holds
/// for what it came from.
pub fn of_repository(name: &str) -> Option<&'static Licence> {
    let name = name.to_lowercase();
    let begins = |licence: &&Licence| {
        let found = licence.repositories.iter().filter(|begin| name.starts_with(begin.as_str()));
        found.map(String::len).max()
    };
    known().iter().filter_map(|licence| Some((begins(&licence)?, licence))).max_by_key(|row| row.0).map(|row| row.1)
}

/// The licences whose own words stand in a text, in the order of the table. A text that only speaks of one does not
/// hold its words.
pub fn of_text(text: &str) -> Vec<&'static Licence> {
    let text = format!(" {} ", plain(text));
    let holds = |phrase: &String| text.contains(&format!(" {phrase} "));
    let found = known().iter().filter(|licence| licence.phrases.iter().any(|way| way.iter().all(holds)));
    let mut found: Vec<&Licence> = found.collect();
    // The words of the shorter text stand in the longer one too.
    for (longer, shorter) in [("bsd-3-clause", "bsd-2-clause"), ("qwen-research", "qwen")] {
        if found.iter().any(|licence| licence.id == longer) {
            found.retain(|licence| licence.id != shorter);
        }
    }
    found
}

/// What a model card's front matter says.
pub fn of_card(card: &str) -> Vec<Statement> {
    let Some(head) = front_matter(card) else { return Vec::new() };
    let fields =
        Fields { names: values(head, "license"), title: line(head, "license_name"), link: line(head, "license_link") };
    fields.statements("README.md")
}

/// The fields of a card that speak of its licence, wherever they stand.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Fields {
    /// `license`: words, of which `other` stands for the title.
    pub names: Vec<String>,
    /// `license_name`.
    pub title: Option<String>,
    /// `license_link`.
    pub link: Option<String>,
}

impl Fields {
    /// What they say.
    pub fn statements(self, place: &str) -> Vec<Statement> {
        let Fields { mut names, title, link } = self;
        if let (Some(title), true) = (title, names.is_empty() || names.iter().any(|name| name == "other")) {
            names.retain(|name| name != "other");
            names.push(title);
        }
        let state = |named: String| {
            let licence = self::named(&named).or_else(|| self::named(link.as_deref()?.rsplit('/').next()?));
            Statement { licence, named, place: place.to_owned(), link: link.clone() }
        };
        names.into_iter().map(state).collect()
    }
}

/// What the keys of a GGUF file say.
pub fn of_gguf(metadata: &Metadata) -> Vec<Statement> {
    let key = |key: &str| metadata.text(key).ok().flatten().map(str::trim).filter(|text| !text.is_empty());
    let Some(named) = key("general.license.name").or_else(|| key("general.license")) else { return Vec::new() };
    let licence = self::named(named).or_else(|| self::named(key("general.license")?));
    let link = key("general.license.link").map(str::to_owned);
    vec![Statement { named: named.to_owned(), place: "the file's metadata".to_owned(), licence, link }]
}

/// What a model's folder says: its card and the texts beside it. A text that says what the card said is told once.
pub fn of_folder(folder: &Folder) -> Result<Vec<Statement>> {
    of_files(folder.names()?, &mut |name| {
        let bytes = folder.read(name, Size::new(TEXT_BYTES_MAX))?;
        Ok(bytes.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()))
    })
}

/// The same of files that are read elsewhere: their names, and what reads one.
///
/// # Errors
/// Those of whatever reads them.
pub(crate) fn of_files<E>(
    mut names: Vec<String>,
    read: &mut dyn FnMut(&str) -> Result<Option<String>, E>,
) -> Result<Vec<Statement>, E> {
    let mut found = read("README.md")?.map(|card| of_card(&card)).unwrap_or_default();
    names.retain(|name| is_legal(name));
    names.sort();
    for name in names.iter().take(TEXTS_MAX) {
        let Some(text) = read(name)? else { continue };
        let licences = of_text(&text);
        for licence in &licences {
            if !found.iter().any(|row| row.licence == Some(licence)) {
                let named = licence.id.clone();
                found.push(Statement { named, place: name.clone(), licence: Some(licence), link: None });
            }
        }
        let silent = licences.is_empty() && found.is_empty() && !is_notice(name);
        if silent {
            let named = format!("see {name:?} in the model's folder");
            found.push(Statement { named, place: name.clone(), licence: None, link: None });
        }
    }
    Ok(found)
}

/// What a model's file or folder says.
///
/// # Errors
/// When a file that is there cannot be read.
pub fn of_path(path: &Path) -> Result<Vec<Statement>> {
    if path.is_dir() {
        return of_folder(&Folder::open(path)?);
    }
    let mut found = match is_gguf(path) {
        true => Tensors::open(path)?.gguf().map(of_gguf).unwrap_or_default(),
        false => Vec::new(),
    };
    add_beside(&mut found, path)?;
    Ok(found)
}

/// What card and texts beside a model's file say of it, where the whole folder belongs to it: in a cache of the hub, and
/// where a bundle was unpacked. Elsewhere anything may lie beside a file.
///
/// # Errors
/// When a file that is there cannot be read.
pub fn beside(file: &Path) -> Result<Vec<Statement>> {
    let folder = file.parent().unwrap_or(Path::new(""));
    match folder.parent().is_some_and(|above| above.ends_with("snapshots")) || crate::bundle::is_work(folder) {
        true => of_folder(&Folder::open(folder)?),
        false => Ok(Vec::new()),
    }
}

/// Adds what stands beside a model's file to what it says itself.
///
/// # Errors
/// As [`beside`].
pub fn add_beside(found: &mut Vec<Statement>, file: &Path) -> Result<()> {
    for statement in beside(file)? {
        let same = |row: &Statement| {
            row.named == statement.named || (row.licence.is_some() && row.licence == statement.licence)
        };
        if !found.iter().any(same) {
            found.push(statement);
        }
    }
    Ok(())
}

/// Whether a file is a GGUF file, by its first bytes: Ollama's have no ending.
pub(crate) fn is_gguf(path: &Path) -> bool {
    let mut first = [0; 4];
    let read = std::fs::File::open(path).and_then(|mut file| file.read_exact(&mut first));
    read.is_ok() && &first == b"GGUF"
}

/// Whether a file of a model's folder is a licence, a notice or a policy: such files go along with a derivative.
pub fn is_legal(name: &str) -> bool {
    let upper = name.to_uppercase();
    let words = ["LICENSE", "LICENCE", "NOTICE", "COPYING", "USE_POLICY", "COPYRIGHT", "TERMS"];
    folder::is_plain(name) && words.iter().any(|word| upper.starts_with(word))
}

fn is_notice(name: &str) -> bool {
    name.to_uppercase().starts_with("NOTICE")
}

/// The lines between the two rules at the head of a card.
pub(crate) fn front_matter(card: &str) -> Option<&str> {
    card.strip_prefix("---")?.split("\n---").next()
}

/// The value of a key of front matter that is a word.
pub(crate) fn line(head: &str, key: &str) -> Option<String> {
    values(head, key).into_iter().next()
}

/// The values of a key of front matter that is a word or a list of words, as cards have them. No YAML is interpreted.
pub(crate) fn values(head: &str, key: &str) -> Vec<String> {
    let clean = |value: &str| value.trim().trim_matches(['"', '\'']).trim().to_owned();
    let mut lines = head.lines();
    let Some(rest) = lines.by_ref().find_map(|line| line.strip_prefix(key)?.strip_prefix(':')) else {
        return Vec::new();
    };
    let rest = rest.trim();
    let listed = |text: &str| text.split(',').map(clean).collect::<Vec<_>>();
    let mut values = match rest.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        Some(inside) => listed(inside),
        None if rest.is_empty() => lines.map_while(|line| line.trim_start().strip_prefix("- ")).map(clean).collect(),
        None => vec![clean(rest)],
    };
    values.retain(|value| !value.is_empty());
    values
}

/// A text in lower case with one space for whatever is no letter or digit.
pub(crate) fn plain(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    for letter in text.chars() {
        if letter.is_alphanumeric() {
            plain.extend(letter.to_lowercase());
        } else if !plain.is_empty() && !plain.ends_with(' ') {
            plain.push(' ');
        }
    }
    plain.truncate(plain.trim_end().len());
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(statements: &[Statement]) -> Vec<&str> {
        statements.iter().map(|row| row.licence.map_or(row.named.as_str(), |licence| &licence.id)).collect()
    }

    #[test]
    fn a_card_names_its_licence() {
        for (card, wanted) in [
            ("---\nlicense: apache-2.0\n---\n# Model", &["apache-2.0"][..]),
            ("---\nlicense: other\nlicense_name: gemma\n---", &["gemma"]),
            ("---\nlicense: \"mit\"\n---", &["mit"]),
            ("---\nlicense:\n- mit\n- cc-by-4.0\ntags:\n- a\n---", &["mit", "cc-by-4.0"]),
            ("---\nlicense: [mit, 'llama3.2']\n---", &["mit", "llama3.2"]),
            ("---\nlicense: other\nlicense_name: house-rules\n---", &["house-rules"]),
            ("---\nlicense: other\n---", &["other"]),
            ("---\nlicense: Apache-2.0 OR MIT\n---", &["apache-2.0"]),
            ("---\ntags: []\n---\nlicense: mit", &[]),
            ("# Model\nlicense: mit", &[]),
        ] {
            assert_eq!(ids(&of_card(card)), wanted, "{card:?}");
        }
    }

    #[test]
    fn a_text_is_known_by_its_own_words() {
        let check = |text: &str, wanted: &[&str]| {
            let found: Vec<&str> = of_text(text).iter().map(|licence| licence.id.as_str()).collect();
            assert_eq!(found, wanted, "{text:?}");
        };
        check("LLAMA 3.2 COMMUNITY LICENSE AGREEMENT\n\nLlama 3.2 Version Release Date", &["llama3.2"]);
        check("**LLAMA 3.3 COMMUNITY LICENSE AGREEMENT**", &["llama3.3"]);
        check("META LLAMA 3 COMMUNITY LICENSE AGREEMENT", &["llama3"]);
        check("# Gemma Terms of Use\nLast modified", &["gemma"]);
        check("Databricks Open Model License", &["databricks-open-model-license"]);
        check("Creative Commons Attribution-ShareAlike 4.0 International", &["cc-by-sa-4.0"]);
        check("Creative Commons Attribution 4.0 International Public License", &["cc-by-4.0"]);
        check("Our model is better than those under the MIT License.", &[]);
        check("", &[]);
    }

    #[test]
    fn this_projects_own_texts_are_known() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        for (file, wanted) in [("LICENSE-APACHE", "apache-2.0"), ("LICENSE-MIT", "mit")] {
            let text = std::fs::read_to_string(root.join(file)).unwrap();
            assert_eq!(of_text(&text), [named(wanted).unwrap()], "{file}");
        }
    }

    #[test]
    fn a_folder_says_with_its_card_and_its_texts() {
        let place = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| std::fs::write(place.path().join(name), text).unwrap();
        let found = || of_path(place.path()).unwrap();
        assert_eq!(found(), []);
        write("LICENSE.txt", "ask us");
        assert_eq!(found()[0].named, "see \"LICENSE.txt\" in the model's folder");
        write("LICENSE.txt", "LLAMA 3.1 COMMUNITY LICENSE AGREEMENT");
        assert_eq!(ids(&found()), ["llama3.1"]);
        write("README.md", "---\nlicense: mit\n---\n");
        assert_eq!(ids(&found()), ["mit", "llama3.1"]);
        write("README.md", "---\nlicense: llama3.1\n---\n");
        assert_eq!(found().len(), 1);
    }

    #[test]
    fn legal_files_are_told_by_name() {
        for name in ["LICENSE", "LICENSE.txt", "license-apache", "NOTICE", "Notice.txt", "USE_POLICY.md", "COPYING"] {
            assert!(is_legal(name), "{name}");
        }
        for name in ["README.md", "model.safetensors", "my-license", "../LICENSE"] {
            assert!(!is_legal(name), "{name}");
        }
    }

    /// Licence texts of other projects, from the kit; without it the test says so.
    #[test]
    fn texts_of_other_projects_are_known() {
        let kit = std::env::var_os("PASTURE_KIT").map_or_else(|| "../../../shared".into(), std::path::PathBuf::from);
        let Ok(entries) = std::fs::read_dir(kit.join("assets/LICENSES")) else {
            println!("skipped: no kit");
            return;
        };
        let mut unknown = Vec::new();
        for entry in entries {
            let path = entry.unwrap().path();
            let text = String::from_utf8_lossy(&std::fs::read(&path).unwrap()).into_owned();
            if of_text(&text).is_empty() {
                unknown.push(path.file_name().unwrap().to_string_lossy().into_owned());
            }
        }
        assert!(unknown.len() <= 2, "{unknown:?}");
    }
}
