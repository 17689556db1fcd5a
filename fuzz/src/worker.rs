//! The process that feeds a reader. Writes each input to a file first, so that the watcher has it if this process dies.
//! An outcome that was not seen before, with numbers and names left out, makes its input a new starting point.

use std::collections::HashSet;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

use crate::mutate::{Chance, mutate};
use crate::targets::Target;
use crate::{Plan, corpus};

const INPUT_BYTES_MAX: usize = 512 * 1024;
const STARTS_MAX: usize = 4000;
/// One input may take this long, as in the kit's manifest.
const LIMIT: Duration = Duration::from_secs(2);
const FINDINGS_MAX: usize = 20;

/// Feeds one file and says what came of it.
pub fn replay(target: Target, file: &Path) -> Result<String> {
    let bytes = fs::read(file).with_context(|| format!("cannot read {file:?}"))?;
    let input = file.with_file_name(format!("replayed-{}", target.file));
    fs::write(&input, &bytes)?;
    let outcome = (target.feed)(&input, &bytes);
    fs::remove_file(&input)?;
    Ok(outcome)
}

/// Feeds inputs until the time is over; false when something was found.
pub fn work(plan: &Plan, folder: &Path) -> Result<bool> {
    let target = plan.target;
    let mut starts = corpus::read(&target);
    let given = starts.len();
    let mut chance = Chance::new(plan.seed);
    let (mut seen, mut runs, mut found) = (HashSet::new(), 0usize, 0usize);
    let mut slowest = Duration::ZERO;
    let file = folder.join(target.file);
    let end = Instant::now() + plan.time;
    while Instant::now() < end && found < FINDINGS_MAX {
        let bytes = if runs < given { starts[runs].clone() } else { mutate(&mut chance, &starts, INPUT_BYTES_MAX) };
        fs::write(&file, &bytes).with_context(|| format!("cannot write {file:?}"))?;
        let begin = Instant::now();
        let outcome = catch_unwind(AssertUnwindSafe(|| (target.feed)(&file, &bytes)));
        let spent = begin.elapsed();
        slowest = slowest.max(spent);
        runs += 1;
        let kind = match outcome {
            Err(_) => Some("panic"),
            Ok(_) if spent > LIMIT => Some("slow"),
            Ok(text) => {
                if seen.insert(bare(&text)) && runs > given && starts.len() < STARTS_MAX {
                    starts.push(bytes.clone());
                }
                None
            }
        };
        if let Some(kind) = kind {
            found += 1;
            keep(&target, kind, &bytes)?;
        }
    }
    println!(
        "{}: {runs} inputs from {given} starts (seed {}), {} kinds of outcome, slowest {} ms, {found} findings",
        target.name,
        plan.seed,
        seen.len(),
        slowest.as_millis()
    );
    Ok(found == 0)
}

/// Keeps an input that broke something.
pub fn keep(target: &Target, kind: &str, bytes: &[u8]) -> Result<()> {
    let folder = corpus::findings(target);
    fs::create_dir_all(&folder)?;
    let mut hash = 0xcbf2_9ce4_8422_2325u64;
    for byte in bytes {
        hash = (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3);
    }
    let path = folder.join(format!("{kind}-{hash:016x}-{}", target.file));
    fs::write(&path, bytes)?;
    println!("{}: {kind}: {}", target.name, path.display());
    Ok(())
}

/// An outcome without its numbers and quoted values.
fn bare(text: &str) -> String {
    let mut quoted = false;
    let mut out = String::new();
    let mut rest = text.chars().take(400);
    while let Some(c) = rest.next() {
        if c == '\\' {
            rest.next();
        } else if c == '"' || c == '`' {
            quoted = !quoted;
        } else if !quoted && !c.is_ascii_digit() {
            out.push(c);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outcomes_are_told_apart_by_their_words() {
        assert_eq!(bare("tensor \"a\" has 12 bytes"), bare("tensor \"b\" has 7 bytes"));
        assert_eq!(bare(r#"tensor "a\"b" has"#), bare(r#"tensor "c" has"#));
        assert_ne!(bare("tensor \"a\" has 12 bytes"), bare("tensor \"a\" has no bytes"));
    }
}
