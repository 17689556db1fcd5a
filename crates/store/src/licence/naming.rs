//! How a model may be called: some terms ask that the name of whatever is made from a model begins in their way.

use std::fmt;

use super::Licence;

/// A name that breaks a rule, with the rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BrokenRule {
    /// The name that was wanted.
    pub name: String,
    /// The licence that has the rule.
    pub licence: &'static Licence,
    /// How the name has to begin.
    pub begins: &'static str,
}

impl fmt::Display for BrokenRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let BrokenRule { name, licence, begins } = self;
        write!(
            f,
            "the name {name:?} breaks a rule of the {}: the name of a model that is made from one under it begins with \
             {begins:?} ({})",
            licence.name, licence.source
        )
    }
}

impl std::error::Error for BrokenRule {}

/// Whether a model that is made from one under `licence` may be called `new_name`. An owner before a slash is no part of
/// the name; capitals and the sign between words do not matter.
///
/// # Errors
/// The rule that the name breaks.
pub fn naming_rule(licence: &'static Licence, new_name: &str) -> Result<(), BrokenRule> {
    let Some(begins) = licence.name_begins.as_deref() else { return Ok(()) };
    let name = new_name.trim_end_matches('/').rsplit('/').next().unwrap_or_default();
    // `Llama 3` is spelled `Llama-3` where names have no spaces.
    let letters = |text: &str| text.chars().filter(char::is_ascii_alphanumeric).collect::<String>().to_lowercase();
    match letters(name).starts_with(&letters(begins)) && name.starts_with(|first: char| first.is_alphanumeric()) {
        true => Ok(()),
        false => Err(BrokenRule { name: new_name.to_owned(), licence, begins }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::licence::named;

    #[test]
    fn names_begin_as_the_terms_ask() {
        let check = |id: &str, name: &str, good: bool| {
            assert_eq!(naming_rule(named(id).unwrap(), name).is_ok(), good, "{id}: {name}");
        };
        check("llama3.2", "me/Llama-3.2-pirate", true);
        check("llama3.2", "llama_pirate", true);
        check("llama3.2", "Llama", true);
        check("llama3.2", "me/pirate-llama", false);
        check("llama3.2", "Llama/pirate", false);
        check("llama3", "Llama-3-pirate", true);
        check("llama3", "Llama3-pirate", true);
        check("llama3", "Llama-pirate", false);
        check("gemma", "anything", true);
        check("llama2", "pirate", true);
    }

    #[test]
    fn a_broken_rule_says_whose_it_is() {
        let broken = naming_rule(named("llama3.1").unwrap(), "me/pirate").unwrap_err().to_string();
        for part in ["me/pirate", "Llama 3.1 Community License", "\"Llama\"", "https://"] {
            assert!(broken.contains(part), "{broken}");
        }
    }
}
