//! The document about families says what the pages say. With PASTURE_BLESS=1 it is written anew (`cargo xtask
//! families`).

use std::path::Path;

use pasture_model::families;

/// What stands before the table.
const OPENING: &str = "# Families

A family is a page of data in `crates/model/src/families`; its models run from Hugging Face folders, and from GGUF files where that format has a word for them.
This table is written by `cargo xtask families` from those pages, and a test holds it.
What a licence allows is for you to read: `pasture show` prints the one that a checkpoint names.
How a page comes to be is told in [adding a family](adding-a-family.md).

";

#[test]
fn the_document_is_what_the_pages_say() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/families.md");
    let wanted = format!("{OPENING}{}", families::table());
    if std::env::var_os("PASTURE_BLESS").is_some() {
        std::fs::write(&path, &wanted).expect("the document can be written");
    }
    let found = std::fs::read_to_string(&path).expect("docs/families.md can be read");
    assert!(found == wanted, "docs/families.md is not what the pages say: run `cargo xtask families`");
}
