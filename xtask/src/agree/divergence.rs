//! Activations of 8 bits change a model's probabilities: how much ours do, and how much llama.cpp's, against the same file
//! computed in f32.

use std::fmt::Write as _;

use anyhow::{Context as _, Result, bail, ensure};

use super::Tools;

/// Tokens of a window, and windows at most.
const WINDOW: usize = 256;
const WINDOWS: usize = 8;

/// Prints the mean KL of both for each file over windows of a text; an error names files where ours is surely
/// the larger.
pub(super) fn run(tools: &Tools, models: &[String], text: &str) -> Result<()> {
    let mut worse = Vec::new();
    for model in models {
        let (mut mine, mut theirs, mut square) = (0.0, 0.0, 0.0);
        let told: serde_json::Value =
            serde_json::from_str(&tools.ours(&["tokenize", model, "--file", text, "--json"])?)?;
        let ids = told["ids"].as_array().context("`tokenize` tells ids")?;
        let windows: Vec<_> = ids.chunks_exact(WINDOW).take(WINDOWS).collect();
        ensure!(!windows.is_empty(), "{text} has less than {WINDOW} tokens");
        let count = windows.len() as f64;
        for window in &windows {
            let mut words = String::new();
            window.iter().try_for_each(|id| write!(words, "{id},"))?;
            let words = words.trim_end_matches(',');
            let (exact, fast) = (tools.place("exact.safetensors"), tools.place("fast.safetensors"));
            tools.ours(&["logits", model, "--ids", words, "--out", &exact, "--exact"])?;
            tools.ours(&["logits", model, "--ids", words, "--out", &fast])?;
            let told = tools.theirs("their_divergence.py", &[model, &exact, &fast, words])?;
            let numbers = told.split(' ').map(str::parse).collect::<Result<Vec<f64>, _>>()?;
            let [one, other, error] = numbers[..] else { bail!("the script printed {told:?}") };
            (mine, theirs, square) = (mine + one / count, theirs + other / count, square + (error / count).powi(2));
        }
        let (ratio, error) = (mine / theirs, square.sqrt());
        println!(
            "{model}: KL {mine:.3e}, llama.cpp's {theirs:.3e}, ratio {ratio:.2}, error of the difference {error:.1e}"
        );
        if mine - theirs > 2.0 * error {
            worse.push(model.as_str());
        }
    }
    ensure!(worse.is_empty(), "further from f32 than llama.cpp: {}", worse.join(", "));
    Ok(())
}
