//! What is refused before anything is compiled: long sources, deep nesting, large repetitions.

use super::{GrammarError, SHAPE_BYTES_MAX};

/// Deepest nesting of brackets, schemas or groups.
pub const DEPTH: usize = 64;
/// Largest number of repetitions, nested ones multiplied.
pub const REPETITIONS: u64 = 100_000;
/// Longest explanation of the library that is passed on, in characters.
const EXPLANATION: usize = 300;

/// Checks the source of a regular expression or grammar.
pub fn text(source: &str, what: &str) -> Result<(), GrammarError> {
    if source.trim().is_empty() {
        return Err(GrammarError(format!("{what} is empty")));
    }
    if source.len() > SHAPE_BYTES_MAX {
        let most = SHAPE_BYTES_MAX >> 10;
        return Err(GrammarError(format!("{what} has {} bytes; at most {most} KiB are read", source.len())));
    }
    let mut walk = Walk { open: Vec::new(), repeated: 1 };
    walk.source(source, what)
}

/// Brackets that are open, each with the largest repetition seen inside.
struct Walk {
    open: Vec<u64>,
    /// The largest repetition at this level.
    repeated: u64,
}

impl Walk {
    fn source(&mut self, source: &str, what: &str) -> Result<(), GrammarError> {
        let mut letters = source.char_indices();
        // What a repetition behind the last bracket multiplies.
        let mut closed = 1;
        while let Some((at, letter)) = letters.next() {
            match letter {
                '\\' => drop(letters.next()),
                '(' | '[' => {
                    self.open.push(std::mem::replace(&mut self.repeated, 1));
                    if self.open.len() > DEPTH {
                        return Err(GrammarError(format!("{what} is nested deeper than {DEPTH}")));
                    }
                }
                ')' | ']' => {
                    let outer = self.open.pop().unwrap_or(1);
                    closed = self.repeated;
                    self.repeated = self.repeated.max(outer);
                    continue;
                }
                '{' | '~' => {
                    let times = most(&source[at + 1..]).saturating_mul(closed);
                    if times > REPETITIONS {
                        return Err(GrammarError(format!("{what} repeats a part more than {REPETITIONS} times")));
                    }
                    self.repeated = self.repeated.max(times);
                }
                _ => {}
            }
            closed = 1;
        }
        Ok(())
    }
}

/// The larger number of `3,5}`; 1 where there is none.
fn most(rest: &str) -> u64 {
    let end = rest.find(|letter: char| !letter.is_ascii_digit() && !", .".contains(letter)).unwrap_or(rest.len());
    let numbers = rest[..end].split([',', '.']).map(str::trim).filter(|number| !number.is_empty());
    numbers.map(|number| number.parse().unwrap_or(u64::MAX)).max().unwrap_or(1)
}

/// One line, and not more than so many letters.
pub fn cut(what: &str) -> String {
    let line = what.split_whitespace().collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(EXPLANATION) {
        Some((at, _)) => format!("{}…", &line[..at]),
        None => line,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(source: &str, wanted: Option<&str>) {
        match (text(source, "it"), wanted) {
            (Ok(()), None) => {}
            (Err(error), Some(part)) => assert!(error.0.contains(part), "{error}"),
            (result, wanted) => panic!("{}: {result:?}, not {wanted:?}", &source[..source.len().min(40)]),
        }
    }

    #[test]
    fn a_limit_passes_and_one_more_does_not() {
        check("a{2,100000}", None);
        check("a{2,100001}", Some("repeats"));
        check("(a{1,1000}){1,100}", None);
        check("(a{1,1000}){1,101}", Some("repeats"));
        check("((a{100}){100}){100}", Some("repeats"));
        check("a{99999999999999999999999}", Some("repeats"));
        check(&"(".repeat(64), None);
        check(&"(".repeat(65), Some("deeper than 64"));
        check(r"\(\(", None);
        check(&"a".repeat(SHAPE_BYTES_MAX), None);
        check(&"a".repeat(SHAPE_BYTES_MAX + 1), Some("at most 256 KiB"));
        check(" ", Some("empty"));
    }
}
