//! The kit's hostile checkpoints: every row of the manifest for the containers of this crate ends as demanded, in time,
//! and with an error that names the file. What a model or a command does with them belongs to their own tests.
#![allow(clippy::unwrap_used)]

#[path = "../../../tests/kit.rs"]
mod kit;
#[path = "../../../tests/patience.rs"]
mod patience;

use std::path::{Path, PathBuf};
use std::time::Duration;

use pasture_files::{Tensors, json};
use serde_json::Value;

/// The manifest's own limit where a row states none.
const TIME_MAX: Duration = Duration::from_secs(2);

/// What `inspect` does: opens, lists, and reads every byte of every tensor. The sum keeps the reads alive.
fn inspect(path: &Path) -> pasture_files::Result<u64> {
    let open = Tensors::open(path)?;
    let mut sum = 0u64;
    for name in open.names() {
        let bytes = open.bytes(name)?;
        sum = bytes.iter().fold(sum, |sum, &byte| sum.wrapping_add(byte.into()));
    }
    Ok(sum)
}

/// None where the row ended as it must.
fn complaint(kit: &Path, row: &Value) -> Option<String> {
    let text = |key: &str| row[key].as_str().unwrap_or_default();
    let (path, _copy) = prepared(&kit.join(text("file")), &row["setup"]);
    let time_max = row["max_seconds"].as_f64().map_or(TIME_MAX, Duration::from_secs_f64);
    let (outcome, time) = patience::timed(time_max, || std::panic::catch_unwind(|| inspect(&path)));
    let Ok(outcome) = outcome else { return Some("panicked".into()) };
    if time > time_max {
        return Some(format!("took {time:?}"));
    }
    // The other operations need a model or a template: here such a file must only not panic. What is wrong in a store
    // shows when its files are opened.
    let opens = text("op") == "inspect" || (text("kind") == "store" && text("op") == "load");
    if !opens {
        return None;
    }
    match outcome {
        Ok(_) if text("must") == "ok" || text("may") == "ok" => None,
        Ok(_) => Some("was read".into()),
        Err(_) if text("must") == "clear error" || text("may") == "clear error" => check_error(&path, outcome.err()),
        Err(fault) => Some(format!("was refused: {fault}")),
    }
}

/// The case itself or, where links are to be made first, a copy with them; a link may lead three folders up, where a
/// good file is.
fn prepared(case: &Path, setup: &Value) -> (PathBuf, Option<tempfile::TempDir>) {
    let Some(links) = setup.as_array() else { return (case.to_owned(), None) };
    let temporary = tempfile::tempdir().unwrap();
    let folder = temporary.path().join("a/b/c").join(case.file_name().unwrap());
    std::fs::create_dir_all(&folder).unwrap();
    for entry in std::fs::read_dir(case).unwrap().flatten() {
        std::fs::copy(entry.path(), folder.join(entry.file_name())).unwrap();
    }
    let good = case.parent().unwrap().join("shards_valid/model-00002-of-00002.safetensors");
    std::fs::copy(good, temporary.path().join("a/outside.safetensors")).unwrap();
    for link in links {
        let text = |key: &str| link[key].as_str().unwrap();
        #[cfg(unix)]
        std::os::unix::fs::symlink(text("target"), folder.join(text("link"))).unwrap();
    }
    (folder, Some(temporary))
}

/// An error is short, one line, and names the file or one in the folder.
fn check_error(path: &Path, fault: Option<pasture_files::Error>) -> Option<String> {
    let shown = fault?.to_string();
    let name = path.file_name()?.to_str()?;
    let inside = std::fs::read_dir(path).map(|entries| entries.flatten().map(|entry| entry.file_name()).collect());
    let inside: Vec<_> = inside.unwrap_or_default();
    let named = shown.contains(name) || inside.iter().any(|name| shown.contains(&*name.to_string_lossy()));
    let wrong = !named || shown.contains('\n') || shown.len() > 700 || shown.contains("0x7f");
    wrong.then(|| format!("has the error {shown:?}"))
}

fn check_kind(kind: &str, rows_min: usize) {
    let Some(kit) = kit::folder("hostile") else { return };
    let manifest = std::fs::read_to_string(kit.join("manifest.jsonl")).unwrap();
    let rows = manifest.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let rows: Vec<Value> = rows.filter(|row| row["kind"] == kind).collect();
    assert!(rows.len() >= rows_min, "{} rows of {kind}", rows.len());
    let complaint = |row| complaint(&kit, row).map(|what| format!("{} ({}): {what}", row["file"], row["note"]));
    let complaints: Vec<String> = rows.iter().filter_map(complaint).collect();
    assert!(complaints.is_empty(), "{} of {}:\n{}", complaints.len(), rows.len(), complaints.join("\n"));
}

#[test]
fn gguf_files_end_as_the_manifest_demands() {
    check_kind("gguf", 130);
}

#[test]
fn safetensors_files_end_as_the_manifest_demands() {
    check_kind("safetensors", 80);
}

#[test]
fn pickles_end_as_the_manifest_demands() {
    check_kind("pth", 90);
}

#[test]
fn folders_of_shards_end_as_the_manifest_demands() {
    check_kind("store", 60);
}

#[test]
fn json_is_accepted_and_rejected_as_its_standard_says() {
    let Some(folder) = kit::folder("assets/hostile/json-parsing") else { return };
    let mut complaints = Vec::new();
    for entry in std::fs::read_dir(&folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        let found = json::read(&path);
        // `i_` is free, but must come back. Two keys of one name are legal, and refused on purpose: RFC 8259 leaves open
        // which of them counts, so two readers of one file could see two models.
        let wrong = match name.split('_').next() {
            Some("y") if name.starts_with("y_object_duplicated_key") => found.is_ok(),
            Some("y") => found.is_err(),
            Some("n") => found.is_ok(),
            _ => false,
        };
        if wrong {
            complaints.push(format!("{name}: {:?}", found.map_err(|fault| fault.to_string())));
        }
    }
    assert!(complaints.is_empty(), "{}:\n{}", complaints.len(), complaints.join("\n"));
}

/// Memory may grow by 64 MiB plus twice the input while a file is inspected, whatever it claims.
#[cfg(target_os = "linux")]
#[test]
fn no_hostile_file_takes_memory() {
    let Some(kit) = kit::folder("hostile") else { return };
    let peak = || {
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
    };
    let before = peak();
    let mut largest = 0;
    for kind in ["gguf", "safetensors", "pth"] {
        for entry in std::fs::read_dir(kit.join(kind)).unwrap() {
            let path = entry.unwrap().path();
            largest = largest.max(path.metadata().unwrap().len());
            let _ = inspect(&path);
        }
    }
    let grown = peak() - before;
    assert!(grown <= (64 << 20) + 2 * largest, "grew by {grown} bytes, the largest file has {largest}");
}
