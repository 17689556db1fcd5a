//! Whether the time to a first token tells one key what another has asked: it must not, and its own past must.

use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use super::client::{Random, ask, percentile, request};
use super::server::{Serving, home};
use super::{Size, at_most, verdict};

/// Words of a prompt: its rows are most of the time to the first token.
const WORDS: usize = 240;

/// A prompt is asked by one key; then the other asks the same, and one that nobody has asked; then the first asks it again.
pub fn isolation(serving: &Serving, size: &Size) -> Result<()> {
    let (first, second) = (key(serving, "first")?, key(serving, "second")?);
    // A running server sees a new key within a second.
    std::thread::sleep(Duration::from_secs(2));
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let (mut foreign, mut unknown, mut own) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..size.probes + 20 {
        let (prompt, other) = (prompt(&mut random), self::prompt(&mut random));
        ask_as(serving, &first, &prompt)?;
        let (known, new, mine) = match round % 2 {
            0 => {
                let known = ask_as(serving, &second, &prompt)?;
                (known, ask_as(serving, &second, &other)?, ask_as(serving, &first, &prompt)?)
            }
            _ => {
                let new = ask_as(serving, &second, &other)?;
                (ask_as(serving, &second, &prompt)?, new, ask_as(serving, &first, &prompt)?)
            }
        };
        // The first rounds find everything cold.
        if round >= 20 {
            foreign.push(known);
            unknown.push(new);
            own.push(mine);
        }
    }
    let p = same_distribution(&mut foreign, &mut unknown);
    let (foreign, unknown, own) =
        (percentile(&mut foreign, 50), percentile(&mut unknown, 50), percentile(&mut own, 50));
    println!("  first token, half within: another's {foreign:.2} ms, nobody's {unknown:.2} ms, one's own {own:.2} ms");
    println!("  that another's and nobody's are from one distribution: p = {p:.3} (Kolmogorov-Smirnov)");
    let mut worse = Vec::new();
    at_most("one percent over p", 0.01 / p, 1.0, "", &mut worse);
    at_most("five times one's own over nobody's", 5.0 * own / unknown, 1.0, "", &mut worse);
    verdict(&worse)
}

/// A new key of the server's home.
fn key(serving: &Serving, name: &str) -> Result<String> {
    let output = Command::new(&serving.program).args(["keys", "add", name]).env("PASTURE_HOME", home()).output()?;
    ensure!(output.status.success(), "no key was made: {}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8(output.stdout).context("a key is text")?.trim().to_owned())
}

fn prompt(random: &mut Random) -> String {
    const SOME: [&str; 8] = ["sheep", "grass", "river", "stone", "cloud", "bread", "tree", "night"];
    (0..WORDS).map(|_| SOME[random.below(8) as usize]).collect::<Vec<_>>().join(" ")
}

fn ask_as(serving: &Serving, key: &str, prompt: &str) -> Result<Duration> {
    let body = format!(r#"{{"prompt": "{prompt}", "max_tokens": 1, "ignore_eos": true, "stream": true}}"#);
    let text = request("POST", "/v1/completions", &body);
    let answer = ask(&serving.address, &text.replacen("\r\n", &format!("\r\nAuthorization: Bearer {key}\r\n"), 1))?;
    ensure!(answer.status == 200, "the server said {}", answer.body);
    Ok(answer.first)
}

/// The chance that two samples of one distribution differ by more than these do: the test of Kolmogorov and Smirnov with
/// the approximation of Stephens (1970).
fn same_distribution(a: &mut [Duration], b: &mut [Duration]) -> f64 {
    a.sort_unstable();
    b.sort_unstable();
    let below = |sample: &[Duration], value| sample.partition_point(|time| *time <= value) as f64 / sample.len() as f64;
    let farthest = a.iter().chain(&*b).map(|value| (below(a, *value) - below(b, *value)).abs()).fold(0.0, f64::max);
    let size = ((a.len() * b.len()) as f64 / (a.len() + b.len()) as f64).sqrt();
    let lambda = (size + 0.12 + 0.11 / size) * farthest;
    let term = |k: i32| 2.0 * f64::from(1 - 2 * ((k + 1) % 2)) * (-2.0 * (f64::from(k) * lambda).powi(2)).exp();
    // Far below one the series does not settle, and the chance is one.
    if lambda < 0.3 { 1.0 } else { (1..=100).map(term).sum::<f64>().clamp(f64::MIN_POSITIVE, 1.0) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn times(numbers: impl Iterator<Item = u64>) -> Vec<Duration> {
        numbers.map(Duration::from_micros).collect()
    }

    #[test]
    fn samples_of_one_kind_are_told_from_shifted_ones() {
        let sample = || times((0..1000).map(|at| at * 7919 % 1009));
        let mut late = times((0..1000).map(|at| 100 + at * 7919 % 1009));
        assert!(same_distribution(&mut sample(), &mut times((0..1000).map(|at| at * 104_729 % 1013))) > 0.5);
        // A tenth of them lies apart: D = 0.1, and the table gives a chance of about 1e-4 for 1,000 each.
        let p = same_distribution(&mut sample(), &mut late);
        assert!((2e-5..3e-4).contains(&p), "{p}");
    }
}
