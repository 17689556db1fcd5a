//! Runs golden cases: `golden --kit DIR [--only GLOB]`. A case is `group/name` below `DIR/golden` (or below `DIR`).
//! Each group has one runner in `GROUPS`, or its cases are held by tests; what has neither is reported as not covered,
//! never as passed. `golden bench --train …` measures steps of tuning instead.
#![forbid(unsafe_code)]

mod bench_train;
mod glob;
mod model;
mod tests;
mod train;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};

use model::Outcome;

/// Runs one case and says why it failed.
type Runner = fn(&Path) -> Result<Outcome>;

/// Runners by group.
const GROUPS: [(&str, Runner); 7] = [
    ("text", model::run),
    ("arctic", model::run),
    ("embed", model::run),
    ("gguf", model::run),
    ("pth", model::run),
    ("prequantized", model::run),
    ("train", tuned),
];

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let outcome = match arguments.strip_prefix(&["bench".to_owned(), "--train".to_owned()]) {
        Some(rest) => bench_train::run(rest).map(|()| true),
        None => run(&arguments),
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::from(2)
        }
    }
}

fn run(arguments: &[String]) -> Result<bool> {
    let (mut kit, mut only) = (None, "*");
    let mut arguments = arguments.iter();
    while let Some(argument) = arguments.next() {
        let value = arguments.next().with_context(|| format!("`{argument}` needs a value"))?;
        match argument.as_str() {
            "--kit" => kit = Some(PathBuf::from(value)),
            "--only" => only = value.as_str(),
            _ => bail!("unknown argument {argument:?}"),
        }
    }
    let kit = kit.context("`--kit DIR` is needed")?;
    let (mut passed, mut failed, mut open) = (0, 0, 0);
    for (name, folder) in cases(&kit)? {
        if !glob::matches(only, &name) {
            continue;
        }
        let group = name.split('/').next().unwrap_or_default();
        let runner = GROUPS.iter().find(|(g, _)| *g == group);
        let outcome = match runner {
            _ if tests::hold(&name) => tests::run(&name, &folder),
            Some((_, runner)) => runner(&folder),
            None => Ok(Outcome::NotCovered("no check of its group exists yet".into())),
        };
        match outcome {
            Ok(Outcome::Passed) => passed += 1,
            Ok(Outcome::NotCovered(what)) => {
                println!("{name}: not covered: {what}");
                open += 1;
            }
            Err(error) => {
                println!("{name}: {error:#}");
                failed += 1;
            }
        }
    }
    if open > 0 {
        println!("{open} not covered");
    }
    println!("{passed} passed, {failed} failed");
    Ok(failed == 0 && passed > 0)
}

/// A tuning case counts as passed where some of its runs did; the others are named.
fn tuned(folder: &Path) -> Result<Outcome> {
    let covered = train::run(folder)?;
    let open = covered.open.join("; ");
    if covered.passed.is_empty() {
        return Ok(Outcome::NotCovered(open));
    }
    if !open.is_empty() {
        let name = folder.file_name().unwrap_or_default().display();
        println!("train/{name}: not covered beside {}: {open}", covered.passed.join(", "));
    }
    Ok(Outcome::Passed)
}

/// Cases by name, sorted: every folder of a group, or the group itself where it holds files only.
fn cases(kit: &Path) -> Result<Vec<(String, PathBuf)>> {
    let root = if kit.join("golden").is_dir() { kit.join("golden") } else { kit.to_path_buf() };
    let mut found = Vec::new();
    for group in folders(&root).with_context(|| format!("{kit:?} is no kit"))? {
        let name = group.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let inner = folders(&group)?;
        if inner.is_empty() {
            found.push((name, group));
            continue;
        }
        found.extend(inner.into_iter().map(|case| {
            let last = case.file_name().unwrap_or_default().to_string_lossy().into_owned();
            (format!("{name}/{last}"), case)
        }));
    }
    found.sort();
    Ok(found)
}

fn folders(place: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(place)? {
        let path = entry?.path();
        if path.is_dir() {
            found.push(path);
        }
    }
    Ok(found)
}
