//! A Rust file as three texts of the same length: as it is, without comments, and without comments and strings.
//! Not a parser: it knows just enough of the language to tell code from words about code.

/// A file with its masks, made once; masks of files that are not Rust are never asked for.
pub struct Source {
    /// The file as it is.
    pub text: String,
    masks: std::sync::OnceLock<Masks>,
}

struct Masks {
    /// Comments are blanks; strings stay.
    strings: String,
    /// Comments and the insides of strings are blanks.
    code: String,
    /// For each line, from zero: does it belong to an item under `#[cfg(test)]`?
    tests: Vec<bool>,
}

impl Source {
    /// Takes the text; masks are made when asked for.
    pub fn new(text: String) -> Self {
        Self { text, masks: std::sync::OnceLock::new() }
    }

    fn masks(&self) -> &Masks {
        self.masks.get_or_init(|| {
            let (strings, code) = mask(&self.text);
            let tests = test_lines(&code);
            Masks { strings, code, tests }
        })
    }

    /// The text with comments and the insides of strings blanked.
    pub fn code(&self) -> &str {
        &self.masks().code
    }

    /// Lines of code with their numbers from one, without tests.
    pub fn code_lines(&self) -> impl Iterator<Item = (usize, &str)> {
        self.without_tests(&self.masks().code)
    }

    /// As `code_lines`, with strings.
    pub fn string_lines(&self) -> impl Iterator<Item = (usize, &str)> {
        self.without_tests(&self.masks().strings)
    }

    fn without_tests<'a>(&'a self, text: &'a str) -> impl Iterator<Item = (usize, &'a str)> {
        let tests = &self.masks().tests;
        text.lines().enumerate().filter(|(i, _)| !tests[*i]).map(|(i, line)| (i + 1, line))
    }
}

/// Is `word` in `line`, not as a part of a longer word?
pub fn has_word(line: &str, word: &str) -> bool {
    let inside = |c: char| c.is_alphanumeric() || c == '_';
    line.match_indices(word).any(|(at, _)| {
        let before = line[..at].chars().next_back().is_some_and(inside);
        let after = line[at + word.len()..].chars().next().is_some_and(inside);
        !before && !after
    })
}

/// Where the bracket that opens at byte `open` closes, in masked code.
pub fn closing(code: &str, open: usize) -> Option<usize> {
    let mut depth = 0usize;
    for (i, byte) in code.bytes().enumerate().skip(open) {
        match byte {
            b'{' | b'(' | b'[' => depth += 1,
            b'}' | b')' | b']' => {
                depth = depth.checked_sub(1)?;
                if depth == 0 {
                    return Some(i);
                }
            }
            _ => {}
        }
    }
    None
}

/// The number of the line, from one, in which a byte stands.
pub fn line_of(text: &str, at: usize) -> usize {
    text.as_bytes()[..at].iter().filter(|b| **b == b'\n').count() + 1
}

fn test_lines(code: &str) -> Vec<bool> {
    let mut lines = vec![false; code.lines().count() + 1];
    for mark in ["#[cfg(test)]", "#[cfg(all(test"] {
        for (at, _) in code.match_indices(mark) {
            let rest = &code[at + mark.len()..];
            let Some(stop) = rest.find(['{', ';']) else { continue };
            let stop = at + mark.len() + stop;
            let end = if code.as_bytes()[stop] == b'{' { closing(code, stop).unwrap_or(code.len() - 1) } else { stop };
            lines[line_of(code, at) - 1..line_of(code, end)].fill(true);
        }
    }
    lines
}

/// What the reader of a Rust file is inside of.
enum Inside {
    Code,
    Line,
    Block(usize),
    Text,
    Raw(usize),
}

