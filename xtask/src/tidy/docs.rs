//! Documents that must keep up with the code: dependencies, guide pages, commands that a document shows.

use std::collections::BTreeSet;

use toml::{Table, Value};

use super::{Complaint, Tree, complaint, floors, source};

const DEPENDENCIES: &str = "docs/decisions/dependencies.md";
const VERBS: &str = "crates/pasture/src/verbs/";
const GUIDE: &str = "docs/guide/";
/// How names of files in the workspace begin.
const PLACES: [&str; 4] = ["crates/", "xtask/", "fuzz/src", "docs/"];
const CHORES: [&str; 6] = ["check", "tidy", "golden", "bench", "fuzz", "soak"];

/// Every dependency has its line of reason, licence and way out; every line has its dependency.
pub fn dependencies(tree: &Tree) -> Vec<Complaint> {
    let mut used = BTreeSet::new();
    for (path, source) in tree.files() {
        if path.ends_with("Cargo.toml") && path != "Cargo.toml" {
            let manifest: Table = source.text.parse().unwrap_or_default();
            used.extend(floors::dependencies(&manifest));
        }
    }
    let manifest: Table = tree.text("Cargo.toml").and_then(|text| text.parse().ok()).unwrap_or_default();
    let listed = manifest.get("workspace").and_then(|w| w.get("dependencies")).and_then(Value::as_table);
    used.extend(listed.into_iter().flat_map(|table| table.keys().cloned()));
    used.retain(|name| name != "pasture" && !name.starts_with("pasture-") && name != "xtask");
    let text = tree.text(DEPENDENCIES).unwrap_or_default();
    let told: BTreeSet<String> =
        text.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next().map(str::to_owned)).collect();
    let missing = used
        .difference(&told)
        .map(|name| complaint(DEPENDENCIES, 0, format!("`{name}` has no line: reason, licence, way out")));
    let stale =
        told.difference(&used).map(|name| complaint(DEPENDENCIES, 0, format!("`{name}` is no dependency any more")));
    missing.chain(stale).collect()
}

/// Guide pages that go through several verbs, or that a verb's own page leads to.
const WALKS: [&str; 2] = ["customise", "serve-fields"];

/// Every verb has a guide page, every page its verb unless it walks through several, and every command in a document exists.
pub fn verbs_and_commands(tree: &Tree) -> Vec<Complaint> {
    let Some(verbs) = verbs(tree) else { return Vec::new() };
    let mut found = Vec::new();
    for verb in &verbs {
        if tree.text(&format!("{GUIDE}{verb}.md")).is_none() {
            found.push(complaint(&format!("{GUIDE}{verb}.md"), 0, format!("the verb `{verb}` has no page")));
        }
    }
    for path in tree.files().keys().filter(|p| p.starts_with(GUIDE) && !p.ends_with("README.md")) {
        let page = path[GUIDE.len()..].trim_end_matches(".md");
        if !verbs.contains(page) && !WALKS.contains(&page) {
            found.push(complaint(path, 0, format!("there is no verb `{page}`")));
        }
    }
    for (path, source) in tree.files().iter().filter(|(p, _)| p.ends_with(".md")) {
        for (line, command) in commands(&source.text) {
            let words: Vec<&str> = command.split_whitespace().collect();
            let known = match words.as_slice() {
                ["pasture", verb, ..] => verb.starts_with('-') || *verb == "help" || verbs.contains(*verb),
                ["cargo", "xtask", chore, ..] => CHORES.contains(chore),
                ["cargo", "run", "--release", "--", verb, ..] => verbs.contains(*verb),
                _ => true,
            };
            if !known {
                found.push(complaint(path, line, format!("there is no such command: {command}")));
            }
        }
    }
    found
}

