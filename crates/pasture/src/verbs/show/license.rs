//! The licence that a model's files name. Nothing is judged: this is what the publisher wrote.

use pasture_files::size::Size;
use pasture_model::Source;

/// Longest model card that is searched.
const CARD_BYTES_MAX: u64 = 4 << 20;

/// What the files say: a name, and where it stands.
pub fn find(source: &Source) -> Option<(String, &'static str)> {
    let metadata = source.tensors.gguf();
    let key = |key: &str| metadata.and_then(|metadata| metadata.text(key).ok().flatten()).map(str::to_owned);
    if let Some(name) = key("general.license.name").or_else(|| key("general.license")) {
        return Some((name, "the file's metadata"));
    }
    if metadata.is_some() {
        return None;
    }
    if let Some(name) = card(source) {
        return Some((name, "README.md"));
    }
    let names = source.folder.as_ref()?.names().ok()?;
    let text = names.iter().find(|name| name.to_uppercase().starts_with("LICENSE"))?;
    Some((format!("see {text:?} in the model's folder"), "a licence file"))
}

/// The line `license:` of a model card's front matter; `license_name:` where that is `other`.
fn card(source: &Source) -> Option<String> {
    let folder = source.folder.as_ref()?;
    let bytes = folder.read("README.md", Size::new(CARD_BYTES_MAX)).ok().flatten()?;
    front_matter(&String::from_utf8_lossy(&bytes))
}

fn front_matter(text: &str) -> Option<String> {
    let head = text.strip_prefix("---")?.split("\n---").next()?;
    let line = |key: &str| {
        let value = head.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'))?.trim();
        let value = value.trim_matches(['"', '\'']);
        (!value.is_empty()).then(|| value.to_owned())
    };
    match line("license").as_deref() {
        Some("other") => line("license_name").or_else(|| Some("other".to_owned())),
        _ => line("license"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_card_names_its_licence() {
        for (card, wanted) in [
            ("---\nlicense: apache-2.0\n---\n# Model", Some("apache-2.0")),
            ("---\nlicense: other\nlicense_name: gemma\n---", Some("gemma")),
            ("---\nlicense: \"mit\"\n---", Some("mit")),
            ("---\ntags: []\n---\nlicense: mit", None),
            ("# Model\nlicense: mit", None),
        ] {
            assert_eq!(front_matter(card).as_deref(), wanted, "{card:?}");
        }
    }
}
