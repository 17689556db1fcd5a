//! Runs every command that the README and the guide show, in a folder with the starter in it, and compares what they say.
//! A command is a line `$ …` of a `console` block. The lines below it are its output, where given; a line `...` stands
//! for any lines, and `[exit 65]` for the status. Commands of cargo are left to CI.
#![forbid(unsafe_code)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// One command with what the page says about it.
struct Shown {
    line: usize,
    command: String,
    output: Vec<String>,
    status: i32,
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn commands(text: &str) -> Vec<Shown> {
    let mut found: Vec<Shown> = Vec::new();
    let (mut inside, mut open) = (false, false);
    for (number, line) in text.lines().enumerate() {
        if line.starts_with("```") {
            inside = line == "```console";
            open = false;
        } else if inside && let Some(command) = line.strip_prefix("$ ") {
            found.push(Shown { line: number + 1, command: command.into(), output: Vec::new(), status: 0 });
            open = true;
        } else if inside && open {
            let shown = found.last_mut().expect("a command came before its output");
            match line.strip_prefix("[exit ").and_then(|rest| rest.strip_suffix(']')) {
                Some(status) => shown.status = status.parse().expect("a status is a number"),
                None => shown.output.push(line.into()),
            }
        }
    }
    found
}

/// Do the lines fit what the page shows?
fn fits(shown: &[String], lines: &[&str]) -> bool {
    match shown.split_first() {
        None => lines.is_empty(),
        Some((first, rest)) if first == "..." => (0..=lines.len()).any(|skip| fits(rest, &lines[skip..])),
        Some((first, rest)) => {
            lines.split_first().is_some_and(|(line, more)| line.trim_end() == first && fits(rest, more))
        }
    }
}

fn run(shown: &Shown, folder: &Path, page: &str) -> Option<String> {
    let program = Path::new(env!("CARGO_BIN_EXE_pasture"));
    let place = program.parent().expect("a program stands in a folder");
    let path = format!("{}:{}", place.display(), std::env::var("PATH").unwrap_or_default());
    let output = Command::new("sh")
        .args(["-c", &shown.command])
        .current_dir(folder)
        .env_clear()
        .env("PATH", path)
        .env("HOME", folder)
        .env("PASTURE_RECEIPT", "none")
        .stdin(Stdio::null())
        .output()
        .expect("a shell runs commands");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let lines: Vec<&str> = text.lines().collect();
    let status = output.status.code();
    if status == Some(shown.status) && (shown.output.is_empty() || fits(&shown.output, &lines)) {
        return None;
    }
    let errors = String::from_utf8_lossy(&output.stderr);
    Some(format!("{page}:{}: $ {}\nstatus {status:?}\n{text}{errors}", shown.line, shown.command))
}

/// What does not do as the page says.
fn wrong_in(page: &str) -> Vec<String> {
    let text = fs::read_to_string(root().join(page)).expect("the page can be read");
    let folder = tempfile::tempdir().expect("a temporary folder");
    fs::create_dir(folder.path().join("starter")).expect("a folder for the starter");
    for name in ["starter/starter.gguf", "my-model.gguf"] {
        fs::copy(root().join("starter/starter.gguf"), folder.path().join(name)).expect("the starter can be copied");
    }
    let shown: Vec<Shown> = commands(&text).into_iter().filter(|s| !s.command.starts_with("cargo ")).collect();
    assert!(!shown.is_empty(), "{page} shows no command");
    shown.iter().filter_map(|shown| run(shown, folder.path(), page)).collect()
}

#[test]
fn the_commands_of_the_readme_do_what_it_says() {
    let wrong = wrong_in("README.md");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_commands_of_the_guide_do_what_it_says() {
    let mut pages: Vec<String> = fs::read_dir(root().join("docs/guide"))
        .expect("the guide is a folder")
        .map(|entry| entry.expect("an entry can be read").file_name().to_string_lossy().into_owned())
        .filter(|name| name.ends_with(".md") && name != "README.md")
        .collect();
    pages.sort();
    assert!(pages.len() >= 12, "{pages:?}");
    let wrong: Vec<String> = pages.iter().flat_map(|page| wrong_in(&format!("docs/guide/{page}"))).collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_page_is_compared_line_by_line() {
    let shown = commands("```console\n$ a\nx\n...\ny\n[exit 2]\n$ b\n```\n```text\n$ c\n```\n");
    assert_eq!(shown.iter().map(|s| (s.command.as_str(), s.status)).collect::<Vec<_>>(), [("a", 2), ("b", 0)]);
    assert!(fits(&shown[0].output, &["x", "y"]) && fits(&shown[0].output, &["x", "1", "2", "y"]));
    assert!(!fits(&shown[0].output, &["x", "1"]) && !fits(&shown[0].output, &["y"]));
}
