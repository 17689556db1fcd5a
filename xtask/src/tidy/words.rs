//! Words that may stand only in certain places: family names, `unsafe`, `unwrap`, unfinished code, machine paths,
//! writes that are not durable, and calls that belong behind another wall.

use super::source::has_word;
use super::{Complaint, Tree, complaint, exempt};

const FAMILIES: [&str; 19] = [
    "llama",
    "gemma",
    "mistral",
    "mixtral",
    "ministral",
    "pixtral",
    "phi1",
    "phi2",
    "phi3",
    "phi4",
    "phi-",
    "dbrx",
    "arctic",
    "snowflake",
    "qwen",
    "granite",
    "olmo",
    "smollm",
    "gpt-oss",
];

/// Crates that may not know whom they are running.
const FAMILY_BLIND: [&str; 4] =
    ["crates/kernels/src/", "crates/tensor/src/", "crates/engine/src/", "crates/model/src/"];

const UNSAFE_PLACES: [&str; 6] = [
    "crates/kernels/src/packed",
    "crates/kernels/src/x86",
    "crates/kernels/src/aarch64",
    "crates/kernels/src/pool",
    "crates/files/src/mmap.rs",
    "crates/cuda/src/driver",
];

/// How far above its block a SAFETY line may end.
const SAFETY_LINES: usize = 4;

/// Roots of crates in which one module is on the list above; every other root forbids unsafe code.
const UNSAFE_CRATES: [&str; 2] = ["crates/kernels/src/lib.rs", "crates/files/src/lib.rs"];

/// Family names outside the family pages.
pub fn families(tree: &Tree) -> Vec<Complaint> {
    let mut found = Vec::new();
    for (path, source) in tree.product() {
        let blind = FAMILY_BLIND.iter().any(|p| path.starts_with(p)) && !path.starts_with("crates/model/src/families");
        if !blind || path.contains("/tests") {
            continue;
        }
        for (line, text) in source.string_lines() {
            let text = text.to_lowercase();
            for word in FAMILIES.iter().filter(|w| text.contains(**w)) {
                if !exempt::allows("family names", path, word) {
                    let text =
                        format!("{word:?} outside crates/model/src/families: the page says it, the code does not ask");
                    found.push(complaint(path, line, text));
                }
            }
        }
    }
    found
}

/// `unsafe` outside its places, and blocks without a line that a reviewer can falsify.
pub fn unsafe_places(tree: &Tree) -> Vec<Complaint> {
    let mut found = Vec::new();
    for (path, source) in tree.rust() {
        let lines: Vec<&str> = source.text.lines().collect();
        for (number, code) in source.code().lines().enumerate() {
            if !has_word(code, "unsafe") || code.contains("unsafe(") {
                continue;
            }
            if !UNSAFE_PLACES.iter().any(|place| path.starts_with(place)) {
                found.push(complaint(
                    path,
                    number + 1,
                    "`unsafe` outside its four places (ARCHITECTURE.md, invariant 4)",
                ));
                continue;
            }
            let declares = code.contains("unsafe fn") || code.contains("unsafe extern");
            if !declares && !explained(&lines, number) {
                found.push(complaint(path, number + 1, "`unsafe` without a `SAFETY:` line just above it"));
            }
        }
    }
    found
}

/// Is there a SAFETY line at the end of the comment above line `number` (or on it)? Statements that began above count.
fn explained(lines: &[&str], number: usize) -> bool {
    let mut above = 0;
    for line in lines[..=number].iter().rev() {
        if line.contains("SAFETY:") {
            return true;
        }
        let comment = line.trim_start().starts_with("//");
        if !comment {
            above += 1;
        }
        if above > SAFETY_LINES {
            return false;
        }
    }
    false
}

