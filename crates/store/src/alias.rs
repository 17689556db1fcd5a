//! Short names for public models: a plain table in this repository, and the user's own, which goes first.

use std::collections::BTreeMap;

use pasture_files::folder;
use pasture_files::size::Size;

use crate::environment::Environment;
use crate::error::{Error, Result};

/// The table that comes with the program.
const TABLE: &str = include_str!("aliases.toml");
const BYTES_MAX: Size = Size::new(1 << 20);

/// Every alias with the name it stands for.
pub fn aliases(environment: &Environment) -> Result<BTreeMap<String, String>> {
    let mut table = read(TABLE).map_err(|why| fault("aliases.toml", why))?;
    if let Some(path) = environment.aliases().filter(|path| path.is_file()) {
        let bytes = folder::read_file(path, BYTES_MAX)?;
        let text = String::from_utf8(bytes).map_err(|_| fault(&path.display().to_string(), "is not UTF-8".into()))?;
        table.extend(read(&text).map_err(|why| fault(&path.display().to_string(), why))?);
    }
    Ok(table)
}

/// What an alias stands for.
pub(crate) fn find(environment: &Environment, name: &str) -> Result<Option<String>> {
    Ok(aliases(environment)?.remove(name))
}

fn read(text: &str) -> Result<BTreeMap<String, String>, String> {
    let table: toml::Table = text.parse().map_err(|error: toml::de::Error| error.message().to_owned())?;
    let pair = |(name, value): (String, toml::Value)| match value.as_str() {
        Some(target) if target.starts_with("hf:") || target.starts_with("oci:") => Ok((name, target.to_owned())),
        _ => Err(format!("what {name:?} stands for is no text that begins with \"hf:\" or \"oci:\"")),
    };
    table.into_iter().map(pair).collect()
}

fn fault(name: &str, what: String) -> Error {
    Error::Unusable { name: name.to_owned(), place: "the table of aliases".into(), what }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::name::Name;

    #[test]
    fn every_alias_is_a_name_and_stands_for_one() {
        let table = read(TABLE).unwrap();
        assert!(table.len() > 20);
        for (alias, target) in table {
            let repository = Name::parse(target.strip_prefix("hf:").unwrap()).unwrap().repository();
            assert!(repository.is_some_and(|repository| repository.contains('/')), "{target}");
            assert!(Name::parse(&alias).is_ok(), "{alias}");
        }
    }

    #[test]
    fn the_users_table_goes_first_and_is_read_strictly() {
        let home = tempfile::tempdir().unwrap();
        let environment = Environment::of(|_| None, Some(home.path().into()));
        let folder = home.path().join(".config/pasture");
        std::fs::create_dir_all(&folder).unwrap();
        let write = |text: &str| std::fs::write(folder.join("aliases.toml"), text).unwrap();
        write("mine = \"hf:a/b:Q8_0\"\n\"mistral:7b\" = \"hf:c/d\"");
        assert_eq!(find(&environment, "mine").unwrap().as_deref(), Some("hf:a/b:Q8_0"));
        assert_eq!(find(&environment, "mistral:7b").unwrap().as_deref(), Some("hf:c/d"));
        assert!(find(&environment, "gemma2:2b").unwrap().is_some());
        for bad in ["mine = 3", "mine = \"http://h/x\"", "mine"] {
            write(bad);
            assert!(find(&environment, "mine").is_err(), "{bad}");
        }
    }
}
