//! Places where a rule does not hold, each with its reason. An exemption that is no longer needed is a complaint too.

use super::{Complaint, Tree, complaint};

/// Rule, file, word (empty: any), reason.
const EXEMPT: [(&str, &str, &str, &str); 9] = [
    ("family names", "crates/model/src/config/rope.rs", "llama", "the published name of a kind of rope scaling"),
    ("family names", "crates/model/src/config/keys.rs", "llama", "the published name of a key of rope scaling"),
    ("family names", "crates/model/src/config/bookkeeping.rs", "llama", "the published name of a key without effect"),
    ("words", "crates/serve/src/audit/mod.rs", ".create(true)", "the audit log only grows at its end"),
    (
        "words",
        "crates/serve/src/control/mod.rs",
        "fs::remove_file",
        "a running server's file, which is worth nothing after a crash",
    ),
    (
        "words",
        "crates/serve/src/control/mod.rs",
        ".create_new(true)",
        "a running server's file, made for its user only",
    ),
    ("words", "crates/store/src/bundle/unpack.rs", "fs::remove_dir", "a partial folder, which nobody takes for a work"),
    ("words", "crates/serve/src/sqlite.rs", ".create(true)", "SQLite writes the file; here only its rights are set"),
    ("words", "crates/store/src/pull/partial.rs", "fs::remove_dir", "a partial folder, which nobody takes for a blob"),
];

/// Is this place on the list?
pub fn allows(rule: &str, path: &str, word: &str) -> bool {
    EXEMPT.iter().any(|(r, p, w, _)| *r == rule && *p == path && (w.is_empty() || *w == word))
}

/// Exemptions whose file or word is gone.
pub fn stale(tree: &Tree) -> Vec<Complaint> {
    let gone =
        |path: &str, word: &str| tree.text(path).is_none_or(|text| !text.to_lowercase().contains(&word.to_lowercase()));
    EXEMPT
        .iter()
        .filter(|(_, path, word, _)| gone(path, word))
        .map(|(rule, path, word, _)| {
            complaint(
                "xtask/src/tidy/exempt.rs",
                0,
                format!("{path} needs no exemption from {rule:?} for {word:?} any more"),
            )
        })
        .collect()
}
