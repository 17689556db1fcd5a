//! Golden cases: the committed one of each family, and the kit's. What is compared and how stands with the runner of
//! `cargo xtask golden`, which this test compiles.

#[path = "../../../tests/kit.rs"]
mod kit;
#[path = "../../../xtask/golden/src/model/mod.rs"]
mod model;

use std::path::{Path, PathBuf};

use model::Outcome;

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");

/// Groups of whole models.
const GROUPS: [&str; 6] = ["text", "arctic", "embed", "gguf", "pth", "prequantized"];

/// Every case below a folder, in the order of names.
fn cases(root: &Path) -> Vec<PathBuf> {
    let folders = |place: PathBuf| {
        let entries = std::fs::read_dir(place).into_iter().flatten().filter_map(Result::ok);
        entries.map(|entry| entry.path()).filter(|path| path.is_dir())
    };
    let mut found: Vec<PathBuf> = GROUPS.iter().flat_map(|group| folders(root.join(group))).collect();
    found.sort();
    found
}

/// Runs all cases: each is of a family with a page, and right.
fn check(root: &Path) {
    let (mut failures, mut open, mut passed) = (Vec::new(), Vec::new(), 0);
    for case in cases(root) {
        let name = case.file_name().unwrap_or_default().to_string_lossy().into_owned();
        match model::run(&case) {
            Ok(Outcome::Passed) => passed += 1,
            Ok(Outcome::NotCovered(_)) => open.push(name),
            Err(fault) => failures.push(format!("{name}: {fault:#}")),
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    assert_eq!(open, Vec::<String>::new(), "cases that are not covered");
    assert!(passed > 0, "there are cases below {root:?}");
}

#[test]
fn a_committed_case_of_each_family_is_right_however_it_is_cut() {
    let committed = Path::new(ROOT).join("tests/golden");
    check(&committed);
    assert_eq!(cases(&committed).len(), 28, "one for each page and layout, and for each kind of quantized folder");
}

#[test]
fn the_kits_cases_are_right_however_they_are_cut() {
    let Some(golden) = kit::folder("golden") else { return };
    check(&golden);
}

#[test]
fn trained_weights_tell_the_published_story_from_every_container() {
    let Some(folder) = kit::folder("assets/weights/stories260K") else { return };
    for file in ["hf", "stories260K-f32.gguf"] {
        model::tells(&folder.join(file), &folder.join("golden.json")).expect("the greedy ids of golden.json");
    }
}
