//! A lineage written into a result: keys of a GGUF file, or a folder's record, card, licence and notice files.

use std::fmt::Write as _;
use std::path::Path;

use pasture_files::durable;
use pasture_files::folder::Folder;
use pasture_files::gguf::Value;
use pasture_files::size::Size;

use super::{FILE, KEY, Kind, Lineage, Texts, draw, legal};
use crate::error::Result;
use crate::licence::{self, Licence};

/// Licences that the hub has no word of its own for: a card calls them `other` and names them beside.
const NOT_THE_HUBS: [&str; 6] =
    ["mrl", "mnpl", "qwen", "qwen-research", "databricks-open-model-license", "health-ai-developer-foundations"];
/// Where our part of a card begins and ends.
const BEGIN: &str = "<!-- pasture: lineage and licence -->";
const END: &str = "<!-- pasture: end -->";

const CARD_BYTES_MAX: u64 = 4 << 20;

/// The keys of a GGUF file that say where it comes from and what holds for it, to be set in place of those it had.
pub fn keys(lineage: &Lineage, texts: &Texts) -> Vec<(String, Value)> {
    let mut keys = vec![(KEY.to_owned(), Value::text(&lineage.to_json()))];
    let mut put = |key: String, text: &str| keys.push((key, Value::text(text)));
    if let Some(text) = texts.to_key() {
        put(legal::KEY.to_owned(), &text);
    }
    let (license, title, link) = named(lineage);
    for (key, text) in [("general.license", license), ("general.license.name", title), ("general.license.link", link)] {
        if let Some(text) = text {
            put(key.to_owned(), &text);
        }
    }
    let parents: Vec<_> = lineage.work().step.iter().flat_map(|step| &step.from).collect();
    for (at, parent) in parents.iter().enumerate() {
        let work = &lineage.works()[parent.work];
        let name = work.origin.as_deref().unwrap_or(&work.name);
        put(format!("general.base_model.{at}.name"), name.rsplit('/').next().unwrap_or(name));
        if let Some((owner, _)) = work.origin.as_deref().and_then(|origin| origin.split_once('/')) {
            put(format!("general.base_model.{at}.organization"), owner);
            put(format!("general.base_model.{at}.repo_url"), &format!("https://huggingface.co/{name}"));
        }
    }
    let count = u32::try_from(parents.len()).unwrap_or(u32::MAX);
    if count > 0 {
        keys.push(("general.base_model.count".to_owned(), Value::U32(count)));
    }
    keys
}

/// The licence as a card and GGUF files name it: a word, a title where the word is `other`, an address.
fn named(lineage: &Lineage) -> (Option<String>, Option<String>, Option<String>) {
    let terms = lineage.terms();
    let link = |licence: &Licence| Some(licence.source.clone());
    // A choice, such as `Apache-2.0 OR MIT`, stays a choice.
    let mut spelled: Vec<&String> = lineage.works().iter().flat_map(|work| &work.licences).collect();
    spelled.sort();
    spelled.dedup();
    match (terms.licences.as_slice(), terms.unknown.as_slice()) {
        ([], []) => (None, None, None),
        ([one], []) if NOT_THE_HUBS.contains(&one.id.as_str()) => {
            (Some("other".into()), Some(one.id.clone()), link(one))
        }
        ([one], []) => match spelled.as_slice() {
            [word] if word.to_lowercase().contains(" or ") => (Some((*word).clone()), None, None),
            _ => (Some(one.id.clone()), None, link(one)),
        },
        ([], [one]) => (Some(one.clone()), None, None),
        (known, unknown) => {
            let all = known.iter().map(|licence| licence.id.clone()).chain(unknown.iter().cloned());
            (Some("other".into()), Some(all.collect::<Vec<_>>().join("+")), None)
        }
    }
}

/// Writes the record, the card and the texts into a result's folder.
///
/// # Errors
/// When a file cannot be read or written.
pub fn write_folder(folder: &Path, lineage: &Lineage, texts: &Texts) -> Result<()> {
    texts.write(folder)?;
    let there = Folder::open(folder)?.read("README.md", Size::new(CARD_BYTES_MAX))?.unwrap_or_default();
    let text = card(&String::from_utf8_lossy(&there), lineage);
    durable::write_file(&folder.join("README.md"), |sink| sink.put(text.as_bytes()))?;
    durable::write_file(&folder.join(FILE), |sink| sink.put(format!("{}\n", lineage.to_json()).as_bytes()))?;
    Ok(())
}