/// Roots of crates that do not forbid unsafe code.
pub fn forbid(tree: &Tree) -> Vec<Complaint> {
    let mut found = Vec::new();
    for (path, source) in tree.rust() {
        let root = path.ends_with("/src/lib.rs") || path.ends_with("/src/main.rs");
        if root && !UNSAFE_CRATES.contains(&path) && !source.code().contains("#![forbid(unsafe_code)]") {
            found.push(complaint(path, 0, "the root of this crate must say `#![forbid(unsafe_code)]`"));
        }
    }
    found
}

/// `unwrap` outside tests.
pub fn unwraps(tree: &Tree) -> Vec<Complaint> {
    let wanted = "`?` for the world's mistakes, `expect(\"why it cannot fail\")` for a proof";
    places(tree.product(), &[".unwrap()"], |word| format!("`{word}` outside tests: {wanted}"))
}

/// Code that says of itself that it is not done, and tests that do not run.
pub fn unfinished(tree: &Tree) -> Vec<Complaint> {
    let words = ["todo!", "unimplemented!", "dbg!(", "#[ignore"];
    let mut found = Vec::new();
    for (path, source) in tree.rust() {
        for (number, line) in source.code().lines().enumerate() {
            for word in words.iter().filter(|w| line.contains(**w)) {
                found.push(complaint(path, number + 1, format!("`{word}`: finish it, or leave it out and say so")));
            }
        }
    }
    found
}

/// Paths of somebody's machine, in any file.
pub fn machine_paths(tree: &Tree) -> Vec<Complaint> {
    let mut found = Vec::new();
    for (path, source) in tree.files() {
        for (number, line) in source.text.lines().enumerate() {
            for top in ["work", "root", "home", "Users"] {
                let mark = format!("/{top}/");
                let starts = line
                    .match_indices(&mark)
                    .any(|(at, _)| !line[..at].ends_with(|c: char| c.is_alphanumeric() || "_-.*}~)>{]".contains(c)));
                if starts {
                    found.push(complaint(path, number + 1, format!("`{mark}` is a path of one machine")));
                }
            }
        }
    }
    found
}

/// Files made, linked, renamed or removed outside the one module that does it durably.
pub fn durable_writes(tree: &Tree) -> Vec<Complaint> {
    const WORDS: [&str; 10] = [
        "fs::rename",
        "File::create",
        "fs::write(",
        "fs::copy(",
        ".create(true)",
        ".create_new(true)",
        "fs::symlink(",
        "hard_link(",
        "fs::remove_file",
        "fs::remove_dir",
    ];
    let rest = tree.product().filter(|(path, _)| *path != "crates/files/src/durable.rs");
    places(rest, &WORDS, |word| {
        format!("`{word}`: results are written through crates/files/src/durable.rs, so that a crash leaves old or new")
    })
}

/// Calls that belong behind another wall: the network, async, clocks in the scheduler, output in kernels.
pub fn walls(tree: &Tree) -> Vec<Complaint> {
    const NETWORK: [&str; 4] = ["crates/store/", "crates/serve/", "crates/tensor/src/group", "crates/cuda/"];
    let mut found = Vec::new();
    let elsewhere = tree.product().filter(|(path, _)| !NETWORK.iter().any(|place| path.starts_with(place)));
    found.extend(places(elsewhere, &["std::net", "TcpStream", "UdpSocket"], |word| {
        format!("`{word}`: only store, serve and Group touch the network")
    }));
    let sync = tree.product().filter(|(path, _)| !path.starts_with("crates/serve/"));
    found.extend(places(sync, &["async fn", ".await"], |word| format!("`{word}`: only serve is async")));
    let scheduler = tree.product().filter(|(path, _)| path.starts_with("crates/engine/src/scheduler"));
    found.extend(places(
        scheduler,
        &["Instant::now", "SystemTime", "std::fs", "Mutex", "RwLock", "println!"],
        |word| format!("`{word}`: the scheduler is pure; time is a parameter"),
    ));
    let kernels = tree.product().filter(|(path, _)| path.starts_with("crates/kernels/"));
    found.extend(places(kernels, &["println!", "eprintln!", "std::fs::File", "File::open", "-> Result<"], |word| {
        format!("`{word}`: kernels do no output and never fail; a wrong shape is a bug and asserts")
    }));
    found
}

