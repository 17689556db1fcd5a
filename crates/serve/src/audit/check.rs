//! Reading an audit log again: is each line the one that was written after the line before it?

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;

use serde_json::Value;
use sha2::{Digest, Sha256};

use super::{LINE_BYTES, NONE};
use crate::random::hex;

/// What a log that was checked has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checked {
    /// Lines.
    pub lines: u64,
    /// Lines that a crash cut short, and after which the log says so.
    pub cut: u64,
    /// The digest of the last line: whoever wrote it down elsewhere knows later that nothing was taken off the end.
    pub last: String,
}

/// Checks a log. The end of a file can be cut off without a trace in it: compare `last` and `lines` with what was noted.
///
/// # Errors
/// When a line is not what was written; says which. When the file cannot be read.
pub fn verify(path: &Path) -> Result<Checked, String> {
    let file = File::open(path).map_err(|error| format!("cannot read {}: {error}", path.display()))?;
    let mut reader = BufReader::new(file);
    let (mut last, mut lines, mut cut) = (NONE, 0, 0);
    let mut cut_before = false;
    loop {
        let mut line = Vec::new();
        let read = reader.by_ref().take(LINE_BYTES).read_until(b'\n', &mut line);
        if read.map_err(|error| format!("cannot read {}: {error}", path.display()))? == 0 {
            break;
        }
        lines += 1;
        let wrong = |what: &str| format!("line {lines} of {}: {what}", path.display());
        if line.pop_if(|byte| *byte == b'\n').is_none() {
            return Err(wrong("it has no end: a crash cut it, or somebody did; the next start of the server says so"));
        }
        let value: Option<Value> = serde_json::from_slice(&line).ok();
        match value.as_ref().and_then(|value| value["prev"].as_str()) {
            Some(prev) if prev == hex(&last) => {
                let told = value.as_ref().is_some_and(|value| value["after_a_cut"] == true);
                if cut_before && !told {
                    return Err(format!("line {} of {}: it is no line of a log", lines - 1, path.display()));
                }
                cut_before = false;
            }
            Some(_) => return Err(wrong("the line before it was changed, taken out or put in")),
            None if cut_before => return Err(wrong("it is no line of a log")),
            None => {
                cut_before = true;
                cut += 1;
            }
        }
        last = Sha256::digest(&line).into();
    }
    if cut_before {
        return Err(format!("line {lines} of {}: it is no line of a log", path.display()));
    }
    Ok(Checked { lines, cut, last: hex(&last) })
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use serde_json::json;

    use super::*;
    use crate::audit::{Audit, Prompts};

    fn write(path: &Path, count: usize) {
        let audit = Audit::open(path, Prompts::LeftOut).unwrap();
        (0..count).for_each(|at| audit.tell(json!({"status": at, "path": "/a\n{\"prev\": \"forged\"}\u{1b}[2J"})));
    }

    #[test]
    fn a_log_goes_on_and_every_change_is_found() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("audit.jsonl");
        write(&path, 3);
        write(&path, 2);
        let good = verify(&path).unwrap();
        assert_eq!((good.lines, good.cut), (7, 0));
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(!text.contains('\u{1b}') && text.lines().count() == 7);
        let lines: Vec<&str> = text.lines().collect();
        let check = |lines: &[&str], part: &str| {
            let other = folder.path().join("other");
            std::fs::write(&other, lines.join("\n") + "\n").unwrap();
            let what = verify(&other).unwrap_err();
            assert!(what.contains(part), "{what}");
        };
        for at in 0..6 {
            let changed = lines[at].replace("status\":", "status\":1").replace("when\":\"2", "when\":\"1");
            let mut other = lines.clone();
            other[at] = &changed;
            check(&other, &format!("line {}", at + 2));
            other.remove(at);
            check(&other, &format!("line {}", at + 1));
            other.splice(at..at, [lines[at], lines[at]]);
            check(&other, &format!("line {}", at + 2));
        }
        let mut forged = lines.clone();
        forged[2] = "no line of ours";
        check(&forged, "line");
        assert_ne!(verify(&path).unwrap().last, "");
    }

    #[test]
    fn a_line_that_a_crash_cut_is_told_and_kept() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("audit.jsonl");
        write(&path, 2);
        let mut file = std::fs::OpenOptions::new().append(true).open(&path).unwrap();
        file.write_all(b"{\"prev\": \"half a li").unwrap();
        assert!(verify(&path).unwrap_err().contains("it has no end"));
        write(&path, 1);
        let checked = verify(&path).unwrap();
        assert_eq!((checked.lines, checked.cut), (6, 1));
    }
}
