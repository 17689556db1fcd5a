//! Split patterns: a closed subset of regular expressions, matched by a backtracking machine with a budget of steps.
//! A pattern outside the subset is refused when the file is read; one that backtracks without end is refused when its
//! budget is spent, so that time is linear in the text whatever the pattern.

mod parse;
mod run;

use super::category::{Categories, is_word};
use super::error::Result;

/// One instruction. Places are numbers of instructions.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Op {
    /// One character of a class.
    One(u16),
    /// `least` to `most` characters of a class, as many as possible.
    Many {
        class: u16,
        least: u32,
        most: u32,
        gives_back: bool,
    },
    /// Goes on at `first`, and at `second` if that fails.
    Fork {
        first: u32,
        second: u32,
    },
    Jump(u32),
    /// The instructions up to `end` must (or must not) match from here; nothing is consumed.
    Ahead {
        wanted: bool,
        end: u32,
    },
    /// The character before must (or must not) be of a class.
    Behind {
        wanted: bool,
        class: u16,
    },
    Start,
    End,
    Done,
}

/// A set of characters.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Class {
    /// Bit for each ASCII character; the other fields are only asked for characters beyond.
    ascii: u128,
    negated: bool,
    categories: Categories,
    /// Sets whose negation is a member: `\P{L}`.
    outside: Vec<Categories>,
    ranges: Vec<(char, char)>,
    space: Option<bool>,
    word: Option<bool>,
    /// Classes inside this one.
    nested: Vec<Class>,
}

impl Class {
    fn contains(&self, character: char) -> bool {
        if character.is_ascii() {
            return self.ascii >> character as u32 & 1 == 1;
        }
        self.look_up(character)
    }

    fn look_up(&self, character: char) -> bool {
        let inside = (self.categories.0 != 0 && self.categories.contain(character))
            || self.ranges.iter().any(|&(low, high)| low <= character && character <= high)
            || self.space.is_some_and(|wanted| character.is_whitespace() == wanted)
            || self.word.is_some_and(|wanted| is_word(character) == wanted)
            || self.outside.iter().any(|set| !set.contain(character))
            || self.nested.iter().any(|class| class.look_up(character));
        inside != self.negated
    }

    /// Fills the bits of ASCII once the members are known.
    fn finish(mut self) -> Class {
        self.ascii = (0..128u8).filter(|&byte| self.look_up(byte.into())).fold(0, |bits, byte| bits | 1 << byte);
        self
    }
}

/// A compiled pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Pattern {
    ops: Vec<Op>,
    classes: Vec<Class>,
}

impl Pattern {
    /// Compiles a pattern.
    pub(super) fn new(source: &str) -> Result<Pattern> {
        parse::compile(source)
    }

    /// A pattern that matches exactly this text.
    pub(super) fn literal(text: &str) -> Pattern {
        let class = |character| Class { ranges: vec![(character, character)], ..Class::default() }.finish();
        let classes: Vec<Class> = text.chars().map(class).collect();
        let ops = (0..classes.len() as u16).map(Op::One).chain([Op::Done]).collect();
        Pattern { ops, classes }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use proptest::test_runner::TestRunner;
    use tokenizers::utils::SysRegex;

    use super::super::known;
    use super::*;

    fn found(pattern: &Pattern, text: &str) -> Vec<(usize, usize)> {
        let mut found = Vec::new();
        pattern.each_match(text, |range| found.push((range.start, range.end))).unwrap();
        found
    }

    fn check(source: &str, text: &str) {
        let theirs: Vec<_> = SysRegex::new(source).unwrap().find_iter(text).collect();
        assert_eq!(found(&Pattern::new(source).unwrap(), text), theirs, "{source} on {text:?}");
    }

    #[test]
    fn constructs_match_as_in_the_crate() {
        let text = "Hello, the 12345 wörld's\r\n\n  end ıſ K k S aaab (x) a-b_c [d]\u{301} ٣";
        let sources = [
            "",
            "a",
            "a*",
            "a+?",
            "(?:ab|a)+",
            "(a|b)*c",
            "[^a-c]+",
            "[a-c&]+",
            r"\p{L}+|\d{1,3}",
            r"\pL{2}",
            r"\P{L}+",
            "(?i:'s|K)",
            "(?i)s",
            r"\s+(?!\S)|\s+",
            r"\s+(?=\S)",
            "^H|9$",
            r"[\s\p{P}]++",
            r"[^(\s|[.,!?])]+",
            r"\w+|[^\w\s]+",
            r"a{2}b",
            r"a{2,}",
            r"\x61|\u{62}",
            r"[\]\-\\]",
            r"(?<=a)b|(?<!a)c",
            ".+",
        ];
        for source in sources {
            check(source, text);
        }
    }

    #[test]
    fn what_is_not_in_the_subset_is_refused() {
        let deep = "(?:".repeat(100) + &")".repeat(100);
        let bad = [
            "(",
            ")",
            "[a",
            "[z-a]",
            "*a",
            "a**",
            r"\b",
            r"\1",
            "(?P<n>a)",
            "a{3,2}",
            "a{1000000}",
            r"\p{Foo}",
            "(?x:a)",
            "((a{1,1000}){1,1000}){1,1000}",
            "a{",
            &deep,
        ];
        for source in bad {
            assert!(Pattern::new(source).is_err(), "{source:?}");
        }
    }

    #[test]
    fn endless_backtracking_is_an_error() {
        let text = format!("{}!", "a".repeat(60));
        for source in ["(a+)+$", "(a|a)+$", "(?:a*)*b", "^(?=(a+)+$)b"] {
            assert!(Pattern::new(source).unwrap().each_match(&text, |_| ()).is_err(), "{source}");
        }
    }

    #[test]
    fn known_patterns_split_as_in_the_crate() {
        let both = |source: &&str| (Pattern::new(source).unwrap(), SysRegex::new(source).unwrap());
        let pairs: Vec<(Pattern, SysRegex)> = known::ALL.iter().map(both).collect();
        let part = prop_oneof![
            "[ \\n\\r\\t]{0,3}",
            "[a-zA-Z]{1,4}",
            "['’][a-zA-Z]{1,2}",
            "[0-9]{1,4}",
            "[\u{300}-\u{310}\u{3000}-\u{30ff}\u{e01}-\u{e3a}!-/ſK]",
            "\\PC",
        ];
        let texts = proptest::collection::vec(part, 0..24).prop_map(|parts| parts.concat());
        let config = ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() };
        let check = |text: String| {
            for ((pattern, theirs), source) in pairs.iter().zip(known::ALL) {
                let theirs: Vec<_> = theirs.find_iter(&text).collect();
                prop_assert_eq!(found(pattern, &text), theirs, "{} on {:?}", source, text);
            }
            Ok(())
        };
        TestRunner::new(config).run(&texts, check).unwrap();
    }
}
