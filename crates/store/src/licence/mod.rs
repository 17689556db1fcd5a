//! What licences ask, as plain data: obligations of each, which of them a model's files name, what holds for a work that
//! was made from several, and how it may be called. Facts with the address of the text that decides; no legal advice.

mod detect;
mod naming;
mod terms;

use std::sync::LazyLock;

use serde::Deserialize;

pub(crate) use detect::{Fields, front_matter, is_gguf, of_files, values};
pub use detect::{
    Statement, add_beside, beside, is_legal, named, of_card, of_folder, of_gguf, of_path, of_repository, of_text,
};
pub use naming::{BrokenRule, naming_rule};
pub use terms::{NOT_STATED, Obligation, Terms};

/// The data of all licences that are known here.
const TABLE: &str = include_str!("terms.toml");

/// What stands below every summary.
pub const NO_ADVICE: &str = "a summary, and no legal advice: the text decides";

/// What one licence asks of whoever uses a model or passes it on. What is absent or false is not asked.
#[derive(Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Licence {
    /// How the Hugging Face hub and GGUF files spell it.
    pub id: String,
    /// Its title.
    pub name: String,
    /// The address of its text.
    pub source: String,
    /// Other spellings of its id, in lower case.
    #[serde(default)]
    aliases: Vec<String>,
    /// Words of the text; each list is one way to recognize it.
    #[serde(default)]
    phrases: Vec<Vec<String>>,
    /// Beginnings of names of repositories that are under it, in lower case.
    #[serde(default)]
    repositories: Vec<String>,
    /// A copy of the terms goes along.
    #[serde(default)]
    pub copy: bool,
    /// Copyright and licence notices stay.
    #[serde(default)]
    pub keep_notices: bool,
    /// The line that a file `NOTICE` must hold.
    pub notice: Option<String>,
    /// Words to show where the model is offered.
    pub attribution: Option<String>,
    /// How the name of a model that is made from it begins.
    pub name_begins: Option<String>,
    /// Files that were changed say so.
    #[serde(default)]
    pub state_changes: bool,
    /// The page with uses that are not allowed.
    pub acceptable_use: Option<String>,
    /// The limits of use are a condition for whoever receives it.
    #[serde(default)]
    pub pass_on: bool,
    /// Monthly users above which a licence of one's own is needed.
    pub users_max: Option<u64>,
    /// No commercial use.
    #[serde(default)]
    pub non_commercial: bool,
    /// What is made from it is passed on under the same terms.
    #[serde(default)]
    pub share_alike: bool,
    /// What is made from it is not passed on.
    #[serde(default)]
    pub no_derivatives: bool,
    /// Neither it nor what it writes may improve models of another kind.
    #[serde(default)]
    pub own_kind_only: bool,
    /// What does not fit the rows above.
    pub note: Option<String>,
}

#[derive(Deserialize)]
struct Table {
    licence: Vec<Licence>,
}

/// All licences that are known here.
pub fn known() -> &'static [Licence] {
    static KNOWN: LazyLock<Vec<Licence>> = LazyLock::new(|| {
        let table: Table = toml::from_str(TABLE).expect("the table is part of the program, and a test reads it");
        table.licence
    });
    &KNOWN
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_entry_can_be_found_by_each_of_its_spellings() {
        assert!(known().len() >= 25, "{}", known().len());
        for licence in known() {
            for spelling in licence.aliases.iter().chain([&licence.id, &licence.name]) {
                assert_eq!(named(spelling), Some(licence), "{spelling:?}");
            }
            assert!(licence.source.starts_with("https://"), "{}", licence.id);
            assert!(!licence.phrases.is_empty(), "{}", licence.id);
            for phrase in licence.phrases.iter().flatten() {
                assert_eq!(&detect::plain(phrase), phrase, "{}: a phrase is lower case without signs", licence.id);
            }
            for begin in &licence.repositories {
                assert_eq!(of_repository(begin), Some(licence), "{begin}");
            }
        }
    }

    #[test]
    fn what_the_main_families_ask() {
        let check = |id: &str, begins: Option<&str>, users: Option<u64>, trades: bool| {
            let licence = named(id).expect(id);
            assert_eq!(licence.name_begins.as_deref(), begins, "{id}");
            assert_eq!((licence.users_max, !licence.non_commercial), (users, trades), "{id}");
        };
        check("llama2", None, Some(700_000_000), true);
        check("llama3", Some("Llama 3"), Some(700_000_000), true);
        check("llama3.2", Some("Llama"), Some(700_000_000), true);
        check("gemma", None, None, true);
        check("databricks-open-model-license", None, Some(700_000_000), true);
        check("mrl", None, None, false);
        check("apache-2.0", None, None, true);
        check("cc-by-nc-4.0", None, None, false);
    }
}
