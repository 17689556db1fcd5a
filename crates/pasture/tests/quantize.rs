//! What a text shows of a matrix's inputs lowers the divergence of what is stored below what the weights alone tell.
#![forbid(unsafe_code)]

use std::path::Path;
use std::process::Command;

use serde_json::Value;

fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))
}

/// What a command that must succeed says.
fn says(folder: &Path, arguments: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_pasture"))
        .args(arguments)
        .current_dir(folder)
        .env_clear()
        .env("HOME", folder)
        .output()
        .expect("the program that was built runs");
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// The divergence of a file from the starter over a text that was not calibrated with.
fn divergence(folder: &Path, file: &str) -> f64 {
    let told = says(folder, &["eval", file, "held-out.md", "--against", "starter.gguf", "--exact", "--json"]);
    let told: Value = serde_json::from_str(&told).expect("JSON");
    told["against"][0]["kl"].as_f64().unwrap_or_else(|| panic!("no divergence in {told}"))
}

#[test]
fn what_is_known_of_inputs_lowers_the_divergence() {
    let place = tempfile::tempdir().expect("a temporary folder");
    let folder = place.path();
    std::fs::copy(root().join("starter/starter.gguf"), folder.join("starter.gguf")).expect("the starter");
    std::fs::copy(root().join("README.md"), folder.join("held-out.md")).expect("a text");
    std::fs::copy(root().join("starter/recipe/facts.txt"), folder.join("text.txt")).expect("a text");
    let quantize = |file: &str, more: &[&str]| {
        let plain = ["quantize", "starter.gguf", file, "--type", "Q4_K_M", "--receipt", "none"];
        says(folder, &[&plain[..], more].concat());
        divergence(folder, file)
    };
    let expected = quantize("expected.gguf", &[]);
    let text = ["--calibrate", "text.txt", "--tokens", "8192", "--save-imatrix", "importance.gguf"];
    let measured = quantize("measured.gguf", &text);
    assert!(measured < 0.85 * expected, "{measured} by a text, {expected} without");
    // What was measured stands in the file, all of it.
    assert_eq!(quantize("again.gguf", &["--imatrix", "importance.gguf"]), measured);
}
