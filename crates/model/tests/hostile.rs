//! Hostile models of the kit: each file is a clear error or loads, as its manifest says, and none ends the program.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use pasture_files::json;
use pasture_kernels::Pool;
use pasture_model::{LoadOptions, Result, Source, load};
use pasture_tensor::{Backend, Cpu, Precision};

fn open(path: &Path) -> Result<()> {
    let backend: Arc<dyn Backend> = Arc::new(Cpu::new(Arc::new(Pool::new(1)), Precision::Exact));
    load(&Source::open(path)?, &backend, &LoadOptions::default(), &mut |_, _| ()).map(|_| ())
}

#[test]
fn hostile_models_are_refused_or_load_as_their_manifest_says() {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared");
    let kit = std::env::var_os("PASTURE_KIT").map_or_else(|| PathBuf::from(root), PathBuf::from);
    let Ok(manifest) = std::fs::read_to_string(kit.join("hostile/manifest.jsonl")) else {
        println!("skipped: no kit");
        return;
    };
    let mut wrong = Vec::new();
    for line in manifest.lines() {
        let entry = json::parse(line.as_bytes(), "manifest.jsonl").expect("a manifest of JSON lines");
        // What only running or rendering shows is for the tests of the program.
        if entry["kind"] != "model" || entry["op"] != "load" {
            continue;
        }
        let file = entry["file"].as_str().expect("a file's name");
        let (may_open, must_open) = (entry["may"] == "ok", entry["must"] == "ok");
        match open(&kit.join("hostile").join(file)) {
            Ok(()) if !must_open && !may_open => wrong.push(format!("{file} opened")),
            Err(fault) if must_open => wrong.push(format!("{file}: {fault}")),
            Err(fault) if fault.to_string().len() > 500 => wrong.push(format!("{file}: {fault}")),
            _ => {}
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
