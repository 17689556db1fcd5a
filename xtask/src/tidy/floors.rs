//! The floors: a crate uses only crates of lower floors. Edges are read from the manifests.

use toml::{Table, Value};

use super::{Complaint, Tree, complaint};

/// Crates by floor, lowest first.
const FLOORS: [(&str, u8); 9] = [
    ("pasture-kernels", 0),
    ("pasture-tensor", 1),
    ("pasture-files", 1),
    ("pasture-model", 2),
    ("pasture-engine", 3),
    ("pasture-store", 3),
    ("pasture-serve", 4),
    ("pasture-lab", 4),
    ("pasture", 5),
];

/// Crates for tests only: outside the floors, and no dependency of what ships.
const FOR_TESTS: [&str; 1] = ["pasture-testhub"];

const KINDS: [&str; 3] = ["dependencies", "dev-dependencies", "build-dependencies"];

/// Sideways and upward edges, and crates that stand on no floor.
pub fn edges(tree: &Tree) -> Vec<Complaint> {
    let mut found = Vec::new();
    for (path, source) in tree.files() {
        if !(path.starts_with("crates/") && path.ends_with("/Cargo.toml")) {
            continue;
        }
        let manifest: Table = match source.text.parse() {
            Ok(manifest) => manifest,
            Err(error) => {
                found.push(complaint(path, 0, format!("cannot be read: {error}")));
                continue;
            }
        };
        let name = manifest.get("package").and_then(|p| p.get("name")).and_then(Value::as_str).unwrap_or_default();
        let Some(floor) = floor(name) else {
            found.push(complaint(
                path,
                0,
                format!("{name:?} stands on no floor: give it one in xtask/src/tidy/floors.rs"),
            ));
            continue;
        };
        for other in shipped(&manifest).filter(|other| FOR_TESTS.contains(other)) {
            found.push(complaint(path, 0, format!("{name} ships with {other}, which is for tests only")));
        }
        for other in dependencies(&manifest) {
            match super::floors::floor(&other) {
                Some(its) if its >= floor => {
                    let text =
                        format!("{name} (floor {floor}) uses {other} (floor {its}); only lower floors may be used");
                    found.push(complaint(path, 0, text));
                }
                None if other == "xtask" || other == "golden" || other == "pasture-fuzz" => {
                    found.push(complaint(path, 0, format!("{name} uses {other}, which is no part of the product")));
                }
                _ => {}
            }
        }
    }
    found
}

fn floor(name: &str) -> Option<u8> {
    FLOORS.iter().find(|(n, _)| *n == name).map(|(_, floor)| *floor)
}

/// Names of the dependencies that are built into what ships.
fn shipped(manifest: &Table) -> impl Iterator<Item = &str> {
    manifest
        .get("dependencies")
        .and_then(Value::as_table)
        .into_iter()
        .flat_map(|table| table.keys().map(String::as_str))
}

/// Names of all dependencies of a manifest, also those of single targets.
pub fn dependencies(manifest: &Table) -> Vec<String> {
    let mut found = Vec::new();
    let targets = manifest.get("target").and_then(Value::as_table);
    let tables =
        std::iter::once(manifest).chain(targets.into_iter().flat_map(|t| t.values().filter_map(Value::as_table)));
    for table in tables {
        for kind in KINDS {
            found.extend(table.get(kind).and_then(Value::as_table).into_iter().flat_map(|t| t.keys().cloned()));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(name: &str, uses: &str, count: usize) {
        let text = format!("[package]\nname = \"{name}\"\n{uses}\n");
        assert_eq!(edges(&Tree::of(&[("crates/x/Cargo.toml", &text)])).len(), count, "{text}");
    }

    #[test]
    fn only_lower_floors_are_used() {
        check("pasture-model", "[dependencies]\npasture-tensor.workspace = true", 0);
        check("pasture-model", "[dependencies]\npasture-engine.workspace = true", 1);
        check("pasture-tensor", "[dependencies]\npasture-files.workspace = true", 1);
        check("pasture-files", "[dev-dependencies]\npasture-model.workspace = true", 1);
        check("pasture-files", "[target.'cfg(unix)'.dependencies]\npasture-model.workspace = true", 1);
        check("pasture-lab", "[dependencies]\nxtask.workspace = true", 1);
        check("pasture-util", "", 1);
        check("pasture-store", "[dev-dependencies]\npasture-testhub.workspace = true", 0);
        check("pasture-store", "[dependencies]\npasture-testhub.workspace = true", 1);
    }
}
