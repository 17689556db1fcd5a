//! Sizes and openings: files under 500 lines, functions under 70, a header in every file.
//! Lines of a constant table are data and count for neither.

use super::source::{Source, closing, has_word, line_of};
use super::{Complaint, Tree, complaint, exempt};

const FILE_LINES_MAX: usize = 500;
const FUNCTION_LINES_MAX: usize = 70;
const HEADER_LINES_MAX: usize = 5;
/// A constant of fewer lines than this is no table.
const TABLE_LINES_MIN: usize = 8;

/// Files longer than a reader's patience.
pub fn files(tree: &Tree) -> Vec<Complaint> {
    let mut found = Vec::new();
    for (path, source) in tree.rust() {
        let table: usize = tables(source.code()).iter().map(|t| t.end - t.start + 1).sum();
        let lines = source.text.lines().count() - table;
        if lines > FILE_LINES_MAX && !exempt::allows("file size", path, "") {
            found.push(complaint(
                path,
                0,
                format!("{lines} lines, at most {FILE_LINES_MAX}: split it by what it does"),
            ));
        }
    }
    found
}

/// Functions longer than one screen.
pub fn functions(tree: &Tree) -> Vec<Complaint> {
    let mut found = Vec::new();
    for (path, source) in tree.rust() {
        for (name, start, end) in spans(source) {
            let table: usize = tables(source.code())
                .iter()
                .filter(|t| t.start >= start && t.end <= end)
                .map(|t| t.end - t.start + 1)
                .sum();
            let lines = end - start + 1 - table;
            if lines > FUNCTION_LINES_MAX && !exempt::allows("function size", path, &name) {
                let text =
                    format!("fn {name} has {lines} lines, at most {FUNCTION_LINES_MAX}: push `if` up and `for` down");
                found.push(complaint(path, start, text));
            }
        }
    }
    found
}

/// Files that do not say what lives in them.
pub fn headers(tree: &Tree) -> Vec<Complaint> {
    let mut found = Vec::new();
    for (path, source) in tree.rust() {
        let lines = source.text.lines().take_while(|line| line.starts_with("//!")).count();
        let root = path.ends_with("/lib.rs") || path.ends_with("/main.rs");
        if lines == 0 {
            found.push(complaint(
                path,
                1,
                "opens without `//!`: say what lives here, what does not, and the invariant",
            ));
        } else if lines > HEADER_LINES_MAX && !root {
            found.push(complaint(path, 1, format!("the header has {lines} lines, at most {HEADER_LINES_MAX}")));
        }
    }
    found
}

/// First and last line of something, from one.
struct Lines {
    start: usize,
    end: usize,
}

fn tables(code: &str) -> Vec<Lines> {
    let mut found = Vec::new();
    for keyword in ["const ", "static "] {
        for (at, _) in code.match_indices(keyword) {
            let item = &code[at..];
            // The value of an item starts at `=`; a `;`, `{` or `(` before it means a function or a block.
            let Some(equals) = item.find(" = ") else { continue };
            if item[..equals].contains(['{', '(', '}']) || item[..equals].contains(";\n") {
                continue;
            }
            let value = item[equals + 3..].trim_start_matches(['&', ' ', '\n']);
            if !value.starts_with('[') {
                continue;
            }
            let open = code.len() - item.len() + (item.len() - value.len());
            let Some(end) = closing(code, open) else { continue };
            let lines = Lines { start: line_of(code, at), end: line_of(code, end) };
            if lines.end - lines.start + 1 >= TABLE_LINES_MIN {
                found.push(lines);
            }
        }
    }
    found
}

/// Name, first and last line of every function with a body.
fn spans(source: &Source) -> Vec<(String, usize, usize)> {
    let code = source.code();
    let mut found = Vec::new();
    for (at, _) in code.match_indices("fn ") {
        if !has_word(&code[at.saturating_sub(1)..at + 2], "fn") {
            continue;
        }
        let name: String = code[at + 3..].chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
        if name.is_empty() {
            continue;
        }
        if let Some(end) = body(code, at).and_then(|open| closing(code, open)) {
            found.push((name, line_of(code, at), line_of(code, end)));
        }
    }
    found
}

/// The opening brace of the function that starts at `at`, unless it has no body.
fn body(code: &str, at: usize) -> Option<usize> {
    let mut depth = 0usize;
    for (i, byte) in code.bytes().enumerate().skip(at) {
        match byte {
            b'(' | b'[' => depth += 1,
            b')' | b']' => depth = depth.checked_sub(1)?,
            b'{' if depth == 0 => return Some(i),
            b';' if depth == 0 => return None,
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(rule: fn(&Tree) -> Vec<Complaint>, text: &str, count: usize) {
        let tree = Tree::of(&[("crates/model/src/some.rs", text)]);
        assert_eq!(rule(&tree).len(), count, "{}", &text[..text.len().min(80)]);
    }

    #[test]
    fn a_file_of_500_lines_passes_and_one_more_does_not() {
        check(files, &"x\n".repeat(500), 0);
        check(files, &"x\n".repeat(501), 1);
        check(files, &format!("const T: [u8; 600] = [\n{}];\n", "1,\n".repeat(600)), 0);
    }

    #[test]
    fn a_function_of_70_lines_passes_and_one_more_does_not() {
        check(functions, &format!("fn f() {{\n{}}}\n", "x;\n".repeat(68)), 0);
        check(functions, &format!("fn f() {{\n{}}}\n", "x;\n".repeat(69)), 1);
        check(functions, &format!("fn f(a: [u8; 3]) -> u8 {{\nconst T: &[u8] = &[\n{}];\n}}\n", "1,\n".repeat(90)), 0);
        check(functions, "trait T { fn f(); }\n", 0);
    }

    #[test]
    fn a_file_says_what_lives_in_it() {
        check(headers, "//! Here lives x.\n\nfn f() {}\n", 0);
        check(headers, "fn f() {}\n", 1);
        check(headers, &"//! long\n".repeat(6), 1);
    }
}
