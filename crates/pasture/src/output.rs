//! What goes to standard output: text and JSON objects. Progress and messages go to standard error.

use std::io::{self, IsTerminal, Write};

use serde_json::Value;

use crate::exit::{Failure, Status};

/// Writes text to standard output at once.
pub fn print(text: &str) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).map_err(closed)
}

/// Writes a line.
pub fn line(text: &str) -> Result<(), Failure> {
    print(&format!("{text}\n"))
}

/// Writes one JSON object on a line.
pub fn json(value: &Value) -> Result<(), Failure> {
    line(&value.to_string())
}

/// A reader that went away ends the program quietly, as it does other filters.
fn closed(error: io::Error) -> Failure {
    if error.kind() == io::ErrorKind::BrokenPipe {
        std::process::exit(0);
    }
    Failure::new(Status::Io, format!("cannot write to standard output: {error}"))
}

/// Whether decoration (colors, bars) may be shown on standard error: `--color`, then `NO_COLOR`, `CLICOLOR_FORCE`,
/// `TERM`, then whether it is a terminal.
pub fn decorated(color: Option<&str>) -> bool {
    wanted(color, || io::stderr().is_terminal())
}

/// Whether standard output may be colored, by the same rules.
pub fn colored(color: Option<&str>) -> bool {
    wanted(color, || io::stdout().is_terminal())
}

fn wanted(color: Option<&str>, is_terminal: impl FnOnce() -> bool) -> bool {
    let set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    match color {
        Some("always") => true,
        Some("never") => false,
        _ if set("NO_COLOR") => false,
        _ if set("CLICOLOR_FORCE") => true,
        _ if std::env::var_os("TERM").is_some_and(|term| term == "dumb") => false,
        _ => is_terminal(),
    }
}

/// Bytes as people read them.
pub fn bytes(count: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut value = count as f64;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    if unit == 0 { format!("{count} B") } else { format!("{value:.1} {}", UNITS[unit]) }
}

/// A count as people read it: 3.7 M.
pub fn count(count: u64) -> String {
    const UNITS: [&str; 4] = ["", " K", " M", " B"];
    let mut value = count as f64;
    let mut unit = 0;
    while value >= 1000.0 && unit + 1 < UNITS.len() {
        value /= 1000.0;
        unit += 1;
    }
    if unit == 0 { count.to_string() } else { format!("{value:.1}{}", UNITS[unit]) }
}

/// `1 token`, `2 tokens`.
pub fn counted(count: usize, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short() {
        for (value, bytes_shown, count_shown) in
            [(0, "0 B", "0"), (999, "999 B", "999"), (1536, "1.5 KiB", "1.5 K"), (3_700_000, "3.5 MiB", "3.7 M")]
        {
            assert_eq!((bytes(value), count(value)), (bytes_shown.to_owned(), count_shown.to_owned()));
        }
    }
}
