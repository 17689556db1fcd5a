//! Whenever the power goes, a file that is written has its old content or the whole of its next one.
#![allow(clippy::unwrap_used)]

#[path = "../../../tests/power.rs"]
mod power;

use std::io::Write;
use std::path::Path;

use pasture_files::durable::{self, Fs};
use power::{PAGE, Recorder};

fn content(fill: u8) -> Vec<u8> {
    vec![fill; 3 * PAGE + 100]
}

/// Runs `write` on a folder with an old file and gives the contents that `a.bin` may have afterwards.
fn contents(write: impl Fn(&Recorder, &Path)) -> Vec<Option<Vec<u8>>> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.bin");
    std::fs::write(&path, content(1)).unwrap();
    let disk = Recorder::new(folder.path());
    let first = disk.events();
    write(&disk, &path);
    let mut found: Vec<_> =
        disk.states(first).iter().map(|state| state.files.get(Path::new("a.bin")).cloned()).collect();
    found.sort();
    found.dedup();
    found
}

#[test]
fn the_sequence_leaves_the_old_file_or_the_next() {
    let found = contents(|disk, path| durable::write_file_on(disk, path, |sink| sink.put(&content(2))).unwrap());
    assert_eq!(found, [Some(content(1)), Some(content(2))]);
}

#[test]
fn a_partial_file_gets_its_name_with_all_of_its_content() {
    let found = contents(|disk, path| {
        let partial = path.with_file_name("a.partial");
        disk.create_new(&partial).unwrap().write_all(&content(2)).unwrap();
        durable::rename_on(disk, &partial, path).unwrap();
    });
    assert_eq!(found, [Some(content(1)), Some(content(2))]);
}

#[test]
fn leaving_out_a_step_would_be_found() {
    let without_file_sync = contents(|disk, path| {
        let partial = path.with_file_name("a.partial");
        disk.create_new(&partial).unwrap().write_all(&content(2)).unwrap();
        disk.rename(&partial, path).unwrap();
        disk.sync_folder(path.parent().unwrap()).unwrap();
    });
    assert!(without_file_sync.len() > 2, "torn and empty files: {}", without_file_sync.len());
    let in_place = contents(|disk, path| {
        disk.remove(path).unwrap();
        disk.create_new(path).unwrap().write_all(&content(2)).unwrap();
    });
    assert!(in_place.contains(&None));
}
