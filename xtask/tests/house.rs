//! The rules of the house as a test, so that `cargo test` holds them as well as `cargo xtask tidy`.

use xtask::tidy::{Tree, complaints};

#[test]
fn the_tree_keeps_the_rules_of_the_house() {
    let tree = Tree::read(&xtask::root()).expect("the workspace can be read");
    let found: Vec<String> = complaints(&tree).iter().map(ToString::to_string).collect();
    assert!(found.is_empty(), "{}", found.join("\n"));
}
