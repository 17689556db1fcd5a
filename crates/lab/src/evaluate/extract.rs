//! What of a generated text is the answer: all of it, or what a pattern finds, as lm-evaluation-harness's `regex` filter.

use regex::Regex;

/// What stands for an answer that was not found.
const NOT_FOUND: &str = "[invalid]";

/// How the answer is taken from a text.
#[derive(Clone, Debug)]
pub enum Extract {
    /// The text as it is.
    Whole,
    /// The first place at which the pattern is found.
    First(Regex),
    /// The last place at which the pattern is found.
    Last(Regex),
}

impl Extract {
    /// The answer: the pattern's first group that is not empty, or all that it found where it has no groups.
    pub fn apply(&self, text: &str) -> String {
        let found = match self {
            Extract::Whole => return text.to_owned(),
            Extract::First(pattern) => pattern.captures_iter(text).next(),
            Extract::Last(pattern) => pattern.captures_iter(text).last(),
        };
        let Some(found) = found else { return NOT_FOUND.to_owned() };
        let answer = match found.len() {
            1 => found.get(0),
            // Python's `findall` gives the text of a pattern's only group, even where it is empty.
            2 => return found.get(1).map_or("", |group| group.as_str()).trim().to_owned(),
            _ => (1..found.len()).filter_map(|group| found.get(group)).find(|group| !group.is_empty()),
        };
        answer.map_or(NOT_FOUND, |answer| answer.as_str().trim()).to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::super::scorers::pattern;
    use super::*;

    #[test]
    fn answers_are_found_as_the_harness_finds_them() {
        let strict = Extract::First(pattern("#### (\\-?[0-9\\.\\,]+)").unwrap());
        let flexible = Extract::Last(pattern("(-?[$0-9.,]{2,})|(-?[0-9]+)").unwrap());
        for (text, first, last) in [
            ("so 3 + 4 = 7\n#### 7", "7", "7"),
            ("#### 1,234. And #### 5", "1,234.", "5"),
            ("it is $12.50.", NOT_FOUND, "$12.50."),
            ("nothing", NOT_FOUND, NOT_FOUND),
            ("-5 or -60", NOT_FOUND, "-60"),
        ] {
            assert_eq!((strict.apply(text), flexible.apply(text)), (first.to_owned(), last.to_owned()), "{text:?}");
        }
        assert_eq!(Extract::Whole.apply(" a "), " a ");
        assert_eq!(Extract::First(pattern("b+").unwrap()).apply("abbc"), "bb");
    }
}
