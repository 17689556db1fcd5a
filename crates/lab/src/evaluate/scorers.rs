//! Scores of an answer by what the answer should be, without a judge: exact, regex, numeric, F1, ROUGE-L, JSON.
//! Each is a number from 0 to 1. Where several answers are right, the best score counts.

use regex::Regex;
use serde_json::Value;

/// How an answer is scored.
#[derive(Clone, Debug)]
pub enum Scorer {
    /// Both texts are the same after the rules.
    Exact(Rules),
    /// The right answer is a pattern, which is found in the answer.
    Regex,
    /// Both have a number, the last one of each text, and they differ by at most this.
    Numeric(f64),
    /// Harmonic mean of precision and recall over words, as SQuAD counts them.
    F1,
    /// F-measure of the longest common subsequence of words, as `rouge_score` counts it without stemming.
    RougeL,
    /// The answer is JSON; where the right answer is JSON too, an equal value.
    Json,
}

/// What two texts are freed of before they are compared.
#[derive(Clone, Debug, Default)]
pub struct Rules {
    /// Patterns that are removed, one after the other.
    pub remove: Vec<Regex>,
    /// Capitals do not matter.
    pub ignore_case: bool,
    /// ASCII punctuation does not matter.
    pub ignore_punctuation: bool,
    /// White space around the text does not matter.
    pub trim: bool,
}

/// The names by which a task's file calls scorers.
pub const NAMES: [&str; 6] = ["exact", "regex", "numeric", "f1", "rouge-l", "json"];

impl Scorer {
    /// The score of an answer against the right ones; 0 where there are none.
    ///
    /// # Errors
    /// When a right answer is no pattern where one is expected.
    pub fn score(&self, answer: &str, right: &[String]) -> Result<f64, String> {
        let mut best = 0.0_f64;
        if right.is_empty() && matches!(self, Scorer::Json) {
            return Ok(f64::from(serde_json::from_str::<Value>(answer.trim()).is_ok()));
        }
        for right in right {
            best = best.max(self.one(answer, right)?);
        }
        Ok(best)
    }

    fn one(&self, answer: &str, right: &str) -> Result<f64, String> {
        Ok(match self {
            Scorer::Exact(rules) => f64::from(rules.apply(answer) == rules.apply(right)),
            Scorer::Regex => f64::from(pattern(right)?.is_match(answer)),
            Scorer::Numeric(tolerance) => {
                let pair = last_number(answer).zip(last_number(right));
                f64::from(pair.is_some_and(|(a, b)| (a - b).abs() <= *tolerance))
            }
            Scorer::F1 => f1(&squad_words(answer), &squad_words(right)),
            Scorer::RougeL => rouge_l(&rouge_words(answer), &rouge_words(right)),
            Scorer::Json => {
                let read = |text: &str| serde_json::from_str::<Value>(text.trim()).ok();
                match (read(answer), read(right)) {
                    (None, _) => 0.0,
                    (Some(_), None) => 1.0,
                    (Some(answer), Some(right)) => f64::from(answer == right),
                }
            }
        })
    }
}

impl Rules {
    fn apply(&self, text: &str) -> String {
        let removed =
            self.remove.iter().fold(text.to_owned(), |text, pattern| pattern.replace_all(&text, "").into_owned());
        let cased = if self.ignore_case { removed.to_lowercase() } else { removed };
        let kept: String = match self.ignore_punctuation {
            true => cased.chars().filter(|letter| !letter.is_ascii_punctuation()).collect(),
            false => cased,
        };
        if self.trim { kept.trim().to_owned() } else { kept }
    }
}

/// A pattern of a task's file.
///
/// # Errors
/// When it is no pattern, or needs what a search in linear time cannot do.
pub fn pattern(text: &str) -> Result<Regex, String> {
    Regex::new(text).map_err(|fault| {
        let said = fault.to_string();
        let last = said.lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned();
        format!("{text:?} is no pattern: {last} (look-around and back-references are not known)")
    })
}

/// The last number of a text; commas between digits are part of it.
fn last_number(text: &str) -> Option<f64> {
    let text: Vec<char> = text.chars().collect();
    let mut end = text.len();
    while end > 0 {
        if !text[end - 1].is_ascii_digit() {
            end -= 1;
            continue;
        }
        let mut start = end;
        while start > 0 && (text[start - 1].is_ascii_digit() || matches!(text[start - 1], ',' | '.')) {
            start -= 1;
        }
        while text[start] == ',' || text[start] == '.' && text[start + 1] == '.' {
            start += 1;
        }
        let minus = start > 0 && text[start - 1] == '-';
        let digits: String = text[start..end].iter().filter(|letter| **letter != ',').collect();
        return digits.parse().ok().map(|number: f64| if minus { -number } else { number });
    }
    None
}

