//! The kit's hostile tokenizers: each gives the outcome that its manifest demands, in the time and memory allowed.
//! The other test here is small, so that the peak of memory is the manifest's own.

#![allow(clippy::unwrap_used)]
#[path = "../../../tests/kit.rs"]
mod kit;
#[path = "../../../tests/patience.rs"]
mod patience;

use std::fs;
use std::path::Path;
use std::time::Duration;

use pasture_files::tokenizer::{Result, Shown, Specials, Tokenizer};
use serde_json::Value;

const MEMORY_FREE: u64 = 64 << 20;

/// Loads, encodes and decodes, as the manifest's operation `encode` does.
fn encode(path: &Path, probe: &str) -> Result<usize> {
    let tokenizer = Tokenizer::open(path)?;
    let mut count = 0;
    for specials in [Specials::AsText, Specials::Parse] {
        let ids = tokenizer.encode_with_special(probe, specials)?;
        tokenizer.decode(&ids, Shown::Hide)?;
        count += ids.len();
    }
    Ok(count)
}

/// A line of `/proc/self/status` in bytes; nothing on systems without it.
fn status(key: &str) -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with(key))?;
    line.split_whitespace().nth(1)?.parse::<u64>().ok().map(|kibibytes| kibibytes * 1024)
}

fn check(folder: &Path, case: &Value) -> Option<String> {
    let text = |key: &str| case.get(key).and_then(Value::as_str);
    let file = text("file").unwrap();
    let path = folder.join(file);
    // Resets the peak to what is resident now.
    let can_measure = fs::write("/proc/self/clear_refs", "5").is_ok();
    let before = status("VmHWM:");
    let time_max = Duration::from_secs_f64(case.get("max_seconds").and_then(Value::as_f64).unwrap_or(2.0));
    let (found, took) = patience::timed(time_max, || encode(&path, text("probe").unwrap_or("hello world")));
    let grown = status("VmHWM:").zip(before).map(|(after, before)| after.saturating_sub(before));
    let outcome = if found.is_ok() { "ok" } else { "clear error" };
    if text("must") != Some(outcome) && text("may") != Some(outcome) {
        return Some(format!("{file}: {found:?}, {:?} is demanded: {}", text("must"), text("note").unwrap()));
    }
    if let Err(error) = found {
        let message = error.to_string();
        let name = Path::new(file).file_name().unwrap().to_str().unwrap();
        if !message.contains(name) || message.len() > 1000 || message.contains(folder.to_str().unwrap()) {
            return Some(format!("{file}: the message is {message:?}"));
        }
    }
    if took > time_max {
        return Some(format!("{file}: took {took:?}"));
    }
    let allowed = MEMORY_FREE + 2 * fs::metadata(&path).unwrap().len();
    match grown.filter(|_| can_measure) {
        Some(grown) if grown > allowed => Some(format!("{file}: memory grew by {grown} bytes")),
        _ => None,
    }
}

#[test]
fn hostile_tokenizers_meet_the_manifest() {
    let Some(folder) = kit::folder("hostile") else { return };
    let manifest = fs::read_to_string(folder.join("manifest.jsonl")).unwrap();
    let mut passed = 0;
    let mut failed = Vec::new();
    for line in manifest.lines() {
        let case: Value = serde_json::from_str(line).unwrap();
        if case["kind"] != "tokenizer" {
            continue;
        }
        match check(&folder, &case) {
            None => passed += 1,
            Some(fault) => failed.push(fault),
        }
    }
    println!("hostile tokenizers: {passed} passed, {} failed", failed.len());
    assert!(failed.is_empty(), "{}", failed.join("\n"));
    assert!(passed > 0);
}

#[test]
fn broken_vocabularies_in_gguf_are_errors() {
    let Some(folder) = kit::folder("hostile/gguf") else { return };
    for name in [
        "byte_token_0x",
        "byte_token_0xZZ",
        "byte_token_0xminus1",
        "model_unknown",
        "tokens_not_strings",
        "types_short",
    ] {
        let found = Tokenizer::open(folder.join(format!("vocab_{name}.gguf")));
        assert!(found.is_err(), "{name}");
    }
}