/// A card with our lines in its front matter and our part at its end; whatever else it says stays.
pub fn card(card: &str, lineage: &Lineage) -> String {
    let (head, body) = match licence::front_matter(card) {
        Some(head) => (head, card[3 + head.len()..].strip_prefix("\n---").unwrap_or_default()),
        None => ("", card),
    };
    let mut text = String::from("---");
    for line in without(head, &["license", "license_name", "license_link", "base_model", "base_model_relation"]) {
        if !line.trim().is_empty() {
            let _ = write!(text, "\n{line}");
        }
    }
    let quoted = |value: &str| serde_json::to_string(value).expect("a text is JSON");
    let (license, title, link) = named(lineage);
    for (key, value) in [("license", license), ("license_name", title), ("license_link", link)] {
        if let Some(value) = value {
            let _ = write!(text, "\n{key}: {}", quoted(&value));
        }
    }
    if let Some(step) = &lineage.work().step {
        text.push_str("\nbase_model:");
        for parent in &step.from {
            let work = &lineage.works()[parent.work];
            let _ = write!(text, "\n- {}", quoted(work.origin.as_deref().unwrap_or(&work.name)));
        }
        let relation = match step.kind {
            Kind::Tune if head.contains("peft") => Some("adapter"),
            Kind::Tune => Some("finetune"),
            Kind::Merge => Some("merge"),
            Kind::Quantize => Some("quantized"),
            Kind::Export | Kind::Create | Kind::Unknown => None,
        };
        if let Some(relation) = relation {
            let _ = write!(text, "\nbase_model_relation: {relation}");
        }
    }
    let body = match (body.find(BEGIN), body.find(END)) {
        (Some(begin), Some(end)) if begin < end => format!("{}{}", &body[..begin], &body[end + END.len()..]),
        _ => body.to_owned(),
    };
    let body = if body.trim().is_empty() { format!("\n\n# {}\n", lineage.work().name) } else { body };
    let (tree, terms) = (draw::tree(lineage), draw::terms(lineage));
    let tree = tree.split("\n\n").next().unwrap_or_default();
    let _ = write!(text, "\n---{}\n\n{BEGIN}\n## Lineage\n\n```text\n{tree}\n```\n\n## Licence\n\n", body.trim_end());
    for line in terms {
        let _ = writeln!(text, "- {line}");
    }
    let _ = writeln!(text, "{END}");
    text
}

/// The lines of front matter without some keys and the lists below them.
fn without<'a>(head: &'a str, keys: &[&str]) -> Vec<&'a str> {
    let mut dropped = false;
    let mut lines = Vec::new();
    for line in head.lines() {
        if !line.starts_with([' ', '-', '\t']) {
            let key = line.split(':').next().unwrap_or_default();
            dropped = keys.contains(&key);
        }
        if !dropped {
            lines.push(line);
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::super::tests::three_steps;
    use super::*;

    const CARD: &str =
        "---\nlanguage: en\nbase_model:\n- old/one\nlicense: mit\ntags:\n- a\n---\n\n# Title\n\nWords.\n";

    #[test]
    fn a_card_says_base_and_licence_and_keeps_the_rest() {
        let text = card(CARD, &three_steps("llama3.2"));
        let head = licence::front_matter(&text).unwrap();
        assert_eq!(licence::values(head, "base_model"), ["merged"]);
        assert_eq!(licence::values(head, "license"), ["llama3.2"]);
        assert_eq!(licence::values(head, "base_model_relation"), ["quantized"]);
        assert_eq!(licence::values(head, "tags"), ["a"]);
        for part in ["# Title\n\nWords.", "└─ base: merged", "asks: show \"Built with Llama\""] {
            assert!(text.contains(part), "{text}");
        }
        assert_eq!(card(&text, &three_steps("llama3.2")), text);
    }

    #[test]
    fn a_card_says_where_a_base_states_no_licence() {
        let base = |name: &str, licences: Vec<String>| {
            Lineage::root(super::super::Work { name: name.into(), digest: None, origin: None, licences, step: None })
        };
        let made = |parents: &[(Lineage, super::super::Role)]| {
            card(
                "",
                &Lineage::derive("small", Kind::Quantize, parents, serde_json::Value::Null, serde_json::Value::Null),
            )
        };
        let silent = (base("quiet", Vec::new()), super::super::Role::Base);
        let text = made(std::slice::from_ref(&silent));
        for part in
            ["- no licence is stated, neither for it nor", "- warning: no licence is stated by the files of \"quiet\""]
        {
            assert!(text.contains(part), "{text}");
        }
        assert!(licence::values(licence::front_matter(&text).unwrap(), "license").is_empty(), "{text}");
        let text = made(&[silent, (base("loud", vec!["mit".into()]), super::super::Role::Model)]);
        for part in ["- holds: MIT", "- warning: no licence is stated by the files of \"quiet\""] {
            assert!(text.contains(part), "{text}");
        }
    }

    #[test]
    fn two_licences_are_both_named() {
        let mut lineage = three_steps("llama3.2");
        lineage.work_mut().licences.push("cc-by-nc-4.0".into());
        let text = card("", &lineage);
        assert!(text.contains("license: \"other\"\nlicense_name: \"cc-by-nc-4.0+llama3.2\""), "{text}");
    }

    #[test]
    fn keys_come_back_as_the_lineage() {
        let lineage = three_steps("gemma");
        let mut texts = Texts::default();
        texts.add_notices(&lineage.terms());
        let mut metadata = pasture_files::gguf::Metadata::new("small.gguf");
        for (key, value) in keys(&lineage, &texts) {
            metadata.insert(key, value).unwrap();
        }
        let again = super::super::of_gguf(&metadata, "small").unwrap();
        assert_eq!(again.works()[1..], lineage.works()[1..]);
        assert_eq!(again.terms().licences, lineage.terms().licences);
        assert_eq!(Texts::of_gguf(&metadata).unwrap(), texts);
        assert_eq!(metadata.text("general.base_model.0.name").unwrap(), Some("merged"));
    }

    #[test]
    fn a_folder_says_what_was_written_into_it() {
        let folder = tempfile::tempdir().unwrap();
        let lineage = three_steps("llama3.2");
        let mut texts = Texts::default();
        texts.add_notices(&lineage.terms());
        write_folder(folder.path(), &lineage, &texts).unwrap();
        let again = super::super::of_path(folder.path()).unwrap();
        assert_eq!(again.works()[1..], lineage.works()[1..]);
        assert_eq!(Texts::of_path(folder.path()).unwrap(), texts);
    }
}