fn mask(text: &str) -> (String, String) {
    let bytes = text.as_bytes();
    let (mut strings, mut code) = (bytes.to_vec(), bytes.to_vec());
    let mut inside = Inside::Code;
    let mut i = 0;
    while i < bytes.len() {
        let rest = &bytes[i..];
        let (next, skip) = match inside {
            Inside::Code => enter(bytes, i),
            Inside::Line if rest[0] == b'\n' => (Inside::Code, 1),
            Inside::Line => (Inside::Line, 1),
            Inside::Block(depth) if rest.starts_with(b"/*") => (Inside::Block(depth + 1), 2),
            Inside::Block(1) if rest.starts_with(b"*/") => (Inside::Code, 2),
            Inside::Block(depth) if rest.starts_with(b"*/") => (Inside::Block(depth - 1), 2),
            Inside::Block(depth) => (Inside::Block(depth), 1),
            Inside::Text if rest[0] == b'\\' => (Inside::Text, 2),
            Inside::Text if rest[0] == b'"' => (Inside::Code, 1),
            Inside::Text => (Inside::Text, 1),
            Inside::Raw(hashes) if ends_raw(rest, hashes) => (Inside::Code, 1 + hashes),
            Inside::Raw(hashes) => (Inside::Raw(hashes), 1),
        };
        let end = (i + skip).min(bytes.len());
        let entering = matches!(inside, Inside::Code);
        let comment = matches!(inside, Inside::Line | Inside::Block(_))
            || (entering && matches!(next, Inside::Line | Inside::Block(_)));
        let hidden =
            comment || matches!(inside, Inside::Text | Inside::Raw(_)) || (entering && rest[0] == b'\'' && skip > 1);
        for at in i..end {
            if bytes[at] == b'\n' {
                continue;
            }
            if comment {
                strings[at] = b' ';
            }
            if hidden {
                code[at] = b' ';
            }
        }
        inside = next;
        i = end;
    }
    let whole = |bytes| String::from_utf8(bytes).expect("whole characters are blanked, byte by byte, to ASCII");
    (whole(strings), whole(code))
}

fn enter(bytes: &[u8], i: usize) -> (Inside, usize) {
    let rest = &bytes[i..];
    if rest.starts_with(b"//") {
        return (Inside::Line, 2);
    }
    if rest.starts_with(b"/*") {
        return (Inside::Block(1), 2);
    }
    if rest[0] == b'"' {
        return (Inside::Text, 1);
    }
    let word_before = i > 0 && (bytes[i - 1].is_ascii_alphanumeric() || bytes[i - 1] == b'_') && bytes[i - 1] != b'b';
    if rest[0] == b'r' && !word_before {
        let hashes = rest[1..].iter().take_while(|b| **b == b'#').count();
        if rest.get(1 + hashes) == Some(&b'"') {
            return (Inside::Raw(hashes), 2 + hashes);
        }
    }
    if rest[0] == b'\'' {
        return (Inside::Code, quoted_character(rest));
    }
    (Inside::Code, 1)
}

/// The length of a character literal at the start, or one for a lifetime.
fn quoted_character(rest: &[u8]) -> usize {
    if rest.get(1) == Some(&b'\\') {
        return rest.iter().skip(3).position(|b| *b == b'\'').map_or(1, |end| end + 4);
    }
    let width = std::str::from_utf8(&rest[1..rest.len().min(5)])
        .map_or_else(|error| std::str::from_utf8(&rest[1..1 + error.valid_up_to()]).ok(), Some)
        .and_then(|text| text.chars().next())
        .map_or(1, char::len_utf8);
    if rest.get(1 + width) == Some(&b'\'') { width + 2 } else { 1 }
}

fn ends_raw(rest: &[u8], hashes: usize) -> bool {
    rest[0] == b'"' && rest.len() > hashes && rest[1..=hashes].iter().all(|b| *b == b'#')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_mask(text: &str, strings: &str, code: &str) {
        assert_eq!(mask(text), (strings.to_owned(), code.to_owned()), "{text:?}");
    }

    #[test]
    fn comments_and_strings_are_told_from_code() {
        check_mask("a // b", "a     ", "a     ");
        check_mask("a /* b /* c */ d */ e", "a                   e", "a                   e");
        check_mask(r#"f("// x") g"#, r#"f("// x") g"#, r#"f("     ) g"#);
        check_mask(r#""a\"b" c"#, r#""a\"b" c"#, r#""      c"#);
        check_mask(r###"r#"a"b"# c"###, r###"r#"a"b"# c"###, r###"r#"      c"###);
        check_mask("'{' 'a x", "'{' 'a x", "    'a x");
        check_mask(r"'\'' '\n' b", r"'\'' '\n' b", "          b");
        check_mask("'é' x", "'é' x", "     x");
    }

    #[test]
    fn lines_under_cfg_test_are_left_out() {
        let source = Source::new("a\n#[cfg(test)]\nmod tests {\n  b\n}\nc\n#[cfg(test)]\nmod d;\ne\n".into());
        let lines: Vec<_> = source.code_lines().collect();
        assert_eq!(lines, [(1, "a"), (6, "c"), (9, "e")]);
    }

    #[test]
    fn words_are_whole() {
        assert!(has_word("unsafe {", "unsafe"));
        assert!(!has_word("unsafe_code", "unsafe"));
        assert!(!has_word("an_unsafe", "unsafe"));
    }
}