/// Files and folders of the workspace that a document names exist, and every family has its place in the README.
pub fn places_and_families(tree: &Tree) -> Vec<Complaint> {
    let mut found = Vec::new();
    let exists = |path: &str| {
        let folder = format!("{}/", path.trim_end_matches('/'));
        tree.text(path).is_some() || tree.files().keys().any(|file| file.starts_with(&folder))
    };
    for (path, source) in tree.files().iter().filter(|(p, _)| p.ends_with(".md")) {
        for (number, line) in source.text.lines().enumerate() {
            let quoted = line.split('`').skip(1).step_by(2);
            let ours = quoted.filter(|word| PLACES.iter().any(|place| word.starts_with(place)));
            for word in ours.filter(|word| !word.contains(|c: char| " *{<…".contains(c)) && !exists(word)) {
                found.push(complaint(path, number + 1, format!("there is no {word:?}")));
            }
        }
    }
    let Some(readme) = tree.text("README.md") else { return found };
    for (path, source) in tree.rust().filter(|(path, _)| path.starts_with("crates/model/src/families/")) {
        for (line, code) in source.string_lines() {
            let name = code.trim().strip_prefix("name: \"").and_then(|rest| rest.split('"').next());
            if let Some(name) = name.filter(|name| !source::has_word(readme, name)) {
                found.push(complaint(path, line, format!("the family {name:?} is missing in README.md")));
            }
        }
    }
    found
}

/// Names of the verbs: one file each.
fn verbs(tree: &Tree) -> Option<BTreeSet<String>> {
    let source = tree.text(&format!("{VERBS}mod.rs"))?;
    let named = source.lines().filter_map(|line| {
        let rest = line.trim_start_matches("pub ").trim_start_matches("pub(crate) ").strip_prefix("mod ")?;
        Some(rest.trim_end_matches(';').trim_end_matches(" {").to_owned())
    });
    // A module without a verb's `Arguments` is shared by verbs and needs no page.
    let takes = |name: &String| {
        let file = format!("{VERBS}{name}.rs");
        let folder = format!("{VERBS}{name}/mod.rs");
        tree.text(&file).or(tree.text(&folder)).is_some_and(|text| text.contains(" Arguments"))
    };
    Some(named.filter(takes).collect())
}

/// Lines of `console` blocks that are commands.
fn commands(text: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    let mut inside = false;
    for (number, line) in text.lines().enumerate() {
        if line.trim_start().starts_with("```") {
            inside = line.trim_start().starts_with("```console");
        } else if inside && let Some(command) = line.trim_start().strip_prefix("$ ") {
            found.push((number + 1, command.to_owned()));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(files: &[(&str, &str)], rule: fn(&Tree) -> Vec<Complaint>, count: usize) {
        assert_eq!(rule(&Tree::of(files)).len(), count, "{files:?}");
    }

    #[test]
    fn a_dependency_has_its_line() {
        let manifest = ("crates/files/Cargo.toml", "[dependencies]\nhalf.workspace = true");
        check(&[manifest], dependencies, 1);
        check(&[manifest, (DEPENDENCIES, "| `half` | f16 | MIT | own |")], dependencies, 0);
        check(&[manifest, (DEPENDENCIES, "| `half` | |\n| `gone` | |")], dependencies, 1);
    }

    #[test]
    fn a_verb_has_its_page_and_a_command_its_verb() {
        let verbs = [
            ("crates/pasture/src/verbs/mod.rs", "pub mod chat;"),
            ("crates/pasture/src/verbs/chat.rs", "pub struct Arguments {}"),
        ];
        check(&verbs, verbs_and_commands, 1);
        let shared = ("crates/pasture/src/verbs/chat.rs", "#[derive(Args)]\nstruct Flags {}");
        check(&[verbs[0], shared], verbs_and_commands, 0);
        let page = |text| [verbs[0], verbs[1], ("docs/guide/chat.md", text)];
        check(&page("fine"), verbs_and_commands, 0);
        check(&page("```console\n$ pasture chat\n$ cargo xtask tidy\n```"), verbs_and_commands, 0);
        check(&page("```console\n$ pasture sing\n```"), verbs_and_commands, 1);
        check(&page("```console\n$ cargo xtask sing\n```"), verbs_and_commands, 1);
    }
    #[test]
    fn a_document_names_files_that_are_there() {
        let readme = |text| [("README.md", text), ("crates/a/src/lib.rs", "")];
        check(&readme("see `crates/a/src/lib.rs`, `crates/a/src/` and `crates/*/src`"), places_and_families, 0);
        check(&readme("see `crates/a/src/gone.rs` or `cargo xtask check`"), places_and_families, 1);
    }

    #[test]
    fn a_family_stands_in_the_readme() {
        let page = |text| [("README.md", text), ("crates/model/src/families/x.rs", "    name: \"Heron\",")];
        check(&page("| Heron | all sizes |"), places_and_families, 0);
        check(&page("| Herons |"), places_and_families, 1);
    }
}