fn places<'a>(
    files: impl Iterator<Item = (&'a str, &'a super::source::Source)>,
    words: &[&str],
    text: impl Fn(&str) -> String,
) -> Vec<Complaint> {
    let mut found = Vec::new();
    for (path, source) in files {
        for (line, code) in source.code_lines() {
            for word in words.iter().filter(|w| code.contains(**w)) {
                if !exempt::allows("words", path, word) {
                    found.push(complaint(path, line, text(word)));
                }
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(rule: fn(&Tree) -> Vec<Complaint>, path: &str, text: &str, count: usize) {
        assert_eq!(rule(&Tree::of(&[(path, text)])).len(), count, "{path}: {text}");
    }

    #[test]
    fn families_are_named_only_on_their_pages() {
        check(families, "crates/model/src/decoder.rs", "let x = \"Llama\";", 1);
        check(families, "crates/engine/src/chat.rs", "fn mistral() {}", 1);
        check(families, "crates/model/src/families/llama.rs", "let x = \"llama\";", 0);
        check(families, "crates/model/src/decoder.rs", "// as Llama does", 0);
        check(families, "crates/model/src/decoder.rs", "#[cfg(test)]\nmod tests {\nlet x = \"llama\";\n}", 0);
        check(families, "crates/files/src/gguf.rs", "\"llama\"", 0);
    }

    #[test]
    fn unsafe_stands_in_its_places_and_says_why() {
        check(unsafe_places, "crates/model/src/a.rs", "unsafe { f() }", 1);
        check(unsafe_places, "crates/kernels/src/x86/dot.rs", "unsafe { f() }", 1);
        check(unsafe_places, "crates/kernels/src/x86/dot.rs", "// SAFETY: `f` takes anything\nunsafe { f() }", 0);
        check(unsafe_places, "crates/kernels/src/x86/dot.rs", "/// # Safety\nunsafe fn f() {}", 0);
        check(unsafe_places, "crates/model/src/a.rs", "// unsafe\nlet a = \"unsafe\";", 0);
        check(forbid, "crates/model/src/lib.rs", "//! x", 1);
        check(forbid, "crates/model/src/lib.rs", "#![forbid(unsafe_code)]", 0);
    }

    #[test]
    fn careless_code_is_named() {
        check(unwraps, "crates/model/src/a.rs", "a.unwrap();", 1);
        check(unwraps, "crates/model/src/a.rs", "#[cfg(test)]\nmod tests { fn f() { a.unwrap(); } }", 0);
        check(unfinished, "crates/model/src/a.rs", concat!("to", "do!()"), 1);
        check(unfinished, "crates/model/tests/a.rs", concat!("#[ig", "nore]"), 1);
        check(durable_writes, "crates/files/src/save.rs", "fs::rename(a, b)", 1);
        check(durable_writes, "crates/files/src/durable.rs", "fs::rename(a, b)", 0);
        check(durable_writes, "crates/store/src/a.rs", "OpenOptions::new().create(true)", 1);
        check(durable_writes, "crates/store/src/a.rs", "std::os::unix::fs::symlink(a, b)", 1);
        check(durable_writes, "crates/store/tests/a.rs", "fs::rename(a, b)", 0);
        check(machine_paths, "docs/a.md", concat!("see /ro", "ot/x"), 1);
        check(machine_paths, "docs/a.md", "a/work/b and ../work/c", 0);
    }

    #[test]
    fn walls_stand() {
        check(walls, "crates/engine/src/a.rs", "use std::net::TcpStream;", 2);
        check(walls, "crates/store/src/a.rs", "use std::net::TcpStream;", 0);
        check(walls, "crates/lab/src/a.rs", "async fn f() {}", 1);
        check(walls, "crates/engine/src/scheduler.rs", "let now = Instant::now();", 1);
        check(walls, "crates/kernels/src/a.rs", "println!()", 1);
    }
}
