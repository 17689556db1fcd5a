//! A cache as a registry: what is pushed becomes a model that is found, damaged uploads become nothing, and no name of a
//! request leads elsewhere.
#![allow(clippy::unwrap_used)]
#![forbid(unsafe_code)]

use std::fs;
use std::path::Path;

use pasture_store::registry::{Change, Registry, is_path};
use pasture_store::{Digest, Environment};

fn machine() -> (tempfile::TempDir, Environment, Registry) {
    let home = tempfile::tempdir().unwrap();
    let environment = Environment::of(|_| None, Some(home.path().into()));
    let registry = Registry::of(&environment).unwrap();
    (home, environment, registry)
}

fn upload(registry: &Registry, content: &[u8]) -> Digest {
    let digest = Digest::of(content);
    let mut incoming = registry.receive("lab/sheep", digest, content.len() as u64).unwrap();
    content.chunks(3).for_each(|piece| incoming.put(piece).unwrap());
    incoming.finish().unwrap();
    digest
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect()
}

#[test]
fn what_is_pushed_is_a_model_of_this_machine() {
    let (_home, environment, registry) = machine();
    assert!(registry.create("lab/sheep", true).unwrap());
    assert!(!registry.create("lab/sheep", false).unwrap());
    let digest = upload(&registry, b"GGUF and more");
    let changes = [
        Change::Large { path: "sheep.gguf".into(), digest },
        Change::Small { path: "docs/README.md".into(), content: b"hello".to_vec() },
    ];
    let commit = registry.change("lab/sheep", "main", None, &changes, "first").unwrap();
    let listing = registry.listing("lab/sheep", "main").unwrap().unwrap();
    assert_eq!((listing.commit.as_str(), listing.private), (commit.as_str(), true));
    let rows: Vec<(&str, bool, u64)> =
        listing.entries.iter().map(|entry| (entry.path.as_str(), entry.is_large(), entry.bytes)).collect();
    assert_eq!(rows, [("docs/README.md", false, 5), ("sheep.gguf", true, 13)]);
    // `printf hello | git hash-object --stdin`.
    assert_eq!(listing.entries[0].etag.as_deref(), Some("b6fc4c620b67d95f953a5c1c1230aaab5db5a1b0"));
    let found = pasture_store::resolve_in(&environment, "lab/sheep").unwrap();
    assert_eq!(fs::read(found.path).unwrap(), b"GGUF and more");

    let gone = [Change::Gone { path: "docs".into() }];
    assert!(registry.change("lab/sheep", "main", Some(&"0".repeat(40)), &gone, "late").is_err());
    let next = registry.change("lab/sheep", "main", Some(&commit), &gone, "second").unwrap();
    assert_eq!(registry.listing("lab/sheep", &next).unwrap().unwrap().entries.len(), 1);
    assert_eq!(registry.listing("lab/sheep", &commit).unwrap().unwrap().entries.len(), 2);
}

#[test]
fn an_upload_that_is_not_what_was_announced_leaves_nothing() {
    let (home, _, registry) = machine();
    registry.create("lab/sheep", false).unwrap();
    let digest = Digest::of(b"wool");
    let attempt = |content: &[u8], length: u64| {
        let mut incoming = registry.receive("lab/sheep", digest, length).unwrap();
        incoming.put(content).and_then(|()| incoming.finish()).unwrap_err().to_string()
    };
    assert!(attempt(b"woof", 4).contains("its digest is sha256:"));
    assert!(attempt(b"woo", 4).contains("3 bytes came of 4"));
    assert!(attempt(b"woolly", 4).contains("more than the 4 bytes"));
    assert_eq!(names(&home.path().join(".cache/huggingface/hub/models--lab--sheep/blobs")), [""; 0]);
    let change = [Change::Large { path: "a.gguf".into(), digest }];
    assert!(registry.change("lab/sheep", "main", None, &change, "x").unwrap_err().to_string().contains("not uploaded"));
}

#[test]
fn no_name_leads_elsewhere() {
    let (_home, _, registry) = machine();
    registry.create("lab/sheep", false).unwrap();
    for name in ["../x", "lab/..", "lab/sheep/x/y", "", "/etc", "lab--x/sheep", "a/b@main", "a/b:c"] {
        assert!(registry.create(name, false).is_err() && registry.listing(name, "main").is_err(), "{name:?}");
    }
    let long = "a".repeat(201);
    let bad = [
        "",
        "..",
        "../a",
        "a/../b",
        "/a",
        "a/",
        "a//b",
        "a\\b",
        "c:x",
        "a\0",
        "a\n",
        "a ",
        "a.",
        ".",
        "a?",
        "a/b/c/d/e/f/g",
        &long,
    ];
    for path in bad {
        assert!(!is_path(path), "{path:?}");
        let change = [Change::Small { path: path.into(), content: Vec::new() }];
        assert!(registry.change("lab/sheep", "main", None, &change, "x").is_err(), "{path:?}");
        assert_eq!(registry.entry("lab/sheep", "main", path).unwrap(), None);
    }
    for path in [".gitattributes", "a b.txt", "1_Pooling/config.json", "é.md"] {
        assert!(is_path(path), "{path:?}");
    }
    let both = [
        Change::Small { path: "a".into(), content: Vec::new() },
        Change::Small { path: "a/b".into(), content: Vec::new() },
    ];
    assert!(
        registry.change("lab/sheep", "main", None, &both, "x").unwrap_err().to_string().contains("file and a folder")
    );
    for revision in ["..", "../../x", "refs/../main", ""] {
        assert_eq!(registry.listing("lab/sheep", revision).unwrap(), None, "{revision:?}");
    }
}

#[cfg(unix)]
#[test]
fn a_link_out_of_the_repository_is_not_shown() {
    let (home, _, registry) = machine();
    registry.create("lab/sheep", false).unwrap();
    let commit = registry.commit("lab/sheep", "main").unwrap().unwrap();
    fs::write(home.path().join("secret"), "secret").unwrap();
    let snapshot = home.path().join(".cache/huggingface/hub/models--lab--sheep/snapshots").join(commit);
    std::os::unix::fs::symlink(home.path().join("secret"), snapshot.join("a.txt")).unwrap();
    assert_eq!(registry.entry("lab/sheep", "main", "a.txt").unwrap(), None);
    assert_eq!(registry.listing("lab/sheep", "main").unwrap().unwrap().entries, []);
}