/// Lower case, no punctuation, no articles.
fn squad_words(text: &str) -> Vec<String> {
    let kept: String = text.to_lowercase().chars().filter(|letter| !letter.is_ascii_punctuation()).collect();
    let words = kept.split_whitespace().filter(|word| !matches!(*word, "a" | "an" | "the"));
    words.map(str::to_owned).collect()
}

/// Lower case, runs of `a-z0-9`.
fn rouge_words(text: &str) -> Vec<String> {
    let lower = text.to_lowercase();
    let words = lower.split(|letter: char| !letter.is_ascii_lowercase() && !letter.is_ascii_digit());
    words.filter(|word| !word.is_empty()).map(str::to_owned).collect()
}

fn f1(answer: &[String], right: &[String]) -> f64 {
    if answer.is_empty() || right.is_empty() {
        return f64::from(answer == right);
    }
    let mut left = right.to_vec();
    let mut same = 0;
    for word in answer {
        if let Some(at) = left.iter().position(|other| other == word) {
            left.swap_remove(at);
            same += 1;
        }
    }
    harmonic(same, answer.len(), right.len())
}

fn rouge_l(answer: &[String], right: &[String]) -> f64 {
    let mut row = vec![0; right.len() + 1];
    for word in answer {
        let mut diagonal = 0;
        for (at, other) in right.iter().enumerate() {
            let above = row[at + 1];
            row[at + 1] = if word == other { diagonal + 1 } else { above.max(row[at]) };
            diagonal = above;
        }
    }
    harmonic(row[right.len()], answer.len(), right.len())
}

fn harmonic(same: usize, answer: usize, right: usize) -> f64 {
    if same == 0 { 0.0 } else { 2.0 * same as f64 / (answer + right) as f64 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(scorer: &Scorer, cases: &[(&str, &str, f64)]) {
        for (answer, right, score) in cases {
            let found = scorer.score(answer, &[(*right).to_owned()]).unwrap();
            assert!((found - score).abs() < 1e-4, "{scorer:?} {answer:?} {right:?}: {found}");
        }
    }

    #[test]
    fn exact_compares_after_its_rules() {
        check(&Scorer::Exact(Rules::default()), &[("a", "a", 1.0), ("A", "a", 0.0), (" a", "a", 0.0)]);
        let gsm8k = [",", "\\$", "(?s).*#### ", "\\.$"].map(|text| pattern(text).unwrap()).to_vec();
        let rules = Rules { remove: gsm8k, ignore_case: true, ..Rules::default() };
        check(&Scorer::Exact(rules), &[("$1,234.", "so\nit is #### 1234", 1.0), ("12", "#### 1234", 0.0)]);
        let rules = Rules { ignore_punctuation: true, trim: true, ..Rules::default() };
        check(&Scorer::Exact(rules), &[(" a-b! ", "ab", 1.0)]);
    }

    #[test]
    fn numbers_are_the_last_of_their_text() {
        check(
            &Scorer::Numeric(0.01),
            &[
                ("It is 1,234.50 dollars.", "1234.5", 1.0),
                ("1 and then -7", "-7.", 1.0),
                ("3.14159", "3.14", 1.0),
                ("3.2", "3.14", 0.0),
                ("none", "3", 0.0),
                ("...5", "0.5", 1.0),
                ("5, 6,", "6", 1.0),
            ],
        );
    }

    #[test]
    fn words_are_counted_as_squad_and_rouge_count_them() {
        // evaluate's squad and rouge_score 0.1.2 (rougeL, no stemmer)
        check(
            &Scorer::F1,
            &[("The cat sat", "a cat sat down", 0.8), ("", "", 1.0), ("x", "", 0.0), ("b b", "b", 0.6667)],
        );
        check(
            &Scorer::RougeL,
            &[
                ("the cat sat on the mat", "the cat is on the mat", 0.8333),
                ("police killed the gunman", "police kill the gunman", 0.75),
                ("x", "y", 0.0),
            ],
        );
    }

    #[test]
    fn json_is_valid_and_equal() {
        check(
            &Scorer::Json,
            &[
                ("{\"a\": [1]}", "{ \"a\":[1] }", 1.0),
                ("{\"a\": 2}", "{\"a\": 1}", 0.0),
                ("{a}", "x", 0.0),
                ("1", "x", 1.0),
            ],
        );
        assert_eq!(Scorer::Json.score("{\"a\":", &[]), Ok(0.0));
        assert_eq!(Scorer::Json.score("{}", &[]), Ok(1.0));
    }

    #[test]
    fn patterns_are_found_or_refused() {
        check(&Scorer::Regex, &[("the answer is B.", "answer is [AB]", 1.0), ("C", "^[AB]", 0.0)]);
        let error = Scorer::Regex.score("x", &["(?=a)".to_owned()]).unwrap_err();
        assert!(error.contains("look-around"), "{error}");
        assert_eq!(Scorer::F1.score("b", &["a".into(), "b".into()]), Ok(1.0), "the best of several");
    }
}
