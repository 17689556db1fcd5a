//! Adapters: those that `pasture tune` makes in peft, those that peft makes here, and a merged one in llama.cpp. All beside
//! the published story model of 260 thousand weights, on text of another style.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};

use super::{IDS, Tools};

/// Both compute in f32, in another order.
const CLOSE: f64 = 1e-4;

const PROMPT: &str = "Once upon a time, there was a little girl";

/// Every method in both directions, then the text of a merged file.
pub(super) fn run(tools: &Tools, kit: &Path) -> Result<()> {
    let file = kit.join("assets/weights/stories260K/stories260K-f32.gguf").display().to_string();
    let (base, data) = (tools.place("base"), tools.place("data.jsonl"));
    tools.ours(&["export", &file, "--to", &base])?;
    std::fs::write(&data, rows())?;
    for method in ["lora", "rslora", "dora"] {
        let (ours, theirs) = (tools.place(&format!("{method}-ours")), tools.place(&format!("{method}-theirs")));
        let steps = ["--steps", "12", "--batch", "4", "--rank", "4", "--learning-rate", "1e-2"];
        tools.ours(&[&["tune", &base, &data, "--method", method, "--out", &ours], &steps[..]].concat())?;
        tools.theirs("peft_adapter.py", &["make", &base, &theirs, method])?;
        for (made_by, folder) in [("pasture", &ours), ("peft", &theirs)] {
            let logits = tools.place("adapted.safetensors");
            let arguments = ["logits", &base, "--ids", IDS, "--exact", "--out", &logits];
            tools.ours(&[&arguments[..], &["--adapter", folder]].concat())?;
            let found = tools.theirs("peft_adapter.py", &["compare", &base, folder, &logits, IDS])?;
            let (apart, moved) = found.split_once(' ').context("peft gave no two numbers")?;
            let (apart, moved): (f64, f64) = (apart.parse()?, moved.parse()?);
            println!("{method} by {made_by}: relative RMS {apart:.2e}; the adapter moves the logits by {moved:.2e}");
            ensure!(apart < CLOSE && moved > 100.0 * CLOSE, "{method} by {made_by} is not the same in peft");
        }
    }
    text(tools, &base)
}

/// Greedy text of the merged file, here and in llama.cpp.
fn text(tools: &Tools, base: &str) -> Result<()> {
    let (adapter, merged) = (tools.place("lora-ours"), tools.place("merged.gguf"));
    tools.ours(&["merge", base, "--adapter", &adapter, "--to", &merged])?;
    let options = ["--temperature", "0", "--max-tokens", "64", "--exact"];
    let ours = tools.ours(&[&["generate", merged.as_str(), PROMPT], &options[..]].concat())?;
    let theirs = tools.theirs("their_text.py", &[&merged, PROMPT, "64"])?;
    println!("merged, 64 tokens in llama.cpp: {theirs:?}");
    ensure!(ours == theirs, "the same file says something else here: {ours:?}");
    Ok(())
}

/// Samples of a style that the model does not have.
fn rows() -> String {
    let mut text = String::new();
    for (animal, thing) in
        [("fox", "hat"), ("owl", "map"), ("cat", "bell"), ("dog", "kite"), ("hen", "key"), ("bee", "cup")]
    {
        for place in ["hill", "lake", "barn", "road"] {
            let line =
                format!("Hear ye! The {animal} of the {place} lost a {thing}. Woe! The {animal} sought the {thing}.");
            let _ = writeln!(text, "{{\"text\": \"{line}\"}}");
        }
    }
    text
}
